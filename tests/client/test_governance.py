"""Approvals, windows, history and verdicts at the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Recorded, Run
from tests.client.test_auditing import a_stream
from tests.client.test_command import a_problem

pytestmark = [pytest.mark.enable_socket, pytest.mark.usefixtures("context_file")]

MANIFEST = "a" * 64
GATE = {
    "metric": "mae", "versus": "champion", "estimate": 0.0247, "lower": 0.0123, "upper": 0.037,
    "margin": 0.01, "passed": True, "slice": None,
}  # fmt: skip
SLICE = {
    "name": "winter", "role": "required", "metric": "mae", "estimate": -0.02, "lower": -0.05,
    "upper": 0.01, "margin": 0.03, "passed": False,
}  # fmt: skip
VERDICT = {"champion": 2, "gates": [GATE], "slices": [SLICE]}
WAITING = {
    "rollout": "r-1", "model": "pump", "version": 3, "champion": 2, "manifest": MANIFEST,
    "evaluation": "e-1", "policy": "four_eyes", "needed": 1, "missing": 1, "approved_by": [],
    "authors": {"spec": "ada", "data": "bob", "training": "ada"}, "excluded": ["ada", "bob"],
    "expires_at": "2026-11-28T09:00:00+00:00", "you": "You may approve this.",
    "evidence": {
        "summary": "Version 3 of pump was compared with champion 2 on 500 held-out rows.",
        "changed": ["data: version 3 of pumps", "train.seed: 1 → 2"],
        "gates": ["mae against the champion: better by 0.0247"],
        "worst_slice": "winter is worst",
        "checks": [], "cautions": ["these held-out rows have given 3 verdicts"],
    },
}  # fmt: skip
CARD = f"""\
pump v3 waits for an approval
            four_eyes: 1 of 1 still missing, until 2026-11-28 09:00:00 UTC
            Version 3 of pump was compared with champion 2 on 500 held-out rows.
  changed   data: version 3 of pumps
            train.seed: 1 → 2
  gates     mae vs champion +0.0247 [+0.0123, +0.0370]                     \
·┊····│····──────●──────·  passed
  slices    winter (required): mae vs champion -0.0200 [-0.0500, +0.0100]  \
·───────┊───●──────│────·  failed
  caution   these held-out rows have given 3 verdicts
  may not   ada (wrote the specification and asked for the training), bob (published the data)
  you       You may approve this.
  decide    tidewheel approve r-1 --manifest {MANIFEST} --comment "…"
  or        tidewheel deny r-1 --manifest {MANIFEST} --comment "…"
