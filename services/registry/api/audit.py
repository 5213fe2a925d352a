"""Who allowed, refused, overrode, froze and rolled back; and whether the log is what it was."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from services.registry.api.events import plain, told
from services.registry.api.replies import LARGEST_POSITION, Cursor, Limit, Text, number_of, page_of
from services.registry.audit import Anchor, Link, Verification, Verified
from services.registry.handlers.registry import LOG
from services.registry.lineage.narration import GOVERNANCE
from services.registry.store import Store
from services.registry.store.audit import Question
from services.registry.store.log import Fact
from shared import telemetry
from shared.access import EVERY_TEAM, Principal, Role
from shared.clock import Clock
from shared.errors import Fault, InvalidInput, NotPermitted, Unavailable
from shared.http import Json, allow

_AUDITOR: Final = frozenset({Role.AUDITOR})
Auditor = Annotated[Principal, Depends(allow(Role.AUDITOR))]
Moment = Annotated[datetime | None, Query()]


def router(store: Store, now: Clock) -> APIRouter:
    """The routes of the audit log."""
    routes = APIRouter(tags=["audit"])
    audit = store.audit

    @routes.get("/v1/audit", operation_id="list_audit")
    async def governance(
        request: Request,
        principal: Auditor,
        since: Moment = None,
        until: Moment = None,
        model: Text = None,
        person: Text = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """Facts of governance, newest first: by time, by model, by person."""
        question = Question(
            since=aware(since),
            until=aware(until),
            model=model,
            person=person,
            owners=principal.visible,
        )
        before = number_of(cursor, LARGEST_POSITION)
        types = [kind.TYPE for kind in GOVERNANCE]
        found = await audit.facts(types, question, before, limit)
        following = found[-1].seq if len(found) == limit else None
        return page_of(request, [_shown(fact, principal) for fact in found], following)

    @routes.get("/v1/audit/head", operation_id="get_audit_head")
    async def head(principal: Auditor) -> Response:
        """The newest link of the chain, and the last anchor that was heard."""
        _whole_log(principal)
        newest, anchored = await audit.head(), await audit.newest_anchor()
        return Json(
            {
                "log": LOG,
                "head": asdict(newest) if newest else None,
                "anchor": asdict(anchored[0]) | {"time": anchored[1]} if anchored else None,
                "time": now(),
            }
        )

    @routes.get("/v1/audit/verify", operation_id="verify_audit")
    async def verify(principal: Auditor, rows: bool = False) -> Response:
        """The chain computed anew from the rows, as lines of JSON; `rows` streams them, too."""
        _whole_log(principal)
        return StreamingResponse(_verification(store, rows), media_type="application/x-ndjson")

    return routes


def aware(moment: datetime | None) -> datetime | None:
    """A moment from a query.

    Raises:
        InvalidInput: it does not say how far from UTC its clock is, or lies outside of all years.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        fault = Fault("/query", "no offset", "write it like 2026-11-21T09:00:00Z")
        raise InvalidInput("Say the offset of a moment, like 2026-11-21T09:00:00Z.", [fault])
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        fault = Fault("/query", "in UTC it lies before the year 1 or after 9999")
        raise InvalidInput("There is no such moment.", [fault]) from error


def _whole_log(principal: Principal) -> None:
    """The chain runs through the facts of all teams."""
    if not principal.may_in(EVERY_TEAM, _AUDITOR):
        raise NotPermitted("The whole log is for auditors of all teams.")


def _shown(fact: Fact, principal: Principal) -> dict[str, Any]:
    return plain(fact, principal) | {"text": told(fact, principal)["text"]}


async def _verification(store: Store, rows: bool) -> AsyncIterator[bytes]:
    """Anchors, then rows or progress, then the verdict: one JSON object per line."""
    try:
        anchors = await store.audit.anchors()
        last = await store.audit.last_position()
        verification = Verification(anchors)
        for anchor in anchors:
            yield _line("anchor", asdict(anchor))
        async for links in store.audit.links(last):
            for link in links:
                verification.take(link)
                if rows:
                    yield _line("row", asdict(link))
            yield _line("progress", _progress(links, verification, last))
        yield _line("verdict", verdict_of(verification.end()))
    except Unavailable as error:
        # The answer has begun; its last line says how it ended.
        telemetry.log("verification_interrupted", level="warning", reason=str(error))
        yield _line("failed", {"detail": "The database does not answer; verify again."})


def _progress(links: list[Link], verification: Verification, last: int) -> dict[str, int]:
    position = links[-1].position if links else 0
    return {"rows": verification.rows, "position": position, "of": last}


def verdict_of(verified: Verified) -> dict[str, Any]:
    """What came of it, for programs."""
    head: Anchor | None = verified.head
    return {
        "whole": verified.is_whole,
        "rows": verified.rows,
        "anchors": verified.anchors,
        "head": asdict(head) if head else None,
        "faults": [asdict(fault) for fault in verified.faults],
        "found": verified.found,
    }


def _line(kind: str, content: dict[str, Any]) -> bytes:
    return orjson.dumps({"kind": kind, **content}, default=str) + b"\n"
