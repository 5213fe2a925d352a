"""What the deployer does about what it hears and what people ask."""

from services.deployer.handlers.acting import Acting, Outcome
from services.deployer.handlers.calendar import MOST_MODELS, Calendars
from services.deployer.handlers.people import LONGEST_WORDS, Looked, People
from services.deployer.handlers.requests import Requests
from services.deployer.handlers.rollouts import Rollouts

__all__ = [
    "LONGEST_WORDS",
    "MOST_MODELS",
    "Acting",
    "Calendars",
    "Looked",
    "Outcome",
    "People",
    "Requests",
    "Rollouts",
]
