"""What the monitor remembers, in its own database."""

from services.drift_monitor.store.courses import Kept
from services.drift_monitor.store.reading import Reading
from services.drift_monitor.store.reporting import Asked, Reporting
from services.drift_monitor.store.versions import Key, Standing
from services.drift_monitor.store.watching import PostgresStore

__all__ = [
    "Asked",
    "Kept",
    "Key",
    "PostgresStore",
    "Reading",
    "Reporting",
    "Standing",
]
