"""What the registry remembers: all its SQL, its temporary files, and the roots it may read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.registry.store.annotations import Annotations
from services.registry.store.audit import Audit
from services.registry.store.datasets import Datasets
from services.registry.store.freshness import Freshness
from services.registry.store.history import History
from services.registry.store.log import Log
from services.registry.store.models import Models
from services.registry.store.origins import Origins
from services.registry.store.owners import Owners
from shared.postgres import Database

MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"


@dataclass(frozen=True, slots=True)
class Store:
    """The registry's memory, by subject."""

    database: Database
    datasets: Datasets
    models: Models
    log: Log
    audit: Audit
    history: History
    origins: Origins
    owners: Owners
    annotations: Annotations
    freshness: Freshness

    @classmethod
    def over(cls, database: Database) -> "Store":
        """All of it in one database."""
        history = History(database)
        return cls(
            database,
            Datasets(database),
            Models(database),
            Log(database),
            Audit(database),
            history,
            Origins(database, history),
            Owners(database),
            Annotations(database),
            Freshness(database),
        )
