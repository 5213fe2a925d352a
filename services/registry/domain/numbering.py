"""Which number a candidate gets, and when it gets none."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.events import CandidateSuperseded, Json, ModelRegistered, TrainingCompleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest numbered version of a model and the data it was trained on."""

    version: int
    trained_on: str
    trained_on_version: int


def authors_of(*, spec: str, data: str, training: str) -> Mapping[str, str]:
    """Who made a candidate what it is, by part; where nobody did, the part is left out."""
    parts = {"spec": spec, "data": data, "training": training}
    return {part: who for part, who in parts.items() if who}


def decide_number(
    completed: TrainingCompleted,
    newest: Newest | None,
    spec: Json,
    authors: Mapping[str, str],
) -> ModelRegistered | CandidateSuperseded:
    """The next number, unless a version trained on newer data already has one.

    A candidate that comes late with old data would otherwise be judged, and might be promoted,
    after one that has seen more.
    """
    if newest and _is_late(completed, newest):
        return CandidateSuperseded(
            model=completed.model,
            run=completed.run,
            dataset=completed.dataset,
            dataset_version=completed.dataset_version,
            by_version=newest.version,
            by_dataset_version=newest.trained_on_version,
        )
    return ModelRegistered(
        model=completed.model,
        version=newest.version + 1 if newest else 1,
        run=completed.run,
        manifest=completed.manifest,
        split=completed.split,
        dataset=completed.dataset,
        dataset_version=completed.dataset_version,
        dataset_digest=completed.dataset_digest,
        spec_digest=completed.spec_digest,
        code_digest=completed.code_digest,
        spec=spec,
        metrics=completed.metrics,
        use=completed.use,
        hyperparameters=completed.hyperparameters,
        trigger=completed.trigger,
        seconds=completed.seconds,
        authors=authors,
    )


def _is_late(completed: TrainingCompleted, newest: Newest) -> bool:
    """Versions of two datasets say nothing about which is newer."""
    same = newest.trained_on == completed.dataset
    return same and completed.dataset_version < newest.trained_on_version
