"""What the monitor saw, as SVG: drift by feature and time, distributions, quality over time."""

from services.drift_monitor.pictures.distribution import Shares, distribution
from services.drift_monitor.pictures.heat import Cell, heat
from services.drift_monitor.pictures.quality import Judged, quality

__all__ = ["Cell", "Judged", "Shares", "distribution", "heat", "quality"]
