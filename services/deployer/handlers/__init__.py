"""What the deployer does about what it hears and what people ask."""

from services.deployer.handlers.acting import Acting, Outcome
from services.deployer.handlers.people import People
from services.deployer.handlers.rollouts import Rollouts

__all__ = ["Acting", "Outcome", "People", "Rollouts"]
