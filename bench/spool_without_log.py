"""Serving as it is, but that it keeps no log of its predictions: what the log costs is the rest."""

from collections.abc import Sequence

from services.serving import app
from services.serving.store.spool import Spool


class Forgetful(Spool):
    """Takes rows and keeps none."""

    def keep_rows(self, rows: Sequence[bytes], *, is_required: bool = False) -> None:
        """Do nothing."""


if __name__ == "__main__":
    app.Spool = Forgetful  # type: ignore[attr-defined] # it is imported there
    app.main()
