"""Requests that choose who answers: a version by its number, or an arm by its role.

A version answers alone: whoever names it wants no other's answer. A role answers with the rungs
below it, as always, and the reply names who it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.serving.domain.endpoints import Endpoint, Path, Step
from services.serving.prediction.rows import Schema
from shared.errors import Conflict, NotFound
from shared.manifest import Manifest

ALIASES: Final = ("champion", "challenger")
"""The roles of arms whose answers are seen."""
Wanted = int | str
"""A version number or an alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Who answers such a request.

    Attributes:
        arm: index of the arm; beyond the last for a version that has none.
        is_drawn: whether these rows came to the arm as all others do. Where arms share the
            requests, chosen rows say nothing about the shares and are kept out of comparisons.
    """

    arm: int
    path: Path
    schema: Schema
    is_drawn: bool


def wanted_version(text: str) -> Wanted:
    """What the version in a path names: a number, or an alias."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def bind(endpoint: Endpoint, wanted: Wanted) -> Bound:
    """Who answers requests that want this version or alias.

    Raises:
        NotFound: nobody here has this number or role.
        Conflict: it cannot answer here at the moment; the sentence says what can.
    """
    if isinstance(wanted, int):
        arm, step = _of_version(endpoint, wanted)
        if step.loaded is None:
            raise Conflict(
                f"Version {wanted} is not loaded here at the moment. {_what_is(endpoint)}",
                code="version_not_loaded",
            )
        return _bound(endpoint, arm, (step,), step.loaded.manifest)
    arm = _of_alias(endpoint, wanted)
    path = endpoint.paths[arm]
    manifest = path[0].loaded.manifest if path[0].loaded is not None else endpoint.manifest
    return _bound(endpoint, arm, path, manifest)


def _bound(endpoint: Endpoint, arm: int, path: Path, manifest: Manifest | None) -> Bound:
    if len(path) == 1 and arm in endpoint.stopped:
        raise Conflict(
            f"This arm is asked no longer: {endpoint.stopped[arm]}. {_what_is(endpoint)}",
            code="version_stopped",
        )
    others = [step.loaded.manifest for step, _ in _versions(endpoint) if step.loaded is not None]
    is_champions = manifest is endpoint.manifest
    return Bound(
        arm=arm,
        path=path,
        schema=endpoint.schema if is_champions else Schema.of(manifest, others),
        is_drawn=not endpoint.split.is_shared and arm == endpoint.split.holders[0],
    )


def _versions(endpoint: Endpoint) -> Iterator[tuple[Step, int]]:
    """Steps whose answers may be seen, with their arm; arms come before rungs."""
    arms = endpoint.desired.arms
    for index, arm in enumerate(arms):
        if arm.role != "shadow":
            yield endpoint.paths[index][0], index
    for step in endpoint.paths[len(arms)]:
        if step.version is not None:
            yield step, len(arms)


def _of_version(endpoint: Endpoint, version: int) -> tuple[int, Step]:
    for step, arm in _versions(endpoint):
        if step.version == version:
            return arm, step
    if version in endpoint.versions():
        raise Conflict(
            f"Version {version} is a shadow: nobody sees its answers. {_what_is(endpoint)}",
            code="version_is_shadow",
        )
    raise NotFound(f"Version {version} is not served here. {_what_is(endpoint)}")


def _of_alias(endpoint: Endpoint, alias: str) -> int:
    if alias not in ALIASES:
        raise NotFound(f"There is no such alias; use one of {', '.join(ALIASES)}.")
    held = [index for index, arm in enumerate(endpoint.desired.arms) if arm.role == alias]
    if not held:
        raise NotFound(f"This model has no {alias} at the moment. {_what_is(endpoint)}")
    if len(held) > 1:
        raise Conflict(
            f"There are several {alias}s: name one by its version. {_what_is(endpoint)}",
            code="alias_not_unique",
        )
    return held[0]


def _what_is(endpoint: Endpoint) -> str:
    known = dict(_in_order([(str(s.version), s.rung) for s, _ in _versions(endpoint)]))
    if not known:
        return "No version is served here."
    return f"Served here: {', '.join(f'{version} ({rung})' for version, rung in known.items())}."


def _in_order(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first rung of each version, in the order of the versions' first mention."""
    found: dict[str, str] = {}
    for version, rung in pairs:
        found.setdefault(version, rung)
    return list(found.items())


def seen_versions(endpoint: Endpoint) -> list[int]:
    """The versions that can be asked for by their number."""
    return sorted({step.version for step, _ in _versions(endpoint) if step.version is not None})
