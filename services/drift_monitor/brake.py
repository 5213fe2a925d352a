"""What all models together say against a retraining: the budget, and a cause that they share.

The budget has so many tokens; each comes back an hour after it was taken, so that in no hour more
are taken. Of the last ones each owner who waits and has taken less keeps one.

The brake: when so many models have changed at once, the cause is likely upstream of all, and
retraining each on it would be hundreds of mistakes. Nothing that it covers is retrained until a
person releases it, most of the models are well again, or it has outlasted the horizon.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from services.drift_monitor.asking import asked, objection, refused
from services.drift_monitor.course import About, Course, Reason, Stepped
from shared.events import BrakeLifted, BrakeSet, DatasetName, ModelName

FLEET: Final = "fleet"
HOUR: Final = timedelta(hours=1)
MOST_NAMED: Final = 50
ITSELF: Final = "tidewheel"
PAUSE: Final = timedelta(minutes=1)
Lifted = Literal["released", "over", "new_regime"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is asked for, and what counts as a common cause.

    Attributes:
        budget: retrainings an hour, all models together.
        fleet_share, source_share: of the models, of those that share a source: more is a brake.
        least_confirmed: fewer models are no crowd.
        least_watched: a smaller fleet has no brake of its own; its sources may have.
        span: changes confirmed so close together count as one.
        settle: how long a confirmed change waits for others to show themselves.
        unseen: how often a champion that nobody sees is compared with the rule that answers.
    """

    budget: int = 20
    fleet_share: float = 0.10
    source_share: float = 0.30
    least_confirmed: int = 5
    least_watched: int = 20
    span: timedelta = timedelta(hours=3)
    settle: timedelta = timedelta(minutes=10)
    unseen: timedelta = timedelta(minutes=1)


USUAL: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The models of one scope.

    Attributes:
        recent: names of those whose change was confirmed within the span.
        confirmed: how many have a confirmed change now, new or old.
    """

    scope: str
    watched: int
    confirmed: int
    recent: tuple[ModelName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """A scope whose models are not retrained.

    Attributes:
        until: what lasts longer is the new normal.
    """

    scope: str
    set_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that a decision about one of many models needs to know of the others.

    Attributes:
        all_models, source: the whole fleet, and the models that share this one's source.
        brakes: those that are set.
        taken: owners of the retrainings of the last hour, with their moments.
        waiting: by owner, how many models wait for a token.
    """

    all_models: Crowd
    source: Crowd
    brakes: Sequence[Brake] = ()
    taken: Sequence[tuple[str, datetime]] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted(Stepped):
    """What the fleet says to a question.

    Attributes:
        is_granted: a token is taken.
        brake: is set now.
        absorbed: brakes that the new one takes the place of.
        look_again_at: when the question is asked again; None where something else will ask it.
    """

    is_granted: bool = False
    brake: Brake | None = None
    absorbed: tuple[Brake, ...] = ()
    look_again_at: datetime | None = None


def scope_of(dataset: DatasetName) -> str:
    """The scope of the models that share a source."""
    return f"dataset/{dataset}"


def permit(course: Course, about: About, fleet: Fleet, limits: Limits) -> Permitted:
    """Ask for a fresh version, or say why not.

    Whether a change is one of many is looked at once it has settled, whatever else speaks against
    a retraining: later the others would no longer be recent.
    """
    settled_at = _settled_at(course, fleet, limits)
    if settled_at is not None and about.now < settled_at:
        return Permitted(course=course, look_again_at=settled_at)
    is_new, course = not course.checked, replace(course, checked=True)
    held = next((one for one in fleet.brakes if one.scope in (FLEET, fleet.source.scope)), None)
    crowd = common_cause(fleet, limits) if is_new and held is None else None
    if crowd is not None:
        return _braked(course, about, fleet, crowd)
    if held is not None and about.policy.transient != "adapt":
        stepped = refused(course, about, "brake", f"the brake of {held.scope} is set")
        return Permitted(course=stepped.course, events=stepped.events)
    against = objection(course, about)
    if against is not None:
        return object_to(course, about, against)
    return _spend(course, about, fleet, limits)


def object_to(course: Course, about: About, against: tuple[Reason, str]) -> Permitted:
    """The refusal, and when the question may be answered otherwise."""
    stepped = refused(course, about, *against)
    again = course.cools_until if against[0] == "cool_down" else about.now + HOUR
    return Permitted(course=stepped.course, events=stepped.events, look_again_at=again)


