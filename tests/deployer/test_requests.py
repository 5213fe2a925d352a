"""Requests through the real topic to the deployer as a process: who is believed, and who is not."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from local.services import Services
from local.stack import Infrastructure
from services.deployer.domain import rollout_id
from shared import clock, codec
from shared.access import hash_of
from shared.artifacts import ArtifactStore
from shared.bus import publish
from shared.events import (
    ApprovalGiven,
    ApprovalGranted,
    Digest,
    Event,
    Heard,
    ModelName,
    ModelPromoted,
    RequestRefused,
    RollbackRequested,
)
from shared.ids import uuid7
from shared.signing import SigningKey, sign
from shared.topics import DEPLOYMENT, EVALUATION, MODELS, REQUESTS, Topic, topic_of
from tests.deployer.people import PEOPLE, a_definition, a_verdict_about
from tests.evaluator.building import World, a_version
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

SIGNERS = {name: SigningKey(id=f"{name}-1", secret=os.urandom(32)) for name in PEOPLE}
REGISTRY = SigningKey(id="front-door", secret=os.urandom(32))
REVOKED = SigningKey(id="ann-0", secret=os.urandom(32))
STRANGER = SigningKey(id="ann-1", secret=os.urandom(32))
"""Says that it is ann's key."""


def _signer(key: SigningKey, principal: str, **more: Any) -> dict[str, Any]:
    public = base64.b64encode(key.public).decode()
    return {"id": key.id, "principal": principal, "public_key": public, **more}


def introduce(hashed_keys: Path) -> None:
    """Put people and their signing keys beside the stack's own."""
    known = json.loads(hashed_keys.read_text())
    known["keys"] += [
        {"id": key, "hash": hash_of(f"tw_{key}"), "principal": name, "roles": roles, "teams": teams}
        for key, (name, roles, teams) in PEOPLE.items()
    ]
    known["signers"] += [_signer(key, name) for name, key in SIGNERS.items()]
    known["signers"].append(_signer(REGISTRY, "registry", speaks_for="all"))
    known["signers"].append(_signer(REVOKED, "ann", revoked=True))
    hashed_keys.write_text(json.dumps(known))


