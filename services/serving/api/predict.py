"""`POST /v1/models/{model}[/versions/{version}|/aliases/{alias}]/predict`: the door of our own."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope

from services.serving.api.wire import (
    PlainDoor,
    Reply,
    check_encoding,
    check_media_type,
    drawn_ids,
    header_of,
    read_body,
    wanted_in,
)
from services.serving.domain.endpoints import Endpoint, Step
from services.serving.handlers.explaining import Explanations
from services.serving.handlers.log import Prediction, arm_name
from services.serving.handlers.predictions import apart
from services.serving.prediction.answers import label_text
from services.serving.prediction.arrow import ARROW, pyarrow, read_arrow, write_arrow
from services.serving.prediction.forms import Batch, batch_of
from services.serving.prediction.reading import read_json
from shared.errors import Fault, InvalidInput, Refused


@dataclass(frozen=True, kw_only=True)
class PredictDoor(PlainDoor):
    """Rows in, answers with everything that tells where they came from out."""

    explanations: Explanations

    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """The answers to the rows of one request."""
        is_arrow = header_of(scope, b"content-type").strip().lower() == ARROW
        if is_arrow:
            check_encoding(scope)
        else:
            check_media_type(scope)
        is_explained = is_explanation_wanted(scope)
        answers_arrow = is_arrow_wanted(scope, is_arrow=is_arrow)
        if is_arrow or answers_arrow:
            pyarrow()
        if is_explained and answers_arrow:
            raise NotInArrow("Explanations come as JSON: send `Accept: application/json`.")
        body = await read_body(receive)
        read = read_arrow if is_arrow else read_batch
        batch = await apart(len(body) // 100, read, body, self.rows_limit)
        endpoint, answered = await self.predictions.predict(
            self.permitted(scope),
            batch.rows,
            body_bytes=len(body),
            form=batch.form,
            wanted=wanted_in(scope),
            ids=drawn_ids(scope),
        )
        plain = [plain_prediction(endpoint, one) for one in answered]
        if is_explained:
            await explain_into(plain, self.explanations, answered)
        if answers_arrow:
            data = await apart(len(plain), write_arrow, plain)
            return Reply(data, [(b"content-type", ARROW.encode())])
        return Reply(orjson.dumps({"model": endpoint.model, "predictions": plain}))


def read_batch(body: bytes, limit: int) -> Batch:
    """The rows that a body holds."""
    return batch_of(read_json(body), limit)


def plain_prediction(endpoint: Endpoint, prediction: Prediction) -> dict[str, Any]:
    """An answer with everything that tells where it came from."""
    step = prediction.step or Step(rung="none")
    found: dict[str, Any] = {
        "prediction_id": prediction.id,
        "answer": prediction.value,
        "version": step.version,
        "digest": step.digest,
        "rung": step.rung,
        "arm": arm_name(endpoint, prediction),
        "generation": endpoint.generation,
    }
    if prediction.probabilities is not None and step.loaded is not None:
        labels = step.loaded.manifest.classes
        found["probabilities"] = {
            label_text(label): share
            for label, share in zip(labels, prediction.probabilities, strict=False)
        }
    return found


class NotInArrow(Refused):
    """What was asked for cannot be told in Arrow."""

    status = 406
    code = "not_acceptable"


def is_arrow_wanted(scope: Scope, *, is_arrow: bool) -> bool:
    """Whether the answers are wanted as Arrow: named in `Accept`, or as the question came."""
    accepted = header_of(scope, b"accept").lower()
    if ARROW in accepted:
        return True
    return is_arrow and "application/json" not in accepted


def is_explanation_wanted(scope: Scope) -> bool:
    """Whether a request for predictions wants them explained.

    Raises:
        InvalidInput: `explain` is neither true nor false.
    """
    query: bytes = scope.get("query_string", b"")
    if b"explain" not in query:
        return False
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("explain", ["false"])[-1]
    if given not in ("true", "false"):
        fault = Fault("/explain", "this is neither true nor false", "send ?explain=true")
        raise InvalidInput("The query does not have the form of a request.", [fault])
    return given == "true"


async def explain_into(
    plain: list[dict[str, Any]], explanations: Explanations, answered: list[Prediction]
) -> None:
    """Put an explanation beside every answer; where there is none, null and the reason."""
    found, reason = await explanations.of(answered)
    for one, explanation in zip(plain, found, strict=True):
        one["explanation"] = explanation
        if explanation is None:
            one["not_explained"] = reason
