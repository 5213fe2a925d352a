"""Models: definitions come in as specifications; versions are read."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from services.registry.api.events import told
from services.registry.api.replies import (
    LARGEST_INTEGER,
    Cursor,
    Limit,
    Text,
    Version,
    is_known,
    number_of,
    page_of,
    tagged,
)
from services.registry.handlers import Registry
from services.registry.lineage.narration import DECISIONS
from services.registry.store import Store
from services.registry.store.models import Definition, ModelVersion
from shared.access import Principal, Role
from shared.artifacts import ArtifactStore
from shared.errors import InvalidEvent, InvalidInput, NotFound, TidewheelError
from shared.http import Json, allow
from shared.idempotency import once
from shared.names import ModelNameText
from shared.postgres import Cause
from shared.spec import ModelSpec
from shared.spec_yaml import read_spec_yaml

Author = Annotated[Principal, Depends(allow(Role.DATA_SCIENTIST))]
Commit = Annotated[str | None, Query(max_length=100, pattern=r"^[\w./-]*$")]
Last = Annotated[int, Query(ge=1, le=500)]


def router(registry: Registry, store: Store, artifacts: ArtifactStore) -> APIRouter:
    """The routes of models."""
    routes = APIRouter(tags=["models"])
    reading = [Depends(allow())]
    models = store.models

    @routes.post("/v1/models", operation_id="define_model")
    async def define(request: Request, principal: Author, commit: Commit = None) -> Response:
        """A model has the specification in the body (YAML or JSON) from now on."""
        spec = read_spec_yaml(await request.body())

        async def action() -> tuple[int, Any]:
            return await _defined(registry, spec, principal, commit)

        return await once(request, store.database, principal, action)

    @routes.get("/v1/models", operation_id="list_models", dependencies=reading)
    async def every(
        request: Request, limit: Limit = 100, cursor: Cursor = None, dataset: Text = None
    ) -> Response:
        """All models with their newest definition, by name."""
        owners = request.state.principal.visible
        found = await models.page(cursor or "", limit, dataset, owners)
        following = found[-1].model if len(found) == limit else None
        return page_of(request, [_short(definition) for definition in found], following)

    @routes.get("/v1/models/{name}", operation_id="get_model", dependencies=reading)
    async def one(request: Request, name: ModelNameText) -> Response:
        """A model's newest definition."""
        found = await _definition(store, name, request.state.principal)
        body = _short(found) | {"spec": dict(found.spec), "definition": found.number}
        return tagged(request, body, f"{found.event_id}-{found.latest}")

    @routes.get(
        "/v1/models/{name}/versions", operation_id="list_model_versions", dependencies=reading
    )
    async def versions(
        request: Request, name: ModelNameText, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """The numbered candidates of a model, newest first."""
        model = (await _definition(store, name, request.state.principal)).model
        found = await models.versions(model, number_of(cursor, LARGEST_INTEGER), limit)
        following = found[-1].version if len(found) == limit else None
        return page_of(request, [_version(version) for version in found], following)

    @routes.get(
        "/v1/models/{name}/versions/{version}",
        operation_id="get_model_version",
        dependencies=reading,
    )
    async def numbered(request: Request, name: ModelNameText, version: Version) -> Response:
        """One version: figures, digests, what it came from, and the files it is made of."""
        model = (await _definition(store, name, request.state.principal)).model
        found = await models.version(model, version)
        if found is None:
            raise NotFound("There is no such version of this model.")
        tag = str(found.event_id)
        if is_known(request, tag):
            return tagged(request, None, tag)
        manifest = await _manifest(artifacts, found)
        lineage = await _lineage(store, found)
        # Without its manifest the answer is not the whole version, so it gets no tag to keep.
        body = _version(found) | {"manifest_content": manifest, "lineage": lineage}
        return tagged(request, body, tag) if manifest else Json(body)

    @routes.get("/v1/models/{name}/why", operation_id="explain_model", dependencies=reading)
    async def why(request: Request, name: ModelNameText, limit: Last = 20) -> Response:
        """The last decisions about a model, in words, each with its event; newest first."""
        definition = await _definition(store, name, request.state.principal)
        types = [kind.TYPE for kind in DECISIONS]
        facts = await store.log.decisions(definition.model, definition.dataset, types, limit)
        items = [told(fact, request.state.principal) for fact in facts]
        return Json({"model": definition.model, "items": items})

    return routes


async def _defined(
    registry: Registry, spec: ModelSpec, principal: Principal, commit: str | None
) -> tuple[int, Any]:
    await registry.check_owner(spec, principal)
    try:
        defined = await registry.define(spec, Cause.outside(), by=principal.name, commit=commit)
    except InvalidEvent as error:
        raise InvalidInput(str(error)) from error
    return (201 if defined.changed else 200), {
        "model": defined.model,
        "spec_digest": defined.spec_digest,
        "code_digest": defined.code_digest,
        "event_id": defined.event_id,
        "cascade": defined.cascade,
        "cascade_url": f"/v1/cascades/{defined.cascade}",
        "changed": defined.changed,
    }


async def _definition(store: Store, name: str, principal: Principal) -> Definition:
    found = await store.models.definition(name)
    if found is None or not principal.may_see(str(found.spec["owner"])):
        raise NotFound("There is no such model.")
    return found


def _short(definition: Definition) -> dict[str, Any]:
    return {
        "model": definition.model,
        "dataset": definition.dataset,
        "task": definition.spec["task"],
        "owner": definition.spec["owner"],
        "version": definition.latest or None,
        "spec_digest": definition.spec_digest,
        "code_digest": definition.code_digest,
        "defined_by": definition.defined_by,
        "commit": definition.commit,
        "event_id": definition.event_id,
        "cascade": definition.cascade,
        "time": definition.defined_at,
    }


def _version(version: ModelVersion) -> dict[str, Any]:
    training = dict(version.training)
    return {
        **training,
        "model": version.model,
        "version": version.version,
        "run": version.run,
        "trained_at": version.trained_at,
        "event_id": version.event_id,
        "cascade": version.cascade,
        "time": version.registered_at,
    }


async def _manifest(artifacts: ArtifactStore, version: ModelVersion) -> Any:
    """Files with their digests, columns, environment; None when the blob cannot be had."""
    try:
        return orjson.loads(await artifacts.aget(version.training["manifest"]))
    except (TidewheelError, ValueError):
        return None


async def _lineage(store: Store, version: ModelVersion) -> dict[str, Any]:
    """What the version came from: data, specification, code."""
    training = version.training
    definition = await store.models.definition_with(
        version.model, training["spec_digest"], training["code_digest"]
    )
    data = await store.datasets.version(version.dataset, version.dataset_version)
    return {
        "dataset": {
            "dataset": version.dataset,
            "version": version.dataset_version,
            "digest": training["dataset_digest"],
            "rows": data.rows if data else None,
            "event_id": data.event_id if data else None,
        },
        "definition": {
            "number": definition.number if definition else None,
            "spec_digest": training["spec_digest"],
            "code_digest": training["code_digest"],
            "commit": definition.commit if definition else None,
            "event_id": definition.event_id if definition else None,
        },
        "run": version.run,
        "split": training["split"],
        "exclusions_digest": training["exclusions_digest"],
        "rows_left_out": training.get("rows_left_out", 0),
        "annotations": training.get("periods", []),
    }
