"""What every reply has in common: pages, entity tags, names from the path."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import Path, Query, Request
from fastapi.responses import Response
from starlette.convertors import Convertor, register_url_convertor

from shared.errors import InvalidInput, NotFound
from shared.http import Json

LARGEST_INTEGER: Final = 2**31 - 1
LARGEST_POSITION: Final = 2**63 - 1

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=500, pattern=r"^[^\x00]*$")]
Text = Annotated[str | None, Query(max_length=300, pattern=r"^[^\x00]*$")]
Version = Annotated[int, Path(ge=1, le=LARGEST_INTEGER)]


class _Dataset(Convertor[str]):
    """The parts of a dataset's name, slashes included.

    The framework's own `path` stops at the end of a line, so that a name with one in it would meet
    no route at all instead of the check of names.
    """

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("dataset", _Dataset())
DATASET: Final = "/v1/datasets/{name:dataset}"


def number_of(cursor: str | None, otherwise: int) -> int:
    """A cursor that is a number.

    Raises:
        InvalidInput: it is none; it did not come from here.
    """
    if cursor is None or cursor == "":
        return otherwise
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) > LARGEST_POSITION:
        raise InvalidInput("This cursor is not one of ours; begin without.", code="bad_cursor")
    return int(cursor)


def cascade_of(text: str) -> UUID:
    """The id of a cascade from the path."""
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("There is no such cascade.") from error


def page_of(request: Request, items: Sequence[Any], cursor: object | None) -> Response:
    """One page; `Link` leads to the next one as the body does."""
    following = None if cursor is None else str(cursor)
    reply = Json({"items": list(items), "next": following})
    if following is not None:
        query = request.url.include_query_params(cursor=following).query
        reply.headers["Link"] = f'<{quote(request.url.path)}?{query}>; rel="next"'
    return reply


def tagged(request: Request, body: Any, tag: str) -> Response:
    """A resource with a strong tag; 304 when the caller has it already."""
    headers = {"ETag": f'"{tag}"'}
    if is_known(request, tag):
        return Response(status_code=304, headers=headers)
    return Json(body, headers=headers)


def is_known(request: Request, tag: str) -> bool:
    """Whether `If-None-Match` names this tag."""
    given = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in (f'"{tag}"', "*") for one in given.split(","))
