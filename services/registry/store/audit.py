"""The chain over the log, its anchors, and the facts of governance in it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.registry.audit import Anchor, Link
from services.registry.store.log import Fact, fact_of
from services.registry.store.owners import OWNED_FREEZE
from shared.events import AuditAnchored, Heard
from shared.postgres import Database

_AT_ONCE: Final = 2_000
_HEAD: Final = "select seq, encode(chain, 'hex') as chain from audit_link order by seq desc limit 1"
_LINKS: Final = """
    select coalesce(e.seq, l.seq) as seq, e.row, encode(l.chain, 'hex') as chain
    from (
        select seq, event_log_text(event_log) as row from event_log
        where seq > $1 and seq <= $2 and is_chained(type)
    ) e
    full join (select seq, chain from audit_link where seq > $1 and seq <= $2) l on l.seq = e.seq
    order by 1
"""
_LAST: Final = """
    select greatest((select max(seq) from event_log), (select max(seq) from audit_link))
"""
_PERSON: Final = """(data ->> 'by' = $%d or data ->> 'requested_by' = $%d
    or data ->> 'break_glass' = $%d or data -> 'approved_by' ? $%d or data -> 'granted_by' ? $%d)"""
_OF_MODEL: Final = """(data ->> 'model' = $%d or (data ? 'freeze' and exists (
    select 1 from event_log f
    where f.subject = event_log.subject and f.type = 'tidewheel.freeze.declared.v1'
        and (f.data -> 'models' ? $%d or f.data -> 'models' = '[]')
)))"""
"""The end of a freeze does not repeat its models; its declaration has them."""
_OWNED: Final = f"""((data ? 'freeze' and {OWNED_FREEZE}) or exists (
        select 1 from model m join definition d on d.model = m.name and d.number = m.definition
        where m.name = data ->> 'model' and d.spec ->> 'owner' = any($%d)))"""  # noqa: S608 - put together from constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which facts of governance are asked for; None where it does not matter."""

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    person: str | None = None
    owners: Sequence[str] | None = None
    """Teams whose models may be seen, and freezes of them; None for all."""

    def conditions(self, first: int) -> tuple[list[str], list[Any]]:
        """Conditions and their arguments, numbered from `first`."""
        where: list[str] = []
        arguments: list[Any] = []
        for sql, value in (
            ("time >= $%d", self.since),
            ("time < $%d", self.until),
            (_OF_MODEL, self.model),
            (_PERSON, self.person),
            (_OWNED, self.owners),
        ):
            if value is not None:
                where.append(sql.replace("%d", str(first + len(arguments))))
                arguments.append(value)
        return where, arguments


@dataclass(frozen=True, slots=True)
class Audit:
    """Reads the chain; only the database itself adds to it."""

    database: Database

    async def head(self) -> Anchor | None:
        """The newest link; None while nothing is chained."""
        row = await self.database.fetchrow(_HEAD)
        return Anchor(position=row["seq"], chain=row["chain"]) if row else None

    async def tell(self, head: Anchor) -> bool:
        """Note that this head is told now; False when it was told before."""
        added = await self.database.execute(
            "insert into audit_said (position, chain) values ($1, $2) on conflict do nothing",
            head.position,
            head.chain,
        )
        return added > 0

    async def note(self, heard: Heard[AuditAnchored]) -> None:
        """Keep an anchor that came back from its topic."""
        await self.database.execute(
            "insert into audit_anchor (event_id, position, chain, time) values ($1, $2, $3, $4) "
            "on conflict do nothing",
            heard.id,
            heard.event.position,
            heard.event.chain,
            heard.time,
        )

    async def anchors(self) -> list[Anchor]:
        """Every anchor that was heard."""
        rows = await self.database.fetch("select position, chain from audit_anchor order by 1, 2")
        return [Anchor(position=row["position"], chain=row["chain"]) for row in rows]

    async def newest_anchor(self) -> tuple[Anchor, datetime] | None:
        """The last anchor that was heard, and when it was told."""
        row = await self.database.fetchrow(
            "select position, chain, time from audit_anchor order by position desc limit 1"
        )
        return (Anchor(position=row["position"], chain=row["chain"]), row["time"]) if row else None

    async def last_position(self) -> int:
        """The position of the last row or link; 0 when there is none."""
        return int(await self.database.fetchval(_LAST) or 0)

    async def links(self, last: int) -> AsyncIterator[list[Link]]:
        """Rows and links up to a position, in order, some thousand positions at a time.

        Rows without a link and links without a row are told, too: both are faults.
        """
        for start in range(0, last, _AT_ONCE):
            rows = await self.database.fetch(_LINKS, start, min(start + _AT_ONCE, last))
            yield [Link(position=row["seq"], row=row["row"], chain=row["chain"]) for row in rows]

    async def facts(
        self, types: Sequence[str], question: Question, before: int, limit: int
    ) -> list[Fact]:
        """Facts of these types below a position, newest first."""
        where, arguments = question.conditions(first=4)
        sql = (
            "select * from event_log where seq < $1 and type = any($2) "  # noqa: S608 - constants
            f"{''.join(f'and {one} ' for one in where)}order by seq desc limit $3"
        )
        rows = await self.database.fetch(sql, before, list(types), limit, *arguments)
        return [fact_of(row) for row in rows]
