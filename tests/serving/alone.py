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
from tests.serving.building import a_desired, a_replica, a_version, settings_for
from tests.serving.child import Child


async def prepare(settings: Settings, heard: Heard[DeploymentDesired]) -> None:
    """Leave this desired state on the disk, applied."""
    async with a_replica(settings) as replica:
        await replica.want(heard)


@contextmanager
def serving_alone(folder: Path, version: dict[str, Any], **knobs: Any) -> Iterator[Child]:
    """A process that answers for one version, from its disk alone.

    Args:
        version: what its manifest says otherwise than usual.
    """
    settings = settings_for(folder, **knobs)
    wanted = a_desired(1, a_version(ArtifactStore(settings.artifacts), 1, **version))
    asyncio.run(prepare(settings, wanted))
    with Child(settings) as child:
        yield child.start(until=lambda: child.is_ready() and child.serves(1))
