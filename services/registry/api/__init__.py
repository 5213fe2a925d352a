"""The registry's HTTP door: datasets, models, and the log."""

from services.registry.api import datasets, events, models, uploads

__all__ = ["datasets", "events", "models", "uploads"]
