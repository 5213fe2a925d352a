"""From the signs of a window to a request for a fresh version: load, decide, save, say.

The caller holds the lock of the model. The lock of the fleet is taken after it, and only for a
question that nothing of the model itself speaks against: so several monitors share one budget and
one brake, and hardly ever wait for each other.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from services.drift_monitor.asking import objection
from services.drift_monitor.brake import USUAL, Limits, Permitted, object_to, permit
from services.drift_monitor.course import About, Course, Stepped
from services.drift_monitor.domain import Decided, Spell, Subject
from services.drift_monitor.following import fall_back_over, follow, is_as_good
from services.drift_monitor.handlers.fetching import Fetching
from services.drift_monitor.periods import Tag, has_outlasted, has_passed, is_known, proposal
from services.drift_monitor.store import Kept, PostgresStore
from services.drift_monitor.trainings import cooled, crowned, still_cooling, unheard, waits_until
from services.drift_monitor.windows import Watched
from shared import telemetry
from shared.clock import Clock
from shared.errors import NotFound, Unavailable, Unprocessable
from shared.events import (
    BrakeLifted,
    BrakeSet,
    Digest,
    Event,
    ModelName,
    RetrainingRequested,
    RetrainingWithheld,
)
from shared.manifest import Manifest, read_manifest

MOST_MANIFESTS: Final = 256

Fetch = Callable[[Digest], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """Dependencies of every decision to retrain."""

    store: PostgresStore
    fetch: Fetch
    now: Clock
    limits: Limits = USUAL
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    fetching: Fetching = field(default_factory=Fetching)

    async def settle(
        self, version: Watched, subject: Subject, decided: Decided
    ) -> tuple[Watched, list[Event]]:
        """Keep what a window changed, and follow where its signs lead; all that is to be said."""
        if decided.watch != version.watch:
            await self.store.save_watch(version, decided.watch)
        version = replace(version, watch=decided.watch)
        said = list(decided.events)
        if not subject.is_champion:
            return version, said
        kept = await self.store.course(subject.model)
        kept = replace(kept, course=still_cooling(kept.course, subject))
        stepped = follow(kept.course, decided.signs, subject)
        about = await self.about(version, subject.now)
        said += stepped.events
        why = decided.signs.doubtful or stepped.course.why
        self.store.database.after_commit(partial(_count, stepped.events, why))
        if decided.signs.over is not None and kept.course.confirmed_at is not None:
            tag = has_passed(about, decided.signs.over)
            said += await self._proposed(about, decided.signs.over, tag)
        said += await self.go_on(about, replace(kept, course=stepped.course), version, kept)
        return version, said

    async def about(self, version: Watched, now: datetime) -> About:
        """What a decision about this version needs besides its course."""
        policy = version.policy
        if not policy.dataset:
            # Registered before it was noted: not all of these learn from one and the same source.
            policy = replace(policy, dataset=(await self._manifest(version.manifest)).dataset)
        return About(
            model=version.model,
            version=version.version,
            owner=await self.store.owner(version.model),
            policy=policy,
            now=now,
        )

    async def go_on(
        self, about: About, kept: Kept, version: Watched, before: Kept | None
    ) -> list[Event]:
        """Ask for a fresh version if one is wanted, and keep the course as it is then."""
        course, said = kept.course, list[Event]()
        if has_outlasted(course, about):
            course = replace(course, regime=True)
            said += await self._proposed(about, version.watch.spell, "new_regime")
        due_at: datetime | None = None
        if course.wants:
            answer = await self._ask(course, about, version)
            course, due_at = answer.course, answer.look_again_at
            said += answer.events
        due_at = due_at or waits_until(course)
        if course.fallback is not None:
            due_at = _earliest(due_at, about.now + self.limits.unseen)
        if before is not None and course == before.course and due_at == before.due_at:
            await self.store.seen(about.model, about.now)
        else:
            await self.store.save_course(about, course, due_at, about.now)
        self.store.database.after_commit(partial(_count, tuple(said), course.why))
        return said

    async def _ask(self, course: Course, about: About, version: Watched) -> Permitted:
        about = await self._counted(about, version)
        against = objection(course, about)
        if against is not None and course.checked:
            return object_to(course, about, against)
        # The course is written before the others are counted, so that it counts among them.
        await self.store.lock_fleet()
        await self.store.save_course(about, course, None, about.now)
        fleet = await self.store.fleet(about.dataset, about.now, self.limits.span)
        answer = permit(course, about, fleet, self.limits)
        if answer.is_granted:
            await self.store.take_token(about)
            await self.store.note_asked(about.model, about.now)
        for said in answer.events:
            if isinstance(said, BrakeLifted):
                await self.store.lift_brake(said, about.now)
        for said in answer.events:
            if isinstance(said, BrakeSet) and answer.brake is not None:
                await self.store.set_brake(answer.brake, said)
        return answer

    async def _counted(self, about: About, version: Watched) -> About:
        """With the rows that have come since the champion was made, and what people say of now."""
        manifest = await self._manifest(version.manifest)
        joined = await self.store.labels_since(about.model, about.version)
        learned = manifest.rows_trained + manifest.rows_held_out
        published = await self.store.rows_since(manifest.dataset, manifest.dataset_version, learned)
        return replace(
            about,
            # What nobody can have counted is no nought: then the trainer sees what there is.
            labels=max(joined, published) if published is not None else joined or None,
            rows_trained=manifest.rows_trained,
            annotated=await self.store.annotated_now(about),
        )

    async def lacks(self, version: Watched) -> bool:
        """Whether the manifest of a version cannot be had or read now."""
        try:
            await self._manifest(version.manifest, anew=True)
        except (NotFound, Unavailable, Unprocessable):
            return True
        return False

    async def _manifest(self, digest: Digest, *, anew: bool = False) -> Manifest:
        found = self.manifests.get(digest)
        if found is None:
            found = await self.fetching.get(digest, self._load, anew=anew)
        return found

    async def _load(self, digest: Digest) -> Manifest:
        """Kept where it comes, even if nobody waits for it any more."""
        found = self.manifests[digest] = read_manifest(await self.fetch(digest))
        if len(self.manifests) > MOST_MANIFESTS:
            del self.manifests[next(iter(self.manifests))]
        return found

    async def _proposed(self, about: About, spell: Spell | None, tag: Tag | None) -> list[Event]:
        """A period that nobody has told of yet."""
        if spell is None or tag is None:
            return []
        await self.store.lock_fleet()
        told = await self.store.told_periods(about.dataset, tag)
        if is_known(spell.began_at, spell.ended_at, told):
            return []
        evidence = await self.store.evidence(about, spell.windows)
        said = proposal(about, spell, tag, evidence)
        if said is None:
            return []
        await self.store.note_proposal(said)
        return [said]

    async def _losses(
        self, version: Watched, since: datetime, rows: int
    ) -> tuple[list[float], list[float]]:
        """Of a champion nobody sees and of the rule that answers, on the newest labelled rows."""
        ids = await self.store.labelled_unseen((version.model, version.version), since, rows)
        seen, unseen = await self.store.predictions(ids), await self.store.unseen_of(ids)
        champion: list[float] = []
        below: list[float] = []
        for row in seen.values():
            own = next((u for u in unseen.get(row.id, ()) if u.version == version.version), None)
            if own is None or row.label is None:
                continue
            loss = version.judge.loss(own.answer, own.score, row.label.value)
            other = version.judge.baseline_loss(row.row(), row.label.value)
            if loss is not None and other is not None:
                champion.append(loss)
                below.append(other)
        return champion, below

    # --- changes that no window brings ------------------------------------------------------------

    async def change(
        self, model: ModelName, change: Callable[[Course, Watched | None], Stepped]
    ) -> list[Event]:
        """Change the course of a locked model.

        Without a champion, or before its registration is heard, only a course that there is
        already changes: what it is about is not known.
        """
        kept = await self.store.course(model)
        version = await self._champion(model)
        stepped = change(kept.course, version)
        if stepped.course == kept.course:
            return list(stepped.events)
        # Nothing is asked for here: without a cool-down question and answer would chase each other.
        now, until = self.now(), stepped.course.cools_until
        # What was to be looked at before is still: a champion that nobody sees, a lifted brake.
        due_at = _earliest(kept.due_at, until if until is not None and until > now else None)
        if version is None:
            await self.store.change_course(model, stepped.course, due_at)
        else:
            about = await self.about(version, now)
            await self.store.save_course(about, stepped.course, due_at, now)
        return list(stepped.events)

    async def _champion(self, model: ModelName) -> Watched | None:
        champion = (await self.store.standing(model)).champion
        versions = await self.store.versions([(model, champion)] if champion else [])
        return next(iter(versions.values()), None)

    async def look(self, model: ModelName, kept: Kept) -> list[Event]:
        """The moment has come at which the course of a locked model is looked at."""
        now = self.now()
        version = await self._champion(model)
        if version is None or version.version != kept.course.version:
            # Whatever it was about, it is not about what answers now.
            champion = (await self.store.standing(model)).champion
            await self.store.change_course(model, crowned(kept.course, champion or 0), None)
            return []
        about = await self.about(version, now)
        course = cooled(unheard(kept.course, version.policy, now), now)
        stepped = await self._compared(course, about, version)
        said = await self.go_on(about, replace(kept, course=stepped.course), version, None)
        return [*stepped.events, *said]

    async def _compared(self, course: Course, about: About, version: Watched) -> Stepped:
        """While the rung below answers: whether the champion, unseen, does as well by now."""
        fallback = course.fallback
        if fallback is None:
            return Stepped(course=course)
        rows = about.policy.window
        as_good = is_as_good(*await self._losses(version, fallback.since, rows), rows)
        if as_good:
            told = f"over {rows} labelled rows it does no worse than what answered"
            return await self._returned(course, version, told)
        if as_good is None and about.now > fallback.since + about.policy.horizon:
            told = "so few labels came within the horizon that nothing is known"
            return await self._returned(course, version, told)
        return Stepped(course=course)

    async def _returned(self, course: Course, version: Watched, told: str) -> Stepped:
        newest = await self.store.newest_window(version.model, version.version)
        return fall_back_over(course, version.model, told, newest)


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((one for one in moments if one is not None), default=None)


def _count(said: Sequence[Event], why: str) -> None:
    for event in said:
        if isinstance(event, RetrainingRequested):
            result = "accepted"
        elif isinstance(event, RetrainingWithheld):
            result = f"suppressed_{event.reason}"
        else:
            continue
        telemetry.count("tidewheel_retraining_requests_total", reason=why, result=result)
