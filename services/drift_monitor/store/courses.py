"""Where each model stands on its way to a fresh version."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter

from services.drift_monitor.brake import HOUR
from services.drift_monitor.course import About, Course
from shared.events import ModelName
from shared.postgres import Database

_COURSE: Final = TypeAdapter(Course)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A course as it is kept, with when it is to be looked at although no window closes."""

    course: Course
    due_at: datetime | None = None


class CourseTable:
    """One row per model that is watched; every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

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
