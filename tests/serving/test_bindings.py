"""Requests that name a version or an arm: who answers them, and what is said where nobody can."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.artifacts import ArtifactStore
from tests.serving.building import (
    A_ROW,
    FLOW,
    Interference,
    Replica,
    a_desired,
    a_version,
    logged_rows,
)


async def ask(replica: Replica, binding: str, *rows: Any) -> httpx.Response:
    given = {"rows": list(rows) or [A_ROW]}
    return await replica.client.post(f"/v1/models/{FLOW}/{binding}/predict", json=given)


async def told(replica: Replica, binding: str) -> tuple[int | None, str, str, str]:
    """Version, rung and arm of the answer, and the arm that is logged."""
    response = await ask(replica, binding)
    assert response.status_code == 200, response.text
    (answer,) = response.json()["predictions"]
    row = logged_rows(replica)[-1]
    assert row["id"] == answer["prediction_id"]
    return answer["version"], answer["rung"], answer["arm"], row["arm"]


async def test_versions_and_aliases_are_answered_by_whom_they_name(
    replica: Replica, store: ArtifactStore
) -> None:
    previous, champion, challenger = (a_version(store, number) for number in (1, 2, 3))
    await replica.want(a_desired(1, champion, previous=previous, challenger=challenger))

    found = {
        binding: await told(replica, binding)
        for binding in (
            "versions/1",
            "versions/2",
            "versions/3",
            "versions/champion",
            "aliases/champion",
            "aliases/challenger",
        )
    }

    assert found == {
        "versions/1": (1, "previous", "none", "none"),
        "versions/2": (2, "champion", "champion", "champion"),
        "versions/3": (3, "challenger", "challenger", "challenger"),
        "versions/champion": (2, "champion", "champion", "champion"),
        "aliases/champion": (2, "champion", "champion", "champion"),
        "aliases/challenger": (3, "challenger", "challenger", "challenger"),
    }


@pytest.mark.parametrize(
    ("binding", "status", "words"),
    [
        ("versions/9", 404, "Served here: 2 (champion), 1 (previous)."),
        ("versions/99999999999999999999", 404, "no such alias"),
        ("versions/-1", 404, "no such alias"),
        ("versions/²", 404, "no such alias"),
        ("versions/%00", 404, "no such alias"),
        ("versions/4", 409, "is a shadow"),
        ("aliases/production", 404, "champion, challenger"),
        ("aliases/2", 404, "no such alias"),
        ("aliases/challenger", 404, "Served here: 2 (champion), 1 (previous)."),
        ("aliases/shadow", 404, "no such alias"),
    ],
)
async def test_who_is_not_there_is_answered_with_who_is(
    replica: Replica, store: ArtifactStore, binding: str, status: int, words: str
) -> None:
    previous, champion, shadow = (a_version(store, number) for number in (1, 2, 4))
    await replica.want(a_desired(1, champion, previous=previous, shadow=shadow))

    response = await ask(replica, binding)

    assert response.status_code == status
    assert words in response.json()["detail"]
    assert logged_rows(replica) == []


async def test_a_version_that_could_not_be_loaded_is_a_conflict(
    replica: Replica, store: ArtifactStore
) -> None:
    broken = a_version(store, 2, data=b"no model")
    await replica.want(a_desired(1, broken, previous=a_version(store, 1)))

    bound, alias = await ask(replica, "versions/2"), await told(replica, "aliases/champion")

    assert (bound.status_code, bound.json()["code"]) == (409, "version_not_loaded")
    assert "2 (champion), 1 (previous)" in bound.json()["detail"]
    assert alias == (1, "previous", "champion", "champion"), "a role is never down"


async def test_nobody_else_answers_for_a_version(replica: Replica, store: ArtifactStore) -> None:
    champion = a_version(store, 2)
    await replica.want(a_desired(1, champion, previous=a_version(store, 1)))
    between = Interference(replica, champion)
    between.say = between.fail

    response = await ask(replica, "versions/2")

    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert logged_rows(replica) == []


async def test_rows_that_chose_their_arm_are_not_compared(
    replica: Replica, store: ArtifactStore
) -> None:
    champion, challenger = a_version(store, 1), a_version(store, 2)
    await replica.want(a_desired(1, champion, challenger=challenger))

    await ask(replica, "versions/2", *[{**A_ROW, "pump": f"p{i}"} for i in range(50)])

    endpoint = replica.serving.deployments.endpoints[FLOW]
    assert [tally.requests for tally in endpoint.tallies] == [0, 0, 0]
    assert not endpoint.met.hashes
    assert all("arms" not in row for row in logged_rows(replica))


async def test_while_nobody_shares_a_chosen_champion_counts(
    replica: Replica, store: ArtifactStore
) -> None:
    await replica.want(a_desired(1, a_version(store, 1)))

    await ask(replica, "aliases/champion")

    assert replica.serving.deployments.endpoints[FLOW].tallies[0].requests == 1
