"""What answers for a model and in which order: the fallback ladder.

A row goes to its arm; where that has no answer, to champion, previous champion and baseline rule,
in this order. A step is passed over while its version is not loaded, rests, or hangs in two
threads, and for those rows that it raises at, is out of time for, or answers with what may not be
given. Rest begins with three failed questions in a row and lasts `rest_seconds`; then one question
is tried: an answer ends it, a failure begins it anew. A version that was not loaded is tried again
and again. So answers step up by themselves as soon as the step above can answer. Every reply names
its rung; `serving.fell_back` is said when the rung of the champion's rows changes, down or up.

An `Endpoint` is never changed but for what it counts and whom it has stopped asking: a new desired
state is a new one, put in place by one assignment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from services.serving.domain.tallies import ArmTally, Met
from services.serving.domain.versions import Loaded
from services.serving.prediction.rows import Schema
from services.serving.routing import Split, split_of
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
        paths: one for each arm, in the order of the arms, a shadow's with a single step; then the
            ladder alone, for rows that no arm answers.
        tallies: beside the paths; what each did since the last measure.
        split: which arm answers whom.
        met: who asked in this generation; kept only while arms share the requests.
        classes: what its answers can be: those of its versions, which may have learned different
            ones; none for regression; None where versions that are not known may have others.
        stopped: challengers and shadows, by index, that this replica asks no longer, and why. It
            changes while the endpoint stands, and ends with it.
    """

    heard: Heard[DeploymentDesired]
    schema: Schema
    manifest: Manifest | None
    paths: tuple[Path, ...]
    tallies: tuple[ArmTally, ...]
    split: Split
    met: Met
    shadows: tuple[int, ...]
    seen_versions: tuple[int, ...]
    classes: tuple[str | float | bool, ...] | None = None
    stopped: dict[int, str] = field(default_factory=dict)

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
        found = {arm.role: index for index, arm in reversed([*enumerate(self.desired.arms)])}
        return self.paths[found.get("champion", found.get("challenger", len(self.desired.arms)))]

    @property
    def is_watched(self) -> bool:
        """Whether it is measured each second: more than one arm, a shadow, or a young champion."""
        return len(self.desired.arms) > 1 or bool(self.shadows) or self.desired.probation

    @property
    def objective_seconds(self) -> float:
        """The latency that an answer should keep; any, where nothing is said."""
        return inf if self.manifest is None else self.manifest.objective_seconds

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
    met: Met | None = None,
) -> Endpoint:
    """The endpoint of a desired state, as far as its versions could be loaded.

    Args:
        met: of the endpoint that it takes the place of, if that was of the same generation.
    """
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
        split=split_of(desired.arms, desired.salt),
        met=met or Met(),
        shadows=tuple(i for i, arm in enumerate(desired.arms) if arm.role == "shadow"),
        seen_versions=_seen_versions(desired.arms),
        classes=_classes(desired, manifests),
    )


def _classes(
    desired: DeploymentDesired, manifests: Mapping[Digest, Manifest]
) -> tuple[str | float | bool, ...] | None:
    """What can come true for an answer that any version of this model has ever given.

    Outcomes may be late: versions that are named no longer had other classes, perhaps. So classes
    are told only where no version has come before those that are named, or where none has any.
    """
    named = named_by(desired)
    known = [manifests[digest] for digest in named if digest in manifests]
    tasks = {one.task for one in known}
    if tasks == {"regression"}:
        return ()
    numbers = {version for digest, version in named.items() if digest in manifests}
    is_whole = numbers >= set(range(1, max(named.values(), default=0) + 1))
    if len(tasks) != 1 or not is_whole:
        return None
    return tuple(dict.fromkeys(label for one in known for label in one.classes))


def _seen_versions(arms: Sequence[Arm]) -> tuple[int, ...]:
    """The versions that requests are shared among, the champion's first; none while it is alone."""
    seen = sorted((arm for arm in arms if arm.role != "shadow"), key=lambda a: a.role != "champion")
    has_champion = bool(seen) and seen[0].role == "champion"
    return tuple(arm.version for arm in seen) if has_champion and len(seen) > 1 else ()


def _manifest_of_champion(
    desired: DeploymentDesired, manifests: Mapping[Digest, Manifest]
) -> Manifest | None:
    """Of the champion, else of the first of the others that could be read; shadows decide last."""
    champions = [arm.manifest for arm in desired.arms if arm.role == "champion"]
    unseen = {arm.manifest for arm in desired.arms if arm.role == "shadow"}
    order = [*champions, *sorted(named_by(desired), key=lambda digest: digest in unseen)]
    return next((manifests[digest] for digest in order if digest in manifests), None)


def _paths(desired: DeploymentDesired, loaded: Mapping[Digest, Loaded]) -> tuple[Path, ...]:
    ladder = tuple(_rung_step(rung, loaded) for rung in desired.ladder)
    return (*(_path_of(arm, ladder, loaded) for arm in desired.arms), ladder)


def _path_of(arm: Arm, ladder: Path, loaded: Mapping[Digest, Loaded]) -> Path:
    own = _arm_step(arm, loaded)
    if arm.role == "shadow":
        return (own,)
    return (own, *(step for step in ladder if step.digest is None or step.digest != arm.manifest))


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
