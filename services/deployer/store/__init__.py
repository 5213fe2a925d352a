"""What the deployer remembers, in its own database."""

from services.deployer.store.endpoints import PostgresStore, Replica, Store, plain_rollout
from services.deployer.store.governance import Governance, KeptFreeze

__all__ = ["Governance", "KeptFreeze", "PostgresStore", "Replica", "Store", "plain_rollout"]
