"""Which format bytes have, decided by the bytes themselves."""

from pathlib import Path
from typing import Final

from services.registry.profiling.profile import Format
from shared.events import Reason

_UNWANTED: Final = (
    (b"\x1f\x8b", "gzip-compressed"),
    (b"PK\x03\x04", "a zip archive (xlsx, npz and model files are such)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"BZh", "bzip2-compressed"),
    (b"\xfd7zXZ", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"SQLite format 3", "a SQLite database"),
    (b"%PDF", "a PDF"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"PARE", "an encrypted Parquet file"),
)
_HINT: Final = "send CSV in UTF-8 or Parquet"
MAGIC: Final = b"PAR1"


def format_of(path: Path) -> Format | Reason:
    """The format of a file, or why it has none of ours; names and media types are no evidence."""
    with path.open("rb") as file:
        head = file.read(64)
        if head.startswith(MAGIC):
            return "parquet"
    if not head:
        return Reason(pointer="", detail="the file is empty", hint=_HINT)
    unwanted = _pickled(head) or _known(head)
    if unwanted:
        return Reason(pointer="", detail=f"the file is {unwanted}", hint=_HINT)
    return "csv"


def _pickled(head: bytes) -> str | None:
    """Pickles run code when they are read; they are refused whatever they hold."""
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return "a pickle, which is never loaded"
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return "zlib-compressed, as joblib writes"
    return None


def _known(head: bytes) -> str | None:
    return next((what for magic, what in _UNWANTED if head.startswith(magic)), None)
