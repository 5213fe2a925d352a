"""How good the answers of windows are: estimated when they close, measured as labels come."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.quality import (
    LOOKS,
    Alarm,
    Delays,
    Estimated,
    Limit,
    Measured,
    Quiet,
    Scope,
    estimate,
    feed,
    has_gone_back,
    is_settled,
    measure,
    step_of,
)
from services.drift_monitor.quality.units import in_unit
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.store.outcomes import Due, Fed
from services.drift_monitor.store.qualities import BEGINNING, Look, Running
from services.drift_monitor.windows import Watched, Window
from shared.clock import Clock
from shared.events import QualityDegraded, QualityEstimated, QualityMeasured
from shared.figures import shown, value_is
from shared.sketch import NumberCells
from shared.spec_parts import LONGEST

First = Callable[[Key, datetime], Sequence[Fed]]
"""Losses of a version by labels that have come now, of predictions up to a moment."""
OFTEN: Final = timedelta(seconds=10)
"""Without a loss to feed, the moment that a running test was fed to is written down so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was found of a window, and how it is said."""

    found: Measured
    said: QualityMeasured


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarmed:
    """A running test has raised an alarm, or that one is over; the newest window of its losses."""

    version: Watched
    window: int
    found: Alarm | Quiet


def is_due(look: Look, revised: bool) -> bool:
    """Whether the labels of a window have something new to say."""
    is_news = step_of(look.labels, look.rows) > look.steps or (revised and look.revision > 0)
    return look.is_closed and is_news


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Reads and writes figures; what they lead to is for others. Callers hold the model's lock."""

    store: PostgresStore
    profiles: Profiles
    now: Clock
    alpha: float

    # --- before labels come -----------------------------------------------------------------------

    async def estimate(
        self, version: Watched, window: Window
    ) -> tuple[Estimated, QualityEstimated] | None:
        """What a window is likely to be worth by its scores; None where they tell nothing."""
        if window.sketch is None:
            return None
        reference = await self.profiles.of(version.reference)
        yardstick = await self.profiles.yardstick(version.reference)
        if yardstick.cells is None:
            return None
        per_cell = reference.layout.split(window.sketch.counts)[-1]
        found = None
        if yardstick.scores is not None:
            found = estimate(
                yardstick.losses, yardstick.scores, yardstick.cells.edges, per_cell[:-1]
            )
        await self.store.save_estimate(_place(version, window.number), found, per_cell)
        return (found, _estimated(version, window.number, found)) if found else None

    # --- as labels come ---------------------------------------------------------------------------

    async def look(self, version: Watched, look: Look, *, revised: bool = False) -> Told | None:
        """Measure a closed window when there is something new to say; None when there is not."""
        steps, is_news = step_of(look.labels, look.rows), is_due(look, revised)
        if not look.is_closed or not look.labels or (look.settled and not is_news):
            return None
        scope = self._scope(look, await self.learn_delays(version.model))
        settled = is_settled(scope, look.labels)
        if not is_news and not settled:
            return None
        found = await self._measured(version, look, scope)
        if found is None:
            return None
        place = _place(version, look.number)
        if not is_news and found.state == look.state:
            await self.store.mark_settled(place)
            return None
        revision = await self.store.save_quality(place, steps, found, settled=settled)
        said = _measured(version, look.number, found, revision, self.now())
        return Told(found=found, said=said)

    async def as_known(self, version: Watched, number: int, at: datetime) -> QualityMeasured | None:
        """A window as it would have been measured at a moment; None where nothing was known.

        Rows and labels are those of that moment, and so is how long labels take.
        """
        place = _place(version, number)
        look = (await self.store.looks([place])).get(place)
        if look is None:
            return None
        rows = look.rows
        if at < look.ended_at:
            rows = await self.store.rows_until(place, at)
        scope = Scope(
            rows=rows,
            per_cell=look.per_cell if at >= look.ended_at else None,
            youngest=max((at - look.ended_at).total_seconds(), 0.0),
            oldest=max((at - look.begun_at).total_seconds(), 0.0),
            delays=Delays.of(*await self.store.delays_then(version.model, at)),
        )
        found = await self._measured(version, look, scope, known_at=at)
        return _measured(version, number, found, look.revision, at) if found else None

    async def _measured(
        self, version: Watched, look: Look, scope: Scope, known_at: datetime | None = None
    ) -> Measured | None:
        labelled = await self.store.labelled(
            _place(version, look.number), look.begun_at, look.ended_at, known_at
        )
        if not len(labelled.losses):
            return None
        yardstick = await self.profiles.yardstick(version.reference)
        return measure(
            yardstick.losses,
            labelled,
            scope,
            tolerance=version.policy.tolerance,
            scores=yardstick.scores,
            alpha=self.alpha / LOOKS,
        )

    def _scope(self, look: Look, delays: Delays | None) -> Scope:
        now = self.now()
        return Scope(
            rows=look.rows,
            per_cell=look.per_cell,
            youngest=max((now - look.ended_at).total_seconds(), 0.0),
            oldest=max((now - look.begun_at).total_seconds(), 0.0),
            delays=delays,
        )

    def is_ripe(self, look: Look, delays: Delays | None) -> bool:
        """Whether no more labels of a closed window are to be waited for."""
        return is_settled(self._scope(look, delays), look.labels)

    async def learn_delays(self, model: str) -> Delays | None:
        """How long labels of a model take, as known now; written down for the running tests."""
        came, left = await self.store.delays(model, self.now(), keep=True)
        found = Delays.of(came, left)
        await self.store.save_settled(model, found.settled if found else None)
        return found

    # --- running tests ----------------------------------------------------------------------------

    async def feed(self, versions: Mapping[Key, Watched], first: First) -> list[Alarmed]:
        """Feed losses to the running tests, all at the same age of their predictions.

        Bad outcomes may come sooner than good ones: a loss is fed when nearly all labels of
        predictions of its age are there. What comes later still is fed when it comes.

        Args:
            first: losses by labels that have come now, the first ones of their predictions.
        """
        until = await self._until(versions.values())
        tests = {key: await self._limit(version) for key, version in versions.items()}
        limits = {key: one for key, one in tests.items() if key[0] in until and one is not None}
        known = await self.store.running(limits) if limits else {}
        before = {key: known[key].fed_to if key in known else BEGINNING for key in limits}
        due = await self.store.due({key: (moment, until[key[0]]) for key, moment in before.items()})
        fed: dict[Key, Running] = {}
        alarmed: list[Alarmed] = []
        quiet: dict[Key, Alarmed] = {}
        for key, limit in limits.items():
            late = sorted(first(key, before[key]))
            fresh = due.get(key, Due([], until[key[0]]))
            losses = [*late, *fresh.losses]
            running = known.get(key, Running(fed_to=BEGINNING))
            if losses or until[key[0]] - before[key] > OFTEN:
                detector, alarms = feed(running.detector, [one.loss for one in losses], limit)
                moment = max(before[key], fresh.reached)
                fed[key] = Running(fed_to=moment, detector=detector, rule=running.rule)
                alarmed += [_alarmed(versions[key], losses[one.at].window, one) for one in alarms]
                if losses and has_gone_back(running.detector, detector):
                    level = in_unit(versions[key].metric, detector.level * limit.unit)
                    found = Quiet(level=level)
                    window = losses[-1].window or 0
                    quiet[key] = Alarmed(version=versions[key], window=window, found=found)
        await self.store.save_running(fed)
        untested = [key for key, limit in tests.items() if limit is None]
        ended = await self._without_test({key: versions[key] for key in untested})
        return [*alarmed, *await self._over(quiet, alarmed), *ended]

    async def _without_test(self, versions: Mapping[Key, Watched]) -> list[Alarmed]:
        """Alarms of versions that have no running test: a former release raised them.

        Nothing is fed that could show them to be over, and no window of these versions is judged.
        """
        stands = await self.store.with_alarm(versions) if versions else set()
        known = await self.store.running(stands) if stands else {}
        found: list[Alarmed] = []
        for key in sorted(stands):
            version = versions[key]
            losses = (await self.profiles.yardstick(version.reference)).losses
            level = known[key].detector.level if key in known else 0.0
            quiet = Quiet(level=in_unit(version.metric, level * losses.unit))
            found.append(Alarmed(version=version, window=0, found=quiet))
        return found

    async def _over(
        self, quiet: Mapping[Key, Alarmed], alarmed: Sequence[Alarmed]
    ) -> list[Alarmed]:
        """Of the versions whose evidence has gone back those that have an alarm to end."""
        if not quiet:
            return []
        newly = {(str(one.version.model), one.version.version) for one in alarmed}
        stands = newly | await self.store.with_alarm(quiet)
        return [one for key, one in quiet.items() if key in stands]

    async def _limit(self, version: Watched) -> Limit | None:
        yardstick = await self.profiles.yardstick(version.reference)
        return Limit.of(yardstick.losses, version.policy.tolerance)

    async def _until(self, versions: Iterable[Watched]) -> dict[str, datetime]:
        """By model: predictions up to this moment have the labels that they will have."""
        own = {str(version.model): version for version in versions}
        settled = await self.store.settled(own)
        ages = {model: fed_age(version, settled.get(model)) for model, version in own.items()}
        now = self.now()
        return {model: now - age for model, age in ages.items() if age is not None}


