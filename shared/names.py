"""Names of datasets, models and columns: one pattern each, applied wherever a name comes in."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
RESERVED: Final = frozenset(
    {"versions", "compare", "predict", "explain", "invocations", "data", "annotations"}
)
"""Words that follow a name in routes, so that they cannot be part of one."""


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


def dataset_name(text: str) -> str:
    """The name of a dataset, up to four names joined by slashes, checked.

    Raises:
        ValueError: a part is no name, or there are more than four.
    """
    parts = text.split("/")
    if len(parts) > 4:
        raise ValueError("a dataset is up to four names joined by '/'")
    return "/".join(model_name(part) for part in parts)


def column_name(text: str) -> str:
    """The name of a column, checked.

    Raises:
        ValueError: it is empty, longer than 128 characters, or holds a character that is not
            printable or is one of < > & " '.
    """
    if not 1 <= len(text) <= 128 or not text.isprintable() or any(c in "<>&\"'" for c in text):
        raise ValueError(
            "a column is 1 to 128 printable characters without < > & and quotation marks"
        )
    return text


ModelNameText = Annotated[str, AfterValidator(model_name)]
DatasetNameText = Annotated[str, AfterValidator(dataset_name)]
ColumnNameText = Annotated[str, AfterValidator(column_name)]
