"""The profile of a version: the same bytes for the same rows, and honest about what it lacks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from shared.errors import Unprocessable
from shared.manifest import Column
from shared.probability import t_quantile
from shared.reference import (
    ANSWER,
    SCORE,
    Reference,
    build_reference,
    long_run_inflation,
    losses_profile,
    read_reference,
    watched_metric,
)
from tests.drift_monitor.building import Answered, autoregressive


def build(
    rows: int = 600, *, phi: float = 0.0, window: int = 50, time_ordered: bool = True
) -> Reference:
    return read_reference(some_bytes(rows, phi=phi, window=window, time_ordered=time_ordered))


def some_bytes(
    rows: int = 600, *, phi: float = 0.0, window: int = 50, time_ordered: bool = True
) -> bytes:
    series = autoregressive(phi, rows, 4, seed=1)
    answers = autoregressive(phi, max(rows // 4, 20), 1, seed=2)[:, 0]
    names = [f"x{i}" for i in range(4)]
    return build_reference(
        columns=[*(Column(name=n, kind="number") for n in names), Column(name="c", kind="text")],
        train={n: series[:, i] for i, n in enumerate(names)} | {"c": some_words(rows)},
        holdout_answers=Answered(answers),
        holdout_targets=answers,
        holdout_losses=np.abs(answers),
        metric="mae",
        classes=(),
        seed=3,
        time_ordered=time_ordered,
        window=window,
    )


def some_words(rows: int) -> NDArray[Any]:
    words = np.empty(rows, dtype=object)
    words[:] = [("red", "blue", None)[i % 3] for i in range(rows)]
    return words


def test_the_same_rows_have_the_same_bytes() -> None:
    assert some_bytes() == some_bytes()


def test_what_was_written_is_read() -> None:
    reference = build()

    assert [cell.name for cell in reference.layout.features] == [
        "x0",
        "x1",
        "x2",
        "x3",
        "c",
        ANSWER,
    ]
    assert [int(counts.sum()) for counts in reference.counts] == [600] * 5 + [150]
    assert len(reference.sample) == 500
    assert len(reference.sample[0]) == 5
    assert reference.losses.rows == 150


def test_independent_rows_need_no_widening() -> None:
    scale = build(4000).scale_for(50)

    assert scale is not None
    assert scale.blocks == 80
    assert all(f is not None and f.location < 1.25 for f in scale.factors[:4])


def test_alike_neighbours_widen_every_statistic() -> None:
    scale = build(4000, phi=0.9).scale_for(50)

    assert scale is not None
    factors = scale.factors[0]
    assert factors is not None
    # Variance of a mean of 50 such neighbours over that of independent ones: about 15.
    assert 3.0 < factors.location < 5.0
    assert factors.shape > 3.0
    assert factors.low > 3.0


def test_too_few_rows_are_called_so_instead_of_guessed_from() -> None:
    reference = build(120)

    assert not reference.calibrated
    assert "120 training rows" in reference.reason
    assert reference.scale_for(50) is None


def test_windows_longer_than_blocks_can_tell_have_no_calibration() -> None:
    assert build(600, window=50).scale_for(50) is not None
    assert build(600, window=100).scale_for(100) is None


def test_rows_without_an_order_count_as_independent() -> None:
    scale = build(150, time_ordered=False, window=50).scale_for(50)

    assert scale is not None
    assert scale.blocks == 0


def test_outputs_with_too_few_held_out_rows_are_left_uncalibrated() -> None:
    scale = build(600, window=50).scale_for(50)

    assert scale is not None
    assert scale.factors[-1] is None
    assert all(f is not None for f in scale.factors[:-1])


def test_two_classes_have_a_score() -> None:
    labels: NDArray[Any] = np.array(["no", "yes"] * 100, dtype=object)
    likely = np.linspace(0.01, 0.99, 200)

    data = build_reference(
        columns=[Column(name="x", kind="number")],
        train={"x": np.arange(800.0)},
        holdout_answers=Answered(labels, np.column_stack([1 - likely, likely])),
        holdout_targets=labels,
        holdout_losses=np.full(200, 0.3),
        metric="log_loss",
        classes=("no", "yes"),
        seed=1,
        time_ordered=False,
    )

    reference = read_reference(data)
    assert [cell.name for cell in reference.layout.features] == ["x", ANSWER, SCORE]
    assert reference.losses.metric == "log_loss"
    assert reference.losses.mean == pytest.approx(0.3)


def test_what_the_log_cannot_tell_is_watched_by_mistakes() -> None:
    assert watched_metric("log_loss", ("a", "b", "c")) == "accuracy"
    assert watched_metric("log_loss", ("a", "b")) == "log_loss"
    assert watched_metric("mae", ()) == "mae"


def test_single_losses_are_capped_and_runs_of_them_counted_as_fewer() -> None:
    losses = np.abs(autoregressive(0.9, 2000, 1, seed=5)[:, 0])
    losses[7] = 1e9

    profile = losses_profile("mae", losses)

    assert profile.mean > 1e5
    assert long_run_inflation(np.abs(autoregressive(0.9, 2000, 1, seed=5)[:, 0])) > 4
    assert long_run_inflation(np.abs(autoregressive(0.0, 2000, 1, seed=5)[:, 0])) < 1.6
    assert long_run_inflation(np.ones(5)) == 1.0


def test_losses_that_are_not_finite_are_left_out() -> None:
    profile = losses_profile("mae", np.array([1.0, np.nan, np.inf, 3.0]))

    assert (profile.rows, profile.mean) == (2, 2.0)


def test_losses_that_are_bounded_by_themselves_have_no_smaller_cap() -> None:
    rare, never = np.repeat([1.0, 0.0], [5, 995]), np.zeros(1000)

    assert [losses_profile("accuracy", one).cap for one in (rare, never)] == [1.0, 1.0]
    assert losses_profile("brier", rare / 2).capped_mean == rare.mean() / 2
    assert losses_profile("mae", rare).cap < 1


def test_rows_without_a_mistake_do_not_show_that_there_are_none() -> None:
    never = losses_profile("accuracy", np.zeros(100))

    assert never.bounded_high == pytest.approx(1 - 0.025 ** (1 / 100))
    assert never.spread == pytest.approx((1 / 101 * 100 / 101) ** 0.5)
    assert losses_profile("mae", np.full(100, 2.0)).spread > 0


@pytest.mark.parametrize("metric", ["accuracy", "brier"])
def test_profiles_of_former_releases_are_read_without_the_cap_that_blinded_them(
    metric: str,
) -> None:
    losses = np.random.default_rng(2).permutation(np.repeat([1.0, 0.1, 0.0], [4, 40, 956]))
    losses = (losses > 0.5).astype(np.float64) if metric == "accuracy" else losses
    now = losses_profile(metric, losses)
    mean, deviation = losses.mean(), losses.std(ddof=1)
    size = len(losses) / now.inflation
    former = {
        "metric": metric,
        "rows": 1000,
        "mean": mean,
        "cap": 5 * mean,
        "capped_mean": np.minimum(losses, 5 * mean).mean(),
        "capped_deviation": np.minimum(losses, 5 * mean).std(ddof=1),
        "inflation": now.inflation,
    }
    known = {
        "unit": 1.0,
        "bounded_mean": mean,
        "bounded_high": mean + t_quantile(0.025, size - 1) * deviation / size**0.5,
    }

    for plain in (former, former | known):
        found = read_reference(a_profile_with(plain)).losses

        assert (found.cap, found.capped_mean, found.unit) == (1.0, now.mean, 1.0)
        assert found.capped_deviation >= deviation * 0.999
        assert found.bounded_high >= now.bounded_high * 0.999
    assert found.capped_deviation == pytest.approx(deviation, rel=1e-3)
    assert read_reference(a_profile_with(asdict(now))).losses == now


def a_profile_with(losses: dict[str, Any]) -> bytes:
    """The profile of a few rows, its losses replaced."""
    answers = np.linspace(0.0, 1.0, 40)
    plain = orjson.loads(
        build_reference(
            columns=[],
            train={},
            holdout_answers=Answered(answers),
            holdout_targets=answers,
            holdout_losses=answers,
            metric="mae",
            classes=(),
            seed=1,
            time_ordered=False,
        )
    )
    return orjson.dumps(plain | {"losses": losses}, option=orjson.OPT_SERIALIZE_NUMPY)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", orjson.dumps({"format": "other"})])
def test_anything_else_is_no_profile(data: bytes) -> None:
    with pytest.raises(Unprocessable):
        read_reference(data)