"""


def test_what_waits_is_a_card_with_everything_to_decide_by(
    tidewheel: Run, recorded: Recorded
) -> None:
    recorded.says("GET /v1/approvals", (200, {"items": [WAITING], "next": None}))
    recorded.says("GET /v1/verdicts/e-1", (200, VERDICT))

    ran = tidewheel("approvals")

    assert (ran.code, ran.out) == (0, CARD + "\n")


def test_a_first_version_s_slices_are_compared_with_the_rule_or_say_why_not(
    tidewheel: Run, recorded: Recorded
) -> None:
    unmeasured = dict.fromkeys(("estimate", "lower", "upper"))
    uncompared = SLICE | unmeasured | {"detail": "no champion to compare with"}
    found = SLICE | {"name": "load > 80", "role": "found"}
    first = VERDICT | {"champion": None, "slices": [uncompared, found]}
    recorded.says("GET /v1/approvals", (200, {"items": [WAITING], "next": None}))
    recorded.says("GET /v1/verdicts/e-1", (200, first))

    ran = tidewheel("approvals")

    assert "winter (required): no champion to compare with" in ran.out
    assert "load > 80 (found): mae vs baseline -0.0200" in ran.out


def test_a_card_does_without_the_evaluator(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/approvals", (200, {"items": [WAITING], "next": None}))
    recorded.says("GET /v1/verdicts/e-1", a_problem(404))

    ran = tidewheel("approvals", "pump")

    assert "gates     mae against the champion: better by 0.0247" in ran.out
    assert "worst     winter is worst" in ran.out


def test_where_nothing_waits_it_says_so(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/approvals", (200, {"items": [WAITING], "next": None}))

    assert tidewheel("approvals", "other").err == "nothing waits for an approval\n"
    assert json.loads(tidewheel("approvals", "--json").out) == WAITING


def test_an_approval_is_bound_to_the_artifact_that_was_looked_at(
    tidewheel: Run, recorded: Recorded
) -> None:
    recorded.says("POST /v1/rollouts/r-1/approve", (200, {"missing": 1, "event_id": "e-9"}))

    ran = tidewheel("approve", "r-1", "--manifest", MANIFEST, "--comment", "fine")

    assert json.loads(recorded.asked[0].body) == {"comment": "fine", "manifest": MANIFEST}
    assert ran.err == "approved; 1 more must agree\n  event e-9\n"


def test_approving_one_s_own_work_is_77_and_says_who_may(
    tidewheel: Run, recorded: Recorded
) -> None:
    detail = "You wrote the specification, so somebody else has to approve."
    problem = {"status": 403, "code": "self_approval", "detail": detail, "request_id": "r-1"}
    recorded.says("POST /v1/rollouts/r-1/approve", (403, problem))

    ran = tidewheel("approve", "r-1", "--reason", "mine")

    assert ran.code == 77
    assert ran.err.splitlines()[:2] == [
        "error: the rollout is not decided (approve)",
        f"  why: {detail}",
    ]
    assert "use a key with one of these roles" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "route", "body"),
    [
        (("deny", "r-1", "--comment", "no"), "rollouts/r-1/deny", {"comment": "no"}),
        (("withdraw", "r-1", "--comment", "no"), "rollouts/r-1/withdraw", {"comment": "no"}),
        (("override", "r-1", "--reason", "flood"), "rollouts/r-1/override", {"reason": "flood"}),
        (("lift", "f-1", "--reason", "over"), "freezes/f-1/lift", {"reason": "over"}),
        (
            ("best", "pump", "--metric", "mae", "--reason", "old ones"),
            "models/pump/best",
            {"metric": "mae", "reason": "old ones"},
        ),
        (
            ("annotation", "lift", "flow", "a-1", "--reason", "over"),
            "datasets/flow/annotations/a-1/lift",
            {"reason": "over"},
        ),
        (
            ("release", "fleet", "--reason", "new sensors"),
            "brakes/release",
            {"scope": "fleet", "reason": "new sensors"},
        ),
        (
            ("anchor", "retire", "pump", "--reason", "wrong labels"),
            "models/pump/anchor/retire",
            {"reason": "wrong labels"},
        ),
    ],
)
def test_each_decision_sends_its_reason(
    tidewheel: Run, recorded: Recorded, arguments: tuple[str, ...], route: str, body: dict[str, Any]
) -> None:
    answer = {"event_id": "e-1", "retired": 1, "anchor": 2}
    recorded.says(f"POST /v1/{route}", (200, answer))

    ran = tidewheel(*arguments)

    assert ran.code == 0, ran.err
    assert json.loads(recorded.asked[0].body) == body
    assert ran.err


@pytest.mark.parametrize("verb", ["approve r-1", "override r-1", "lift f-1", "freeze --until 2h"])
def test_no_decision_goes_without_a_reason(tidewheel: Run, recorded: Recorded, verb: str) -> None:
    for blank in ((), ("--reason", " ")):
        ran = tidewheel(*verb.split(), *blank)

        assert ran.code == 64
        assert not recorded.asked


def test_a_freeze_begins_now_and_concerns_all_unless_said_otherwise(
    tidewheel: Run, recorded: Recorded
) -> None:
    frozen = {"freeze": "f-1", "models": [], "ends_at": "2027-01-06T18:00:00+01:00"}
    recorded.says("POST /v1/freezes", (201, {**frozen, "event_id": "e-1"}))

    ran = tidewheel("freeze", "--until", "2027-01-06T18:00:00+01:00", "--reason", "year end")

    sent = json.loads(recorded.asked[0].body)
    assert (sent["models"], sent["reason"], "starts_at" in sent) == ([], "year end", False)
    assert ran.err.splitlines()[0] == "all models frozen until 2027-01-06T18:00:00+01:00 (f-1)"


def test_a_moment_that_is_none_is_wrong_usage(tidewheel: Run) -> None:
    ran = tidewheel("freeze", "--until", "soon", "--reason", "x")

    assert ran.code == 64
    assert "2h, 3d" in ran.err


PRODUCTION = {
    "model": "pump", "at": "2026-11-21T12:00:00+00:00", "answering": "champion",
    "sentence": "Version 3 answered, promoted, approved by carla.",
    "version": 3, "generation": 9, "since": "2026-11-21T10:00:00+00:00", "until": None,
    "came_by": "shadow_canary", "event_id": "e-5",
    "steps": [{"time": "2026-11-21T09:00:00+00:00", "text": "Version 3 is on its way."}],
    "proposed": {"trigger": "dataset", "requested_by": None, "dataset": "pumps",
                 "dataset_version": 3, "authors": {"spec": "ada"}},
    "approved": [{"by": "carla", "time": "2026-11-21T09:30:00+00:00", "comment": "fine"}],
    "verdict": {"event_id": "e-1", "accepted": True, "reason": "accepted", "mode": "refresh",
                "rows": 500, "holdout_use": 2, "gates": [GATE], "slices": [],
                "evidence": "e" * 64, "card_html": None},
    "break_glass": {"by": "olga", "time": "2026-11-21T09:40:00+00:00", "reason": "flood"},
    "rollback": None,
}  # fmt: skip
TOLD = f"""\
pump at 2026-11-21 12:00:00 UTC: Version 3 answered, promoted, approved by carla.
  since     2026-11-21 10:00:00 UTC to now, generation 9
  came by   shadow_canary
  steps     2026-11-21 09:00:00 UTC  Version 3 is on its way.
  proposed  because of dataset, trained on pumps v3
            ada wrote the specification
  approved  carla on 2026-11-21 09:30:00 UTC: fine
  glass     olga on 2026-11-21 09:40:00 UTC: flood
  verdict   accepted (refresh) on 500 rows, use 2 of them
  gates     mae vs champion +0.0247 [+0.0123, +0.0370]  ·┊····│····──────●──────·  passed
  evidence  {"e" * 64} (evidence)
            verdict e-1; tidewheel evaluate replay e-1
  event     e-5
