"""The contract of the bus, on all three of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.conftest import OpenDatabase
from tests.contracts.bus_contract import BusContract, DatabaseBusContract
from tests.support.bus_kit import BusDelivery, Delivery, FaustDelivery, MemoryDelivery


class TestMemoryBus(BusContract):
    @pytest.fixture
    def delivery(self) -> Delivery:
        return MemoryDelivery()


@pytest.mark.real
class TestBus(DatabaseBusContract):
    @pytest.fixture
    async def delivery(
        self, open_database: OpenDatabase, kafka: str, topic_prefix: str
    ) -> AsyncIterator[Delivery]:
        delivery = BusDelivery(await open_database("trainer"), kafka, topic_prefix)
        await delivery.open()
        yield delivery
        await delivery.close()


@pytest.mark.real
class TestBusTakingSeveralTogether(DatabaseBusContract):
    @pytest.fixture
    async def delivery(
        self, open_database: OpenDatabase, kafka: str, topic_prefix: str
    ) -> AsyncIterator[Delivery]:
        database = await open_database("trainer")
        delivery = BusDelivery(database, kafka, topic_prefix, together=10)
        await delivery.open()
        yield delivery
        await delivery.close()


@pytest.mark.real
class TestFaustStreams(DatabaseBusContract):
    @pytest.fixture
    async def delivery(
        self, open_database: OpenDatabase, kafka: str, topic_prefix: str
    ) -> AsyncIterator[Delivery]:
        delivery = FaustDelivery(await open_database("trainer"), kafka, topic_prefix)
        await delivery.open()
        yield delivery
        await delivery.close()
