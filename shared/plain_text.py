"""Facts as text: numbers, moments and names, harmless wherever they are shown."""

import re
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any, Final

NOTHING: Final = "\N{EN DASH}"
MOST_CHARACTERS: Final = 300
"""Of one value; a card is read by people and stays small."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]+"
)
"""Control characters, those that turn the direction of the text around them, and what XML may not
hold at all."""
_MARKS: Final = re.compile(r"([\\`*_{}\[\]#|~$])")
_LISTED: Final = re.compile(r"^(\d*)([-+.)])(?=\s|$)")
"""What would begin a list."""


def plain(value: Any) -> str:
    """A value on one line, cut where it is long."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    text = NOTHING if value is None or value == "" else str(value)
    text = _UNSEEN.sub(" ", text)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def number(value: float | None) -> str:
    """Four digits that matter; a minus sign that is one."""
    if value is None:
        return NOTHING
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def percent(share: float) -> str:
    """A share as people say it."""
    return f"{100 * share:.4g} %"


def moment(microseconds: int) -> str:
    """A moment in UTC, to the minute; beyond the calendar the bare number."""
    try:
        at = _EPOCH + timedelta(microseconds=int(microseconds))
    except OverflowError:
        return f"{int(microseconds)} µs"
    return at.strftime("%Y-%m-%d %H:%M")


def html(text: str) -> str:
    """Text that a page shows as it is."""
    return escape(text, quote=True)


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, also in a table, and that is no HTML."""
    marked = _MARKS.sub(r"\\\1", text)
    marked = marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = _LISTED.sub(r"\1\\\2", marked)
    # An address that stands alone would become a link by itself.
    return marked.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")