def fed_age(version: Watched, settled: float | None) -> timedelta | None:
    """The age of predictions at which their losses are fed; None while it is not known."""
    declared = version.policy.label_delay
    if settled is None and not declared:
        return None
    return min(max(declared, timedelta(seconds=settled or 0.0)), LONGEST)


# --- what is said -----------------------------------------------------------------------------


def _place(version: Watched, number: int) -> tuple[str, int, int]:
    return str(version.model), version.version, number


def _estimated(version: Watched, number: int, found: Estimated) -> QualityEstimated:
    return QualityEstimated(
        model=version.model,
        version=version.version,
        window=number,
        metric=found.metric,
        value=found.value,
        low=found.low,
        high=found.high,
        reference=found.reference,
        others=found.others,
        value_is=value_is(found.metric),
    )


def _measured(
    version: Watched, number: int, found: Measured, revision: int, now: datetime
) -> QualityMeasured:
    is_told = found.state != "censored"
    return QualityMeasured(
        model=version.model,
        version=version.version,
        window=number,
        metric=version.metric,
        value=found.value if is_told else None,
        labels=found.labels,
        completeness=found.completeness,
        reference=found.reference,
        baseline=found.baseline if is_told else None,
        state=found.state,
        expected=found.expected,
        known_at=now,
        low=found.low if is_told else None,
        high=found.high if is_told else None,
        revision=revision,
        estimated=found.gap.expected if found.gap else None,
        gap_low=found.gap.low if found.gap else None,
        gap_high=found.gap.high if found.gap else None,
        rule=found.rule,
        value_is=value_is(version.metric),
    )