@pytest.fixture(scope="module")
def services(
    infrastructure: Infrastructure, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    made = Services(
        infrastructure,
        tmp_path_factory.mktemp("one"),
        names=["deployer"],
        topic_prefix=f"ask{uuid7().hex[-6:]}.",
        partitions=1,
    )
    introduce(made.places.hashed_keys)
    try:
        yield made.start()
    finally:
        made.discard()


class Topics:
    """Everything that others say to the deployer about one model, and what it says of it."""

    def __init__(self, services: Services, kafka: str, manifest: Digest) -> None:
        self.services = services
        self.kafka = kafka
        self.manifest = manifest
        self.model = ModelName(f"m-{uuid7().hex[-10:]}")
        self._sequences: dict[Topic, int] = {}

    @property
    def second(self) -> Any:
        return rollout_id(self.model, 2)

    def propose(self, approval: Any = "four_eyes", **rollout: Any) -> None:
        """Version 1 answers and version 2 waits for people."""
        self.tell(MODELS, a_definition("wanda", self.model))
        for version, champion, rules in ((1, None, {}), (2, 1, {"approval": approval} | rollout)):
            verdict = a_verdict_about(version, champion, model=self.model, **rules)
            self.tell(EVALUATION, replace(verdict, manifest=self.manifest))
        wait_until(lambda: self.stage() == "awaiting_approval", what="people to be asked")

    def tell(self, topic: Topic, event: Event, **changes: Any) -> Heard[Any]:
        """An event as its service would say it."""
        self._sequences[topic] = self._sequences.get(topic, 0) + 1
        number = self._sequences[topic] if topic.sequenced else None
        return self.put(topic, replace(self.heard(event, **changes), sequence=number))

    def heard(self, event: Event, **changes: Any) -> Heard[Any]:
        given: dict[str, Any] = {
            "event": event,
            "id": uuid7(),
            "source": "//tidewheel/registry",
            "time": clock.now(),
            "correlation": uuid7(),
        }
        return Heard(**given | changes)

    def put(self, topic: Topic, heard: Heard[Any]) -> Heard[Any]:
        asyncio.run(publish(self.kafka, self.services.topic_prefix, topic, [heard]))
        return heard

    def ask(self, event: Event, key: SigningKey | None, **changes: Any) -> Heard[Any]:
        """A request on the bus, signed or not."""
        heard = self.heard(event, **changes)
        return self.put(REQUESTS, sign(heard, key.secret, key.id) if key else heard)

    def approval(self, by: str, *, granted: bool = True, **changes: Any) -> ApprovalGiven:
        given: dict[str, Any] = {
            "model": self.model,
            "rollout": self.second,
            "version": 2,
            "manifest": self.manifest,
            "granted": granted,
            "by": by,
            "comment": "looked at it",
        }
        return ApprovalGiven(**given | changes)

    # --- what came of it ----------------------------------------------------------------------

    def said(self, *kinds: type[Event]) -> list[Heard[Any]]:
        url = self.services.database_url("deployer")

        async def rows() -> list[Any]:
            connection = await asyncpg.connect(url)
            try:
                return list(
                    await connection.fetch(
                        "select payload from said where subject = $1 and topic = $2 "
                        "order by sequence",
                        self.model,
                        DEPLOYMENT.name,
                    )
                )
            finally:
                await connection.close()

        heard = [codec.decode(row["payload"]) for row in asyncio.run(rows())]
        return [one for one in heard if not kinds or isinstance(one.event, kinds)]

    def deployment(self) -> dict[str, Any]:
        try:
            answer = httpx.get(
                f"{self.services.url('deployer')}/v1/models/{self.model}/deployment",
                headers={"Authorization": f"Bearer {self.services.key}"},
                timeout=10,
            )
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def stage(self) -> str | None:
        rollout = self.deployment().get("rollout")
        return str(rollout["stage"]) if rollout else None

    def champion(self) -> int | None:
        return self.deployment().get("champion")

    def is_refused(self, request: Heard[Any], code: str) -> RequestRefused:
        """Wait for the refusal of this request, and see that nothing else came of it."""

        def refusal() -> RequestRefused | None:
            found = [one.event for one in self.said(RequestRefused)]
            mine: list[RequestRefused] = [one for one in found if one.request == request.id]
            return mine[0] if mine else None

        refused = wait_until(refusal, what=f"{request.event.TYPE} to be refused")
        assert refused.code == code, refused.detail
        assert not [h for h in self.said(ApprovalGranted) if h.event.request == request.id]
        assert self.champion() == 1
        return refused


@pytest.fixture(scope="module")
def manifest(services: Services) -> Digest:
    store = ArtifactStore(services.artifacts)
    return a_version(World.drawn()).keep(store).digest


@pytest.fixture
def topics(services: Services, kafka: str, manifest: Digest) -> Topics:
    made = Topics(services, kafka, manifest)
    made.propose()
    return made


@pytest.fixture(scope="module")
def held(services: Services, infrastructure: Infrastructure, manifest: Digest) -> Topics:
    """For refusals, which change nothing: one rollout that waits all the while."""
    made = Topics(services, infrastructure.kafka, manifest)
    made.propose()
    return made


def promoted(topics: Topics) -> ModelPromoted:
    wait_until(lambda: topics.champion() == 2, what="version 2 to be promoted")
    event: ModelPromoted = topics.said(ModelPromoted)[-1].event
    return event


# --- who is believed ------------------------------------------------------------------------------


def test_what_a_person_signed_counts(topics: Topics) -> None:
    request = topics.ask(topics.approval("ann"), SIGNERS["ann"])

    assert promoted(topics).approved_by == ("ann",)
    granted = topics.said(ApprovalGranted)[0]
    assert (granted.event.request, granted.causation) == (request.id, request.id)
    assert not topics.said(RequestRefused)


def test_the_registry_speaks_for_whom_it_let_in(topics: Topics) -> None:
    topics.ask(topics.approval("bob"), REGISTRY)

    assert promoted(topics).approved_by == ("bob",)


def test_a_denial_counts_as_well(topics: Topics) -> None:
    topics.ask(topics.approval("bob", granted=False), SIGNERS["bob"])

    wait_until(lambda: topics.stage() is None, what="the rollout to end")

    assert topics.champion() == 1


def test_a_rollback_is_asked_for_by_an_operator(topics: Topics) -> None:
    topics.ask(topics.approval("ann"), SIGNERS["ann"])
    promoted(topics)

    topics.ask(RollbackRequested(model=topics.model, by="olga", reason="odd"), SIGNERS["olga"])

    wait_until(lambda: topics.champion() == 1, what="version 1 to answer again")


# --- who is not -----------------------------------------------------------------------------------


def test_nobody_signed(held: Topics) -> None:
    request = held.ask(held.approval("ann"), None)

    refused = held.is_refused(request, "signature_missing")
    assert (refused.kind, refused.by) == ("approval", "ann")


def test_the_words_were_changed_after_signing(held: Topics) -> None:
    genuine = sign(
        held.heard(held.approval("ann", granted=False)),
        SIGNERS["ann"].secret,
        SIGNERS["ann"].id,
    )

    request = held.put(REQUESTS, replace(genuine, event=held.approval("ann")))

    held.is_refused(request, "signature_wrong")


def test_a_signature_is_carried_to_another_event(held: Topics) -> None:
    genuine = sign(held.heard(held.approval("ann")), SIGNERS["ann"].secret, SIGNERS["ann"].id)

    request = held.put(REQUESTS, replace(genuine, id=uuid7()))

    held.is_refused(request, "signature_wrong")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (SigningKey(id="nobody-9", secret=os.urandom(32)), "signer_unknown"),
        (STRANGER, "signature_wrong"),
        (REVOKED, "signer_revoked"),
        (SIGNERS["bob"], "may_not_speak_for"),
        (SIGNERS["root"], "may_not_speak_for"),
    ],
)
def test_another_key_signed(held: Topics, key: SigningKey, code: str) -> None:
    request = held.ask(held.approval("ann"), key)

    held.is_refused(request, code)


