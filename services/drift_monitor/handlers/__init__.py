"""What the monitor does about what it hears."""

from services.drift_monitor.handlers.ageing import Ageing
from services.drift_monitor.handlers.brakes import Brakes
from services.drift_monitor.handlers.courses import Courses
from services.drift_monitor.handlers.deciding import Deciding
from services.drift_monitor.handlers.judging import Judging
from services.drift_monitor.handlers.labels import Labels
from services.drift_monitor.handlers.predictions import Predictions
from services.drift_monitor.handlers.profiles import Profiles
from services.drift_monitor.handlers.settling import Settling
from services.drift_monitor.handlers.telling import Telling
from services.drift_monitor.handlers.versions import Versions

__all__ = [
    "Ageing",
    "Brakes",
    "Courses",
    "Deciding",
    "Judging",
    "Labels",
    "Predictions",
    "Profiles",
    "Settling",
    "Telling",
    "Versions",
]
