"""A serving process that nobody is around: its disk is prepared, and nothing answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.events import DeploymentDesired, Heard
from tests.serving.building import a_desired, a_regressor, a_replica, a_version, settings_for
from tests.serving.child import Child
from tests.serving.test_compiled import a_compiled_version


async def prepare(settings: Settings, heard: Heard[DeploymentDesired]) -> None:
    """Leave this desired state on the disk, applied."""
    async with a_replica(settings) as replica:
        await replica.want(heard)


def a_rollout(store: ArtifactStore) -> Heard[DeploymentDesired]:
    """Two compiled versions share the requests, and answer all of them alike."""
    champion, challenger = (
        a_compiled_version(store, number, estimator=a_regressor(1.0)) for number in (1, 2)
    )
    return a_desired(1, champion, challenger=challenger, weight=0.4)


@contextmanager
def serving_alone(
    folder: Path, version: dict[str, Any], *, rolls_out: bool = False, **knobs: Any
) -> Iterator[Child]:
    """A process that answers for one version, from its disk alone.

    Args:
        version: what its manifest says otherwise than usual.
        rolls_out: two compiled versions share the requests instead, which the quick way answers.
    """
    settings = settings_for(folder, **knobs)
    store = ArtifactStore(settings.artifacts)
    wanted = a_rollout(store) if rolls_out else a_desired(1, a_version(store, 1, **version))
    asyncio.run(prepare(settings, wanted))
    with Child(settings) as child:
        yield child.start(until=lambda: child.is_ready() and child.serves(1))
