"""Names of datasets, models and columns: one pattern each, applied wherever a name comes in.

Paths, queries and bodies of every service take the types below, so that what is no name is refused
by all of them alike, with a pointer to its place, and their descriptions tell the pattern.
"""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, WithJsonSchema

from shared.errors import Fault, InvalidInput, wrong_things

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
RESERVED: Final = frozenset(
    {"versions", "compare", "predict", "explain", "invocations", "data", "annotations"}
)
"""Words that follow a name in routes, so that they cannot be part of one."""
LONGEST_COLUMN: Final = 128
"""Characters."""
MOST_PARTS: Final = 4
"""Of the name of a dataset."""


def model_name(text: str) -> str:
    """The name of a model, checked.

    Raises:
        ValueError: it is not `[a-z0-9][a-z0-9._-]{0,62}`, or it is reserved.
    """
    if not NAME.fullmatch(text) or text in RESERVED:
        raise ValueError(
            "a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', starts with a letter or digit, "
            f"and is none of {', '.join(sorted(RESERVED))}"
        )
    return text


def is_model_name(text: str) -> bool:
    """Whether this can be the name of a model at all."""
    return NAME.fullmatch(text) is not None and text not in RESERVED


def check_name(text: str, pointer: str) -> None:
    """Refuse what is no name of a model, as the types below do.

    Raises:
        InvalidInput: at this place is none.
    """
    try:
        model_name(text)
    except ValueError as error:
        faults = [Fault(pointer, str(error))]
        raise InvalidInput(wrong_things(faults), faults) from error


def dataset_name(text: str) -> str:
    """The name of a dataset, up to four names joined by slashes, checked.

    Raises:
        ValueError: a part is no name, or there are more than four.
    """
    parts = text.split("/")
    if len(parts) > MOST_PARTS:
        raise ValueError(f"a dataset is up to {MOST_PARTS} names joined by '/'")
    return "/".join(model_name(part) for part in parts)


def column_name(text: str) -> str:
    """The name of a column, checked.

    Raises:
        ValueError: it is empty, longer than 128 characters, or holds a character that is not
            printable or is one of < > & " '.
    """
    is_whole = 1 <= len(text) <= LONGEST_COLUMN
    if not is_whole or not text.isprintable() or any(c in "<>&\"'" for c in text):
        raise ValueError(
            "a column is 1 to 128 printable characters without < > & and quotation marks"
        )
    return text


def _text(pattern: str, longest: int) -> Any:
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": longest})


_NO_WORD: Final = f"(?!(?:{'|'.join(sorted(RESERVED))})(?:/|$))"
_PART: Final = f"{_NO_WORD}{NAME.pattern}"
_NAME_SCHEMA: Final = _text(f"^{_PART}$", 63)
_DATASET_SCHEMA: Final = _text(f"^{_PART}(?:/{_PART}){{0,{MOST_PARTS - 1}}}$", 64 * MOST_PARTS - 1)
_COLUMN_SCHEMA: Final = _text("^[^\\x00-\\x1f<>&\"']+$", LONGEST_COLUMN)

ModelNameText = Annotated[str, AfterValidator(model_name), _NAME_SCHEMA]
DatasetNameText = Annotated[str, AfterValidator(dataset_name), _DATASET_SCHEMA]
ColumnNameText = Annotated[str, AfterValidator(column_name), _COLUMN_SCHEMA]