def _alarmed(version: Watched, window: int | None, alarm: Alarm) -> Alarmed:
    metric = version.metric
    in_its_unit = replace(
        alarm,
        level=in_unit(metric, alarm.level),
        reference=in_unit(metric, alarm.reference),
        limit=in_unit(metric, alarm.limit),
    )
    return Alarmed(version=version, window=window or 0, found=in_its_unit)


def below_rule(version: Watched, number: int, found: Measured) -> QualityDegraded:
    """The answers of a window are worse than its baseline rule would have been."""
    return QualityDegraded(
        model=version.model,
        version=version.version,
        window=number,
        metric=version.metric,
        value=found.value,
        reference=found.baseline or 0.0,
        bound=found.rule_bound or 0.0,
        labels=found.labels,
        by="rule",
        value_is=value_is(version.metric),
        detail=f"{shown(version.metric)} {found.value:.4g} over {found.labels} labels; the "
        f"baseline rule would have had {found.baseline or 0.0:.4g} on the same rows",
    )


def cells_of(cells: NumberCells | None, scores: Sequence[object]) -> list[int | None]:
    """The cell of each score; None where it has none."""
    if cells is None or not scores:
        return [None] * len(scores)
    missing = cells.size - 1
    return [None if place == missing else place for place in cells.places(scores).tolist()]
