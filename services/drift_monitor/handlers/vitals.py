"""Tells how every champion stands, as metrics."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.drift_monitor.handlers import failing
from services.drift_monitor.store.vitals import VitalsTable
from services.drift_monitor.vitals import Usual, series
from shared import telemetry
from shared.clock import Clock
from shared.vocabulary import GaugeName

_OWN: Final[tuple[GaugeName, ...]] = (
    "tidewheel_drift_severity",
    "tidewheel_drift_effect_lower_bound",
    "tidewheel_drift_features",
    "tidewheel_drift_last_window_timestamp_seconds",
    "tidewheel_drift_window_seconds",
    "tidewheel_quality_value",
    "tidewheel_quality_gap_lower_bound",
    "tidewheel_quality_alarm",
    "tidewheel_data_quality_alarm",
)


@dataclass(frozen=True, slots=True)
class Vitals:
    """Sets all gauges of champions anew; what is no champion any more is told no longer."""

    table: VitalsTable
    now: Clock
    usual: Usual = field(default_factory=Usual)

    async def tell(self) -> None:
        """Once."""
        told: dict[GaugeName, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for standing in await self.table.standings():
            telemetry.begin("tidewheel_drift_windows_total", model=standing.model)
            try:
                found = list(series(standing))
            except Exception as error:  # noqa: BLE001 - the others are told, whatever it was
                failing.tell("telling_failed", standing.model, error)
                continue
            for name, labels, value in found:
                told[name].append((labels, value))
        for name in _OWN:
            telemetry.gauges(name, told[name])
            await asyncio.sleep(0)  # thousands of series; others have their turn between

    async def tell_labels(self) -> None:
        """How many of the labels that should be there are, and how many usually are."""
        now = self.now()
        found = await self.table.coverages(now)
        due = self.usual.due([(one.model, one.version) for one in found])
        self.usual.learn(await self.table.usual(due, now))
        telemetry.gauges(
            "tidewheel_label_coverage_ratio", [({"model": one.model}, one.ratio) for one in found]
        )
        telemetry.gauges(
            "tidewheel_label_coverage_expected_ratio",
            [({"model": model}, share) for (model, _), share in self.usual.known.items()],
        )
