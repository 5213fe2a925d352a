"""What metrics tell of a champion follows from what is kept about it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from services.drift_monitor.app import MIGRATIONS
from services.drift_monitor.detection import severity_of
from services.drift_monitor.handlers.vitals import Vitals
from services.drift_monitor.quality import Labelled, Measured, Scope, measure
from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.vitals import VitalsTable
from services.drift_monitor.vitals import LEAST_SECONDS, Standing, Usual, series
from shared.postgres import Database
from shared.reference import Losses
from shared.telemetry import REGISTRY
from tests.conftest import OpenDatabase

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FEATURES: list[dict[str, Any]] = [
    {"feature": "a", "test": "location", "p_value": 1e-9, "low": -0.9, "high": -0.4},
    {"feature": "b", "test": "location", "p_value": 1e-9, "low": 0.01, "high": 0.3},
    {"feature": "c", "test": "location", "p_value": 0.5, "low": -0.2, "high": 0.2},
    {"feature": "d", "test": "together", "p_value": 1e-9, "low": None, "high": None},
    # Of shares two fifths of what is tolerated of shifts; what they moved by is no deviation.
    {"feature": "e", "test": "missing", "p_value": 1e-9, "low": 0.021, "high": 0.06},
    {"feature": "f", "test": "shape", "p_value": 1e-9, "low": -0.9, "high": -0.019},
    {"feature": "g", "test": "correlation", "p_value": 1e-9, "low": 0.049, "high": 0.6},
    {"feature": "h", "test": "scale", "p_value": 0.001, "low": 0.95, "high": 1.2},
]
QUALITY = {"value": 2.0, "completeness": 0.4, "expected": 0.5, "state": "provisional"}


def a_standing(**changes: Any) -> Standing:
    facts: dict[str, Any] = {
        "model": "pump-v",
        "metric": "mae",
        "registered_at": NOW,
        "window_rows": 1000,
        "close_after": None,
        "tolerance": 0.1,
    }
    return Standing(**(facts | changes))


def told(standing: Standing) -> dict[tuple[str, ...], float]:
    return {
        (name.removeprefix("tidewheel_"), *(v for k, v in labels.items() if k != "model")): value
        for name, labels, value in series(standing)
    }


def test_without_any_window_a_champion_is_not_judged_since_its_registration() -> None:
    found = told(a_standing())

    assert found["drift_severity",] == -1
    assert found["drift_last_window_timestamp_seconds",] == NOW.timestamp()
    assert found["drift_window_seconds",] == LEAST_SECONDS
    assert not [name for name, *_ in found if name in ("quality_value", "quality_gap_lower_bound")]


@pytest.mark.parametrize(("severity", "value"), [(None, 0), ("warning", 1), ("critical", 2)])
def test_severity_is_a_number(severity: str | None, value: int) -> None:
    assert told(a_standing(severity=severity, is_judged=True))["drift_severity",] == value


def test_what_was_compared_with_nothing_is_not_told_as_clean() -> None:
    assert told(a_standing())["drift_severity",] == -1
    assert told(a_standing(severity="warning"))["drift_severity",] == 1


def test_features_that_drifted_are_told_by_level() -> None:
    found = told(a_standing(severity="critical", shifted=0.4, drifted=3, critical=1))

    assert found["drift_effect_lower_bound",] == 0.4
    assert found["drift_features", "critical"] == 1
    assert found["drift_features", "warning"] == 2


def test_a_window_takes_as_long_as_the_slowest_of_what_is_known() -> None:
    slow = a_standing(closed_seconds=600.0, open_rows=100, open_seconds=120.0)

    assert told(slow)["drift_window_seconds",] == 1200.0
    aged = a_standing(close_after=3600.0, open_rows=1, open_seconds=0.0, open_at=NOW)
    assert told(aged)["drift_window_seconds",] == 3600.0


def test_a_champion_of_which_no_row_was_counted_has_a_window_that_is_soon_late() -> None:
    for nothing in (a_standing(), a_standing(close_after=86_400.0), a_standing(open_rows=0)):
        assert told(nothing)["drift_window_seconds",] == LEAST_SECONDS


def test_the_first_row_tells_how_long_a_window_takes() -> None:
    first = a_standing(open_rows=1, open_seconds=0.0, open_at=NOW + timedelta(minutes=1))
    before = a_standing(open_rows=1, open_seconds=0.0, open_at=NOW - timedelta(minutes=1))

    assert told(first)["drift_window_seconds",] == 60.0 * 1000
    assert told(before)["drift_window_seconds",] == LEAST_SECONDS


def test_windows_that_closed_at_once_are_no_reason_to_expect_the_next_one_at_once() -> None:
    burst = a_standing(closed_at=NOW, closed_seconds=0.0)

    assert told(burst)["drift_window_seconds",] == LEAST_SECONDS


def test_who_was_promoted_long_after_the_registration_has_not_been_silent_since_then() -> None:
    crowned = NOW + timedelta(days=5)

    found = told(a_standing(crowned_at=crowned))

    assert found["drift_last_window_timestamp_seconds",] == crowned.timestamp()


def test_a_burst_that_fills_half_a_window_is_not_waited_for_by_its_own_pace() -> None:
    burst = a_standing(open_rows=900, open_seconds=60.0, open_at=NOW, open_since=NOW)

    assert told(burst)["drift_window_seconds",] == LEAST_SECONDS


def test_who_answers_again_after_long_is_waited_for_from_the_first_row_on() -> None:
    """A night without a question, or days in which the rung below answered."""
    morning = NOW + timedelta(hours=10)
    back = a_standing(
        closed_at=NOW,
        closed_seconds=1200.0,
        open_rows=50,
        open_seconds=60.0,
        open_at=morning + timedelta(minutes=1),
        open_since=morning,
    )

    found = told(back)

    assert found["drift_last_window_timestamp_seconds",] == morning.timestamp()
    assert found["drift_window_seconds",] == 1200.0


def test_a_closed_window_is_the_last_sign_of_life() -> None:
    closed = NOW + timedelta(hours=1)

    found = told(a_standing(closed_at=closed, closed_seconds=60.0))

    assert found["drift_last_window_timestamp_seconds",] == closed.timestamp()


def test_quality_is_told_beside_the_rule() -> None:
    quality = QUALITY | {"margin": -0.2, "baseline": 1.5, "rule_margin": 0.2}
    found = told(a_standing(quality=quality))

    assert found["quality_value", "mae", "realised"] == 2.0
    assert found["quality_gap_lower_bound", "mae", "realised"] == -0.2
    assert found["quality_value", "mae", "baseline"] == 1.5
    assert found["quality_gap_lower_bound", "mae", "baseline"] == pytest.approx(0.2)


@pytest.mark.parametrize("rows", [20, 200])
def test_a_model_that_is_better_than_its_rule_is_not_told_to_be_worse(rows: int, seed: int) -> None:
    """Its mean is above the rule's in a quarter to two fifths of such windows, by chance."""
    rng = np.random.default_rng(seed)
    reference = Losses(
        metric="mae",
        rows=2000,
        mean=0.8,
        cap=5.0,
        capped_mean=0.8,
        capped_deviation=0.6,
        inflation=1.0,
    )
    above, surely = 0, 0
    for _ in range(200):
        own, of_rule = np.abs(rng.normal(size=rows)), np.abs(rng.normal(size=rows)) * 1.05
        labelled = Labelled.of(own.tolist(), of_rule.tolist())
        found = told(a_standing(quality=asdict(measured(reference, labelled, rows))))
        above += (
            found["quality_value", "mae", "realised"] > found["quality_value", "mae", "baseline"]
        )
        surely += found["quality_gap_lower_bound", "mae", "baseline"] > 0
    far = Labelled.of([5.0 + n % 3 for n in range(rows)], [0.5] * rows)
    worse = told(a_standing(quality=asdict(measured(reference, far, rows))))

    assert above > 20
    assert surely <= 2
    assert worse["quality_gap_lower_bound", "mae", "baseline"] > 0


