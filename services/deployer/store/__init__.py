"""What the deployer remembers, in its own database."""

from services.deployer.store.endpoints import PostgresStore, Replica, Store, plain_rollout

__all__ = ["PostgresStore", "Replica", "Store", "plain_rollout"]