"""


def test_one_command_tells_what_was_in_production_and_why(
    tidewheel: Run, recorded: Recorded
) -> None:
    recorded.says("GET /v1/models/pump/production", (200, PRODUCTION))

    ran = tidewheel("production", "pump", "--at", "2026-11-21T12:00:00+00:00")

    assert (ran.code, ran.out) == (0, TOLD)
    assert "at=2026-11-21T12%3A00%3A00" in recorded.asked[0].path


def a_told(lines: list[dict[str, Any]]) -> tuple[int, bytes]:
    return 200, "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_the_log_is_verified_here_from_its_rows(tidewheel: Run, recorded: Recorded) -> None:
    lines = a_stream()
    recorded.says("GET /v1/audit/verify", a_told(lines))

    ran = tidewheel("audit", "verify")

    head = lines[-2]["chain"]
    assert ran.code == 0
    assert ran.err == (
        "the log is whole: 120 rows, 6 anchors agree\n"
        f"  to check against later: --anchor 120:{head}\n"
    )


def test_a_changed_row_is_found_whatever_the_service_says(
    tidewheel: Run, recorded: Recorded
) -> None:
    lines = a_stream()
    lines[50] |= {"row": lines[50]["row"].replace("fact", "lie")}
    recorded.says("GET /v1/audit/verify", a_told(lines))

    ran = tidewheel("audit", "verify")

    assert ran.code == 1
    assert "does not fit its link" in ran.err
    assert "the service itself says otherwise; what was computed here counts" in ran.err


def test_a_head_noted_earlier_finds_what_was_cut_off(tidewheel: Run, recorded: Recorded) -> None:
    noted = a_stream()[-2]
    recorded.says("GET /v1/audit/verify", a_told(a_stream(100)))

    ran = tidewheel("audit", "verify", "--json", "--anchor", f"120:{noted['chain']}")

    assert ran.code == 1
    assert json.loads(ran.out)["faults"] == ["position 120 was anchored, and is not there"]


def test_a_verification_that_breaks_off_says_nothing_about_the_log(
    tidewheel: Run, recorded: Recorded
) -> None:
    recorded.says("GET /v1/audit/verify", a_told(a_stream()[:50]))

    ran = tidewheel("audit", "verify")

    assert ran.code == 75
    assert "broke off" in ran.err


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, 1)])
def test_a_replayed_verdict_is_equal_or_says_where_it_is_not(
    tidewheel: Run, recorded: Recorded, same: bool, code: int
) -> None:
    differences = [] if same else [{"field": "gates", "recorded": 0.1, "now": 0.2}]
    answer = {"event_id": "e-1", "same": same, "differences": differences}
    recorded.says("POST /v1/verdicts/e-1/replay", (200, answer))

    ran = tidewheel("evaluate", "replay", "e-1")

    assert ran.code == code
    assert ("equal" in ran.out) is same
    assert ("gates" in ran.out) is not same


def test_a_backtest_shows_which_decisions_differ(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text("gates:\n  - {metric: mae, vs: champion, margin: 0}\n")
    differs = {
        "event_id": "e-1", "model": "pump", "version": 3,
        "recorded": {"accepted": True, "reason": "accepted"},
        "now": {"accepted": False, "reason": "not_shown_better"},
    }  # fmt: skip
    summary = {
        "verdicts": 2, "same": 1, "newly_accepted": 0, "newly_rejected": 1, "other_reason": 0,
        "not_judged": {"the evidence is gone": 1},
    }  # fmt: skip
    lines: list[Any] = [
        {"progress": {"verdicts": 1}},
        {"differs": differs},
        {"summary": summary},
    ]
    recorded.says("POST /v1/backtests", a_told(lines))

    ran = tidewheel("backtest", "--policy", "policy.yaml", "--model", "pump")

    asked = json.loads(recorded.asked[0].body)
    assert asked == {
        "policy": {"gates": [{"metric": "mae", "vs": "champion", "margin": 0}]},
        "model": "pump",
    }
    assert "rejected: not_shown_better" in ran.out
    assert ran.err.splitlines()[-2:] == [
        "2 verdicts: 1 the same, 0 newly accepted, 1 newly rejected, 0 rejected for another reason",
        "  1 not judged: the evidence is gone",
    ]


def test_a_whole_specification_serves_as_a_policy(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "pump.yaml").write_text(
        "apiVersion: tidewheel/v1\nname: pump\ngates: []\nevaluation: {uses: 5}\n"
    )
    recorded.says("POST /v1/backtests", (200, b""))

    ran = tidewheel("backtest", "--policy", "pump.yaml")

    asked = json.loads(recorded.asked[0].body)
    assert asked == {"policy": {"gates": [], "evaluation": {"uses": 5}}}
    assert "broke off" in ran.err


def test_a_policy_that_is_none_is_65(tidewheel: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("- nothing\n")

    assert tidewheel("backtest", "--policy", "policy.yaml").code == 65
    assert tidewheel("backtest", "--policy", "nowhere.yaml").code == 65


def test_a_card_is_written_to_a_file_and_says_where(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    recorded.says("GET /v1/models/pump/deployment", (200, {"champion": 3}))
    recorded.says("GET /v1/models/pump/versions/3/card", (200, b"<html>"))

    ran = tidewheel("card", "pump")

    assert ran.err == "the card of pump v3 is in pump-3.html\n"
    assert (tmp_path / "pump-3.html").read_bytes() == b"<html>"
    assert "format=html" in recorded.asked[-1].path


def test_a_card_s_form_follows_its_file(tidewheel: Run, recorded: Recorded, tmp_path: Path) -> None:
    recorded.says("GET /v1/models/pump/versions/2/card", (200, b"# pump"))

    ran = tidewheel("card", "pump", "2", "--out", "pump.md")

    assert ran.code == 0
    assert (tmp_path / "pump.md").read_bytes() == b"# pump"
    assert "format=md" in recorded.asked[-1].path


def test_events_are_the_newest_without_signs_of_life(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/events", (200, {"items": [], "next": None}))

    tidewheel("events")
    tidewheel("events", "--all")
    tidewheel("events", "--after", "7", "--type", "replica.announced")

    default, every, behind = (asked.path for asked in recorded.asked)
    assert "newest=true" in default
    assert "without=replica.announced" in default
    assert "without" not in every
    assert "newest" not in behind
    assert "without" not in behind


def test_extra_columns_of_a_file_are_left_out_when_asked(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,3\n")
    recorded.says(
        "GET /v1/models/pump", (200, {"columns": [{"name": "a"}, {"name": "b"}], "entity": None})
    )
    recorded.says("POST /v1/models/pump/predict", (200, {"predictions": [{"answer": 1}]}))

    ran = tidewheel("predict", "pump", "--file", "rows.csv", "--ignore-extra", "--json")

    assert ran.code == 0
    assert json.loads(recorded.asked[-1].body)["rows"] == [{"a": 1, "b": 2}]
    assert ran.err == "not sent, because pump does not take it: y\n"


def test_extra_columns_are_refused_with_the_way_out(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n1,3\n")
    recorded.says("GET /v1/models/pump", (200, {"columns": [{"name": "a"}], "entity": None}))
    recorded.says("POST /v1/models/pump/predict", a_problem(422))

    ran = tidewheel("predict", "pump", "--file", "rows.csv")

    assert ran.code == 65
    assert "  fix: --ignore-extra leaves out y" in ran.err


def test_dead_letters_are_listed_with_what_was_turned_away(
    tidewheel: Run, recorded: Recorded
) -> None:
    position = {"topic": "tidewheel.offers.v1", "partition": 3, "offset": 1200}
    why = {"failure": "InvalidEvent", "reason": "the value is not JSON"}
    found = {
        "items": [{"id": 1, **position, "subject": "pumps", "sequence": None, **why}],
        "next": None,
        "turned_away": {
            "totals": {"tidewheel.offers.v1": 4000},
            "newest": [{**position, "offset": 5200, **why}],
        },
    }
    recorded.says("GET /v1/dead-letters", (200, found))

    listed = tidewheel("dlq", "ls", "--service", "registry", "--json")
    told = tidewheel("dlq", "ls", "--service", "registry")

    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert [(row["kept"], row["offset"]) for row in rows] == [("whole", 1200), ("position", 5200)]
    assert "4000 records of tidewheel.offers.v1" in told.err


def test_what_was_retried_is_counted(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says(
        "POST /v1/dead-letters/retry", (200, {"topic": "t", "subject": "a", "retried": 2})
    )

    ran = tidewheel("dlq", "retry", "registry", "tidewheel.offers.v1", "pumps")

    assert "registry: 2 handled" in ran.err