@pytest.mark.parametrize(("rows", "rare"), [(400, 0.01), (200, 0.02), (100, 0.05)])
def test_a_model_whose_rule_is_seldom_far_off_is_not_told_to_be_worse_where_it_never_was(
    rows: int, rare: float, seed: int
) -> None:
    """A constant rule beside rare events: the model is truly better, and worse on all others.

    Without a single one of them, in 1 to 2 % of such windows, it is worse on every row.
    """
    reference = Losses(
        metric="mae",
        rows=2000,
        mean=1.0,
        cap=5.0,
        capped_mean=1.0,
        capped_deviation=1.0,
        inflation=1.0,
    )
    usual = 0.98 * rare * 4.95 / (1 - rare)
    events = np.random.default_rng(seed).binomial(rows, rare, 2000)
    named = list[str]()
    for count in np.unique(np.append(events, 0)):
        own = [0.05] * count + [0.05 + usual] * (rows - count)
        of_rule = [5.0] * count + [0.05] * (rows - count)
        found = measured(reference, Labelled.of(own, of_rule), rows)
        told_of = told(a_standing(quality=asdict(found)))
        above = told_of["quality_gap_lower_bound", "mae", "baseline"] > 0
        assert above == (found.rule == "worse")
        named += [found.rule] * int((events == count).sum())

    assert (events == 0).any()
    assert "worse" not in named


