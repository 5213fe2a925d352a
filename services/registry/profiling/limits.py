"""What a file may cost; every gate reads its figures here."""

from dataclasses import asdict, dataclass
from typing import Any, Final

NAMES_BYTES: Final = 100_000
"""Of all column names together: they travel in an event, which has 256 kB."""
FOOTER_BYTES: Final = 16_000_000
"""Of a Parquet footer: it is read whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The gates.

    Attributes:
        columns: most columns.
        cells: most rows x columns.
        header_bytes: longest header line of a CSV.
        decoded_bytes: most bytes of text and numbers together, once decoded.
        seconds: wall time of looking at one file.
        megabytes: memory for it, beyond the libraries.
    """

    columns: int = 2_000
    cells: int = 200_000_000
    header_bytes: int = 262_144
    decoded_bytes: int = 4_000_000_000
    seconds: float = 120.0
    megabytes: int = 512

    def plain(self) -> dict[str, Any]:
        """As plain data, for the child."""
        return asdict(self)
