"""The streams of telemetry: predictions and ground truth, carried by Faust."""

from typing import Final

from services.drift_monitor.handlers import Labels, Predictions
from shared.events import PredictionsLogged
from shared.faust_streams import FaustStreams
from shared.inbox import Limits
from shared.postgres import Database
from shared.streams import Stream
from shared.topics import FEEDBACK, PREDICTIONS

BATCHES: Final = 40
"""Micro-batches of predictions, of up to 100 rows each, in one transaction. Each of their models is
locked, and a database has room for some thousands of locks."""
LABELS: Final = 2000
"""Labels in one transaction; of as many models, at worst."""
BESIDE: Final = 3
"""Transactions of labels that run beside each other: one is worked out, the database works for one,
and one waits for its disk or is on its way. What labels change is in the database alone, under the
locks of their models."""


def models_in(batch: PredictionsLogged) -> set[str]:
    """Whose answers a replica has sent."""
    return {row.model for row in batch.rows}


def streams_of(predictions: Predictions, labels: Labels) -> list[Stream]:
    """Which topic goes where."""
    return [
        Stream(topic=PREDICTIONS, handle=predictions.take, together=BATCHES, about=models_in),
        Stream(topic=FEEDBACK, handle=labels.take, together=LABELS, beside=BESIDE),
    ]


def carry(
    database: Database,
    kafka: str,
    predictions: Predictions,
    labels: Labels,
    *,
    topic_prefix: str,
    replica: str,
) -> FaustStreams:
    """The carrier of both, not started yet."""
    return FaustStreams(
        database,
        kafka,
        "drift_monitor",
        streams=streams_of(predictions, labels),
        topic_prefix=topic_prefix,
        replica=replica,
        limits=Limits(together=LABELS),
    )
