"""`POST /v1/models/{model}[/versions/{version}|/aliases/{alias}]/explain`: why an answer is so.

Rows as in predict. It answers as the champion would, and nothing is logged: these are no
predictions. `predict?explain=true` explains what it answered, by the version that answered.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope

from services.serving.api.predict import read_batch
from services.serving.api.wire import PlainDoor, Reply, check_media_type, read_body, wanted_in
from services.serving.domain.endpoints import Endpoint
from services.serving.handlers.explaining import Explanations, Told
from services.serving.handlers.predictions import apart


@dataclass(frozen=True, kw_only=True)
class ExplainDoor(PlainDoor):
    """Rows in, answers with what they are made of out."""

    explanations: Explanations

    async def answer(self, scope: Scope, receive: Receive) -> Reply:
        """The explanations of the rows of one request."""
        check_media_type(scope)
        model = self.permitted(scope)
        body = await read_body(receive)
        batch = await apart(len(body) // 100, read_batch, body, self.rows_limit)
        endpoint, explained = await self.explanations.explain(
            model, batch.rows, body_bytes=len(body), form=batch.form, wanted=wanted_in(scope)
        )
        plain = [plain_explanation(endpoint, one) for one in explained]
        return Reply(orjson.dumps({"model": endpoint.model, "explanations": plain}))


def plain_explanation(endpoint: Endpoint, told: Told) -> dict[str, Any]:
    """An explanation and whose it is."""
    return {
        "answer": told.answer,
        "version": told.step.version,
        "digest": told.step.digest,
        "rung": told.step.rung,
        "generation": endpoint.generation,
        "explanation": told.explanation,
    }
