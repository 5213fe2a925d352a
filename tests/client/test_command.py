"""The command as people and scripts meet it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import CHECKOUT, Recorded, Run, write_context

pytestmark = pytest.mark.enable_socket

HEAVY = ("sklearn", "pandas", "polars", "numpy", "pyarrow", "httpx", "scipy")


def a_problem(status: int, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"status": status, "detail": "It is so.", "request_id": "r-1", **more}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tidewheel.main import run; code = run(['--help']);"
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{CHECKOUT}/client:{CHECKOUT}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr.strip() == "0 []"


def test_no_verb_prints_the_help(tidewheel: Run) -> None:
    ran = tidewheel()

    assert "publish" in ran.out
    assert (ran.code, ran.err) == (64, "")


def test_wrong_usage_is_64_and_names_the_help(tidewheel: Run) -> None:
    ran = tidewheel("predict")

    assert ran.code == 64
    assert ran.err.splitlines() == [
        "error: Missing argument 'model'.",
        "  fix: tidewheel predict --help",
    ]


def test_without_a_context_it_is_78_and_says_how_to_get_one(tidewheel: Run) -> None:
    ran = tidewheel("models")

    assert ran.code == 78
    assert len(ran.err.splitlines()) == 3
    assert "make up" in ran.err


def test_a_broken_context_is_78(tidewheel: Run, tmp_path: Path) -> None:
    file = tmp_path / "context.json"
    file.write_text("{")

    ran = tidewheel("models", TIDEWHEEL_CONTEXT=str(file))

    assert ran.code == 78
    assert str(file) in ran.err


def test_a_service_that_is_down_is_69_in_at_most_four_lines(tidewheel: Run, tmp_path: Path) -> None:
    write_context(tmp_path, "http://127.0.0.1:9")

    ran = tidewheel("models")

    assert ran.code == 69
    assert "registry does not answer at http://127.0.0.1:9" in ran.err
    assert len(ran.err.splitlines()) <= 4
    assert "Traceback" not in ran.err


@pytest.mark.usefixtures("context_file")
def test_the_context_is_found_in_a_folder_above(tidewheel: Run, recorded: Recorded) -> None:
    recorded.says("GET /v1/models", (200, {"items": [], "next": None}))

    ran = tidewheel("models", "--json")

    assert (ran.code, ran.out) == (0, "")
    assert recorded.asked[0].headers["authorization"] == "Bearer tw_test"


@pytest.mark.usefixtures("context_file")
class TestAnswers:
    def test_lists_are_one_json_object_per_line_for_programs(
        self, tidewheel: Run, recorded: Recorded
    ) -> None:
        items = [{"model": "pump"}, {"model": "valve"}]
        recorded.says("GET /v1/models", (200, {"items": items, "next": None}))

        ran = tidewheel("models", "--json")

        assert [json.loads(line) for line in ran.out.splitlines()] == items

    def test_lists_are_tables_for_people(self, tidewheel: Run, recorded: Recorded) -> None:
        recorded.says("GET /v1/models", (200, {"items": [{"model": "pump"}], "next": None}))

        ran = tidewheel("models")

        assert "pump" in ran.out
        assert "\x1b[" not in ran.out

    @pytest.mark.parametrize(
        ("status", "code"), [(401, 77), (403, 77), (404, 65), (409, 65), (422, 65), (500, 70)]
    )
    def test_each_refusal_has_its_exit_code(
        self, tidewheel: Run, recorded: Recorded, status: int, code: int
    ) -> None:
        recorded.says("GET /v1/models/pump/why", a_problem(status))

        ran = tidewheel("why", "pump")

        assert ran.code == code
        assert "request id: r-1" in ran.err

    def test_every_reason_of_a_refused_file_is_told(
        self, tidewheel: Run, recorded: Recorded, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.csv").write_text("a\n1\n")
        faults = [
            {"pointer": "/columns/flow", "detail": "the target is missing", "hint": "add it"},
            {"pointer": "/columns/a", "detail": "was text, is integer"},
        ]
        recorded.says("POST /v1/datasets/flow/versions", a_problem(422, errors=faults))

        ran = tidewheel("publish", "flow", "bad.csv")

        assert ran.code == 65
        assert "the target is missing" in ran.err
        assert "was text, is integer" in ran.err
        assert "fix: add it" in ran.err

    def test_errors_are_json_for_programs(self, tidewheel: Run, recorded: Recorded) -> None:
        recorded.says("GET /v1/models", a_problem(403, code="not_permitted"))

        ran = tidewheel("models", "--json")

        told = json.loads(ran.err)
        assert (told["code"], told["exit_code"], told["request_id"]) == ("not_permitted", 77, "r-1")

    def test_a_busy_service_is_asked_again(self, tidewheel: Run, recorded: Recorded) -> None:
        busy, fine = a_problem(503), (200, {"items": [{"model": "pump"}], "next": None})
        recorded.says("GET /v1/models", busy, busy, fine)

        ran = tidewheel("models", "--json")

        assert ran.code == 0
        assert len(recorded.asked) == 3

    def test_one_that_stays_busy_is_75(self, tidewheel: Run, recorded: Recorded) -> None:
        recorded.says("GET /v1/models", a_problem(503))

        ran = tidewheel("models")

        assert ran.code == 75

    def test_a_prediction_is_never_sent_twice(self, tidewheel: Run, recorded: Recorded) -> None:
        recorded.says("POST /v1/models/pump/predict", a_problem(503))

        tidewheel("predict", "pump", "--row", "{}")

        assert len(recorded.asked) == 1

    def test_a_prediction_that_nobody_has_looked_at_is_sent_again(
        self, tidewheel: Run, recorded: Recorded
    ) -> None:
        early, fine = a_problem(503, code="loading"), (200, {"predictions": [{"answer": 1}]})
        recorded.says("POST /v1/models/pump/predict", early, fine)

        ran = tidewheel("predict", "pump", "--row", "{}")

        assert (ran.code, len(recorded.asked)) == (0, 2)

    def test_rows_of_a_file_are_sent_with_their_types(
        self, tidewheel: Run, recorded: Recorded, tmp_path: Path
    ) -> None:
        (tmp_path / "rows.csv").write_text("load,kind,open\n1.5,b,true\n,c,false\nnan,d,\n")
        recorded.says("POST /v1/models/pump/predict", (200, {"predictions": [{"answer": 1}]}))

        ran = tidewheel("predict", "pump", "--file", "rows.csv", "--json")

        assert ran.code == 0
        assert json.loads(recorded.asked[0].body)["rows"] == [
            {"load": 1.5, "kind": "b", "open": True},
            {"load": None, "kind": "c", "open": False},
            {"load": "nan", "kind": "d", "open": None},
        ]

    @pytest.mark.parametrize(
        ("given", "sent"), [("1", 1.0), ("true", True), ("wet", "wet"), ('"1"', "1"), ('"', '"')]
    )
    def test_an_outcome_in_quotes_is_a_text(
        self, tidewheel: Run, recorded: Recorded, given: str, sent: object
    ) -> None:
        recorded.says("POST /v1/feedback", (202, {"taken": 1}))

        ran = tidewheel("feedback", "pump", "p-1", given)

        assert ran.code == 0
        assert json.loads(recorded.asked[0].body)["observations"][0]["value"] == sent

    def test_predictions_are_explained_in_sentences(
        self, tidewheel: Run, recorded: Recorded
    ) -> None:
        words = ["usually the answer is 1, for this row it is 3.1", "load 93 raised it by 2.1"]
        answers = [
            {"prediction_id": "p-1", "answer": 3.1, "explanation": {"words": words}},
            {"prediction_id": "p-2", "answer": 3.1, "explanation": None, "not_explained": "busy"},
        ]
        recorded.says("POST /v1/models/pump/predict", (200, {"predictions": answers}))

        ran = tidewheel("predict", "pump", "--row", '{"load": 93}', "--explain")

        assert ran.code == 0
        assert recorded.asked[0].path.endswith("/predict?explain=true")
        assert ran.out.splitlines()[-6:] == [
            "p-1: 3.1",
            "  usually the answer is 1, for this row it is 3.1",
            "  load 93 raised it by 2.1",
            "",
            "p-2: 3.1",
            "  not explained: busy",
        ]

    def test_a_rollback_returns_when_every_replica_confirms(
        self, tidewheel: Run, recorded: Recorded
    ) -> None:
        decided = {"generation": 7, "from": 3, "to": 2, "event_id": "e-1"}
        late = {"replicas": [{"replica": "0", "generation": 6}]}
        applied = {"replicas": [{"replica": "0", "generation": 7}]}
        recorded.says("POST /v1/models/pump/rollback", (202, decided))
        recorded.says("GET /v1/models/pump/deployment", (200, late), (200, late), (200, applied))

        ran = tidewheel("rollback", "pump", "--reason", "noise", "--json")

        assert json.loads(ran.out) == {**decided, "replicas": ["0"]}
        assert [asked.method for asked in recorded.asked] == ["POST", "GET", "GET", "GET"]
        assert json.loads(recorded.asked[0].body) == {"reason": "noise"}


def an_event(kind: str, **data: Any) -> dict[str, Any]:
    return {
        "id": f"id-of-{kind}",
        "type": f"tidewheel.{kind}.v1",
        "subject": "pump",
        "time": "2026-03-14T07:00:12.345+00:00",
        "data": data,
    }


def a_stream(*events: dict[str, Any]) -> tuple[int, bytes]:
    lines = [f"id: {n}\ndata: {json.dumps(event)}\n\n" for n, event in enumerate(events)]
    return 200, "".join(lines).encode()


REGISTERED = an_event("model.registered", model="pump", version=2)
GATE = {"metric": "mae", "versus": "champion", "estimate": 0.1, "lower": -0.1, "upper": 0.3}
REJECTED = an_event("evaluation.completed", version=2, accepted=False, reason="worse", gates=[GATE])
PROMOTED = an_event("model.promoted", version=2, previous=1)
ABORTED = an_event("rollout.aborted", version=2, reason="worse", detail="9 of 10 requests")
WAITS = an_event("approval.requested", version=2, rollout="r")


@pytest.mark.usefixtures("context_file")
@pytest.mark.parametrize(("last", "code"), [(PROMOTED, 0), (REJECTED, 3), (ABORTED, 4), (WAITS, 5)])
def test_a_watched_cascade_ends_with_its_outcome(
    tidewheel: Run,
    recorded: Recorded,
    tmp_path: Path,
    last: dict[str, Any],
    code: int,
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    receipt = {"dataset": "flow", "version": 3, "rows": 1, "cascade": "c-1", "created": True}
    recorded.says("POST /v1/datasets/flow/versions", (201, receipt))
    recorded.says("GET /v1/cascades/c-1/events", a_stream(REGISTERED, last))
    recorded.says("GET /v1/models", (200, {"items": [{"model": "pump", "dataset": "flow"}]}))

    ran = tidewheel("publish", "flow", "flow.csv", "--watch")

    assert ran.code == code
    assert "pump v2" in ran.out


@pytest.mark.usefixtures("context_file")
def test_a_watched_version_that_no_model_uses_has_its_end_at_once(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    receipt = {"dataset": "flow", "version": 3, "rows": 1, "cascade": "c-1", "created": True}
    recorded.says("POST /v1/datasets/flow/versions", (201, receipt))
    recorded.says("GET /v1/models", (200, {"items": [{"model": "pump", "dataset": "other"}]}))

    ran = tidewheel("publish", "flow", "flow.csv", "--watch")

    assert ran.code == 0
    assert "no model is trained on it yet" in ran.err


@pytest.mark.usefixtures("context_file")
def test_a_watched_version_that_was_there_tells_how_it_ended(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    receipt = {"dataset": "flow", "version": 3, "rows": 1, "cascade": "c-1", "created": False}
    ended = {"dataset": "flow", "dataset_version": 3, "model": "pump", "outcome": "rejected"}
    recorded.says("POST /v1/datasets/flow/versions", (200, receipt))
    recorded.says("GET /v1/models", (200, {"items": [{"model": "pump", "dataset": "flow"}]}))
    recorded.says("GET /v1/outcomes", (200, {"items": [{**ended, "event_id": "e-1"}]}))

    ran = tidewheel("publish", "flow", "flow.csv", "--watch")

    assert ran.code == 3
    assert "pump rejected  (event e-1)" in ran.err


@pytest.mark.usefixtures("context_file")
def test_a_watched_cascade_in_which_nothing_happens_says_what_waits(
    tidewheel: Run, recorded: Recorded, tmp_path: Path
) -> None:
    (tmp_path / "flow.csv").write_text("a\n1\n")
    receipt = {"dataset": "flow", "version": 3, "rows": 1, "cascade": "c-1", "created": True}
    waiting = {"model": "pump", "cascade": "c-1", "state": "waiting"}
    status, told = a_stream(REGISTERED, PROMOTED)
    recorded.says("POST /v1/datasets/flow/versions", (201, receipt))
    recorded.says("GET /v1/models", (200, {"items": [{"model": "pump", "dataset": "flow"}]}))
    recorded.says(
        "GET /v1/runs", (200, {"items": [{**waiting, "not_before": "2026-03-14T07:10:00.5+00:00"}]})
    )
    recorded.says("GET /v1/cascades/c-1/events", (status, b": alive\n\n" + told))

    ran = tidewheel("publish", "flow", "flow.csv", "--watch")

    assert ran.code == 0
    assert "pump waits to be trained, not before 2026-03-14T07:10:00 UTC" in ran.err


@pytest.mark.usefixtures("context_file")
def test_of_very_many_reasons_the_first_are_shown(tidewheel: Run, recorded: Recorded) -> None:
    faults = [{"pointer": f"/rows/{n}/a", "detail": "required"} for n in range(50)]
    recorded.says("POST /v1/models/pump/predict", a_problem(422, errors=faults))

    ran = tidewheel("predict", "pump", "--row", "{}")

    assert "It is so. /rows/0/a: required; /rows/1/a: required; " in ran.err
    assert "/rows/7/a: required; and 42 more (--json has them)" in ran.err
    assert "/rows/8/" not in ran.err


def test_a_row_that_is_no_object_is_wrong_usage(tidewheel: Run) -> None:
    ran = tidewheel("predict", "pump", "--row", "[1]")

    assert ran.code == 64
    assert "a row is an object, {column: value}" in ran.err


def test_check_names_file_line_and_column_without_a_running_system(
    tidewheel: Run, tmp_path: Path
) -> None:
    (tmp_path / "pump.yaml").write_text(
        "apiVersion: tidewheel/v1\nname: pump\nowner: team\ntask: regression\n"
        "data: {dataset: pumps, tagret: y}\n"
    )

    ran = tidewheel("check", "pump.yaml")

    assert ran.code == 65
    assert "pump.yaml:5:24  data.tagret: unknown key 'tagret', did you mean 'target'?" in ran.err


def test_the_specifications_of_the_demo_are_right(tidewheel: Run) -> None:
    files = sorted((CHECKOUT / "local").rglob("*.yaml"))

    ran = tidewheel("check", *map(str, files))

    assert (ran.code, len(files)) == (0, 4)


def test_local_outside_a_checkout_is_69_and_says_so(tmp_path: Path) -> None:
    code = (
        "import tidewheel.commands.local as local; from tidewheel.main import run;"
        "local._checkout = lambda folder: None; raise SystemExit(run(['local', 'up']))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{CHECKOUT}/client"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 69
    assert "change into a checkout" in done.stderr


def test_version_is_printed(tidewheel: Run) -> None:
    assert tidewheel("version").out == "0.1.0\n"


@pytest.mark.usefixtures("context_file")
def test_freshness_tells_what_a_model_answers_from_and_whether_that_is_too_old(
    tidewheel: Run, recorded: Recorded
) -> None:
    times = {"p50_seconds": 42.0, "p95_seconds": 90.0, "p99_seconds": 7200.0}
    version = {"dataset_version": 3, "published_at": "2026-11-21", "served_at": None}
    found = {
        "model": "pump",
        "dataset": "flow",
        "newest_version": 3,
        "served_version": 2,
        "staleness_seconds": 9000.0,
        "objective_seconds": 3600.0,
        "is_stale": True,
        "served": 2,
        "versions": [{**version, "seconds": None, "outcome": "rejected", "detail": "worse"}],
    }
    recorded.says("GET /v1/models/pump/freshness", (200, found | times))

    ran = tidewheel("freshness", "pump")

    assert ran.code == 0
    assert "version 2 of flow, the newest is 3; behind by 2.5 h, objective 1.0 h: stale" in ran.err
    assert "p50 42 s, p95 1.5 min, p99 2.0 h" in ran.err
    assert "rejected" in ran.out


@pytest.mark.usefixtures("context_file")
def test_freshness_of_all_models_begins_with_the_fleet(tidewheel: Run, recorded: Recorded) -> None:
    fleet = {"served": 0, "waiting": 1, "p50_seconds": None, "p95_seconds": None}
    recorded.says(
        "GET /v1/freshness",
        (200, {"fleet": {**fleet, "p99_seconds": None}, "items": [], "next": None}),
    )

    ran = tidewheel("freshness")

    assert "all models: 0 served, 1 not yet; p50 -, p95 -, p99 -" in ran.err
