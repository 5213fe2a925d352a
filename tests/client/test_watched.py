"""How a model stands, in lines that a person reads from the top."""

from __future__ import annotations

import pytest

from tests.client.conftest import Recorded, Run
from tidewheel.sparks import spark

pytestmark = [pytest.mark.enable_socket, pytest.mark.usefixtures("context_file")]

WINDOW = {"detail": "1 of 3 features differ", "ended_at": "2026-11-21T12:00:00+00:00"}
WORST = [
    {
        "feature": "a",
        "tier": "critical",
        "words": "a lies 1.20 sd above",
        "history": [None, 0.1, 1.2],
    },
    {"feature": "b", "tier": "clean", "words": "b is as before", "history": [0.0, 0.0, 0.01]},
]
FOUND = {
    "model": "pump", "champion": 2, "retraining_asked_at": "2026-11-21T13:00:00+00:00",
    "versions": [{
        "version": 2, "is_champion": True, "drift": "critical", "is_degraded": True,
        "metric": "mae", "window_rows": 50, "open_window": {"window": 4, "rows": 7},
        "last_window": WINDOW, "worst": WORST,
    }],
}  # fmt: skip


def test_the_worst_features_come_first_with_their_history(
    tidewheel: Run, recorded: Recorded
) -> None:
    recorded.says("GET /v1/models/pump/drift", (200, FOUND))

    ran = tidewheel("drift", "pump")

    assert ran.code == 0
    assert ran.out.splitlines() == [
        "pump v2, champion: critical, answers degraded",
        "  windows   of 50 rows, the last one ended 2026-11-21 12:00:00 UTC; "
        "7 of 50 rows in window 4",
        "  last      1 of 3 features differ",
        "  features  !! ·▁█  a lies 1.20 sd above",
        "               ▁▁█  b is as before",
        "a retraining was asked for at 2026-11-21 13:00:00 UTC",
    ]


def test_before_the_first_window_that_is_said(tidewheel: Run, recorded: Recorded) -> None:
    empty = FOUND["versions"][0] | {"last_window": None, "worst": [], "drift": None}  # type: ignore[index] # a list of one
    recorded.says("GET /v1/models/pump/drift", (200, FOUND | {"versions": [empty]}))

    ran = tidewheel("drift", "pump")

    assert "none was full yet" in ran.out


def test_a_history_without_any_change_is_flat() -> None:
    assert spark([0.0, None, 0.0]) == "▁·▁"
    assert spark([]) == ""
