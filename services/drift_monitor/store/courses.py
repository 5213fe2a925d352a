"""Where each model stands on its way to a fresh version, and what all models share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from services.drift_monitor.brake import FLEET, HOUR, Brake, Crowd, Fleet, scope_of
from services.drift_monitor.course import About, Course
from services.drift_monitor.periods import Tag
from shared import codec
from shared.events import (
    AnnotationProposed,
    BrakeLifted,
    BrakeSet,
    DatasetAnnotated,
    DatasetName,
    DatasetPublished,
    Heard,
    Json,
    ModelName,
    WindowEvaluated,
)
from shared.postgres import Database
from shared.topics import MONITORING

_COURSE: Final = TypeAdapter(Course)
WATCHED_FOR: Final = timedelta(days=7)
"""A model that closed no window for so long is not counted among the watched ones."""
_SOURCE: Final = scope_of(DatasetName(""))
_MOST_EVIDENCE: Final = 20
_COUNTS: Final = """
    select count(*) as watched, count(confirmed_at) as confirmed,
        count(*) filter (where dataset = $2) as of_source,
        count(confirmed_at) filter (where dataset = $2) as of_source_confirmed
    from course where seen_at > $1
"""


_OWN: Final = """
    select body, case when phase = 'held' and due_at is null then (
            select max(lifted_at) from brake
            where scope = 'fleet' or scope = 'dataset/' || dataset
            having count(*) = count(lifted_at)
        ) else due_at end as due_at
    from course where model = $1
"""
"""What was held is due since the last of its brakes was lifted."""
_DUE: Final = """
    select model from (
        (select model, due_at from course where due_at <= $1 order by due_at limit 1)
        union all
        (select model, $1::timestamptz from course c where phase = 'held' and due_at is null
            and not exists (select from brake b where (b.lifted_at is null or b.lifted_at > $1)
                and (b.scope = 'fleet' or b.scope = 'dataset/' || c.dataset))
            and exists (select from brake b where b.lifted_at <= $1
                and (b.scope = 'fleet' or b.scope = 'dataset/' || c.dataset))
            limit 1)
    ) due order by due_at limit 1
