"""Datasets as they are read: lists, versions, bytes, comparisons."""

import re
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from services.registry.api.replies import (
    DATASET,
    LARGEST_INTEGER,
    Cursor,
    Limit,
    Version,
    is_known,
    number_of,
    page_of,
    tagged,
)
from services.registry.comparison import compare
from services.registry.profiling.profile import Profile, read_profile
from services.registry.store import Store
from services.registry.store.datasets import DatasetVersion
from shared.access import ANYBODY, Role, see
from shared.artifacts import ArtifactStore
from shared.errors import NotFound, Refused
from shared.http import Json, allow
from shared.names import DatasetNameText

_MEDIA: Final = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_MAY_READ_ROWS: Final = ANYBODY - {Role.PREDICTOR}
"""An application that asks for predictions has no business with the rows."""
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class UnsatisfiableRange(Refused):
    """The range lies outside the file."""

    status = 416
    code = "range_not_satisfiable"


def router(store: Store, artifacts: ArtifactStore) -> APIRouter:
    """The routes that read datasets; longer paths first, because a name may hold slashes."""
    routes = APIRouter(tags=["datasets"], dependencies=[Depends(allow())])
    datasets = store.datasets

    @routes.get("/v1/datasets", operation_id="list_datasets")
    async def every(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """All datasets with their newest version, by name."""
        owners = request.state.principal.visible
        found = await datasets.newest_of_each(cursor or "", limit, owners)
        following = found[-1].dataset if len(found) == limit else None
        return page_of(request, [summary(version) for version in found], following)

    @routes.get(f"{DATASET}/compare", operation_id="compare_dataset_versions")
    async def compared(
        request: Request,
        name: DatasetNameText,
        old: Annotated[int, Query(ge=1, le=LARGEST_INTEGER)],
        new: Annotated[int, Query(ge=1, le=LARGEST_INTEGER)],
    ) -> Response:
        """Two versions side by side: columns, rows, and how far each column moved."""
        first = await _version(request, store, name, old)
        second = await _version(request, store, name, new)
        return Json(
            {
                "dataset": first.dataset,
                "old": old,
                "new": new,
                "comparison": compare(
                    await _profile(artifacts, first),
                    await _profile(artifacts, second),
                    old_kinds=first.kinds,
                    new_kinds=second.kinds,
                ),
            }
        )

    @routes.get(f"{DATASET}/versions", operation_id="list_dataset_versions")
    async def versions(
        request: Request, name: DatasetNameText, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """The versions of a dataset, newest first."""
        dataset = await _seen(request, store, name)
        found = await datasets.versions(dataset, number_of(cursor, LARGEST_INTEGER), limit)
        if not found and cursor is None:
            raise NotFound("There is no such dataset.")
        following = found[-1].version if len(found) == limit else None
        return page_of(request, [summary(version) for version in found], following)

    @routes.get(
        f"{DATASET}/versions/{{version}}/data",
        operation_id="get_dataset_data",
        dependencies=[Depends(allow(*_MAY_READ_ROWS))],
    )
    async def data(request: Request, name: DatasetNameText, version: Version) -> Response:
        """The bytes of a version; a range of them with `Range`."""
        return _bytes(request, artifacts, await _version(request, store, name, version))

    @routes.get(f"{DATASET}/versions/{{version}}", operation_id="get_dataset_version")
    async def one(request: Request, name: DatasetNameText, version: Version) -> Response:
        """One version with its profile."""
        found = await _version(request, store, name, version)
        if is_known(request, found.digest):
            return tagged(request, None, found.digest)
        profile = orjson.loads(await artifacts.aget(found.profile))
        return tagged(request, summary(found) | {"profile": profile}, found.digest)

    @routes.get(DATASET, operation_id="get_dataset")
    async def newest(request: Request, name: DatasetNameText) -> Response:
        """A dataset: its newest version."""
        found = await datasets.versions(await _seen(request, store, name), LARGEST_INTEGER, 1)
        if not found:
            raise NotFound("There is no such dataset.")
        return tagged(request, summary(found[0]), f"{found[0].digest}-{found[0].version}")

    return routes


def summary(version: DatasetVersion) -> dict[str, Any]:
    """A version for people and programs."""
    return {
        "dataset": version.dataset,
        "version": version.version,
        "digest": version.digest,
        "format": version.format,
        "size_bytes": version.size_bytes,
        "rows": version.rows,
        "columns": dict(version.kinds),
        "profile_digest": version.profile,
        "published_by": version.published_by,
        "offer": version.offer,
        "event_id": version.event_id,
        "cascade": version.cascade,
        "cascade_url": f"/v1/cascades/{version.cascade}",
        "time": version.published_at,
    }


async def _seen(request: Request, store: Store, name: str) -> str:
    """The dataset's name, if it is one that the caller may see."""
    see(request.state.principal, await store.owners.dataset(name), "There is no such dataset.")
    return name


async def _version(request: Request, store: Store, name: str, version: int) -> DatasetVersion:
    found = await store.datasets.version(await _seen(request, store, name), version)
    if found is None:
        raise NotFound("There is no such version of this dataset.")
    return found


async def _profile(artifacts: ArtifactStore, version: DatasetVersion) -> Profile:
    return read_profile(await artifacts.aget(version.profile))


def _bytes(request: Request, artifacts: ArtifactStore, version: DatasetVersion) -> Response:
    size = version.size_bytes
    tag = f'"{version.digest}"'
    name = f"{version.dataset.replace('/', '-')}-{version.version}.{version.format}"
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if is_known(request, version.digest):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", tag) != tag:
        asked = ""
    span = _span(asked, size)
    start, end = span or (0, size)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        artifacts.stream(version.digest, start, end),
        status_code=206 if span else 200,
        headers=headers,
        media_type=_MEDIA[version.format],
    )


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Start and end, not included, of the one range asked for; None for the whole file.

    Several ranges, or another unit, are answered with everything, as RFC 9110 allows.

    Raises:
        UnsatisfiableRange: it begins behind the end.
    """
    form = _RANGE.fullmatch(asked.strip())
    if form is None or form.groups() == ("", ""):
        return None
    first, last = form.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last or size) + 1, size)
    if start >= end:
        if first and last and int(last) < int(first):
            return None
        raise UnsatisfiableRange(f"The file has {size} bytes.")
    return start, end