@pytest.mark.parametrize(
    ("by", "code"),
    [
        ("wanda", "self_approval"),
        ("vic", "not_permitted"),
        ("olga", "not_permitted"),
        ("gas", "not_found"),
    ],
)
def test_a_genuine_request_may_no_more_than_over_http(held: Topics, by: str, code: str) -> None:
    request = held.ask(held.approval(by), SIGNERS[by])

    held.is_refused(request, code)


def test_somebody_is_named_whom_nobody_knows(held: Topics) -> None:
    request = held.ask(held.approval("nobody"), REGISTRY)

    held.is_refused(request, "nobody_known")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"manifest": Digest("9" * 64)}, "other_artifact"),
        ({"version": 3}, "other_artifact"),
        ({"evaluation": UUID(int=7)}, "other_verdict"),
        ({"rollout": UUID(int=7)}, "not_found"),
        ({"comment": "x" * 2001}, "invalid_input"),
        ({"comment": "a\0b"}, "invalid_input"),
    ],
)
def test_it_is_about_something_else(held: Topics, change: dict[str, Any], code: str) -> None:
    request = held.ask(held.approval("ann", **change), SIGNERS["ann"])

    held.is_refused(request, code)


def test_it_was_signed_long_ago(held: Topics) -> None:
    request = held.ask(
        held.approval("ann"), SIGNERS["ann"], time=clock.now() - timedelta(minutes=20)
    )

    held.is_refused(request, "request_too_old")


def test_the_time_to_approve_is_over(services: Services, kafka: str, manifest: Digest) -> None:
    topics = Topics(services, kafka, manifest)
    topics.propose({"needed": 1, "expires": "1s"})
    wait_until(lambda: topics.stage() is None, what="the approval to expire")

    request = topics.ask(topics.approval("ann"), SIGNERS["ann"])

    topics.is_refused(request, "conflict")


def test_an_approver_does_not_roll_back(held: Topics) -> None:
    request = held.ask(RollbackRequested(model=held.model, by="ann", reason="odd"), SIGNERS["ann"])

    held.is_refused(request, "not_permitted")


