from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.errors import EndedEarly
from local.services import Services
from local.stack import Infrastructure
from tests.support.processes import environment_of
from tests.support.stand_in import stand_in_command

pytestmark = pytest.mark.real


@pytest.fixture
def services(
    infrastructure: Infrastructure, tmp_path: Path, topic_prefix: str
) -> Iterator[Services]:
    made = Services(
        infrastructure,
        tmp_path,
        names=["registry", "serving"],
        topic_prefix=topic_prefix,
        partitions=2,
        command=stand_in_command,
    )
    try:
        yield made.start()
    finally:
        made.discard()


def test_only_the_wanted_services_run(services: Services) -> None:
    assert [one.name for one in services.report()] == ["registry", "serving"]
    assert all(services.is_ready(name) for name in services.names)


def test_databases_and_topics_are_named_after_the_prefix(
    services: Services, topic_prefix: str
) -> None:
    environment = _environment(services, "registry")

    assert environment["TIDEWHEEL_REGISTRY_TOPIC_PREFIX"] == topic_prefix
    assert services.database_url("registry").endswith(f"/{topic_prefix.strip('.')}_registry")


def test_serving_is_given_a_folder_and_no_database(services: Services) -> None:
    environment = _environment(services, "serving")

    assert environment["TIDEWHEEL_SERVING_DATA"] == str(services.places.serving)
    assert "TIDEWHEEL_SERVING_DATABASE" not in environment


def test_a_killed_service_comes_back_under_another_pid(services: Services) -> None:
    killed = services.kill("registry")

    services.wait_ready("registry")

    assert services.pid("registry") != killed


def test_a_knob_set_once_is_gone_after_the_next_death(services: Services) -> None:
    services.configure("registry", once=True, FAULT="before_commit")
    services.restart("registry")
    armed = _environment(services, "registry")

    services.kill("registry")
    services.wait_ready("registry")

    assert armed["TIDEWHEEL_REGISTRY_FAULT"] == "before_commit"
    assert "TIDEWHEEL_REGISTRY_FAULT" not in _environment(services, "registry")


def test_a_stopped_service_stays_away_until_it_is_started_again(services: Services) -> None:
    services.stop("registry")
    stopped = services.is_ready("registry")

    services.start_again("registry")

    assert not stopped
    assert services.is_ready("registry")


def test_a_service_that_cannot_start_is_named_with_its_last_words(
    infrastructure: Infrastructure, tmp_path: Path, topic_prefix: str
) -> None:
    code = "raise SystemExit('the settings are wrong')"
    services = Services(
        infrastructure,
        tmp_path,
        names=["trainer"],
        topic_prefix=topic_prefix,
        partitions=2,
        command=lambda _: (sys.executable, "-S", "-c", code),
    )

    with pytest.raises(EndedEarly, match="trainer ended while starting: the settings are wrong"):
        services.start()

    services.discard()


def _environment(services: Services, name: str) -> dict[str, str]:
    pid = services.pid(name)
    assert pid
    return environment_of(pid)
