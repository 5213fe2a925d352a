"""What answers for a model and in which order.

An `Endpoint` is never changed: a new desired state is a new one, put in place by one assignment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.serving.domain.tallies import ArmTally
from services.serving.domain.versions import Loaded
from services.serving.prediction.rows import Schema
from shared.events import Arm, DeploymentDesired, Digest, Heard, Json, ModelName, Rung
from shared.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that may answer: a version, if it could be loaded, or a rule."""

    rung: str
    version: int | None = None
    digest: Digest | None = None
    loaded: Loaded | None = None
    rule: Json | None = None

    def may_answer(self, now: float) -> bool:
        """Whether asking makes sense."""
        if self.loaded is None:
            return self.rule is not None
        return self.loaded.health.may_answer(now)

    def cause(self) -> str:
        """Why it does not answer at the moment."""
        return "not loaded" if self.loaded is None else self.loaded.health.cause


Path = tuple[Step, ...]
"""Steps in the order in which they are asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One model as this replica answers it by one generation.

    Attributes:
        paths: one for each arm, in the order of the arms; a single one when there is no arm.
        tallies: beside the paths; what each did since the last measure.
    """

    heard: Heard[DeploymentDesired]
    schema: Schema
    manifest: Manifest | None
    paths: tuple[Path, ...]
    tallies: tuple[ArmTally, ...]

    @property
    def desired(self) -> DeploymentDesired:
        """The state that was asked for."""
        return self.heard.event

    @property
    def model(self) -> ModelName:
        """Whose endpoint this is."""
        return self.desired.model

    @property
    def generation(self) -> int:
        """Which desired state this is."""
        return self.desired.generation

    @property
    def is_lineage_required(self) -> bool:
        """Whether an answer that cannot be logged must not be given."""
        return self.manifest is not None and self.manifest.lineage == "required"

    @property
    def main_path(self) -> Path:
        """The champion's path, by which the standing of the endpoint is told."""
        champion = (i for i, arm in enumerate(self.desired.arms) if arm.role == "champion")
        return self.paths[next(champion, 0)]

    @property
    def is_watched(self) -> bool:
        """Whether it is measured each second: more than one arm, or a young champion."""
        return len(self.desired.arms) > 1 or self.desired.probation

    def versions(self) -> tuple[int, ...]:
        """The versions of its arms."""
        return tuple(arm.version for arm in self.desired.arms)


def named_by(desired: DeploymentDesired) -> dict[Digest, int]:
    """The manifests that a desired state names, arms first, and their version numbers."""
    found = {arm.manifest: arm.version for arm in desired.arms}
    for rung in desired.ladder:
        if rung.manifest is not None:
            found.setdefault(rung.manifest, rung.version or 0)
    return found


def build_endpoint(
    heard: Heard[DeploymentDesired],
    loaded: Mapping[Digest, Loaded],
    manifests: Mapping[Digest, Manifest],
) -> Endpoint:
    """The endpoint of a desired state, as far as its versions could be loaded."""
    desired = heard.event
    champion = _manifest_of_champion(desired, manifests)
    known = [manifests[digest] for digest in named_by(desired) if digest in manifests]
    paths = _paths(desired, loaded)
    return Endpoint(
        heard=heard,
        schema=Schema.of(champion, known),
        manifest=champion,
        paths=paths,
        tallies=tuple(ArmTally() for _ in paths),
    )


def _manifest_of_champion(
    desired: DeploymentDesired, manifests: Mapping[Digest, Manifest]
) -> Manifest | None:
    """Of the champion, else of the first of the others that could be read."""
    champions = [arm.manifest for arm in desired.arms if arm.role == "champion"]
    order = [*champions, *named_by(desired)]
    return next((manifests[digest] for digest in order if digest in manifests), None)


def _paths(desired: DeploymentDesired, loaded: Mapping[Digest, Loaded]) -> tuple[Path, ...]:
    ladder = tuple(_rung_step(rung, loaded) for rung in desired.ladder)
    if not desired.arms:
        return (ladder,)
    return tuple(
        (
            _arm_step(arm, loaded),
            *(step for step in ladder if step.digest is None or step.digest != arm.manifest),
        )
        for arm in desired.arms
    )


def _arm_step(arm: Arm, loaded: Mapping[Digest, Loaded]) -> Step:
    found = loaded.get(arm.manifest)
    return Step(rung=arm.role, version=arm.version, digest=arm.manifest, loaded=found)


def _rung_step(rung: Rung, loaded: Mapping[Digest, Loaded]) -> Step:
    found = None if rung.manifest is None else loaded.get(rung.manifest)
    return Step(
        rung=rung.kind,
        version=rung.version,
        digest=rung.manifest,
        loaded=found,
        rule=rung.rule if rung.manifest is None else None,
    )


def standing(endpoint: Endpoint, now: float) -> tuple[str, str]:
    """The rung that answers the champion's rows at this moment, and why no higher one does."""
    causes: list[str] = []
    for step in endpoint.main_path:
        if step.may_answer(now):
            return step.rung, "; ".join(causes)
        causes.append(f"{step.rung}: {step.cause()}")
    return "none", "; ".join(causes)
