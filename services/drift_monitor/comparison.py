"""Whose losses are told to those who compare versions: pairs with shadows, singles of arms.

Each answer is told once, when its first label has come and its versions are known; what revises the
label later changes figures here and tells nothing again. All of it is pure.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from services.drift_monitor.quality import Value
from services.drift_monitor.windows import Kept, Watched, moment_of
from shared.events import ArmLoss, LossesObserved, ModelName, PairedLoss, PredictionRow

MOST_TOGETHER: Final = 500
"""Losses in one event."""
LONGEST_NAME: Final = 64
Versions = Mapping[tuple[str, int], Watched]
_Between = tuple[ModelName, int, int, str]
"""Model, champion, challenger, metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """What a shadow answered.

    Attributes:
        seen: the prediction that somebody saw instead.
        weight: share of requests that the shadow was asked about.
    """

    id: str
    seen: str
    model: ModelName
    version: int
    answer: Value
    score: float | None
    weight: float
    at: datetime
    told: bool = False

    @classmethod
    def of(cls, row: PredictionRow) -> "Unseen":
        """A logged row that is a shadow's."""
        return cls(
            id=row.id,
            seen=row.shadow_of or "",
            model=row.model,
            version=row.version or 0,
            answer=row.answer,
            score=row.score,
            weight=row.weight,
            at=moment_of(row.at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is said, and what is written down in the same transaction.

    Attributes:
        predictions: those whose singles are told now.
        unseen: losses by id of the unseen answers that were judged; they are told from now on.
    """

    events: tuple[LossesObserved, ...] = ()
    predictions: tuple[str, ...] = ()
    unseen: Mapping[str, float | None]


def versions_of(rows: Iterable[Kept], unseen: Iterable[Unseen]) -> set[tuple[str, int]]:
    """The versions that must be known before these can be told."""
    keys = {(str(row.model), version) for row in rows for version in (*row.arms, row.version or 0)}
    return keys | {(str(one.model), one.version) for one in unseen}


def tell(rows: Sequence[Kept], unseen: Mapping[str, Sequence[Unseen]], versions: Versions) -> Told:
    """The losses that have not been told, of rows whose labels are known.

    Args:
        rows: in their order; those without a label are passed over.
        unseen: by the prediction that was seen.
    """
    pairs: dict[_Between, list[PairedLoss]] = defaultdict(list)
    singles: dict[_Between, list[ArmLoss]] = defaultdict(list)
    told: list[str] = []
    judged: dict[str, float | None] = {}
    for row in rows:
        if row.label is None:
            continue
        if _is_single(row, versions):
            told.append(row.id)
            for between, loss in _singles_of(row, versions):
                singles[between].append(loss)
        for one in unseen.get(row.id, ()):
            found = _pair_of(row, one, versions)
            if found is not None:
                between, pair = found
                judged[one.id] = None if pair is None else pair.challenger
                if pair is not None and not one.told:
                    pairs[between].append(pair)
    return Told(events=_events(pairs, singles), predictions=tuple(told), unseen=judged)


def _is_single(row: Kept, versions: Versions) -> bool:
    """Whether it was one of several arms that answered, by its own version, and is not told yet.

    What a rung below answered is an error of the arm, which serving counts, and no loss of it.
    """
    is_own = row.rung == row.arm and row.version in row.arms
    known = all((row.model, version) in versions for version in row.arms)
    return len(row.arms) > 1 and is_own and known and not row.told


def _singles_of(row: Kept, versions: Versions) -> list[tuple[_Between, ArmLoss]]:
    """One for each pair of versions that it says something about."""
    champion, *others = row.arms
    is_champion = row.version == champion
    role: Literal["champion", "challenger"] = "champion" if is_champion else "challenger"
    share = 1 - row.weight if is_champion else row.weight
    found: list[tuple[_Between, ArmLoss]] = []
    for challenger in others if is_champion else [row.version or 0]:
        metric = _metric(row.model, champion, challenger, versions)
        loss = _loss(versions[row.model, row.version or 0], metric, row.answer, row.score, row)
        if loss is not None:
            told = ArmLoss(
                prediction=row.id, entity=_short(row.entity), role=role, weight=share, loss=loss
            )
            found.append(((row.model, champion, challenger, metric), told))
    return found


def _short(entity: str | None) -> str | None:
    """Names may have a thousand characters; five hundred such would not fit into an event."""
    if entity is None or len(entity) <= LONGEST_NAME:
        return entity
    return f"sha256:{hashlib.sha256(entity.encode()).hexdigest()[:32]}"


def _pair_of(
    row: Kept, one: Unseen, versions: Versions
) -> tuple[_Between, PairedLoss | None] | None:
    """None while it cannot be told; without a pair where one of the losses cannot be had."""
    champion = versions.get((row.model, row.version or 0))
    challenger = versions.get((one.model, one.version))
    if row.arm != "champion" or row.rung != "champion" or one.model != row.model:
        return None
    if champion is None or challenger is None:
        return None
    metric = _metric(row.model, champion.version, challenger.version, versions)
    between = (row.model, champion.version, challenger.version, metric)
    seen = _loss(champion, metric, row.answer, row.score, row)
    unseen = _loss(challenger, metric, one.answer, one.score, row)
    if seen is None or unseen is None:
        return between, None
    return between, PairedLoss(prediction=row.id, champion=seen, challenger=unseen)


def _metric(model: ModelName, one: int, other: int, versions: Versions) -> str:
    """Of the newer one, by whose specification the two are compared."""
    return versions[model, max(one, other)].metric


def _loss(
    version: Watched, metric: str, answer: Value, score: float | None, row: Kept
) -> float | None:
    """By this metric, which need not be the version's own; None when it cannot be had."""
    if row.label is None:
        return None
    try:
        return replace(version.judge, metric=metric).loss(answer, score, row.label.value)
    except (TypeError, ValueError, IndexError):
        return None  # a version of another task, or of other classes


def _events(
    pairs: Mapping[_Between, Sequence[PairedLoss]], singles: Mapping[_Between, Sequence[ArmLoss]]
) -> tuple[LossesObserved, ...]:
    found: list[LossesObserved] = []
    for between in sorted({*pairs, *singles}):
        paired, alone = list(pairs.get(between, ())), list(singles.get(between, ()))
        while paired or alone:
            some, paired = paired[:MOST_TOGETHER], paired[MOST_TOGETHER:]
            room = MOST_TOGETHER - len(some)
            others, alone = alone[:room], alone[room:]
            found.append(_event(between, some, others))
    return tuple(found)


def _event(
    between: _Between, pairs: Sequence[PairedLoss], singles: Sequence[ArmLoss]
) -> LossesObserved:
    model, champion, challenger, metric = between
    return LossesObserved(
        model=model,
        champion=champion,
        challenger=challenger,
        metric=metric,
        pairs=tuple(pairs),
        singles=tuple(singles),
    )
