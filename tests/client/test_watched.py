"""How a model stands, in lines that a person reads from the top."""

from __future__ import annotations

from pathlib import Path

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
VERSION = {
    "version": 2, "is_champion": True, "drift": "critical", "is_degraded": True,
    "metric": "mae", "window_rows": 50, "open_window": {"window": 4, "rows": 7},
    "last_window": WINDOW, "worst": WORST,
}  # fmt: skip
FOUND = {
    "model": "pump", "champion": 2, "retraining_asked_at": "2026-11-21T13:00:00+00:00",
    "versions": [VERSION],
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
    empty = VERSION | {"last_window": None, "worst": [], "drift": None}
    recorded.says("GET /v1/models/pump/drift", (200, FOUND | {"versions": [empty]}))

    ran = tidewheel("drift", "pump")

    assert ran.out.startswith("pump v2, champion: not judged yet, answers degraded\n")
    assert "none was full yet" in ran.out


def test_a_history_without_any_change_is_flat() -> None:
    assert spark([0.0, None, 0.0]) == "▁·▁"
    assert spark([]) == ""


def test_a_picture_goes_into_a_file(tidewheel: Run, recorded: Recorded, tmp_path: Path) -> None:
    recorded.says("GET /v1/models/pump/pictures/drift.svg", (200, b"<svg/>"))
    recorded.says("GET /v1/models/pump/pictures/distribution.svg", (200, b"<svg>a</svg>"))
    out = tmp_path / "a.svg"

    first = tidewheel("picture", "pump", "--out", str(out))
    drift = out.read_bytes()
    second = tidewheel("picture", "pump", "--feature", "a", "--out", str(out))

    assert (first.code, second.code) == (0, 0)
    assert (drift, out.read_bytes()) == (b"<svg/>", b"<svg>a</svg>")
    assert "feature=a" in recorded.asked[-1].path


def test_a_report_is_waited_for_and_fetched(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    done = {"state": "done", "version": 2, "window": 7, "summary": {"drifted": ["a"]}}
    recorded.says("POST /v1/models/pump/reports", (202, {"report": "r-1"}))
    recorded.says("GET /v1/reports/r-1", (200, {"state": "waiting"}), (200, done))
    recorded.says("GET /v1/reports/r-1/html", (200, b"<html/>"))
    out = tmp_path / "r.html"

    ran = tidewheel("report", "pump", "--out", str(out))

    assert (ran.code, out.read_bytes()) == (0, b"<html/>")
    assert "pump v2, window 7: drifted: a" in ran.err


def test_a_report_that_cannot_be_drawn_is_said(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    failed = {"state": "failed", "detail": "TimedOut: the report could not be drawn"}
    recorded.says("POST /v1/models/pump/reports", (202, {"report": "r-1"}))
    recorded.says("GET /v1/reports/r-1", (200, failed))

    ran = tidewheel("report", "pump", "--out", str(tmp_path / "r.html"))

    assert ran.code == 75
    assert "TimedOut" in ran.err


SAME = {"model": "pump", "version": 2, "window": 7, "same": True, "differences": []}
OTHER = [{"field": "severity", "recorded": "critical", "now": "warning"}]


def test_a_verdict_is_computed_again_by_its_own_rules(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/models/pump/drift", (200, FOUND))
    recorded.says("GET /v1/models/pump/versions/2/windows/7/replay", (200, SAME))

    ran = tidewheel("drift", "pump", "--replay", "7")

    assert (ran.code, ran.out) == (0, "equal\n")


def test_what_other_rules_would_have_said_is_listed(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/models/pump/drift", (200, FOUND))
    path = "/v1/models/pump/versions/1/windows/7/replay"
    recorded.says(f"GET {path}", (200, SAME | {"same": False, "differences": OTHER}))

    ran = tidewheel("drift", "pump", "--replay", "7", "--version", "1", "--shift", "0.5")

    assert ran.code == 1
    assert recorded.asked[-1].path == f"{path}?shift=0.5"
    assert "severity" in ran.out
    assert "warning" in ran.out


def test_a_season_that_has_drifted_is_named(tidewheel: Run, recorded: Recorded) -> None:
    drifted = [{"season": "h12", "drift": "critical", "window": 6}]
    version = VERSION | {"drifted_seasons": drifted}
    recorded.says("GET /v1/models/pump/drift", (200, FOUND | {"versions": [version]}))

    ran = tidewheel("drift", "pump")

    assert "  seasons   h12 critical (window 6)" in ran.out.splitlines()
