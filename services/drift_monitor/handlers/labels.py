"""Labels find their predictions: late, early, twice, revised; order makes no difference."""

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from services.drift_monitor.handlers import failing
from services.drift_monitor.handlers.accepting import sane_of
from services.drift_monitor.handlers.apart import apart
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.handlers.news import News
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.handlers.weighing import Versions, Weighing
from services.drift_monitor.quality import Answers, Joined, Value, join
from services.drift_monitor.quality.delays import counted_each
from services.drift_monitor.quality.firsts import NOTHING, Firsts, join_many
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.windows import Kept, Watched
from shared import telemetry
from shared.events import Event, GroundTruthObserved, Heard
from shared.streams import Positions

T = TypeVar("T")


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
        observed = sane_of(heards)
        self._tell(_count, {"invalid": len(heards) - len(observed)})
        if not observed:
            return []
        await self.store.lock({one.model for one in observed})
        answers, versions = await self._answers(list({one.prediction: None for one in observed}))
        firsts, joined = join_many(answers, observed, _classes(versions))
        kept = await self.store.wait_for(joined.parked)
        self._tell(count_orphaned, await self.store.make_room())
        self._tell(_count, {"duplicate": joined.became["unknown"] - kept})
        joined.became["unknown"] = kept
        return await self._conclude(joined, versions, firsts)

    async def take_one(self, heard: Heard[GroundTruthObserved]) -> Iterable[Event]:
        """One label by itself: how a dead letter is tried again."""
        return await self.take([heard], {})

    async def join_early(self, rows: Sequence[Kept]) -> list[Event]:
        """Join the labels that came before these predictions, which are saved and locked."""
        models = sorted({row.model for row in rows})
        return await self.join_waiting(models, [row.id for row in rows])

    async def join_waiting(self, models: Sequence[str], predictions: Sequence[str]) -> list[Event]:
        """Join the labels that wait for these predictions of these models."""
        observed = await self.store.take_waiting(models, predictions)
        if not observed:
            return []
        answers, versions = await self._answers(list({one.prediction for one in observed}))
        joined = join(answers.given(), observed, _classes(versions))
        await self.store.wait_for(joined.parked)
        self._tell(_count, {"early": joined.became["joined"]})
        # What waits on was counted when it began to.
        joined.became["joined"] = joined.became["unknown"] = 0
        return await self._conclude(joined, versions)

    async def adopt(self, rows: Sequence[Kept], version: Watched) -> list[Event]:
        """Judge labels that came while nobody knew the version; its rows are saved and locked."""
        ids = [row.id for row in rows if row.label is not None]
        if not ids:
            return []
        observed = await self.store.take_labels(ids)
        known = {(str(version.model), version.version): version}
        joined = join((await self.store.answers(ids)).given(), observed, _classes(known))
        for counted_before in ("joined", "revised", "duplicate", "conflict"):
            del joined.became[counted_before]
        return await self._conclude(joined, known, is_new=False)

    # --- steps ------------------------------------------------------------------------------------

    def _tell(self, tell: Callable[[Mapping[str, T]], None], what: Mapping[Any, T]) -> None:
        """Once it is committed: what fails and is tried again is told once."""
        self.store.database.after_commit(partial(tell, what))

    async def _answers(self, predictions: Sequence[str]) -> tuple[Answers, Versions]:
        """What was answered, and by which versions, without those whose rows cannot be read.

        Labels of these wait, as if their predictions had not come.
        """
        answers = await self.store.answers(predictions)
        pairs = set(zip(answers.model, answers.version, strict=True))
        keys = {(model, version) for model, version in pairs if version is not None}
        versions = await self.judging.profiles.versions(self.store, keys) if keys else {}
        missing = keys - versions.keys()
        unread = await self.store.mark_behind(missing) if missing else set[Key]()
        return (_without(answers, unread) if unread else answers), versions

    async def _conclude(
        self, joined: Joined, versions: Versions, firsts: Firsts = NOTHING, *, is_new: bool = True
    ) -> list[Event]:
        """Keep what was joined, and what follows; delays of labels that are not new are known."""
        joined.became["joined"] += firsts.labels
        self._tell(_count, joined.became)
        outcomes = list(joined.now.values())
        weighing = Weighing(store=self.store, profiles=self.judging.profiles)
        weighed = await weighing.weigh([*outcomes, *joined.past], versions)
        lost = await weighing.weigh_firsts(firsts, versions)
        await self.store.keep(weighed)
        # While the database writes rows down, what they have changed is worked out.
        keeping = asyncio.create_task(self.store.keep_firsts(firsts, lost))
        try:
            await asyncio.sleep(0)
            news = News.of(weighed, firsts, lost)
            delays = counted_each(news.delays) if is_new else {}
        finally:
            await keeping
        await self.store.count_labels(news.joined)
        if delays:
            await self.store.add_delays(delays)
            self._tell(_tell_delays, news.delays)
        said = await self.judging.after_labels(news.joined, news.revised)
        said += await self._feed(news, versions)
        compared = [*firsts.compared, *(one.given.id for one in outcomes if one.given.is_compared)]
        if compared:
            rows = await self.store.predictions(compared)
            said += await self.telling.tell(list(rows.values()))
        return said

    async def _feed(self, news: News, versions: Versions) -> list[Event]:
        """Feed the running tests: what was waiting for its age, and what has come after it.

        What cannot be fed now is when more labels come, or in a round.
        """
        keys = await self.judging.measurable([key for key in news.fed if key in versions])

        async def feed(some: Sequence[Key]) -> list[Event]:
            return await self.judging.feed({key: versions[key] for key in some}, news.losses)

        async def note(key: Key, error: Exception) -> None:
            failing.tell("feeding_failed", key[0], error, version=key[1])

        return await apart(self.store.database, sorted(keys), feed, note)


def _without(answers: Answers, unread: Container[Key]) -> Answers:
    places = [
        place
        for place, (model, version) in enumerate(zip(answers.model, answers.version, strict=True))
        if version is None or (model, version) not in unread
    ]
    return Answers._make([column[place] for place in places] for column in answers)


def _classes(versions: Versions) -> Mapping[Key, Sequence[Value]]:
    return {key: version.classes for key, version in versions.items()}


def _tell_delays(delays: Mapping[str, Sequence[float]]) -> None:
    for model, seconds in delays.items():
        telemetry.observe_each("tidewheel_label_delay_seconds", seconds, model=model)


def count_orphaned(dropped: Mapping[str, int]) -> None:
    """Labels that wait no longer, by the models that they named."""
    _count({"orphaned": sum(dropped.values())})
    for model, labels in dropped.items():
        telemetry.count("tidewheel_labels_orphaned_total", labels, model=model)


def _count(became: Mapping[Any, int]) -> None:
    for outcome, labels in became.items():
        if labels:
            telemetry.count("tidewheel_labels_total", labels, outcome=outcome)
