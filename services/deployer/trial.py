"""A challenger beside the champion, unseen or on a share: what it shows, and what follows."""

from collections.abc import Iterator
from dataclasses import replace

from services.deployer import balance, canary, experiment
from services.deployer.canary import Weighed
from services.deployer.domain import ANSWERING, Labelled, Measured, Rollout, Stage
from services.deployer.gateway import Gateway
from services.deployer.observing import cap_reached, is_void, labelled, least_chances, observed
from services.deployer.routing import gives_up_at, share_of, step_for
from shared import events as e


class Trial(Gateway):
    """From the first answer of a challenger to its promotion or its end."""

    __slots__ = ()

    # --- beginning --------------------------------------------------------------------------------

    def enter(self, rollout: Rollout) -> None:
        """Begin to answer, when changes are allowed and somebody is there to compare with."""
        if not self.may_go_on(rollout):
            return
        strategy = rollout.rules.strategy
        if self.is_direct(rollout):
            self.promote(
                rollout,
                {
                    "strategy": "direct",
                    "reason": self._why_direct(rollout),
                    "policy_digest": rollout.policy.digest(),
                },
            )
        elif strategy in ("shadow", "shadow_canary"):
            self._answer(self._begun(rollout, Stage.SHADOW), 0)
        elif strategy == "experiment":
            self._join_experiments(rollout)
        else:
            self._answer(self._begun(rollout, Stage.CANARY), 0)

    def is_direct(self, rollout: Rollout) -> bool:
        """Whether it is promoted without any trial."""
        rules = rollout.rules
        no_trial = rules.strategy == "direct" or (rules.strategy == "canary" and not rules.steps)
        return self.endpoint.champion is None or no_trial

    def _why_direct(self, rollout: Rollout) -> str:
        if self.endpoint.champion is None:
            return "there is no champion to compare it with"
        return f"the specification asks for strategy {rollout.rules.strategy}"

    def _begun(self, rollout: Rollout, stage: Stage) -> Rollout:
        return self.move(
            rollout,
            stage=stage,
            begun_at=self.now,
            first_generation=self.endpoint.generation + 1,
        )

    def _join_experiments(self, rollout: Rollout) -> None:
        for one in experiment.making_room(self.endpoint.experiments, rollout):
            self.supersede(one, by=rollout.version)
        self.set(rollout=None, experiments=(*self.endpoint.experiments, rollout))
        self._answer(self._begun(rollout, Stage.EXPERIMENT), 0)

    def _answer(self, rollout: Rollout, number: int) -> None:
        """Answer a share from the next generation on."""
        rollout = self.move(
            rollout,
            step=number,
            at=self.now,
            step_requests=0,
            step_generation=self.endpoint.generation + 1,
            held_until=None,
            held_why="",
        )
        self.say(
            e.RolloutAdvanced,
            rollout,
            step=number,
            weight=rollout.weight or rollout.shadow_share,
            evidence=self.figures(rollout),
            stage=str(rollout.stage),
        )

    # --- evidence ---------------------------------------------------------------------------------

    def observe(self, measure: Measured) -> None:
        """Add what a replica counted to every trial that it concerns, and act on it."""
        for rollout in self._on_trial():
            changed = observed(
                rollout,
                measure,
                self.endpoint.champion_version or 0,
                self.limits,
                generation=self.endpoint.generation,
                share=share_of(self.endpoint, rollout),
            )
            if changed is not rollout:
                self.consider(self.move(changed))

    def _on_trial(self) -> Iterator[Rollout]:
        """Those that answer; what is decided about one may end the next."""
        for known in self.endpoint.active:
            rollout = self.endpoint.find(known.id)
            if rollout is not None and rollout.stage in ANSWERING:
                yield rollout

    def label(self, labels: Labelled) -> None:
        """Add losses to the trial that they concern, and act on them."""
        for rollout in self._on_trial():
            compared = (self.endpoint.champion_version, rollout.version)
            if compared == (labels.champion, labels.challenger):
                losses = labelled(
                    rollout.evidence.losses, labels, rollout.policy, least_chances(rollout)
                )
                evidence = replace(rollout.evidence, losses=losses)
                self.consider(self.move(rollout, evidence=evidence))

    def weighed(self, rollout: Rollout) -> Weighed:
        """What its evidence allows."""
        return canary.weigh(rollout.evidence, self.limits, pairs=not is_void(rollout))

    def figures(self, rollout: Rollout) -> e.Json:
        """Everything that a decision about it rests on, for its event."""
        evidence, unseen = rollout.evidence, rollout.evidence.unseen
        return self.weighed(rollout).figures | {
            "strategy": rollout.rules.strategy,
            "policy_digest": rollout.policy.digest(),
            "split": balance.figures(evidence.balance),
            "shadow": {
                "requests": unseen.requests,
                "dropped": unseen.dropped,
                "compared": unseen.compared,
                "disagreed": unseen.disagreed,
                "void": is_void(rollout),
            },
        }

    # --- decisions --------------------------------------------------------------------------------

    def consider(self, rollout: Rollout) -> None:
        """Look at a trial: whether it goes on, ends, or has earned more."""
        match rollout.stage:
            case Stage.SHADOW:
                self._consider_shadow(rollout)
            case Stage.CANARY:
                self._consider_canary(rollout)
            case Stage.EXPERIMENT:
                self._consider_experiment(rollout)
            case _:
                pass

    def _consider_shadow(self, rollout: Rollout) -> None:
        weighed = self.weighed(rollout)
        if weighed.abort and not is_void(rollout):
            self._end(rollout, "worse", f"unseen: {weighed.detail}")
        elif not is_void(rollout) and self._shadow_is_done(rollout, weighed):
            if self.may_go_on(rollout):
                self._leave_shadow(rollout)
        else:
            self._be_patient(rollout, weighed)

    def _shadow_is_done(self, rollout: Rollout, weighed: Weighed) -> bool:
        rules, labels = rollout.rules, rollout.evidence.losses.pair_moments.rows
        must_show = rules.shadow.minimum_labels > 0 or self._must_show_loss(rollout)
        return (
            weighed.advance
            and self.now >= rollout.at + step_for(rollout)
            and rollout.step_requests >= rules.shadow.minimum_requests
            and labels >= rules.shadow.minimum_labels
            and (weighed.no_loss or not must_show)
        )

    def _must_show_loss(self, rollout: Rollout) -> bool:
        """Whether promotion is next, and not without a word about the loss."""
        rules = rollout.rules
        steps_follow = rollout.stage is Stage.SHADOW and rules.strategy == "shadow_canary"
        is_last = not rules.steps or not (steps_follow or rollout.step + 1 < len(rules.steps))
        return rules.loss.required and (is_last or rules.strategy == "shadow")

    def _leave_shadow(self, rollout: Rollout) -> None:
        if rollout.rules.strategy == "shadow_canary" and rollout.rules.steps:
            begun = self.move(rollout, stage=Stage.CANARY, begun_at=self.now, widened=False)
            self._answer(begun, 0)
        else:
            self.promote(rollout, self._evidence("shadow", rollout))

    def _consider_canary(self, rollout: Rollout) -> None:
        weighed = self.weighed(rollout)
        if weighed.abort:
            self._end(rollout, "worse", weighed.detail)
            return
        is_done = self._step_is_done(rollout, weighed)
        if is_done and self.may_go_on(rollout):
            self._advance(rollout)
        elif self._is_capped(rollout):
            self._end(rollout, "cap_reached", cap_reached(rollout))
        elif not is_done:
            self._be_patient(rollout, weighed)

    def _is_capped(self, rollout: Rollout) -> bool:
        """Whether it still answers, and has answered as much as it may without a decision."""
        present = self.endpoint.find(rollout.id)
        return present is not None and bool(present.weight and cap_reached(present))

    def _step_is_done(self, rollout: Rollout, weighed: Weighed) -> bool:
        rules = rollout.rules
        return (
            weighed.advance
            and not balance.is_off(rollout.evidence.balance, self.limits.alpha)
            and self.now >= rollout.at + step_for(rollout)
            and rollout.step_requests >= max(1, rules.minimum_requests)
            and balance.entities(rollout.evidence.balance) >= rules.minimum_entities
            and (weighed.no_loss or not self._must_show_loss(rollout))
        )

    def _advance(self, rollout: Rollout) -> None:
        if rollout.step + 1 < len(rollout.rules.steps):
            self._answer(rollout, rollout.step + 1)
        else:
            self.promote(rollout, self._evidence("canary", rollout))

    def _consider_experiment(self, rollout: Rollout) -> None:
        weighed = self.weighed(rollout)
        split_holds = not balance.is_off(rollout.evidence.balance, self.limits.alpha)
        match experiment.verdict(rollout, weighed, self.now, split_holds=split_holds):
            case "worse":
                self._end(rollout, "worse", weighed.detail)
            case "over":
                why = "its time is over" if weighed.better else "it was not shown to be better"
                self._end(rollout, "experiment_over", why)
            case "promote":
                if self.may_go_on(rollout):
                    self.promote(rollout, self._evidence("experiment", rollout))
            case "go_on":
                pass
        if self._is_capped(rollout):
            self._end(rollout, "cap_reached", cap_reached(rollout))

    # --- patience ---------------------------------------------------------------------------------

    def _be_patient(self, rollout: Rollout, weighed: Weighed) -> None:
        """Wait for more evidence, and at the end of patience do what the specification says."""
        if self.now < gives_up_at(rollout):
            if rollout.is_held:
                # It had done its part, and no longer has: the window is not what it waits for.
                self.move(rollout, held_until=None, held_why="")
            return
        rule = rollout.rules.low_traffic if self._lacks_traffic(rollout, weighed) else "give_up"
        if rule == "give_up" or (rule == "widen" and rollout.widened):
            self._end(rollout, "undecided", self._why_undecided(rollout, weighed))
        elif self.may_go_on(rollout):
            if rule == "widen":
                self._widen(rollout)
            else:
                evidence = self._evidence(str(rollout.stage), rollout)
                self.promote(rollout, evidence | {"low_traffic": "direct"})

    def _lacks_traffic(self, rollout: Rollout, weighed: Weighed) -> bool:
        """Whether nothing but too few requests is in the way."""
        labels_wanted = rollout.stage is Stage.SHADOW and rollout.rules.shadow.minimum_labels > 0
        return (
            weighed.calm
            and weighed.unsuspicious
            and not is_void(rollout)
            and not balance.is_off(rollout.evidence.balance, self.limits.alpha)
            and not (rollout.rules.loss.required or labels_wanted)
        )

    def _widen(self, rollout: Rollout) -> None:
        last = 0 if rollout.stage is Stage.SHADOW else len(rollout.rules.steps) - 1
        self._answer(self.move(rollout, widened=True, begun_at=self.now), last)

    def _why_undecided(self, rollout: Rollout, weighed: Weighed) -> str:
        unseen = rollout.evidence.unseen
        if is_void(rollout):
            return (
                f"the shadow had no time for {unseen.dropped} of "
                f"{unseen.dropped + unseen.requests} requests, so its evidence is void"
            )
        if balance.is_off(rollout.evidence.balance, self.limits.alpha):
            return "entities were not split between the arms as was asked for"
        return weighed.detail

    # --- endings ----------------------------------------------------------------------------------

    def _evidence(self, strategy: str, rollout: Rollout) -> e.Json:
        return {"strategy": rollout.rules.strategy, strategy: self.figures(rollout)}

    def _end(self, rollout: Rollout, reason: e.AbortReason, detail: str) -> None:
        self.abort(rollout, reason, detail, self.figures(rollout))
