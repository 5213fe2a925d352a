"""The bytes of a request as JSON, and its rows; their values are not looked at yet."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import orjson

from shared.errors import Fault, InvalidInput, Refused, TooLarge

Row = Mapping[str, Any]
_DEEPEST: Final = 32
_MANY_DIGITS: Final = re.compile(rb"[0-9]{19}")


class MalformedJson(Refused):
    """The body is not JSON."""

    status = 400
    code = "malformed_json"


def read_json(body: bytes) -> Any:
    """The document, each name in an object only once.

    Non-finite literals and lone surrogates are kept, so that the check of the rows can say where.

    Raises:
        MalformedJson: it is not JSON.
        InvalidInput: an object has the same name twice.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_slowly(body)
    # Every name is followed by a colon. As many colons as names: no name came twice, and no slow
    # second reading is needed. Whole numbers beyond 64 bits became floats without a word.
    is_certain = body.count(b":") == _names_in(document) and not _MANY_DIGITS.search(body)
    return document if is_certain else _read_slowly(body)


def _names_in(document: Any, depth: int = 1) -> int:
    """How many names the objects of a document have together.

    Raises:
        MalformedJson: it is nested too deeply to be looked at.
    """
    if depth > _DEEPEST:
        raise MalformedJson(f"The body is nested deeper than {_DEEPEST} levels.")
    if isinstance(document, dict):
        within = sum(_names_in(v, depth + 1) for v in document.values() if _is_nested(v))
        return len(document) + within
    if isinstance(document, list):
        return sum(_names_in(v, depth + 1) for v in document if _is_nested(v))
    return 0


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _read_slowly(body: bytes) -> Any:
    try:
        document = json.loads(body.decode(), object_pairs_hook=_without_repeats)
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not UTF-8: {error.reason}.") from error
    except RecursionError as error:
        raise MalformedJson(f"The body is nested deeper than {_DEEPEST} levels.") from error
    except ValueError as error:
        raise MalformedJson(f"The body is not JSON: {str(error)[:100]}") from error
    _names_in(document)
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidInput(
                "A name comes twice in one object.",
                [Fault(f"/{as_pointer(name)}", "this name comes twice", "send it once")],
                code="duplicate_key",
            )
        found[name] = value
    return found


def rows_of(document: Any, limit: int) -> list[Row]:
    """The rows of a request: `{"rows": [{…}]}`, or `{"row": {…}}` for one.

    Raises:
        InvalidInput: it has another form.
        TooLarge: there are more rows than allowed.
    """
    if not isinstance(document, dict):
        wrong("", "the body is no object", 'send {"rows": [{…}]}')
    unknown = [name for name in document if name not in ("rows", "row")]
    if unknown:
        wrong(f"/{as_pointer(unknown[0])}", "this field is not known", 'send {"rows": [{…}]}')
    if ("rows" in document) == ("row" in document):
        wrong("/rows", "either `rows` or `row` is required", 'send {"rows": [{…}]}')
    rows = document["rows"] if "rows" in document else [document["row"]]
    if not isinstance(rows, list) or not rows:
        wrong("/rows", "this is no list with at least one row", 'send {"rows": [{…}]}')
    check_count(len(rows), limit)
    return rows


def check_count(rows: int, limit: int) -> None:
    """Whether so many rows may come together.

    Raises:
        TooLarge: there are more than allowed.
    """
    if rows > limit:
        raise TooLarge(f"The batch has {str(rows)[:20]} rows, {limit} are allowed; split it.")


def wrong(pointer: str, detail: str, hint: str = "") -> NoReturn:
    """Refuse the form of a request.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput(
        "The body does not have the form of a request.", [Fault(pointer, detail, hint)]
    )


def as_pointer(name: str) -> str:
    """A name as part of a JSON pointer, safe to send back."""
    shown = name[:64].encode("utf-8", "replace").decode()
    return shown.replace("~", "~0").replace("/", "~1")
