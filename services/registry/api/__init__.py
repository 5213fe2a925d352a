"""The registry's HTTP door: datasets, models, and the log."""

from services.registry.api import (
    audit,
    datasets,
    events,
    freshness,
    models,
    production,
    requests,
    uploads,
)

__all__ = [
    "audit",
    "datasets",
    "events",
    "freshness",
    "models",
    "production",
    "requests",
    "uploads",
]
