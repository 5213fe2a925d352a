"""What the registry does: about events, about files, about definitions."""

from services.registry.handlers.intake import Intake
from services.registry.handlers.registry import Defined, Receipt, Refusal, Registry

__all__ = ["Defined", "Intake", "Receipt", "Refusal", "Registry"]
