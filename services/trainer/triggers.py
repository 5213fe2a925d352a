"""Whether a trigger starts a training, and when; and when a schedule is due next."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from croniter import croniter

from services.trainer.domain import (
    NO_EXCLUSIONS,
    DatasetVersion,
    Definition,
    Known,
    Order,
    Reference,
    Situation,
    Trigger,
)
from shared.events import Digest
from shared.spec import ModelSpec, read_spec

MATERIAL_SHARE: Final = 0.05
"""Of the champion's rows; fewer new ones could hardly change a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Fit, not before this moment."""

    run_after: datetime
    retry: bool = False
    """The same was tried before and failed; somebody wants it once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Fit nothing, for this reason."""

    reason: Literal["no_material_change", "nothing_new", "trigger_off", "cannot_train"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Exactly this is on its way already."""

    run: UUID


Decision = Train | Skip | Join


def natural_key(
    definition: Definition, version: DatasetVersion, exclusions: Digest = NO_EXCLUSIONS
) -> str:
    """What makes two trainings the same: model, data, exclusions, code, and how it is served.

    Gates, rollout, triggers and monitor are left out: they change nothing that is made here.
    """
    spec = definition.parsed()
    return _key(definition.model, version.digest, exclusions, spec, definition.code_digest)


def key_of(order: Order) -> str:
    """The natural key of what is ordered."""
    spec = read_spec(order.spec)
    digests = order.dataset_digest, order.exclusions_digest
    return _key(order.model, *digests, spec, order.code_digest)


def _key(model: str, data: Digest, exclusions: Digest, spec: ModelSpec, code: Digest) -> str:
    serving = hashlib.sha256(spec.serving.model_dump_json().encode()).hexdigest()
    return ":".join((model, data, exclusions, serving, code))


def decide_training(
    definition: Definition,
    version: DatasetVersion,
    trigger: Trigger,
    situation: Situation,
    now: datetime,
    moved: int = 0,
) -> Decision:
    """What to do about a trigger, given the newest version of the model's dataset.

    Args:
        moved: rows that an annotation takes out or brings back; they change as new ones do.
    """
    spec = definition.parsed()
    known = situation.known
    if known is not None and known.is_open:
        return Join(run=known.run)
    if is_off(spec, trigger):
        return Skip(reason="trigger_off", detail=f"the specification turns {trigger} triggers off")
    if problem := unfit(spec, version):
        return Skip(reason="cannot_train", detail=problem)
    retry = is_wanted_again(known, by_hand=trigger == "manual")
    if known is not None and known.is_over and not retry:
        return nothing_new(known)
    if trigger == "dataset" and (still := immaterial(version, situation.reference, spec, moved)):
        return Skip(reason="no_material_change", detail=still)
    return Train(run_after=due_after(spec, trigger, situation, now), retry=retry)


def decide_renewal(order: Order, known: Known | None, now: datetime) -> Decision:
    """What becomes of an order that waited while other rows began to be left out.

    It was decided that something is trained, and when; only that may have been done by now.

    Args:
        order: as it is now.
        known: the run of exactly this, if there is one.
    """
    if known is not None and known.is_open:
        return Join(run=known.run)
    retry = is_wanted_again(known, by_hand=bool(order.requested_by))
    if known is not None and known.is_over and not retry:
        return nothing_new(known)
    # Whoever asks by hand does not wait for the end of a cool-down.
    return Train(run_after=now if order.requested_by else order.due_at, retry=retry)


def is_wanted_again(known: Known | None, *, by_hand: bool) -> bool:
    """Whether somebody wants what was tried before and failed."""
    return by_hand and known is not None and known.state == "failed"


def nothing_new(known: Known) -> Skip:
    """Exactly this has come to its end before."""
    ended = "failed on exactly this; ask for it by hand" if known.state == "failed" else "did it"
    return Skip(reason="nothing_new", detail=f"nothing new since run {known.run}, which {ended}")


def is_off(spec: ModelSpec, trigger: Trigger) -> bool:
    """Whether the specification does not want this trigger."""
    match trigger:
        case "dataset":
            return spec.triggers.dataset == "off"
        case "code":
            return not spec.triggers.code
        case "drift":
            return not spec.triggers.drift
        case "quality":
            return not spec.triggers.quality
        case "time" | "manual":
            return False


def unfit(spec: ModelSpec, version: DatasetVersion) -> str:
    """Why this version cannot be fitted, as far as its columns tell; empty when it can."""
    needed = {
        "target": spec.data.target,
        "time": spec.data.time,
        "entity": spec.serving.entity,
        "baseline": spec.effective_baseline.lag,
    }
    missing = [f"{name!r} ({part})" for part, name in needed.items() if _lacks(version, name)]
    missing += [f"{name!r} (feature)" for name in spec.data.features or () if _lacks(version, name)]
    if not missing:
        return ""
    return f"version {version.version} of {version.dataset} has no column {', '.join(missing)}"


def _lacks(version: DatasetVersion, name: str | None) -> bool:
    return name is not None and name not in version.columns


def immaterial(
    version: DatasetVersion, reference: Reference | None, spec: ModelSpec, moved: int = 0
) -> str:
    """Why this version changes too little to be worth a training; empty when it does not.

    The first version and a change of the columns are always worth one. Fewer rows than before
    count like more: the data were replaced.
    """
    if spec.triggers.dataset == "any" or reference is None:
        return ""
    if dict(version.columns) != dict(reference.columns):
        return ""
    changed = abs(version.rows - reference.rows) + moved
    needed = max(spec.triggers.minimum_rows, ceil(MATERIAL_SHARE * reference.rows))
    if changed >= needed:
        return ""
    return (
        f"{changed} new rows against the {reference.rows} of {reference.what}; "
        f"{needed} make a change (triggers.dataset: any trains on every version)"
    )


def due_after(spec: ModelSpec, trigger: Trigger, situation: Situation, now: datetime) -> datetime:
    """Now, or the end of the cool-down; whoever asks by hand, or after a failure, does not wait."""
    if trigger == "manual" or situation.last_started_at is None:
        return now
    return max(now, situation.last_started_at + spec.triggers.cooldown)


# --- schedules ------------------------------------------------------------------------------

_AROUND: Final = timedelta(hours=3)
"""No change of the clock is larger."""


def next_due(schedule: str, timezone: str, after: datetime) -> datetime:
    """The first moment after `after` at which a schedule is due, in UTC.

    Wall time rules. A fixed hour that the clock skips in spring is due when it would have been,
    an hour later on the wall; an hour that comes twice in autumn is due once. Schedules of every
    hour or every few minutes follow real time through both.

    Args:
        schedule: five cron fields.
        timezone: whose wall the schedule is read on.
        after: aware.

    Raises:
        ValueError: this is no schedule.
    """
    if len(schedule.split()) != 5:
        raise ValueError(f"{schedule!r} is no schedule of five fields, like `30 2 * * *`")
    zone = ZoneInfo(timezone)
    begin = after.astimezone(zone).replace(tzinfo=None)
    found: datetime | None = None
    for wall in _walls(schedule, begin - _AROUND):
        if found is not None and wall > begin + _AROUND:
            break
        for moment in _moments(wall, zone, often=schedule.split()[1].startswith("*")):
            if moment > after and (found is None or moment < found):
                found = moment
    if found is None:
        raise ValueError(f"{schedule!r} is never due")
    return found


def _walls(schedule: str, begin: datetime) -> Iterator[datetime]:
    """Wall times of a schedule, rising."""
    try:
        times = croniter(schedule, begin)
        while True:
            yield times.get_next(datetime)
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{schedule!r} is no schedule: {error}") from error


def _moments(wall: datetime, zone: ZoneInfo, *, often: bool) -> list[datetime]:
    """The moments at which the wall shows this time: one, two in autumn, none in spring."""
    both = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    if both[0].astimezone(zone).replace(tzinfo=None) != wall:  # the clock skips it
        return [] if often else both[:1]
    return both if often else both[:1]