def test_a_forged_approval_on_the_deployers_own_topic_changes_nothing(held: Topics) -> None:
    for forged in (
        ApprovalGranted(
            model=held.model,
            rollout=held.second,
            version=2,
            manifest=held.manifest,
            by="ann",
            comment="",
        ),
        ModelPromoted(
            model=held.model,
            rollout=held.second,
            version=2,
            manifest=held.manifest,
            previous=1,
            dataset_version=2,
            generation=2,
            evaluation=uuid7(),
            evidence={},
        ),
    ):
        assert topic_of(type(forged)) is DEPLOYMENT
        held.put(DEPLOYMENT, replace(held.heard(forged), sequence=99))

    # What is asked afterwards is answered, and still counts as the first.
    request = held.ask(held.approval("wanda"), SIGNERS["wanda"])
    held.is_refused(request, "self_approval")
    assert held.stage() == "awaiting_approval"


def test_a_strangers_words_stop_nobody(topics: Topics) -> None:
    strange = topics.approval("ann\n\0<script>", model=ModelName("../../etc/passwd"))
    topics.ask(strange, SIGNERS["ann"])
    topics.ask(topics.approval("x" * 100_000), None)

    topics.ask(topics.approval("ann"), SIGNERS["ann"])

    assert promoted(topics).approved_by == ("ann",)
    assert all(len(h.event.by) <= 200 for h in topics.said(RequestRefused))


# --- once, whatever happens -----------------------------------------------------------------------


def test_the_same_request_again_has_no_second_effect(
    services: Services, kafka: str, manifest: Digest
) -> None:
    topics = Topics(services, kafka, manifest)
    topics.propose("quorum")
    request = topics.ask(topics.approval("ann"), SIGNERS["ann"])
    wait_until(lambda: topics.said(ApprovalGranted), what="the first approval")

    for _ in range(3):
        topics.put(REQUESTS, request)
    another = topics.ask(topics.approval("ann"), SIGNERS["ann"])
    topics.is_refused(another, "already_approved")

    assert len(topics.said(ApprovalGranted)) == 1
    assert len(topics.said(RequestRefused)) == 1


@pytest.mark.parametrize(
    "point", ["before_commit", "after_commit_before_publish", "after_publish_before_offset"]
)
def test_an_approval_survives_a_kill_and_counts_once(topics: Topics, point: str) -> None:
    services = topics.services
    services.configure("deployer", once=True, FAULT=f"{point}@tidewheel.approval.granted.v1")
    services.restart("deployer")
    starts = services.supervisor.starts("deployer")

    topics.ask(topics.approval("ann"), SIGNERS["ann"])
    wait_until(lambda: services.supervisor.starts("deployer") > starts, what="the kill")
    services.wait_ready("deployer")

    assert promoted(topics).approved_by == ("ann",)
    assert len(topics.said(ApprovalGranted)) == 1
    assert [h.event.version for h in topics.said(ModelPromoted)] == [1, 2]
    assert not topics.said(RequestRefused)


def test_a_break_of_the_glass_survives_a_kill_between_commit_and_publish(
    services: Services, kafka: str, manifest: Digest
) -> None:
    topics = Topics(services, kafka, manifest)
    topics.propose(window="0 0 29 2 * for 1m UTC")
    topics.ask(topics.approval("ann"), SIGNERS["ann"])
    wait_until(lambda: topics.stage() == "awaiting_window", what="the window to be awaited")
    services.configure(
        "deployer", once=True, FAULT="after_commit_before_publish@tidewheel.window.overridden.v1"
    )
    services.restart("deployer")
    starts = services.supervisor.starts("deployer")

    answers = [_override(topics) for _ in range(2)]
    wait_until(lambda: services.supervisor.starts("deployer") > starts, what="the kill")
    services.wait_ready("deployer")
    again = _override(topics)

    assert again == 200
    assert set(answers) <= {0, 200}
    assert promoted(topics).break_glass == "olga"


def _override(topics: Topics) -> int:
    """The status of the answer, 0 without one; always the same request."""
    try:
        return httpx.post(
            f"{topics.services.url('deployer')}/v1/rollouts/{topics.second}/override",
            json={"reason": "it burns"},
            headers={"Authorization": "Bearer tw_olga", "Idempotency-Key": str(topics.second)},
            timeout=10,
        ).status_code
    except httpx.TransportError:
        return 0
