"""One house of six services for the whole folder; every test uses models of its own in it."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from local.services import Services
from local.stack import Infrastructure
from tests.support.house import House
from tests.support.stack import fresh_topic_prefix, temporary_folder


@pytest.fixture(scope="package")
def house(infrastructure: Infrastructure) -> Iterator[House]:
    """All six services, ready."""
    with temporary_folder() as folder:
        services = Services(
            infrastructure,
            folder / "house",
            topic_prefix=fresh_topic_prefix(),
            partitions=2,
            knobs={"drift_monitor": {"LOOK_SECONDS": "0.5", "UNSEEN_SECONDS": "1"}},
        )
        try:
            with closing(House(services.start())) as started:
                yield started
        finally:
            services.discard()


@pytest.fixture
def name() -> str:
    """A name for the model and the dataset of this test."""
    return f"m-{uuid.uuid4().hex[:8]}"
