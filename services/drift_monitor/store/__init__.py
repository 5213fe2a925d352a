"""What the monitor remembers, in its own database."""

from services.drift_monitor.store.reading import Reading
from services.drift_monitor.store.reporting import Asked, Reporting
from services.drift_monitor.store.watching import Key, PostgresStore, Standing, Waiting

__all__ = ["Asked", "Key", "PostgresStore", "Reading", "Reporting", "Standing", "Waiting"]
