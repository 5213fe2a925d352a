"""The deployer's HTTP door: what answers now, what waits, and what people decide."""

from services.deployer.api import approvals, deciding, freezes, reading

__all__ = ["approvals", "deciding", "freezes", "reading"]
