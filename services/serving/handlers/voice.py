"""Everything that this replica says, put into its spool with an envelope."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from services.serving.domain.endpoints import Endpoint
from services.serving.domain.versions import Problem
from services.serving.store.spool import Spool
from shared import telemetry
from shared.broker import Message
from shared.clock import Clock
from shared.errors import Saturated, StoreUnavailable
from shared.events import (
    ArmMeasure,
    DeploymentDesired,
    Event,
    GroundTruthObserved,
    Heard,
    ReplicaAnnounced,
    ServingApplied,
    ServingFellBack,
    ServingMeasured,
    ServingRefused,
)
from shared.ids import derived, uuid7
from shared.topics import FEEDBACK, SERVING, Topic

SOURCE: Final = "//tidewheel/serving"
Own = ServingApplied | ServingRefused | ServingMeasured | ServingFellBack | ReplicaAnnounced
UNNUMBERED: Final = 0
"""Stands for the number that an event is given when it is put into the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The events of one replica; `wake` tells the sender that something waits."""

    spool: Spool
    replica: str
    url: str
    now: Clock
    wake: Callable[[], None]

    def applied(self, endpoint: Endpoint) -> None:
        """This generation answers from now on."""
        event = ServingApplied(
            model=endpoint.model,
            replica=self.replica,
            replica_sequence=UNNUMBERED,
            generation=endpoint.generation,
            versions=endpoint.versions(),
        )
        self._say(event, endpoint.heard, slot=f"applied:{endpoint.model}")

    def refused(self, heard: Heard[DeploymentDesired], version: int, problem: Problem) -> None:
        """This version is not used."""
        event = ServingRefused(
            model=heard.event.model,
            replica=self.replica,
            replica_sequence=UNNUMBERED,
            generation=heard.event.generation,
            version=version,
            reason=problem.reason,
            detail=problem.detail,
        )
        self._say(event, heard)

    def measured(self, endpoint: Endpoint, arms: tuple[ArmMeasure, ...], seconds: float) -> None:
        """What the arms did."""
        event = ServingMeasured(
            model=endpoint.model,
            replica=self.replica,
            replica_sequence=UNNUMBERED,
            generation=endpoint.generation,
            arms=arms,
            seconds=round(seconds, 6),
        )
        self._say(event, endpoint.heard, slot=measure_slot(endpoint))

    def fell_back(self, endpoint: Endpoint, rung: str, cause: str) -> None:
        """Another rung answers."""
        event = ServingFellBack(
            model=endpoint.model,
            replica=self.replica,
            replica_sequence=UNNUMBERED,
            generation=endpoint.generation,
            rung=rung,
            cause=cause[:500],
        )
        self._say(event, endpoint.heard, slot=f"rung:{endpoint.model}")

    def announced(self, models: int) -> None:
        """This replica is alive."""
        event = ReplicaAnnounced(
            replica=self.replica,
            replica_sequence=UNNUMBERED,
            url=self.url,
            models=models,
        )
        self._say(event, None, slot="announced")

    def observed(self, observations: Sequence[GroundTruthObserved]) -> None:
        """Outcomes came; the same observation has the same event id however often it comes.

        Raises:
            Saturated: there is no room; nothing was taken.
        """
        # 1.0 and "1.0" are different labels, so the value is written as it is.
        messages = [
            self._message(
                FEEDBACK, o, None, "ground_truth", o.model, o.prediction, o.revision, repr(o.value)
            )
            for o in observations
        ]
        self.spool.keep_messages(messages)
        self.wake()

    def _say(
        self, event: Own, cause: Heard[DeploymentDesired] | None, *, slot: str | None = None
    ) -> None:
        try:
            numbered = replace(event, replica_sequence=self.spool.next_number("sequence"))
            message = self._message(SERVING, numbered, cause)
            self.spool.keep_messages([message], slot=slot, own=True)
        except (Saturated, StoreUnavailable) as error:
            telemetry.log("event_lost", level="error", type=event.TYPE, reason=str(error))
        self.wake()

    def _message(
        self, topic: Topic, event: Event, cause: Heard[Any] | None, *identity: object
    ) -> Message:
        event_id = derived(None, *identity) if identity else uuid7()
        heard: Heard[Event] = Heard(
            event=event,
            id=event_id,
            source=f"{SOURCE}/{self.replica}",
            time=self.now(),
            correlation=event_id if cause is None else cause.correlation,
            causation=None if cause is None else cause.id,
        )
        return Message.of(topic, heard)


def measure_slot(endpoint: Endpoint) -> str:
    """While a measure waits, the next one of the same generation waits in memory and grows."""
    return f"measured:{endpoint.model}:{endpoint.generation}"
