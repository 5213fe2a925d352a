"""Supervised rows of the series: by timestamp, never looking ahead."""

from datetime import UTC, datetime, timedelta

from local.demo import bad
from local.demo.data import KNOWN_LEAKS, LAGS, TARGET, Hour, Series, day

SERIES = Series.read()


def an_hour(text: str) -> Hour:
    at = datetime.fromisoformat(text)
    return next(hour for hour in SERIES.hours if hour.at == at)


def test_the_whole_series_is_there_in_the_order_of_time() -> None:
    moments = [hour.at for hour in SERIES.hours]

    assert len(moments) == 1268
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] == timedelta(hours=1378)


def test_lags_are_taken_by_timestamp_across_the_change_to_summer_time() -> None:
    hour = an_hour("2022-03-27T04:00:00+02:00")

    row = SERIES.features(hour)

    before = an_hour("2022-03-27T01:00:00+01:00")
    assert hour.at.astimezone(UTC) - before.at.astimezone(UTC) == timedelta(hours=2)
    assert row["lag_2"] == before.flow


def test_a_missing_hour_leaves_a_lag_unknown() -> None:
    first_after_gap = next(hour for hour in SERIES.hours if hour.at >= day(4, 25))

    row = SERIES.features(first_after_gap)

    assert row["lag_1"] is None
    assert row["lag_48"] is not None


def test_a_row_knows_nothing_of_its_own_hour_or_later() -> None:
    hour = an_hour("2022-04-13T12:00:00+02:00")
    cut = Series(tuple(h for h in SERIES.hours if h.at < hour.at))

    assert SERIES.features(hour) == cut.features(hour)


def test_a_version_holds_complete_rows_of_the_past_only() -> None:
    rows = SERIES.rows_until(day(4, 18))

    assert all(datetime.fromisoformat(row["time"]) < day(4, 18) for row in rows)
    assert all(value is not None for row in rows for value in row.values())
    assert SERIES.rows_until(day(4, 11)) == rows[: len(SERIES.rows_until(day(4, 11)))]


def test_known_leaks_touch_no_row() -> None:
    rows = SERIES.rows_until(day(4, 18))

    lags = [TARGET, *(f"lag_{n}" for n in LAGS)]
    assert KNOWN_LEAKS
    assert min(row[name] for row in rows for name in lags) > 90


def test_the_leak_of_april_is_left_in() -> None:
    assert min(row[TARGET] for row in SERIES.rows_until(day(5, 2))) < 30


def test_bad_files_change_only_what_they_say() -> None:
    rows = SERIES.rows_until(day(4, 11))

    renamed, broken = bad.without_target(rows), bad.broken(rows)

    assert TARGET not in renamed[0]
    assert broken[:-3] == rows[:-3]
    assert [broken[-3]["lag_1"], broken[-2][TARGET], broken[-1][TARGET]] == [
        "sensor off",
        "inf",
        "",
    ]
