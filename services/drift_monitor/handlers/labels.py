"""Labels find their predictions: late, early, twice, revised; order makes no difference."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.handlers.measuring import cells_of
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.quality import Given, Joined, Label, Observed, Outcome, Value, join
from services.drift_monitor.quality.delays import Counts, counted
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.store.outcomes import Fed, Weighed
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.windows import Kept, Watched
from shared import telemetry
from shared.events import Event, GroundTruthObserved, Heard
from shared.streams import Positions

MOST_CHARACTERS: Final = 1000
MOST_REVISIONS: Final = 2**31
Versions = dict[Key, Watched]


@dataclass(slots=True)
class _News:
    """What a join has changed, for those who look at it next.

    Attributes:
        joined: how many answers of each window have their first label.
        revised: windows in which a label was replaced by another value.
        first: losses by first labels, by version.
        delays: of first labels in seconds, by model.
    """

    joined: Counter[Place] = field(default_factory=Counter)
    revised: set[Place] = field(default_factory=set)
    first: dict[Key, list[Fed]] = field(default_factory=lambda: defaultdict(list))
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Takes ground truth, from anybody at all: what cannot be used is counted, never believed."""

    store: PostgresStore
    judging: Judging
    telling: Telling

    async def take(
        self, heards: Sequence[Heard[GroundTruthObserved]], _positions: Positions
    ) -> Iterable[Event]:
        """Join labels to predictions, keep those without one, measure the windows they complete."""
        sane = [heard for heard in heards if is_sane(heard.event)]
        _count("invalid", len(heards) - len(sane))
        if not sane:
            return []
        await self.store.lock({heard.event.model for heard in sane})
        observed = [_observed(heard) for heard in sane]
        given = await self.store.given(list({one.prediction for one in observed}))
        versions = await self._versions(given.values())
        joined = join(given, observed, lambda row: _classes(row, versions))
        kept = await self.store.wait_for(joined.parked)
        _count("duplicate", joined.became["unknown"] - kept)
        joined.became["unknown"] = kept
        return await self._conclude(joined, versions)

    async def take_one(self, heard: Heard[GroundTruthObserved]) -> Iterable[Event]:
        """One label by itself: how a dead letter is tried again."""
        return await self.take([heard], {})

    async def join_early(self, rows: Sequence[Kept]) -> list[Event]:
        """Join the labels that came before these predictions, which are saved and locked."""
        models = sorted({row.model for row in rows})
        observed = await self.store.take_waiting(models, [row.id for row in rows])
        if not observed:
            return []
        given = await self.store.given(list({one.prediction for one in observed}))
        versions = await self._versions(given.values())
        joined = join(given, observed, lambda row: _classes(row, versions))
        _count("early", joined.became["joined"])
        joined.became["joined"] = 0
        return await self._conclude(joined, versions)

    async def adopt(self, rows: Sequence[Kept], version: Watched) -> list[Event]:
        """Judge labels that came while nobody knew the version; its rows are saved and locked."""
        ids = [row.id for row in rows if row.label is not None]
        if not ids:
            return []
        observed = await self.store.take_labels(ids)
        joined = join(await self.store.given(ids), observed, lambda _: version.classes)
        for counted_before in ("joined", "revised", "duplicate", "conflict"):
            del joined.became[counted_before]
        known = {(str(version.model), version.version): version}
        return await self._conclude(joined, known, is_new=False)

    # --- steps ------------------------------------------------------------------------------------

    async def _versions(self, rows: Iterable[Given]) -> Versions:
        keys = {(row.model, row.version) for row in rows if row.version is not None}
        return await self.judging.profiles.versions(self.store, keys) if keys else {}

    async def _conclude(
        self, joined: Joined, versions: Versions, *, is_new: bool = True
    ) -> list[Event]:
        """Keep what was joined, and what follows; delays of labels that are not new are known."""
        for became, count in joined.became.items():
            _count(became, count)
        outcomes = list(joined.now.values())
        weighed = await self._weigh([*outcomes, *joined.past], versions)
        await self.store.keep(weighed)
        news = _news(weighed)
        await self.store.count_labels(news.joined)
        if is_new:
            await self._count_delays(news.delays)
        said = await self.judging.after_labels(news.joined, news.revised)
        said += await self._feed(news, versions)
        compared = [one.given.id for one in outcomes if one.given.is_compared]
        if compared:
            rows = await self.store.predictions(compared)
            said += await self.telling.tell(list(rows.values()))
        return said

    async def _weigh(self, outcomes: Sequence[Outcome], versions: Versions) -> list[Weighed]:
        """The losses of answers by these labels, and the cells of their scores."""
        of_version: dict[Key | None, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            key = (outcome.given.model, outcome.given.version or 0)
            of_version[key if key in versions else None].append(outcome)
        found: list[Weighed] = []
        for known, own in of_version.items():
            if known is None:
                found += [Weighed(outcome=outcome) for outcome in own]
            else:
                found += await self._weigh_version(own, versions[known])
        return found

    async def _weigh_version(self, own: Sequence[Outcome], version: Watched) -> list[Weighed]:
        judge = version.judge
        yardstick = await self.judging.profiles.yardstick(version.reference)
        scores = [one.given.answer if yardstick.is_answer else one.given.score for one in own]
        cells = cells_of(yardstick, scores)
        rows: Mapping[str, Mapping[str, object]] = {}
        if judge.needs_features:
            rows = await self.store.features_of([one.given.id for one in own])
        loss, of_rule, nothing = judge.losses(), judge.baseline_losses(), dict[str, object]()
        return [
            Weighed(
                one,
                loss(one.given.answer, one.given.score, one.label.value),
                of_rule(rows.get(one.given.id, nothing), one.label.value),
                cell,
            )
            for one, cell in zip(own, cells, strict=True)
        ]

    async def _count_delays(self, delays: Mapping[str, Sequence[float]]) -> None:
        came: dict[str, Counts] = {}
        for model, seconds in delays.items():
            came[model] = counted(seconds)
            telemetry.observe_each("tidewheel_label_delay_seconds", seconds, model=model)
        if came:
            await self.store.add_delays(came)

    async def _feed(self, news: _News, versions: Versions) -> list[Event]:
        """Feed the running tests: what was waiting for its age, and what has come after it."""
        own = {key: version for key, version in versions.items() if key in news.first}
        return await self.judging.feed(own, news.first) if own else []


def is_sane(told: GroundTruthObserved) -> bool:
    """Whether a label can be kept at all; anybody may have sent it."""
    value = told.value
    return (
        _is_short(told.prediction)
        and _is_short(told.model)
        and (isfinite(value) if isinstance(value, float) else _is_short(str(value)))
        and 0 <= told.revision < MOST_REVISIONS
        and told.observed_at.tzinfo is not None
    )


def _is_short(text: str) -> bool:
    return len(text) <= MOST_CHARACTERS and "\0" not in text


def _observed(heard: Heard[GroundTruthObserved]) -> Observed:
    told = heard.event
    label = Label(told.value, told.revision, told.observed_at, heard.id)
    return Observed(told.prediction, told.model, label, heard.time)


def _classes(row: Given, versions: Versions) -> Sequence[Value] | None:
    version = versions.get((row.model, row.version or 0))
    return None if version is None else version.classes


def _news(weighed: Sequence[Weighed]) -> _News:
    news = _News()
    for one in weighed:
        given, label, known_at, counts = one.outcome
        if not counts:
            continue
        place = None
        if given.version is not None and given.window is not None:
            place = (given.model, given.version, given.window)
        if given.label is None:
            news.delays[given.model].append(max((known_at - given.at).total_seconds(), 0.0))
            if given.version is not None and one.loss is not None:
                fed = Fed(given.at, given.place, given.window, one.loss)
                news.first[given.model, given.version].append(fed)
            if place is not None:
                news.joined[place] += 1
        elif place is not None and given.label.value != label.value:
            news.revised.add(place)
    return news


def _count(outcome: str, labels: int) -> None:
    if labels:
        telemetry.count("tidewheel_labels_total", labels, outcome=outcome)
