"""The description of one model, for programs and for people."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from services.serving.api.description import column_schemas, described, request_examples
from services.serving.domain.bindings import seen_versions
from services.serving.domain.endpoints import Endpoint
from services.serving.handlers.predictions import UNKNOWN_MODEL, Predictions
from shared.access import Principal, see
from shared.events import ModelName
from shared.http import Json, allow
from shared.names import ModelNameText

Looking = Annotated[Principal, Depends(allow())]
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.25rem .75rem;"
    "border-bottom:1px solid #bbb;vertical-align:top}pre{overflow:auto;padding:1rem;"
    "border:1px solid #bbb}"
)
_DIGEST: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_SHOWN_CATEGORIES: Final = 10


def router(predictions: Predictions) -> APIRouter:
    """These routes."""
    routes = APIRouter()

    def seen(model: str, principal: Principal) -> Endpoint:
        name = ModelName(model)
        see(principal, predictions.deployments.owner_of(name), UNKNOWN_MODEL)
        return predictions.endpoint_of(name)

    @routes.get("/v1/models/{model}/openapi.json")
    async def description(model: ModelNameText, principal: Looking) -> Response:
        """What one model takes and gives, for programs."""
        return Json(described(seen(model, principal)))

    @routes.get("/v1/models/{model}/docs")
    async def page(model: ModelNameText, principal: Looking) -> Response:
        """The same for people."""
        return HTMLResponse(page_of(seen(model, principal)), headers=PAGE_HEADERS)

    return routes


def page_of(endpoint: Endpoint) -> str:
    """A page without scripts."""
    document = described(endpoint)
    model = escape(endpoint.model)
    versions = ", ".join(str(version) for version in seen_versions(endpoint)) or "none"
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{model}</title>',
            f"<style>{_STYLE}</style></head><body><main><h1>{model}</h1>",
            f"<p>{escape(document['info']['description'])} Versions served here: {versions}.</p>",
            "<h2>Columns</h2>",
            *_columns(endpoint),
            "<h2>Requests</h2><p>Send a key that may predict as "
            "<code>Authorization: Bearer tw_…</code>. Where a value is not known, send null.</p>",
            *_requests(endpoint, document["paths"]),
            '<p>For programs: <a href="openapi.json">openapi.json</a></p></main></body></html>',
        ]
    )


def _columns(endpoint: Endpoint) -> Iterator[str]:
    yield "<table><thead><tr><th>Name<th>Type<th>Seen in training</tr></thead><tbody>"
    required = set(endpoint.schema.names)
    for name, schema in column_schemas(endpoint.schema).items():
        kind = schema["type"][0] + ("" if name in required else ", optional")
        cells = (name, kind, _seen(schema))
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table>"


def _seen(schema: dict[str, Any]) -> str:
    if "x-training-minimum" in schema:
        return f"{schema['x-training-minimum']:g} to {schema.get('x-training-maximum', 0):g}"
    categories = schema.get("x-training-categories", [])
    more = len(categories) - _SHOWN_CATEGORIES
    words = ", ".join(categories[:_SHOWN_CATEGORIES])
    return f"{words} and {more} more" if more > 0 else words


def _requests(endpoint: Endpoint, paths: dict[str, Any]) -> Iterator[str]:
    examples = request_examples(endpoint)
    for path in paths:
        door = path.rsplit("/", 1)[1]
        yield f"<h3>POST {escape(path)}</h3>"
        if "{" not in path:
            for example in examples[door].values():
                shown = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
                yield f"<pre>{escape(shown)}</pre>"
