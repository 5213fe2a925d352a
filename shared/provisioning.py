"""Topics on the broker: created as `shared.topics` declares them, refused where they differ."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from shared.broker import Admin
from shared.errors import BrokerUnavailable, TidewheelError
from shared.topics import ALL, Topic

_NO_LIMIT: Final = "-1"
_STAMP: Final = "message.timestamp.type"


class TopicsDiffer(TidewheelError):
    """A topic exists with other settings; nothing is changed, because data may hang on it."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__("topics differ from their declaration: " + "; ".join(differences))
        self.differences = tuple(differences)


def declared_config(topic: Topic, replication: int) -> dict[str, str]:
    """The settings of a topic that Tidewheel relies on."""
    milliseconds = int(topic.retention.total_seconds() * 1000) if topic.retention else None
    config = {
        "cleanup.policy": "delete",
        "retention.ms": _NO_LIMIT if milliseconds is None else str(milliseconds),
        "retention.bytes": str(topic.retention_bytes or _NO_LIMIT),
        "min.insync.replicas": "2" if replication >= 3 else "1",
    }
    if topic.outsiders:
        # When a stranger's record came, and how long it is kept, is not for the stranger to say.
        config[_STAMP] = "LogAppendTime"
    return config


async def ensure_topics(
    bootstrap: str, *, prefix: str = "", replication: int = 1, partitions: int | None = None
) -> None:
    """Create every declared topic that is not there; repeating it changes nothing.

    Topics that a release before has created are told to stamp records where they should: nothing
    that lies on them hangs on it.

    Args:
        bootstrap: where the broker is.
        prefix: before every name.
        replication: copies of each partition; from 3 on, two of them must acknowledge.
        partitions: instead of the declared number, for small installations and tests.

    Raises:
        TopicsDiffer: one exists with other settings.
        BrokerUnavailable: the broker does not answer.
    """
    declared = _declared(prefix, replication, partitions)
    async with Admin(bootstrap) as admin:
        missing = declared.keys() - (await admin.partitions(declared)).keys()
        if missing:
            await admin.create({name: declared[name] for name in missing}, replication=replication)
            await _until_led(admin, missing)
        await _stamp(admin, declared)
        differences = await _compare(admin, declared)
    if differences:
        raise TopicsDiffer(differences)


async def _stamp(admin: Admin, declared: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
    """A broker tells itself of a change before it shows it."""
    wanted = {name: config[_STAMP] for name, (_, config) in declared.items() if _STAMP in config}
    for name in await _unstamped(admin, wanted):
        await admin.change(name, {_STAMP: wanted[name]})
    for _ in range(100):
        if not await _unstamped(admin, wanted):
            return
        await asyncio.sleep(0.1)


async def _unstamped(admin: Admin, wanted: Mapping[str, str]) -> list[str]:
    found = await admin.configuration(wanted)
    return [name for name, kind in wanted.items() if found.get(name, {}).get(_STAMP) != kind]


async def check_topics(
    bootstrap: str, *, prefix: str = "", replication: int = 1, partitions: int | None = None
) -> list[str]:
    """How the broker's topics differ from their declaration, one sentence each.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    async with Admin(bootstrap) as admin:
        return await _compare(admin, _declared(prefix, replication, partitions))


async def _until_led(admin: Admin, names: Iterable[str]) -> None:
    """A topic is created before the broker shows it and before its partitions have leaders."""
    wanted = set(names)
    for _ in range(100):
        if wanted <= (await admin.partitions(wanted, led=True)).keys():
            return
        await asyncio.sleep(0.1)
    raise BrokerUnavailable("the new topics have no leaders after 10 s")


async def _compare(
    admin: Admin, declared: Mapping[str, tuple[int, Mapping[str, str]]]
) -> list[str]:
    counts = await admin.partitions(declared)
    configs = await admin.configuration(counts) if counts else {}
    return [
        line
        for name, (count, config) in declared.items()
        for line in _differences(name, count, config, counts.get(name), configs.get(name, {}))
    ]


def _declared(
    prefix: str, replication: int, partitions: int | None
) -> dict[str, tuple[int, dict[str, str]]]:
    return {
        prefix + topic.name: (
            min(topic.partitions, partitions or topic.partitions),
            declared_config(topic, replication),
        )
        for topic in ALL
    }


def _differences(
    name: str, count: int, config: Mapping[str, str], found: int | None, has: Mapping[str, str]
) -> list[str]:
    if found is None:
        return [f"{name} does not exist"]
    lines = [f"{name} has {found} partitions, {count} are declared"] if found != count else []
    return lines + [
        f"{name} has {key}={has.get(key)}, {value} is declared"
        for key, value in config.items()
        if has.get(key) != value
    ]
