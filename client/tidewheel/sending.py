"""What sending has in common, whether one waits for it or awaits it."""

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from tidewheel.calling import Call, Progress
from tidewheel.context import Context
from tidewheel.errors import Failure, unreachable

TRIES: Final = 4
RECONNECT_SECONDS: Final = 0.2
"""Between two connections of a watcher."""
_CHUNK: Final = 1 << 18


_NOT_BEGUN: Final = frozenset({"loading", "queue_full"})
"""Refusals of serving before it has looked at a row: even a prediction is asked only once so."""


def pause_after(call: Call, failure: Failure, tries: int) -> float | None:
    """Seconds until the next try; None when a further try makes no sense, or would do harm."""
    is_harmless = call.repeatable or failure.code in _NOT_BEGUN
    if tries >= TRIES or failure.status not in (429, 503) or not is_harmless:
        return None
    asked = failure.retry_after if failure.retry_after is not None else 0.2 * 2**tries
    return min(asked, 10.0) + random.random() * 0.05  # noqa: S311 - spreads callers, hides nothing


def request_of(call: Call, context: Context, content: Any) -> dict[str, Any]:
    """The arguments of the request."""
    return {
        "method": call.method,
        "url": context.url(call.service) + call.path,
        "params": dict(call.query),
        "headers": call.all_headers(context.key),
        "content": content,
        "timeout": httpx.Timeout(call.seconds, connect=5.0),
    }


def no_answer(call: Call, context: Context, error: httpx.HTTPError) -> Failure:
    """The failure of a request that was not answered."""
    return unreachable(call.what, call.service, context.url(call.service), str(error))


def chunks(file: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """A file piece by piece."""
    sent = 0
    with file.open("rb") as opened:
        while piece := opened.read(_CHUNK):
            yield piece
            sent += len(piece)
            if progress:
                progress(sent)


async def async_chunks(file: Path, progress: Progress | None = None) -> AsyncIterator[bytes]:
    """The same for the asynchronous client; the reads are short."""
    for piece in chunks(file, progress):
        yield piece
