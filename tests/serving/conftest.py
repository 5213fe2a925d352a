"""A store and a replica without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from tests.serving.building import Replica, a_replica, settings_for


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path)


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return ArtifactStore(settings.artifacts)


@pytest.fixture
async def replica(settings: Settings) -> AsyncIterator[Replica]:
    async with a_replica(settings) as found:
        yield found
