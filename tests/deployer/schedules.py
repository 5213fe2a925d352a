"""Schedules of everything that can happen to an endpoint, and what must hold at every step.

The checks keep books of their own from what was said, and tell open from closed by the wall clock
alone; they use nothing of the machine but its answers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from services.deployer import rollout as machine
from services.deployer.domain import (
    Change,
    Decided,
    Degraded,
    Due,
    Endpoint,
    Happening,
    Judged,
    Labelled,
    Limits,
    Measured,
    Overridden,
    Policy,
    RollbackAsked,
    Rollout,
    Stirred,
    Unusable,
)
from services.deployer.permission import DeclaredFreeze, Surroundings
from services.deployer.routing import due_at, route_of
from shared import events as e
from shared.errors import Refused
from tests.deployer.building import a_policy, an_arm, an_id

LIMITS: Final = Limits()
BERLIN: Final = ZoneInfo("Europe/Berlin")
STARTS: Final = (
    datetime(2026, 3, 27, 15, tzinfo=UTC),
    datetime(2026, 10, 23, 15, tzinfo=UTC),
    datetime(2026, 12, 31, 20, tzinfo=UTC),
)
"""Each is followed within two days by a change of the clock, or of the year."""
PEOPLE: Final = ("ada", "bob", "cyd", "dan")
VERSIONS: Final = 8


def _office(at: datetime) -> bool:
    local = at.astimezone(BERLIN)
    return local.weekday() < 5 and 8 <= local.hour < 16


def _night(at: datetime) -> bool:
    local = at.astimezone(BERLIN)
    return local.hour >= 22 or local.hour < 2


CALENDARS: Final[Mapping[str, Callable[[datetime], bool]]] = {
    "Mon-Fri 08:00-16:00 Europe/Berlin": _office,
    "0 8 * * 1-5 for 8h Europe/Berlin": _office,
    "Mon-Sun 22:00-02:00 Europe/Berlin": _night,
}
FREEZE: Final = "2026-03-28..2026-03-29 Europe/Berlin"
MOMENT: Final = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def _some_policies() -> tuple[Policy, ...]:
    draw, found = random.Random(5), []
    for strategy in ("direct", "canary", "shadow", "shadow_canary", "experiment") * 12:
        rules: dict[str, Any] = {
            "strategy": strategy,
            "steps": draw.choice([(0.5,), (0.1, 0.5)]),
            "step_for": draw.choice(["0", "10m"]),
            "minimum_requests": 10,
            "give_up_after": draw.choice(["2h", "1d"]),
            "low_traffic": draw.choice(["give_up", "give_up", "widen", "direct"]),
            "approval": draw.choice(
                ["auto", "auto", "one", "four_eyes", {"needed": 2, "expires": "1d"}]
            ),
            "probation": draw.choice(["0", "1h", "1d"]),
            "shadow": {"run_for": "0", "minimum_requests": 10},
            "experiment": {
                "share": draw.choice([0.1, 0.3]),
                "run_for": "1h",
                "arms": draw.choice([1, 2, 3]),
            },
        }
        if draw.random() < 0.4:
            rules["window"] = draw.choice(list(CALENDARS))
        if draw.random() < 0.2:
            rules["freeze"] = FREEZE
        if draw.random() < 0.1:
            rules["not_before"] = MOMENT.isoformat()
        if draw.random() < 0.2:
            rules["exposure"] = {"requests": draw.choice([50, 500])}
        found.append(a_policy(**rules))
    return tuple(found)


POLICIES: Final = _some_policies()
UNHINDERED: Final = tuple(
    policy
    for policy in POLICIES
    if not (policy.rules.window or policy.rules.freeze or policy.rules.approval.needed)
)
"""Neither people nor the calendar are asked, so that more comes to be tried."""


class Violation(Exception):
    """Something that must never be was so."""


@dataclass(slots=True)
class Books:
    """What is known of one rollout from the log alone."""

    verdict: Judged
    requested_by: str = ""
    asked_at: datetime | None = None
    grants: dict[str, None] = field(default_factory=dict)
    opened_by: str = ""
    began_with: int = 0
    ended: bool = False


class World:
    """One endpoint through one schedule.

    Args:
        inbox: whether what was heard before is heard no more.
        fenced: whether serving keeps to the newest generation.
        policies: what specifications say.
    """

    def __init__(
        self,
        seed: str,
        *,
        inbox: bool = True,
        fenced: bool = True,
        policies: Sequence[Policy] = POLICIES,
    ) -> None:
        self.draw = random.Random(seed)
        self.policies = policies
        self.inbox, self.fenced = inbox, fenced
        self.now = self.draw.choice(STARTS)
        self.endpoint = Endpoint(model=e.ModelName("pump"))
        self.freezes: tuple[DeclaredFreeze, ...] = ()
        self.definer = ""
        self.heard: list[tuple[UUID, Happening]] = []
        self.known: set[UUID] = set()
        self.verdicts: dict[UUID, Judged] = {}
        self.books: dict[UUID, Books] = {}
        self.champion: int | None = None
        self.desired: list[e.DeploymentDesired] = []
        self.counted: set[tuple[UUID, str, int]] = set()
        self.promoted: list[int] = []
        self.sequences = {"0": 0, "1": 0}
        self.number = 0

    # --- what happens -----------------------------------------------------------------------------

    def run(self, length: int) -> None:
        """Let so many things happen.

        Raises:
            Violation: something was so that must never be.
        """
        if self.draw.random() < 0.7:
            self._begin_with_champion()
        for _ in range(length):
            self.draw.choices(_KINDS, _CHANCES)[0](self)
        self._converges()

    def hear(self, happened: Happening, known_as: UUID | None = None) -> None:
        """Hear something, perhaps not for the first time, as the bus would hand it over."""
        self.number += 1
        name = known_as or an_id("heard", self.number)
        is_repeat = name in self.known
        self.heard.append((name, happened))
        if is_repeat and self.inbox and not isinstance(happened, Due):
            return
        self.known.add(name)
        before = self.endpoint
        around = Surroundings(freezes=self._freezes_now(), definer=self.definer)
        try:
            change = machine.step(before, happened, self.now, LIMITS, around)
        except Refused:
            return
        if is_repeat and change.events and not isinstance(happened, Due):
            raise Violation(f"a repeat had an effect: {happened}")
        self.endpoint = change.endpoint
        self._check(before, happened, change)

    def _begin_with_champion(self) -> None:
        verdict = self._a_verdict(1, None)
        policy = a_policy(strategy="direct", probation="0")
        verdict = replace(verdict, accepted=True, policy=policy)
        self.verdicts[verdict.evaluation] = verdict
        self.hear(verdict)

    def _freezes_now(self) -> tuple[DeclaredFreeze, ...]:
        return tuple(freeze for freeze in self.freezes if freeze.ends_at > self.now)

    def judge(self) -> None:
        endpoint, draw = self.endpoint, self.draw
        asked = draw.choice(PEOPLE) if draw.random() < 0.15 else ""
        if endpoint.awaiting is not None and draw.random() < 0.8:
            version = endpoint.awaiting.version
        elif asked:
            version = draw.randint(1, max(1, endpoint.fence))
        else:
            newest = min(endpoint.fence + 1, VERSIONS)
            version = newest if draw.random() < 0.7 else draw.randint(1, VERSIONS)
        champion = endpoint.champion_version if draw.random() < 0.9 else None
        verdict = self._a_verdict(version, champion, asked)
        self.verdicts[verdict.evaluation] = verdict
        self.hear(verdict)

    def _a_verdict(self, version: int, champion: int | None, asked: str = "") -> Judged:
        draw = self.draw
        self.number += 1
        return Judged(
            evaluation=an_id("verdict", self.number),
            correlation=an_id("cascade", version),
            version=version,
            manifest=e.Digest(f"{version:064x}"),
            dataset_version=version,
            accepted=draw.random() < 0.9,
            champion=champion,
            policy=draw.choice(self.policies),
            rule={"rule": "constant", "value": 0.0},
            owner="water",
            authors={"spec": draw.choice(PEOPLE), "data": draw.choice(PEOPLE)},
            best=bool(asked),
            requested_by=asked,
        )

    def decide(self) -> None:
        rollout = self._somebody()
        if rollout is None:
            return
        other = e.Digest("f" * 64)
        wrong = self.draw.random()
        self.hear(
            Decided(
                rollout=rollout.id,
                decision=self.draw.choices(("grant", "deny", "withdraw"), (20, 1, 2))[0],
                by=self.draw.choice(PEOPLE),
                manifest=other if wrong < 0.1 else rollout.manifest,
                evaluation=an_id("forged") if wrong > 0.95 else None,
            )
        )

    def _somebody(self) -> Rollout | None:
        return self.draw.choice(self.endpoint.active) if self.endpoint.active else None

    def measure(self) -> None:
        route, replica = route_of(self.endpoint), self.draw.choice(("0", "1"))
        if route is None or not route.arms:
            return
        self.sequences[replica] += 1
        # What was counted before the replica heard of the present generation comes late.
        tried = [said for said in self.desired[:-1] if len(said.arms) > 1]
        said = self.draw.choice(tried[-4:]) if tried and self.draw.random() < 0.3 else None
        said = said or self.desired[-1]
        rate = self.draw.choice((0.0, 0.0, 0.0, 0.02, 0.5))
        arms = []
        for arm in said.arms:
            requests = self.draw.choice((20, 60, 200))
            errors = int(requests * rate) if arm.role != "champion" else 0
            new = {"champion": 40, "challenger": 10, "shadow": 0}[arm.role]
            dropped = self.draw.choice((0, 0, 0, 50)) if arm.role == "shadow" else 0
            arms.append(
                an_arm(arm.role, arm.version, requests, errors, new_entities=new, dropped=dropped)
            )
        self.hear(
            Measured(
                replica=replica,
                sequence=self.sequences[replica],
                generation=said.generation,
                arms=tuple(arms),
            )
        )

    def label(self) -> None:
        if self.endpoint.champion is None:
            return
        worse = self.draw.choice((0.0, 0.0, -0.4, 0.6))
        versions = [rollout.version for rollout in self.endpoint.active]
        if self.endpoint.previous:
            versions.append(self.endpoint.previous.version)
        if not versions:
            return
        pairs = tuple(
            e.PairedLoss(prediction=f"{row}", champion=0.5, challenger=0.5 + worse)
            for row in range(self.draw.choice((3, 40)))
        )
        self.hear(
            Labelled(
                champion=self.endpoint.champion.version,
                challenger=self.draw.choice(versions),
                metric="mae",
                pairs=pairs,
            )
        )

    def wait(self) -> None:
        """Time passes, now and then backwards, and timers run out; the worker may be away."""
        draw = self.draw
        span = draw.choice((1, 5, 11, 30, 90, 600, 1500)) * timedelta(minutes=1)
        self.now += -span / 4 if draw.random() < 0.1 else span
        if draw.random() < 0.9:
            self.look()

    def look(self) -> None:
        """The worker looks at whatever is due, until nothing is."""
        for _ in range(8):
            moment = due_at(self.endpoint, self.now)
            if moment is None or moment > self.now:
                return
            self.hear(Due(seq=self.endpoint.seq))
        raise Violation("a timer that ran out is not used up")

    def late_timer(self) -> None:
        """A timer that another worker took before the last transition."""
        seq = max(0, self.endpoint.seq - self.draw.randint(1, 2))
        before = self.endpoint
        self.hear(Due(seq=seq))
        if self.endpoint != before and seq != before.seq:
            raise Violation("a timer of an earlier state had an effect")

    def freeze(self) -> None:
        if self.freezes and self.draw.random() < 0.4:
            self.freezes = self.freezes[1:]
            self.hear(Stirred())
            return
        starts = self.now + self.draw.choice((0, 0, 3)) * timedelta(hours=1)
        freeze = DeclaredFreeze(
            freeze=f"f{self.number}",
            starts_at=starts,
            ends_at=starts + timedelta(hours=self.draw.choice((1, 8))),
            reason="the end of the year",
        )
        self.freezes = (*self.freezes, freeze)

    def define(self) -> None:
        self.definer = self.draw.choice(PEOPLE)

    def override(self) -> None:
        if rollout := self._somebody():
            self.hear(Overridden(rollout=rollout.id, by="olga", reason="it cannot wait"))

    def roll_back(self) -> None:
        to = self.draw.choice((None, None, self.draw.randint(1, VERSIONS)))
        self.hear(RollbackAsked(by="olga", reason="odd answers", to=to))

    def refuse(self) -> None:
        self.hear(Unusable(version=self._some_version(), detail="load_failed"))

    def degrade(self) -> None:
        self.hear(Degraded(version=self._some_version(), detail="mae"))

    def _some_version(self) -> int:
        present = self.endpoint.champion_version
        return present if present and self.draw.random() < 0.7 else self.draw.randint(1, VERSIONS)

    def repeat(self) -> None:
        """What was not acknowledged before a crash, or was sent twice, comes again."""
        if self.heard:
            recent = self.heard[-8:]
            name, happened = self.draw.choice(recent)
            if not isinstance(happened, Due):
                self.hear(happened, name)

    # --- what must hold ---------------------------------------------------------------------------

    def _check(self, before: Endpoint, happened: Happening, change: Change) -> None:
        for event in change.events:
            self._note(event, happened)
        self._evidence_is_new(before, happened)
        endpoint = change.endpoint
        must(self.champion == endpoint.champion_version, "the log tells of another champion")
        moment = due_at(endpoint, self.now)
        if endpoint.active or endpoint.awaiting or endpoint.probation:
            must(moment is not None, "nobody will ever look at it again")
        desired = sum(isinstance(event, e.DeploymentDesired) for event in change.events)
        must(desired <= 1, "two generations of one step")

    def _note(self, event: e.Event, happened: Happening) -> None:
        match event:
            case e.RolloutProposed():
                self._proposed(event)
            case e.RolloutAdvanced():
                books = self._may_change(event.rollout)
                books.began_with = books.began_with or self.endpoint.generation
            case e.ModelPromoted():
                self._crowned(event)
            case e.DeploymentRolledBack():
                must(event.from_version == self.champion, "another one was rolled back")
                self.champion = event.to_version
            case e.RolloutAborted() | e.RolloutSuperseded():
                self._ended(event.rollout)
            case e.DeploymentDesired():
                self._desires(event)
            case _:
                self._note_words(event, happened)

    def _note_words(self, event: e.Event, happened: Happening) -> None:
        match event:
            case e.ApprovalRequested():
                self.books[event.rollout].asked_at = self.now
            case e.ApprovalGranted():
                self._granted(event, happened)
            case e.ApprovalWithdrawn():
                self.books[event.rollout].grants.pop(event.by, None)
            case e.WindowOverridden():
                self.books[event.rollout].opened_by = event.by
            case _:
                pass

    def _proposed(self, event: e.RolloutProposed) -> None:
        asked = [
            v.requested_by for v in self.verdicts.values() if v.best and v.version == event.version
        ]
        must(event.requested_by in ("", *asked), "nobody asked for the best version")
        verdict = self.verdicts[event.evaluation]
        self.books[event.rollout] = Books(verdict=verdict, requested_by=event.requested_by)

    def _granted(self, event: e.ApprovalGranted, happened: Happening) -> None:
        books = self.books[event.rollout]
        must(
            isinstance(happened, Decided) and happened.by == event.by,
            "somebody approved who said nothing",
        )
        must(event.by not in books.grants, "one person counted twice")
        must(event.manifest == books.verdict.manifest, "another artifact was approved")
        if isinstance(happened, Decided):
            must(happened.manifest in (None, event.manifest), "they looked at another artifact")
            must(happened.evaluation is None, "they looked at another verdict")
        expires = books.verdict.policy.rules.approval.expires
        must(
            books.asked_at is not None and self.now < books.asked_at + expires,
            "an approval counted that came too late",
        )
        books.grants[event.by] = None

    def _may_change(self, rollout: UUID) -> Books:
        """People and calendar allow what was just done."""
        books = self.books[rollout]
        rules = books.verdict.policy.rules
        authors = {
            *books.verdict.authors.values(),
            self.definer,
            books.requested_by,
        }
        allowed = [by for by in books.grants if not rules.approval.four_eyes or by not in authors]
        must(len(allowed) >= rules.approval.needed, "too few people, or the wrong ones, approved")
        must(bool(books.opened_by) or self._is_open(books), "changes were not allowed then")
        return books

    def _is_open(self, books: Books) -> bool:
        rules = books.verdict.policy.rules
        local = self.now.astimezone(BERLIN)
        return (
            all(CALENDARS[text](self.now) for text in rules.window)
            and not (rules.freeze and (local.month, local.day) in ((3, 28), (3, 29)))
            and (rules.not_before is None or self.now >= MOMENT)
            and not any(f.starts_at <= self.now < f.ends_at for f in self.freezes)
        )

    def _crowned(self, event: e.ModelPromoted) -> None:
        books = self._may_change(event.rollout)
        must(event.previous == self.champion, "it took over from another one")
        must(event.version != self.champion, "it took over from itself")
        must(books.verdict.accepted and books.verdict.champion == self.champion, "no such verdict")
        must(event.evaluation == books.verdict.evaluation, "promoted on another verdict")
        must(event.break_glass == books.opened_by, "broken glass left no mark")
        must(
            bool(books.requested_by) or event.version > max(self.promoted, default=0),
            "an older version replaced a newer one",
        )
        if not books.requested_by:
            self.promoted.append(event.version)
        self._ended(event.rollout)
        self.champion = event.version

    def _ended(self, rollout: UUID) -> None:
        books = self.books.get(rollout)
        if books is not None:
            must(not books.ended, "two outcomes of one rollout")
            books.ended = True

    def _desires(self, event: e.DeploymentDesired) -> None:
        must(event.generation == len(self.desired) + 1, "a generation was left out")
        self.desired.append(event)
        seen = [arm for arm in event.arms if arm.role != "shadow"]
        challengers = [arm for arm in seen if arm.role == "challenger"]
        arms = [r.rules.experiment.arms for r in self.endpoint.experiments] or [1]
        must(len(challengers) <= max(arms), "more arms than allowed")
        must(not seen or abs(sum(arm.weight for arm in seen) - 1) < 1e-9, "shares do not add up")
        must(all(arm.weight > 0 for arm in event.arms), "an arm without a share")
        must(len({arm.version for arm in event.arms}) == len(event.arms), "one version, two arms")

    def _evidence_is_new(self, before: Endpoint, happened: Happening) -> None:
        """Only measures of its own generations count, each once."""
        if not isinstance(happened, Measured):
            return
        for old in before.active:
            new = self.endpoint.find(old.id)
            grown = new is not None and (
                new.evidence.errors.requests[0] > old.evidence.errors.requests[0]
            )
            if grown:
                must(
                    happened.generation >= self.books[old.id].began_with,
                    "it was judged by what was counted before it began",
                )
                counted = (old.id, happened.replica, happened.sequence)
                must(counted not in self.counted, "one measure counted twice")
                self.counted.add(counted)

    def _converges(self) -> None:
        """Serving hears all of it, in any order and more than once, and answers as desired."""
        said = [*self.desired, *self.draw.sample(self.desired, len(self.desired) // 2)]
        self.draw.shuffle(said)
        applied: e.DeploymentDesired | None = None
        for one in said:
            if applied is None or one.generation > applied.generation or not self.fenced:
                applied = one
        route = route_of(self.endpoint)
        if applied is None:
            must(route is None, "nobody was told")
            return
        must(route is not None and applied.arms == route.arms, "serving answers otherwise")


def must(holds: bool, otherwise: str) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(otherwise)


_WEIGHTED: Final[Mapping[Callable[[World], None], int]] = {
    World.judge: 7,
    World.decide: 16,
    World.measure: 32,
    World.label: 7,
    World.wait: 22,
    World.late_timer: 3,
    World.freeze: 4,
    World.define: 1,
    World.override: 2,
    World.roll_back: 2,
    World.refuse: 1,
    World.degrade: 2,
    World.repeat: 8,
}
_KINDS: Final = tuple(_WEIGHTED)
_CHANCES: Final = tuple(_WEIGHTED.values())
