"""What the monitor saw, as SVG: drift by feature and time, distributions, quality over time."""

from services.drift_monitor.pictures.distribution import Shares, distribution
from services.drift_monitor.pictures.heat import Cell, Column, heat
from services.drift_monitor.pictures.quality import Guessed, Judged, quality

__all__ = ["Cell", "Column", "Guessed", "Judged", "Shares", "distribution", "heat", "quality"]
