"""A version answers a whole dataset version: a file in, a file of answers out, as a job."""

from services.trainer.batch.api import router
from services.trainer.batch.asking import KIND, Batches
from services.trainer.batch.store import BatchStore
from services.trainer.batch.working import BatchWorker

__all__ = ["KIND", "BatchStore", "BatchWorker", "Batches", "router"]
