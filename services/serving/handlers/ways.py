"""What a lane knows of an endpoint before anybody asks: how rows are read, and the way of each arm.

A way is an arm whose own version answers by its compiled model, with the bytes that all of its
answers and all of its rows of the log have alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from services.serving.domain.endpoints import Endpoint, Step
from services.serving.domain.versions import Loaded
from services.serving.handlers import counting
from services.serving.prediction.answers import label_text
from services.serving.prediction.arrays import Layout, layout_of
from services.serving.prediction.decoding import Decoder, Values, decoder_of
from services.serving.routing import point_of

_NULL: Final = b"null"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """One arm.

    Attributes:
        count: counts rows that it answered.
        answer_tail: what its answers tell behind the answer itself.
        log_head, log_middle, log_tail: what stands around a row's id, moment and values in the log.
    """

    arm: int
    step: Step
    loaded: Loaded
    layout: Layout
    count: Callable[[float], None]
    label_names: tuple[str, ...]
    answer_tail: bytes
    log_head: bytes
    log_middle: bytes
    log_tail: bytes

    def probabilities(self, shares: list[float] | None) -> bytes:
        """The shares of the classes as an answer of our own tells them."""
        if shares is None:
            return b""
        named = dict(zip(self.label_names, shares, strict=False))
        return b',"probabilities":' + orjson.dumps(named)

    def features(self, row: Values) -> Values:
        """A row's values in the order of the model's columns."""
        return row if self.layout.features is None else self.layout.features(row)


@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """An endpoint as far as plain requests are concerned.

    Attributes:
        decoder: None where all requests take the careful way.
        ways: by the index of the arm; requests that meet another one take the careful way.
        permitted: who may ask, as the door remembers it.
    """

    endpoint: Endpoint
    decoder: Decoder | None = None
    ways: Mapping[int, Way] = field(default_factory=dict)
    head: bytes = b""
    permitted: dict[int, Any] = field(default_factory=dict)

    def arms_of(self, ids: Sequence[str], entities: Sequence[str | None]) -> list[int]:
        """Which arm each row meets, by the same rule as on the careful way."""
        split = self.endpoint.split
        if not split.is_shared:
            return [split.holders[0]] * len(ids)
        salt = self.endpoint.desired.salt
        return [
            split.arm_at(point_of(salt, f"p-{ids[i]}" if entity is None else entity))
            for i, entity in enumerate(entities)
        ]


def lane_of(endpoint: Endpoint) -> Lane:
    """The lane of an endpoint; without a decoder where no arm can answer the quick way."""
    decoder = decoder_of(endpoint.schema)
    if decoder is None:
        return Lane(endpoint=endpoint)
    found = {arm: _way_of(endpoint, arm, decoder) for arm in set(endpoint.split.holders)}
    ways = {arm: way for arm, way in found.items() if way is not None}
    return Lane(
        endpoint=endpoint,
        decoder=decoder if ways else None,
        ways=ways,
        head=b'{"model":' + orjson.dumps(endpoint.model) + b',"predictions":[',
    )


def _way_of(endpoint: Endpoint, arm: int, decoder: Decoder) -> Way | None:
    step = endpoint.paths[arm][0] if endpoint.paths[arm] else None
    loaded = None if step is None else step.loaded
    if step is None or loaded is None or loaded.engine != "onnx":
        return None
    layout = layout_of(loaded.manifest, decoder)
    if layout is None:
        return None
    arms = endpoint.desired.arms
    role = arms[arm].role if arm < len(arms) else "none"
    told = {
        "version": step.version,
        "digest": step.digest,
        "rung": step.rung,
        "arm": role,
        "generation": endpoint.generation,
    }
    logged = {
        "model": endpoint.model,
        "version": step.version,
        "manifest": step.digest,
        "rung": step.rung,
        "arm": role,
        "generation": endpoint.generation,
        "weight": arms[arm].weight if arm < len(arms) else 1.0,
    }
    seen = endpoint.seen_versions
    return Way(
        arm=arm,
        step=step,
        loaded=loaded,
        layout=layout,
        count=counting.counter_of(endpoint, arm, step.rung),
        label_names=tuple(map(label_text, loaded.manifest.classes)),
        answer_tail=b"," + orjson.dumps(told)[1:-1],
        log_head=orjson.dumps(loaded.names) + b'\n{"id":"p-',
        log_middle=b'",' + orjson.dumps(logged)[1:-1] + b',"at":',
        log_tail=b',"arms":' + orjson.dumps(seen) + b"}" if seen else b"}",
    )


# --- one row, as bytes ------------------------------------------------------------------------


def log_row(
    way: Way,
    prediction_id: str,
    at: bytes,
    row: Values,
    shown: bytes,
    entity: str | None,
    shares: list[float] | None,
) -> bytes:
    """As `log.log_rows` writes it.

    Args:
        at, shown: the moment and the answer, as JSON.
    """
    score = shares[1] if shares is not None and len(shares) == 2 else None
    return b"".join(
        (
            way.log_head,
            prediction_id.encode(),
            way.log_middle,
            at,
            b',"features":',
            orjson.dumps(way.features(row)),
            b',"answer":',
            shown,
            b',"entity":',
            _NULL if entity is None else orjson.dumps(entity),
            b',"score":',
            _NULL if score is None else orjson.dumps(score),
            way.log_tail,
        )
    )


def answer_row(way: Way, prediction_id: str, shown: bytes, shares: list[float] | None) -> bytes:
    """As the door of our own writes an answer."""
    return b'{"prediction_id":"p-%b","answer":%b%b%b}' % (
        prediction_id.encode(),
        shown,
        way.answer_tail,
        way.probabilities(shares),
    )
