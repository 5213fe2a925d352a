"""How a model stands, in lines that a person reads from the top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Recorded, Run
from tidewheel.narrate import told
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


def test_what_was_not_tested_is_not_called_like_the_reference(
    tidewheel: Run, recorded: Recorded
) -> None:
    reason = "24 training rows are too few"
    last = WINDOW | {"mode": "insufficient", "detail": f"no verdict; not tested: {reason}"}
    version = VERSION | {"drift": None, "is_degraded": False, "last_window": last}
    untested = version | {"not_judged": reason}
    of_a_season = untested | {"version": 1, "last_window": last | {"season": "h03"}}
    recorded.says("GET /v1/models/pump/drift", (200, FOUND | {"versions": [untested, of_a_season]}))

    ran = tidewheel("drift", "pump")

    assert f"pump v2, champion: not judged: {reason}" in ran.out.splitlines()
    assert f"not judged in the season h03: {reason}" in ran.out
    assert "like the reference" not in ran.out


def test_candidates_that_never_answered_take_one_line(tidewheel: Run, recorded: Recorded) -> None:
    unseen = VERSION | {
        "drift": None, "is_degraded": False, "is_champion": False, "last_window": None,
        "open_window": None, "worst": [],
    }  # fmt: skip
    versions = [VERSION, unseen | {"version": 9}, unseen | {"version": 8}]
    recorded.says("GET /v1/models/pump/drift", (200, FOUND | {"versions": versions, "next": "8"}))

    ran = tidewheel("drift", "pump", "--limit", "3")

    assert "pump v9, v8: no answers yet" in ran.out.splitlines()
    assert ran.out.startswith("pump v2, champion: critical")
    assert "there are more versions" in ran.err
    assert recorded.asked[-1].path == "/v1/models/pump/drift?limit=3"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"metric": "mae", "value": 0.5}, "mae 0.500, 50 labels, window 1"),
        ({"metric": "accuracy", "value": 0.05}, "error rate 0.050, 50 labels, window 1"),
        (
            {"metric": "accuracy", "value_is": "error_rate", "value": None},
            "error rate not told, 50 labels, window 1",
        ),
    ],
)
def test_quality_is_told_in_one_line_with_labels_of_too_few_scores_too(
    data: dict[str, Any], words: str
) -> None:
    event = {"type": "tidewheel.quality.measured.v1", "data": data | {"labels": 50, "window": 1}}

    assert told(event) == words


QUALITY = {
    "version": 2,
    "metric": "accuracy",
    "value_is": "error_rate",
    "rows": 50,
    "completeness": 1.0,
    "labels": 50,
}
ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.625, "reference": 0.45}


def test_estimates_stand_beside_what_labels_said(tidewheel: Run, recorded: Recorded) -> None:
    labelled = QUALITY | {
        "window": 1, "state": "final", "estimate": ESTIMATE,
        "quality": {"value": 0.25, "low": 0.125, "high": 0.375, "reference": 0.45, "expected": 0.8,
                    "baseline": 0.9, "is_worse": True},
    }  # fmt: skip
    early = QUALITY | {"window": 2, "state": None, "quality": None, "estimate": ESTIMATE,
                       "labels": 0, "completeness": 0.0}  # fmt: skip
    censored = labelled | {"window": 3, "state": "censored", "estimate": None}
    items = [censored, early, labelled]
    recorded.says("GET /v1/models/pump/quality", (200, {"items": items}), (200, {"items": []}))

    ran = tidewheel("drift", "pump", "--quality", "--version", "2")
    empty = tidewheel("drift", "pump", "--quality")

    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "v2 3 50 of 50 80% censored - - 0.45 -" in lines
    assert "v2 2 0 of 50 - no labels - 0.5 0.45 -" in lines
    assert "v2 1 50 of 50 80% final, worse 0.25 0.5 0.45 0.9" in lines
    assert "error rate 0.125 to 0.375 0.4 to 0.625" in lines
    assert all(len(line) <= 100 for line in ran.out.splitlines())
    assert "version=2" in recorded.asked[0].path
    assert "no closed window has labels, or scores to estimate from" in empty.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("drift", "pump", "--alpha", "0.01"), "go with --replay"),
        (("drift", "pump", "--quality", "--shift", "0.1"), "go with --replay"),
        (("drift", "pump", "--quality", "--replay", "1"), "not --quality"),
        (("picture", "pump", "--window", "1", "--out", "a.svg"), "goes with --feature"),
        (("picture", "pump", "quality", "--feature", "a", "--out", "a.svg"), "not quality"),
        (("report", "pump", "--window", "1", "--out", "a.html"), "goes with --version"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    tidewheel: Run, recorded: Recorded, arguments: tuple[str, ...], words: str
) -> None:
    ran = tidewheel(*arguments)

    assert (ran.code, recorded.asked) == (64, [])
    assert words in ran.err


@pytest.mark.parametrize("command", ["picture", "report", "batch"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_drawn(
    tidewheel: Run, recorded: Recorded, command: str
) -> None:
    ran = tidewheel(command, "pump", "--out", "missing/x")

    assert (ran.code, recorded.asked) == (65, [])
    assert "missing/x cannot be written" in ran.err
    assert "there is no folder missing" in ran.err


def test_a_report_of_what_was_not_tested_says_so(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    summary = {"drifted": [], "not_tested": "24 training rows are too few", "not_drawn": ["b"]}
    done = {"state": "done", "version": 2, "window": 7, "summary": summary}
    recorded.says("POST /v1/models/pump/reports", (202, {"report": "r-1"}))
    recorded.says("GET /v1/reports/r-1", (200, done))
    recorded.says("GET /v1/reports/r-1/html", (200, b"<html/>"))

    ran = tidewheel("report", "pump", "--out", str(tmp_path / "r.html"))

    said = "pump v2, window 7: not tested: 24 training rows are too few; not drawn, without values"
    assert f"{said}: b" in ran.err
    assert "drifted" not in ran.err
