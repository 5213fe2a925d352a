"""Features as they are shown: each as serious as its own test found it."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from services.drift_monitor.api.features import worst_of
from services.drift_monitor.detection import Comparison, compare, severity_of
from shared.events import Json
from shared.reference import read_reference
from tests.drift_monitor.building import Floats, a_profile

SHIFT = 0.05


def a_window(found: Comparison) -> Json:
    """A compared window as it is kept."""
    features = [asdict(one) for one in found.features]
    return {"window": 1, "mode": found.mode, "alpha": found.alpha,
            "severity": found.severity, "features": features}  # fmt: skip


def tiers(profile: bytes, rows: Floats) -> tuple[str, dict[str, str]]:
    """The tier of a window, and that of each of its features."""
    reference = read_reference(profile)
    answers = np.nan_to_num(rows[:, 0]) + 2 * rows[:, 1]
    found = compare(reference, reference.layout.count([*rows.T.copy(), answers]))
    return found.tier, {one["feature"]: one["tier"] for one in worst_of([a_window(found)], SHIFT)}


def test_a_small_drift_is_a_warning_though_another_feature_of_the_window_is_critical() -> None:
    series = np.random.default_rng(3).normal(size=(108_000, 3))
    profile = a_profile(series[:100_000], window=8000)

    tier, each = tiers(profile, series[100_000:] + np.array([0.075, 0, 1.0]))

    assert tier == "critical"
    assert (each["c"], each["a"], each["b"]) == ("critical", "warning", "clean")


def test_what_is_wholly_missing_is_a_warning_where_nothing_can_be_tested() -> None:
    series = np.random.default_rng(3).normal(size=(30, 3))
    window = np.random.default_rng(4).normal(size=(50, 3)) / 2
    window[:, 0] = np.nan

    tier, each = tiers(a_profile(series, window=50), window)

    assert (tier, each["a"], each["b"]) == ("warning", "warning", "insufficient")


@pytest.mark.parametrize(
    ("test", "low", "high", "severity"),
    [
        ("location", 0.051, 0.2, "critical"),
        ("location", 0.03, 0.2, "warning"),
        ("scale", -0.2, -0.06, "critical"),
        ("missing", 0.021, 0.1, "critical"),
        ("missing", 0.019, 0.1, "warning"),
        ("level", -0.3, -0.021, "critical"),
        ("shape", None, None, "warning"),
    ],
)
def test_a_share_is_tolerated_less_than_a_shift(
    test: str, low: float | None, high: float | None, severity: str
) -> None:
    found = severity_of(test, is_drift=True, low=low, high=high, shift=SHIFT)

    assert found == severity
    assert severity_of(test, is_drift=False, low=low, high=high, shift=SHIFT) is None
