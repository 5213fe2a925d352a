"""The deployer's HTTP door: what answers now, what waits, and what people decide."""

from services.deployer.api import deciding, reading

__all__ = ["deciding", "reading"]
