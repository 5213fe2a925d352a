"""The frame of a Parquet file, looked at before anything parses it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.registry.profiling.formats import MAGIC
from services.registry.profiling.limits import FOOTER_BYTES
from shared.events import Reason

_TAIL_BYTES: Final = 8
_ENCRYPTED: Final = b"PARE"


def faults_of_footer(path: Path) -> Iterator[Reason]:
    """What is wrong with the ends of the file; its footer lies before the last eight bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] == _ENCRYPTED:
        yield _wrong("is encrypted", "send it in the clear")
    elif tail[4:] != MAGIC:
        yield _wrong("has no footer", "it may have been cut off; send it again")
    elif length > size - _TAIL_BYTES - len(MAGIC):
        yield _wrong(f"claims a footer of {length} bytes and has {size} bytes altogether")
    elif length > FOOTER_BYTES:
        yield _wrong(f"has a footer of {length} bytes, {FOOTER_BYTES} are allowed")


def _wrong(detail: str, hint: str = "") -> Reason:
    return Reason(pointer="", detail=f"the Parquet file {detail}", hint=hint)