def measured(reference: Losses, labelled: Labelled, rows: int) -> Measured:
    return measure(reference, labelled, Scope(rows=rows), tolerance=0.1)


def test_an_alarm_of_the_running_test_is_told_whatever_windows_say() -> None:
    found = told(a_standing(is_alarmed=True, quality=QUALITY | {"state": "censored"}))

    assert found["quality_alarm", "mae", "detector"] == 1
    assert found["quality_alarm", "mae", "window"] == 0
    assert told(a_standing(is_degraded=True))["quality_alarm", "mae", "window"] == 1


def test_a_censored_figure_is_not_told() -> None:
    found = told(a_standing(quality=QUALITY | {"state": "censored"}))

    assert ("quality_value", "mae", "realised") not in found


def test_an_estimate_is_told_as_one() -> None:
    others = ({"metric": "auc", "value": 0.8, "low": 0.7, "high": 0.9},)
    estimate = {"value": 2.5, "low": 2.3, "high": 2.7, "reference": 2.0, "others": others}
    found = told(a_standing(estimate=estimate))

    assert found["quality_value", "mae", "estimated"] == 2.5
    assert found["quality_gap_lower_bound", "mae", "estimated"] == pytest.approx(0.1)
    assert found["quality_value", "auc", "estimated"] == 0.8


