"""What every test may ask for; Kafka and PostgreSQL start only when a test wants them."""

from __future__ import annotations

import gc
import inspect
import random
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

from local.stack import Infrastructure
from shared.postgres import Database
from tests.support.stack import (
    choose_seed,
    fresh_database,
    fresh_topic_prefix,
    running_infrastructure,
)


class OpenDatabase(Protocol):
    async def __call__(self, service: str, *migrations: Path) -> Database: ...


_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="repeat a run with the seed it printed")


def pytest_configure(config: pytest.Config) -> None:
    # Set as the option too, so that processes that share the run share the seed.
    given = config.getoption("--seed")
    # Processes that share the run get the options, and must not take a drawn seed for a given one.
    repeats = config.option.repeats = getattr(config.option, "repeats", given is not None)
    # A busy machine is no reason to fail, so no example has a deadline; with a given seed the
    # examples are the same every time, too.
    settings.register_profile("tidewheel", deadline=None, derandomize=repeats)
    settings.load_profile("tidewheel")
    config.option.seed = config.stash[_SEED] = choose_seed(given)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need a broker come first: at the end no process waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("real")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.stash[_SEED]} (repeat with --seed={config.stash[_SEED]})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """A connection that aiokafka was making as a test killed the broker is never closed by it.

    It is let go here, and not where the next collection happens to find it in another's test.
    """
    yield
    test = getattr(item, "function", None)
    if test is not None and "infrastructure" in inspect.signature(test).parameters:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Each test draws the same numbers whether it runs alone or with others."""
    random.seed(f"{request.config.stash[_SEED]} {request.node.nodeid}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return request.config.stash[_SEED]


@pytest.fixture(scope="session")
def infrastructure() -> Iterator[Infrastructure]:
    """Kafka and PostgreSQL of this run; a test that stops one must start it again."""
    with running_infrastructure() as started:
        yield started


@pytest.fixture
def kafka(infrastructure: Infrastructure) -> str:
    """Where Kafka clients connect first: host and port."""
    return infrastructure.kafka


@pytest.fixture
def database_url(infrastructure: Infrastructure) -> Iterator[str]:
    """An empty database of this test's own."""
    with fresh_database(infrastructure) as url:
        yield url


@pytest.fixture
async def open_database(database_url: str) -> AsyncIterator[OpenDatabase]:
    """`await open_database("trainer", migrations)`: this test's database as that service's."""
    async with AsyncExitStack() as opened:

        async def open_one(service: str, *migrations: Path) -> Database:
            database = await Database.open(database_url, service, migrations=migrations)
            opened.push_async_callback(database.close)
            return database

        yield open_one


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    """An open pool on an empty database of this test's own, as the registry would have it."""
    return await open_database("registry")


@pytest.fixture
def topic_prefix() -> str:
    return fresh_topic_prefix()
