"""The Open Inference Protocol, version 2, over HTTP, with its binary extension.

Errors are problems like everywhere, with the protocol's own `error` beside (`shared.foreign`).
Repositories, statistics, traces and shared memory are not offered: 404.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope

from services.serving.api.metadata import ANSWER, PROBABILITIES, datatype_of, outputs_of
from services.serving.api.wire import (
    JSON,
    PlainDoor,
    Reply,
    check_encoding,
    drawn_ids,
    header_of,
    read_body,
    wanted_in,
)
from services.serving.domain.bindings import bind
from services.serving.domain.endpoints import Endpoint
from services.serving.handlers.lanes import Write
from services.serving.handlers.log import Prediction, arm_name
from services.serving.handlers.predictions import apart
from services.serving.prediction.answers import label_text
from services.serving.prediction.decoding import Decoder, Values
from services.serving.prediction.forms import Batch
from services.serving.prediction.inference import Inference, read_inference
from services.serving.prediction.plain_tensors import read_tensors
from services.serving.prediction.tensors import Tensor
from shared.errors import Fault, InvalidInput

LENGTH_HEADER: Final = b"inference-header-content-length"


class InferDoor(PlainDoor):
    """`POST /v2/models/{model}[/versions/{version}]/infer`."""

    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """The outputs for the rows of one request.

        The protocol's clients send no content type, or one that says nothing: where the JSON ends
        is told by a header.
        """
        check_encoding(scope)
        model = self.permitted(scope)
        endpoint = self.predictions.endpoint_of(model)
        wanted = wanted_in(scope)
        schema = endpoint.schema if wanted is None else bind(endpoint, wanted).schema
        body = await read_body(receive)
        length = header_of(scope, LENGTH_HEADER)
        size = len(body) // 100
        asked = await apart(size, read_inference, body, length, schema, self.rows_limit)
        _check_outputs(asked, endpoint)
        endpoint, answered = await self.predictions.predict(
            model,
            asked.batch.rows,
            body_bytes=len(body),
            form=asked.batch.form,
            wanted=wanted,
            ids=drawn_ids(scope),
        )
        return await apart(len(answered), _reply, asked, endpoint, answered)


def _check_outputs(asked: Inference, endpoint: Endpoint) -> None:
    known = [output["name"] for output in outputs_of(endpoint)]
    faults = [
        Fault(f"/outputs/{position}/name", "there is no such output", f"use {', '.join(known)}")
        for position, name in enumerate(asked.wanted or ())
        if name not in known
    ]
    if faults:
        raise InvalidInput("The request wants outputs that this model does not have.", faults)


def read_plain_inference(
    decoder: Decoder, body: bytes, rows_limit: int
) -> tuple[Sequence[Values], Write] | None:
    """The rows of a plain request, and how their answers are told; None for all others."""
    read = read_tensors(decoder, body, rows_limit)
    if read is None:
        return None
    rows, request_id = read
    asked = Inference(id=request_id, batch=_NO_ROWS, wanted=None, is_binary=False)
    return rows, lambda endpoint, answered: _reply(asked, endpoint, answered).body


_NO_ROWS: Final = Batch(())


def _reply(asked: Inference, endpoint: Endpoint, answered: Sequence[Prediction]) -> Reply:
    tensors = [
        (tensor, asked.is_binary if asked.wanted is None else asked.wanted[tensor.name])
        for tensor in tensors_of(endpoint, answered)
        if asked.wanted is None or tensor.name in asked.wanted
    ]
    told: dict[str, Any] = {"model_name": endpoint.model}
    versions = {one.step.version for one in answered if one.step is not None}
    if len(versions) == 1 and None not in versions:
        told["model_version"] = str(*versions)
    if asked.id is not None:
        told["id"] = asked.id
    told["parameters"] = _parameters(endpoint, answered)
    outputs, tail = [], b""
    for tensor, is_binary in tensors:
        described, data = tensor.binary() if is_binary else (tensor.plain(), b"")
        outputs.append(described)
        tail += data
    head = orjson.dumps(told | {"outputs": outputs})
    if not any(is_binary for _, is_binary in tensors):
        return Reply(head, JSON)
    length = str(len(head)).encode()
    return Reply(
        head + tail,
        [(b"content-type", b"application/octet-stream"), (LENGTH_HEADER, length)],
    )


def _parameters(endpoint: Endpoint, answered: Sequence[Prediction]) -> dict[str, Any]:
    """Where the answers came from: one word where it is true of all rows, else one for each."""
    steps = [one.step for one in answered if one.step is not None]
    told = {
        "rung": _told([step.rung for step in steps]),
        "version": _told([step.version for step in steps]),
        "digest": _told([step.digest for step in steps]),
        "arm": _told([arm_name(endpoint, one) for one in answered]),
    }
    return {
        "prediction_ids": ",".join(one.id for one in answered),
        "generation": endpoint.generation,
    } | {name: value for name, value in told.items() if value is not None}


def _told(values: Sequence[Any]) -> Any:
    if len(set(values)) == 1:
        return values[0]
    return ",".join("" if value is None else str(value) for value in values)


def tensors_of(endpoint: Endpoint, answered: Sequence[Prediction]) -> list[Tensor]:
    """The outputs. Probabilities are left out where a rung without any answered a row."""
    answer = _tensor(ANSWER, [one.value for one in answered])
    classes = () if endpoint.manifest is None else endpoint.manifest.classes
    shares = [_shares(one, classes) for one in answered]
    flat = [share for row in shares if row is not None for share in row]
    if not classes or len(flat) != len(answered) * len(classes):
        return [answer]
    shape = (len(answered), len(classes))
    return [answer, Tensor(name=PROBABILITIES, datatype="FP64", shape=shape, values=flat)]


def _tensor(name: str, values: Sequence[float | str | bool]) -> Tensor:
    kind = datatype_of(values)
    plain = [label_text(value) for value in values] if kind == "BYTES" else values
    return Tensor(name=name, datatype=kind, shape=(len(values),), values=plain)


def _shares(one: Prediction, classes: Sequence[float | str | bool]) -> list[float] | None:
    """Probabilities in the order of the champion's classes, whoever answered."""
    if one.probabilities is None or one.step is None or one.step.loaded is None:
        return None
    known = dict(zip(one.step.loaded.manifest.classes, one.probabilities, strict=False))
    return [known.get(label, 0.0) for label in classes]