def test_mistakes_are_no_accuracy() -> None:
    """The mean loss of a classification is the share of its mistakes; the estimate has both."""
    others = ({"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95},)
    estimate = {"value": 0.1, "low": 0.05, "high": 0.2, "reference": 0.1, "others": others}

    found = told(a_standing(metric="accuracy", quality=QUALITY, estimate=estimate))

    assert found["quality_value", "error_rate", "realised"] == 2.0
    assert found["quality_value", "error_rate", "estimated"] == 0.1
    assert found["quality_value", "accuracy", "estimated"] == 0.9
    assert found["quality_alarm", "error_rate", "detector"] == 0


def test_every_kind_of_data_quality_has_its_series() -> None:
    found = told(a_standing(alarms=("missing",)))

    assert found["data_quality_alarm", "missing"] == 1
    assert found["data_quality_alarm", "schema"] == 0


@pytest.mark.real
async def test_only_champions_are_told_and_former_ones_no_longer(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("drift_monitor", MIGRATIONS)
    await database.execute(
        "insert into model (model, champion, owner) values ('pump-v', 1, 'rotating')"
    )
    for version in (1, 2):
        await add_version(database, version)
    await database.execute(
        "update version set watch = $1 where version = 1",
        {"detector": True, "is_degraded": True, "series": {"": {"is_degraded": False}}},
    )
    await add_windows(database)
    vitals = Vitals(VitalsTable(database), lambda: NOW)

    await vitals.tell()
    first = [
        sample("tidewheel_drift_severity"),
        sample("tidewheel_data_quality_alarm", kind="range"),
        sample("tidewheel_quality_value", metric="mae", kind="realised"),
        sample("tidewheel_drift_effect_lower_bound"),
        sample("tidewheel_drift_features", level="critical"),
        sample("tidewheel_drift_features", level="warning"),
        sample("tidewheel_drift_window_seconds"),
    ]
    alarms = [
        sample("tidewheel_quality_alarm", metric="mae", by=by) for by in ("detector", "window")
    ]
    crowned = NOW + timedelta(days=1)
    await PostgresStore(database).crown("pump-v", 2, crowned)
    await vitals.tell()

    assert first == [2, 1, 2.0, 0.4, 3, 4, 3600]
    tiers = [
        severity_of(
            one["test"],
            is_drift=one["p_value"] <= 0.001,
            low=one["low"],
            high=one["high"],
            shift=0.05,
        )
        for one in FEATURES
    ]
    assert (tiers.count("critical"), tiers.count("warning")) == (3, 4)
    assert alarms == [1, 0]
    assert sample("tidewheel_quality_alarm", metric="mae", by="detector") == 0
    assert sample("tidewheel_drift_window_seconds") == LEAST_SECONDS
    assert sample("tidewheel_drift_last_window_timestamp_seconds") == crowned.timestamp()
    assert sample("tidewheel_drift_severity") == -1
    assert sample("tidewheel_data_quality_alarm", kind="range") == 0
    assert sample("tidewheel_quality_value", metric="mae", kind="realised") is None
    assert sample("tidewheel_drift_windows_total", verdict="critical") == 0


@pytest.mark.real
async def test_a_window_that_has_begun_is_no_sign_of_life_while_earlier_ones_are_not_judged(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("drift_monitor", MIGRATIONS)
    await database.execute("insert into model (model, champion, owner) values ('pump-v', 1, 'r')")
    await add_version(database, 1)
    await add_windows(database)
    began = NOW + timedelta(hours=5)
    await database.execute(
        "insert into window_sketch (model, version, number, rows, counts, started_at, begun_at, "
        "ended_at, closed_at) values ('pump-v', 1, 2, 100, '', $1, $1, $1, $1), "
        "('pump-v', 1, 3, 10, '', $1, $1, $1, null)",
        began,
    )
    vitals = Vitals(VitalsTable(database), lambda: NOW)

    await vitals.tell()
    judged = sample("tidewheel_drift_last_window_timestamp_seconds")
    await database.execute("update window_sketch set judge_at = closed_at where number = 2")
    await vitals.tell()

    assert judged == began.timestamp()
    last = NOW + timedelta(hours=1)
    assert sample("tidewheel_drift_last_window_timestamp_seconds") == last.timestamp()


@pytest.mark.real
@pytest.mark.parametrize(("season", "value"), [(None, 3.0), ("hour", 1.0)])
async def test_quality_is_that_of_the_window_with_a_figure_that_was_closed_last(
    season: str | None, value: float, open_database: OpenDatabase
) -> None:
    """Windows of seasons are open beside each other: what was begun first may be closed last."""
    database = await open_database("drift_monitor", MIGRATIONS)
    await database.execute("insert into model (model, champion, owner) values ('pump-v', 1, 'r')")
    await add_version(database, 1)
    await database.execute("update version set season = $1", season)
    for number, closed_in in enumerate((9, 2, 3, 10), start=1):
        await database.execute(
            "insert into window_sketch (model, version, number, rows, counts, started_at, "
            "ended_at, closed_at, season) values ('pump-v', 1, $1, 100, '', $2, $2, $2, $3)",
            number,
            NOW + timedelta(hours=closed_in),
            f"h{number:02}" if season else "",
        )
        state = "censored" if number == 4 else "final"
        estimate = {"value": float(number), "low": 0.0, "high": 9.0, "reference": 2.0}
        await database.execute(
            "insert into window_quality (model, version, number, quality, state, estimate) "
            "values ('pump-v', 1, $1, $2, $3, $4)",
            number,
            QUALITY | {"value": float(number), "state": state},
            state,
            None if number == 4 else estimate,
        )

    await Vitals(VitalsTable(database), lambda: NOW).tell()

    for kind in ("realised", "estimated"):
        assert sample("tidewheel_quality_value", metric="mae", kind=kind) == value


@pytest.mark.real
async def test_labels_that_stopped_are_seen_against_those_that_used_to_come(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("drift_monitor", MIGRATIONS)
    await database.execute("insert into model (model, champion, owner) values ('pump-v', 1, 'r')")
    await add_version(database, 1)
    await database.execute(
        "insert into label_delay (model, came, settled) values ('pump-v', '{}', 3600)"
    )
    # Twenty windows an hour apart: the last two are too young, the five before have no label.
    await database.execute(
        "insert into window_sketch (model, version, number, rows, counts, started_at, ended_at, "
        "closed_at) select 'pump-v', 1, n, 100, '', at, at, at from generate_series(1, 20) n, "
        "lateral (select $1::timestamptz - (20 - n) * interval '59 minutes' as at) moments",
        NOW,
    )
    await database.execute(
        "insert into window_quality (model, version, number, labels) "
        "select 'pump-v', 1, n, 90 from generate_series(1, 13) n"
    )

    await Vitals(VitalsTable(database), lambda: NOW).tell_labels()

    assert sample("tidewheel_label_coverage_ratio") == 0
    expected = sample("tidewheel_label_coverage_expected_ratio")
    assert expected == pytest.approx(13 * 90 / (18 * 100))


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"model": "pump-v", **labels})


async def add_version(database: Database, version: int) -> None:
    await database.execute(
        "insert into version (model, version, manifest, reference, columns, classes, baseline, "
        "metric, policy, watch, registered_at) values ('pump-v', $1, 'm', 'r', '[]', '[]', '{}', "
        "'mae', $2, '{}', $3)",
        version,
        {"window": 100, "shift": 0.05, "tolerance": 0.1},
        NOW,
    )


async def add_windows(database: Database) -> None:
    await database.execute(
        "insert into window_sketch (model, version, number, rows, counts, started_at, begun_at, "
        "ended_at, closed_at, severity, alpha, features) values "
        "('pump-v', 1, 1, 100, '', $1, $1, $2, $2, 'critical', 0.001, $3)",
        NOW,
        NOW + timedelta(hours=1),
        FEATURES,
    )
    await database.execute(
        "insert into window_quality (model, version, number, quality) values ('pump-v', 1, 1, $1)",
        QUALITY,
    )
    await database.execute(
        "insert into data_alarm (model, version, kind, raised_at, detail) "
        "values ('pump-v', 1, 'range', $1, 'odd')",
        NOW,
    )


# --- how many labels usually come ---------------------------------------------------------------


def test_the_share_that_is_usual_is_read_at_once_for_new_champions_and_in_turns_for_others() -> (
    None
):
    champions = [(f"model-{n}", 1) for n in range(10)]
    usual = Usual(turns=5)

    first = usual.due(champions)
    usual.learn(dict.fromkeys(first, 0.5))
    turns = []
    for _ in range(5):
        turns.append(usual.due(champions))
        usual.learn(dict.fromkeys(turns[-1], 0.6))
    changed = usual.due([*champions[1:], ("model-0", 2)])

    assert first == champions
    assert turns == [champions[n : n + 2] for n in range(0, 10, 2)]
    assert changed[-1] == ("model-0", 2)
    assert ("model-0", 1) not in usual.known
    assert set(usual.known.values()) == {0.6}


def test_a_single_champion_is_read_each_time_and_nobody_is_read_without_one() -> None:
    usual = Usual()
    usual.learn({("pump", 1): 0.5})

    assert usual.due([("pump", 1)]) == [("pump", 1)]
    assert usual.due([]) == []
    assert usual.known == {}