"""
"""Not before the last of its brakes was lifted, by whichever monitor's clock: what is found here is
due for who looks at it, too."""


_SINCE: Final = """
    select case
        when base is not null then greatest(newest - base, 0)
        when newer is not null then greatest(newer - $3, 0)
    end from (select
        (select rows from published where dataset = $1 and version = $2) as base,
        (select rows from published where dataset = $1 order by version desc limit 1) as newest,
        (select rows from published where dataset = $1 and version > $2
            order by version desc limit 1) as newer
    ) known
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A course as it is kept, with when it is to be looked at although no window closes."""

    course: Course
    due_at: datetime | None = None


class CourseTable:
    """Every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- one model ------------------------------------------------------------------------------

    async def course(self, model: str) -> Kept:
        """The course of a locked model."""
        row = await self.database.fetchrow(_OWN, model)
        if row is None:
            return Kept(course=Course())
        return Kept(course=_COURSE.validate_python(row["body"]), due_at=row["due_at"])

    async def save_course(
        self, about: About, course: Course, due_at: datetime | None, seen_at: datetime
    ) -> None:
        await self.database.execute(
            "insert into course (model, owner, dataset, version, phase, confirmed_at, refused, "
            "due_at, seen_at, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
            "on conflict (model) do update set owner = $2, dataset = $3, version = $4, phase = $5, "
            "confirmed_at = $6, refused = $7, due_at = $8, seen_at = $9, body = $10",
            about.model,
            about.owner,
            about.dataset,
            course.version,
            str(course.phase),
            course.confirmed_at,
            course.refused,
            due_at,
            seen_at,
            _COURSE.dump_python(course, mode="json"),
        )

    async def seen(self, model: str, at: datetime) -> None:
        """A window of a model was closed and changed nothing else."""
        await self.database.execute(
            "update course set seen_at = $2 where model = $1 "
            "and seen_at < $2::timestamptz - $3::interval",
            model,
            at,
            HOUR,
        )

    async def due_course(self, now: datetime) -> ModelName | None:
        """The model whose course waits longest for a moment that has come."""
        found: str | None = await self.database.fetchval(_DUE, now)
        return ModelName(found) if found else None

    async def due_again(self, model: str, at: datetime) -> None:
        """This course cannot be looked at now; it is later, those behind it before."""
        await self.database.execute("update course set due_at = $2 where model = $1", model, at)

    async def change_course(self, model: str, course: Course, due_at: datetime | None) -> None:
        """Change a course, if there is one, whose champion is not known."""
        await self.database.execute(
            "update course set version = $2, phase = $3, confirmed_at = $4, refused = $5, "
            "due_at = $6, body = $7 where model = $1",
            model,
            course.version,
            str(course.phase),
            course.confirmed_at,
            course.refused,
            due_at,
            _COURSE.dump_python(course, mode="json"),
        )

    async def newest_window(self, model: str, version: int) -> int:
        """The number of the newest window of a version, open or closed; 0 without one."""
        found = await self.database.fetchval(
            "select newest from version where model = $1 and version = $2", model, version
        )
        return int(found or 0)

    async def labels_since(self, model: str, version: int) -> int:
        """Labels that were joined to answers of a version."""
        found: Any = await self.database.fetchval(
            "select coalesce(sum(labels), 0) from window_quality where model = $1 and version = $2",
            model,
            version,
        )
        return int(found)

    async def rows_since(self, dataset: str, version: int, learned: int) -> int | None:
        """Rows that a dataset has more than it had in this version; None where nobody can know.

        Args:
            learned: rows that a model has made of this version; they are taken for all of its rows
                where it was published before the monitor listened.
        """
        found: int | None = await self.database.fetchval(_SINCE, dataset, version, learned)
        return found

    # --- all models -----------------------------------------------------------------------------

    async def lock_fleet(self) -> None:
        """Nobody else spends from the budget or sets a brake until the commit.

        It is taken after the locks of models, never before, so that nobody waits in a circle.
        """
        await self.database.execute("select pg_advisory_xact_lock(7437, 1)")

    async def fleet(self, dataset: str, now: datetime, span: timedelta) -> Fleet:
        """What a decision about a model with this source needs to know of the others."""
        counts = await self.database.fetchrow(_COUNTS, now - WATCHED_FOR, dataset)
        assert counts is not None  # noqa: S101 - an aggregate always has its one row
        recent = await self.database.fetch(
            "select model, dataset from course where confirmed_at > $1 "
            "order by confirmed_at, model",
            now - span,
        )
        taken = await self.database.fetch(
            "select owner, taken_at from token where taken_at > $1", now - HOUR
        )
        waiting = await self.database.fetch(
            "select owner, count(*) as models from course where refused = 'budget' "
            "and confirmed_at is not null and seen_at > $1 group by owner",
            now - WATCHED_FOR,
        )
        return Fleet(
            all_models=Crowd(
                scope=FLEET,
                watched=counts["watched"],
                confirmed=counts["confirmed"],
                recent=tuple(row["model"] for row in recent),
            ),
            source=Crowd(
                scope=scope_of(DatasetName(dataset)),
                watched=counts["of_source"],
                confirmed=counts["of_source_confirmed"],
                recent=tuple(row["model"] for row in recent if row["dataset"] == dataset),
            ),
            brakes=await self.brakes(),
            taken=[(row["owner"], row["taken_at"]) for row in taken],
            waiting={row["owner"]: row["models"] for row in waiting},
        )

    async def take_token(self, about: About) -> None:
        await self.database.execute("delete from token where taken_at < $1", about.now - 24 * HOUR)
        await self.database.execute(
            "insert into token (model, owner, taken_at) values ($1, $2, $3)",
            about.model,
            about.owner,
            about.now,
        )

    # --- brakes ---------------------------------------------------------------------------------

    async def brakes(self) -> list[Brake]:
        """Those that are set."""
        rows = await self.database.fetch(
            "select scope, set_at, until from brake where lifted_at is null order by scope"
        )
        return [Brake(**dict(row)) for row in rows]

    async def set_brake(self, brake: Brake, said: BrakeSet) -> None:
        await self.database.execute(
            "insert into brake (scope, set_at, until, detail, confirmed, watched) "
            "values ($1, $2, $3, $4, $5, $6)",
            brake.scope,
            brake.set_at,
            brake.until,
            said.detail,
            said.confirmed,
            said.watched,
        )

    async def lift_brake(self, said: BrakeLifted, now: datetime) -> None:
        """Lift it; those that it held are due from then on.

        Their courses are not written: whoever has locked one of those models may be waiting for
        the lock of the fleet, which is held here.
        """
        await self.database.execute(
            "update brake set lifted_at = $2, lifted_by = $3, reason = $4 "
            "where scope = $1 and lifted_at is null",
            said.scope,
            now,
            said.by,
            said.reason,
        )

    async def crowd(self, scope: str, now: datetime) -> Crowd:
        """The models of a brake."""
        fleet = await self.fleet(scope.removeprefix(_SOURCE), now, timedelta(0))
        return fleet.all_models if scope == FLEET else fleet.source

    async def every_brake(self, limit: int) -> list[Json]:
        """For people: those that are set first, then the newest."""
        rows = await self.database.fetch(
            "select * from brake order by lifted_at is not null, set_at desc limit $1", limit
        )
        return [dict(row) for row in rows]

    async def owners_in(self, scope: str) -> list[str]:
        """The teams whose models a brake of this scope would hold."""
        rows = await self.database.fetch(
            "select distinct owner from course where $1 = 'fleet' or 'dataset/' || dataset = $1",
            scope,
        )
        return [row["owner"] for row in rows]

    # --- datasets -------------------------------------------------------------------------------

    async def note_published(self, heard: Heard[DatasetPublished]) -> None:
        await self.database.execute(
            "insert into published (dataset, version, rows, at) values ($1, $2, $3, $4) "
            "on conflict do nothing",
            heard.event.dataset,
            heard.event.version,
            heard.event.rows,
            heard.time,
        )

    async def note_annotation(self, said: DatasetAnnotated) -> None:
        await self.database.execute(
            "insert into annotation (annotation, dataset, state, tag, starts_at, ends_at, models, "
            "author) values ($1, $2, $3, $4, $5, $6, $7, $8) "
            "on conflict (annotation) do update set state = excluded.state",
            said.annotation,
            said.dataset,
            said.state,
            said.tag,
            said.starts_at,
            said.ends_at,
            list(said.models),
            said.author,
        )

    async def annotated_now(self, about: About) -> str:
        """In words: what people say of this moment, if it is abnormal and passes."""
        row = await self.database.fetchrow(
            "select * from annotation where dataset = $1 and state = 'active' "
            "and tag in ('transient', 'corrupt', 'held_out') and starts_at <= $2 and ends_at > $2 "
            "and (models = '{}' or $3 = any(models)) order by annotation desc limit 1",
            about.dataset,
            about.now,
            about.model,
        )
        if row is None:
            return ""
        return f"{row['author']} calls the data {row['tag']} until {row['ends_at']:%Y-%m-%d %H:%M}"

    async def told_periods(self, dataset: str, tag: Tag) -> list[tuple[datetime, datetime]]:
        """Periods of a dataset that were proposed with this tag, or annotated by people."""
        rows = await self.database.fetch(
            "select starts_at, ends_at from proposal where dataset = $1 and tag = $2 "
            "union all select starts_at, ends_at from annotation where dataset = $1 "
            "and state in ('active', 'proposed')",
            dataset,
            tag,
        )
        return [(row["starts_at"], row["ends_at"]) for row in rows]

    async def note_proposal(self, said: AnnotationProposed) -> None:
        await self.database.execute(
            "insert into proposal (dataset, tag, starts_at, ends_at, model) "
            "values ($1, $2, $3, $4, $5) on conflict do nothing",
            said.dataset,
            said.tag,
            said.starts_at,
            said.ends_at,
            said.model,
        )

    async def evidence(self, about: About, windows: Sequence[int]) -> list[UUID]:
        """Ids of the verdicts about these windows, as they were said."""
        rows = await self.database.fetch(
            "select event_id, payload from said where topic = $1 and subject = $2 "
            "order by sequence desc limit 1000",
            MONITORING.name,
            about.model,
        )
        wanted = set(windows)
        kind = orjson.dumps(WindowEvaluated.TYPE)
        found: Mapping[int, UUID] = {
            heard.event.window: heard.id
            for heard in (
                codec.decode(bytes(row["payload"])) for row in rows if kind in bytes(row["payload"])
            )
            if isinstance(heard.event, WindowEvaluated)
            and heard.event.version == about.version
            and heard.event.window in wanted
        }
        return [found[window] for window in sorted(found)][:_MOST_EVIDENCE]
