"""The endpoints of this replica by model: made when somebody asks, forgotten when nobody does.

A model that nobody asks costs its name, its owner and two numbers. What answers it is made from the
own disk by the first request, which takes a fraction of a millisecond.
"""

from collections.abc import Callable, Iterator, ValuesView
from typing import cast

from services.serving.domain.endpoints import Endpoint
from services.serving.store.disk import Known
from shared.events import ModelName


class Endpoints:
    """Readers take an endpoint by its model; it never changes under them."""

    def __init__(self, make: Callable[[ModelName], Endpoint | None]) -> None:
        """There are none yet.

        Args:
            make: the endpoint of a model, from the disk; None where that cannot be read.
        """
        self.known: dict[ModelName, Known] = {}
        self._warm: dict[ModelName, Endpoint] = {}
        self._make = make

    def get(self, model: ModelName) -> Endpoint | None:
        """The endpoint that answers now; None while there is none."""
        endpoint = self._warm.get(model)
        if endpoint is not None:
            return endpoint
        known = self.known.get(model)
        return None if known is None or known.answering is None else self._make(model)

    def __getitem__(self, model: ModelName) -> Endpoint:
        endpoint = self.get(model)
        if endpoint is None:
            raise KeyError(model)
        return endpoint

    def __contains__(self, model: object) -> bool:
        known = self.known.get(cast("ModelName", model))
        return known is not None and known.answering is not None

    def __iter__(self) -> Iterator[ModelName]:
        return (model for model, known in self.known.items() if known.answering is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self) -> ValuesView[Endpoint]:
        """Those that were asked or changed of late; the others have nothing to tell."""
        return self._warm.values()

    def warm(self, model: ModelName) -> Endpoint | None:
        """The endpoint, if it need not be made."""
        return self._warm.get(model)

    def put(self, endpoint: Endpoint) -> None:
        """From now on this one answers for its model."""
        self._warm[endpoint.model] = endpoint
        known = self.known.get(endpoint.model)
        if known is not None:
            known.answering = endpoint.generation

    def cool(self, model: ModelName) -> None:
        """Nobody asks it: it is made again when somebody does."""
        self._warm.pop(model, None)
