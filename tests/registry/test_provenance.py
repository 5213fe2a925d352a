"""Where an answer came from: told from the log alone, also after everything has moved on."""

from __future__ import annotations

from typing import Any

import pytest

from services.registry.provenance import Origin, approvers, role_of, since, story
from shared.events import (
    Arm,
    DeploymentDesired,
    Digest,
    Rung,
)
from tests.registry.builders import MOMENT, a_training, heard
from tests.registry.conftest import House
from tests.registry.test_production import a_rollback, a_story, an, hours

MANIFEST = Digest("5" * 64)


def a_desired(generation: int, *arms: Arm, ladder: tuple[Rung, ...] = ()) -> DeploymentDesired:
    found: DeploymentDesired = an(
        DeploymentDesired, generation=generation, arms=arms, ladder=ladder, rollout=None
    )
    return found


def an_arm(role: Any, version: int, weight: float) -> Arm:
    return Arm(role=role, version=version, manifest=MANIFEST, weight=weight)


def test_what_a_version_was_to_the_endpoint_is_told() -> None:
    rungs = (Rung(kind="previous", version=1, manifest=MANIFEST),)
    arms = (an_arm("champion", 2, 0.9), an_arm("challenger", 3, 0.1))
    origin = Origin(desired=heard(a_desired(7, *arms, ladder=rungs)))

    told = [role_of(origin, version, MOMENT) for version in (2, 3, 1, 9)]

    assert told[0] == "champion with 90% of the requests, generation 7"
    assert told[1] == "challenger with 10% of the requests, generation 7"
    assert told[2] == "on the ladder as previous, generation 7"
    assert told[3].startswith("not part of generation 7")
    assert "no desired state" in role_of(Origin(), 1, MOMENT)


def test_before_a_promotion_those_who_said_yes_are_named() -> None:
    verdict, *rollout = a_story(2, begins=0)

    assert approvers(Origin(verdict=verdict, rollout=rollout)) == ["carla"]  # type: ignore[arg-type] # a story begins with its verdict
    assert approvers(Origin(rollout=rollout[:-1])) == ["carla", "mallory"]


def test_the_story_goes_from_the_data_to_the_rollout() -> None:
    verdict, *rollout = a_story(2, begins=0)
    back = heard(a_rollback(1), at=hours(9))
    origin = Origin(verdict=verdict, rollout=rollout, later=(back,))  # type: ignore[arg-type] # as above

    told = story(origin)

    assert len(told) == 6
    assert "accepted" in told[0]
    assert since(origin) == [f"{hours(9):%Y-%m-%d %H:%M:%S}: olga rolled back to version 1: noise."]


@pytest.mark.real
@pytest.mark.asyncio(loop_scope="module")
class TestOverTheLog:
    async def told(self, house: House) -> None:
        digest = Digest((await house.get("/v1/models/pump"))["spec_digest"])
        await house.react(heard(a_training(spec_digest=digest, requested_by="dora")))
        back = heard(a_rollback(1), at=hours(20), sequence=900)
        desired = [
            heard(a_desired(1, an_arm("champion", 1, 1.0)), at=hours(1.3), sequence=800),
            heard(a_desired(4), at=hours(20.1), sequence=901),
        ]
        for fact in [*a_story(1, begins=0), *desired, back]:
            await house.react(fact)

    async def of(self, house: House, moment: float, **query: Any) -> dict[str, Any]:
        found = await house.get("/v1/models/pump/provenance", at=hours(moment).isoformat(), **query)
        return dict(found)

    async def test_an_answer_is_explained_from_its_rows_to_its_approver(self, fed: House) -> None:
        await self.told(fed)

        found = await self.of(fed, 5, version=1)

        assert found["role"] == "champion with 100% of the requests, generation 1"
        assert found["data"]["rows"] > 0
        assert found["data"]["published_by"]
        assert found["training"]["requested_by"] == "dora"
        assert len(found["training"]["manifest"]) == 64
        assert len(found["code"]["code_digest"]) == 64
        assert found["verdict"]["version"] == 1
        assert found["rollout"]["approved_by"] == ["carla"]
        assert [s["type"].split(".")[1] for s in found["rollout"]["steps"]][-1] == "model"
        assert found["since_then"] == [
            f"{hours(20):%Y-%m-%d %H:%M:%S}: olga rolled back to version 1: noise."
        ]

    async def test_a_named_generation_counts_more_than_the_moment(self, fed: House) -> None:
        """A replica may answer by a state that has been replaced in the meantime."""
        await self.told(fed)

        found = await self.of(fed, 21, version=1, generation=1)
        now = await self.of(fed, 21, version=1)

        assert found["deployment"]["generation"] == 1
        assert now["deployment"]["generation"] == 4

    async def test_an_answer_of_the_rule_has_a_deployment_and_no_version(self, fed: House) -> None:
        await self.told(fed)

        found = await self.of(fed, 21)

        assert found["data"] is None
        assert found["training"] is None
        assert found["deployment"]["generation"] == 4

    async def test_strangers_and_unknown_versions_learn_nothing(self, fed: House) -> None:
        path = "/v1/models/pump/provenance"
        hidden = await fed.client.get(path, headers={"Authorization": "Bearer tw_elsewhere"})
        unknown = await fed.client.get(path, params={"version": 999})
        wrong = await fed.client.get(path, params={"version": "x"})

        assert (hidden.status_code, unknown.status_code, wrong.status_code) == (404, 404, 422)