def _settled_at(course: Course, fleet: Fleet, limits: Limits) -> datetime | None:
    """Until when others may show that the cause is common; None where there is no crowd."""
    if course.confirmed_at is None:
        return None
    fleet_may = fleet.all_models.watched >= limits.least_watched
    source_may = fleet.source.watched >= limits.least_confirmed
    return course.confirmed_at + limits.settle if fleet_may or source_may else None


def common_cause(fleet: Fleet, limits: Limits) -> Crowd | None:
    """The crowd that has changed at once; the widest one."""
    every, source = fleet.all_models, fleet.source
    if every.watched >= limits.least_watched and _is_crowd(every, limits.fleet_share, limits):
        return every
    return source if _is_crowd(source, limits.source_share, limits) else None


def _is_crowd(crowd: Crowd, share: float, limits: Limits) -> bool:
    changed = len(crowd.recent)
    return changed >= limits.least_confirmed and changed > share * crowd.watched


def _braked(course: Course, about: About, fleet: Fleet, crowd: Crowd) -> Permitted:
    """Said once for all of them; a brake of the fleet takes the place of those of its sources."""
    changed = len(crowd.recent)
    said = BrakeSet(
        scope=crowd.scope,
        confirmed=changed,
        watched=crowd.watched,
        models=crowd.recent[:MOST_NAMED],
        detail=f"{changed} of {crowd.watched} models changed at once; look upstream",
    )
    brake = Brake(scope=crowd.scope, set_at=about.now, until=about.now + about.policy.horizon)
    absorbed = tuple(fleet.brakes) if crowd.scope == FLEET else ()
    lifted = [
        lifted_by(one, ITSELF, "over", "the brake of the fleet covers it") for one in absorbed
    ]
    told = f"the brake of {crowd.scope} is set"
    stepped = Stepped(course=course)
    again: datetime | None = about.now
    if about.policy.transient != "adapt":
        stepped, again = refused(course, about, "brake", told), None
    return Permitted(
        course=stepped.course,
        events=(said, *lifted, *stepped.events),
        brake=brake,
        absorbed=absorbed,
        look_again_at=again,
    )


# --- the budget ---------------------------------------------------------------------------------


def _spend(course: Course, about: About, fleet: Fleet, limits: Limits) -> Permitted:
    if has_token(about.owner, fleet, limits, about.now):
        stepped = asked(course, about)
        return Permitted(course=stepped.course, events=stepped.events, is_granted=True)
    told = f"{limits.budget} retrainings an hour, all models together, shared over owners"
    stepped = refused(course, about, "budget", told)
    return Permitted(
        course=stepped.course,
        events=stepped.events,
        look_again_at=_next_token_at(fleet, limits, about.now),
    )


def has_token(owner: str, fleet: Fleet, limits: Limits, now: datetime) -> bool:
    """Whether a token is left for this owner, one being kept for everybody poorer who waits."""
    used = Counter(who for who, at in fleet.taken if at > now - HOUR)
    left = limits.budget - sum(used.values())
    poorer = sum(
        1
        for other, models in fleet.waiting.items()
        if other != owner and models and used[other] < used[owner]
    )
    return left > poorer


def _next_token_at(fleet: Fleet, limits: Limits, now: datetime) -> datetime:
    """When a token comes back; soon, if one is left and kept for others."""
    back = sorted(at + HOUR for _, at in fleet.taken if at + HOUR > now)
    return back[0] if len(back) >= limits.budget else now + PAUSE


# --- the end of a brake ---------------------------------------------------------------------------


def release(brake: Brake, crowd: Crowd, limits: Limits, now: datetime) -> BrakeLifted | None:
    """How a brake ends by itself; None while it holds."""
    if now >= brake.until:
        return lifted_by(brake, ITSELF, "new_regime", "it has outlasted the horizon")
    share = limits.fleet_share if brake.scope == FLEET else limits.source_share
    least = min(limits.least_confirmed, crowd.watched) / 2
    if crowd.confirmed > max(share * crowd.watched / 2, least):
        return None
    detail = f"{crowd.confirmed} of {crowd.watched} models are still changed"
    return lifted_by(brake, ITSELF, "over", detail)


def lifted_by(brake: Brake, by: str, reason: Lifted, detail: str) -> BrakeLifted:
    """What is said when a brake ends."""
    return BrakeLifted(scope=brake.scope, by=by, reason=reason, detail=detail)
