"""What every bus does, whatever it is made of: written over "deliver one record".

`test_bus.py` runs it on the bus in one process, on the kernel and on Faust, the latter two over
the real broker.
"""

from __future__ import annotations

import pytest

from shared.codec import encode
from shared.errors import (
    BrokerUnavailable,
    Conflict,
    InvalidInput,
    NotFound,
    NotReady,
    StoreUnavailable,
)
from shared.topics import DATASETS, OFFERS
from tests.support.bus_kit import (
    FEW,
    Delivery,
    a_refusal,
    a_version,
    an_offer,
    heard,
    of,
    versions,
)


class BusContract:
    """Needs a fixture `delivery`."""

    async def test_every_event_has_its_effect_in_order_and_is_answered(
        self, delivery: Delivery
    ) -> None:
        await delivery.put(*versions("a", 1, 2, 3), *versions("b", 1, 2))
        await delivery.settle()

        assert of("a", await delivery.effects()) == [1, 2, 3]
        assert of("b", await delivery.effects()) == [1, 2]
        assert of("a", await delivery.said()) == [1, 2, 3]

    async def test_an_event_delivered_again_has_no_second_effect(self, delivery: Delivery) -> None:
        first, second = versions("a", 1, 2)

        await delivery.put(first, second, first, second, second)
        await delivery.settle()

        assert await delivery.effects() == [("a", 1), ("a", 2)]
        assert await delivery.said() == [("a", 1), ("a", 2)]

    async def test_an_event_without_sequence_delivered_again_has_no_second_effect(
        self, delivery: Delivery
    ) -> None:
        offer, other = heard(an_offer("a", 1)), heard(an_offer("a", 2))

        await delivery.put(offer, other, offer, offer)
        await delivery.settle()

        assert sorted(await delivery.effects()) == [("a", 1), ("a", 2)]

    async def test_poison_is_parked_at_once_and_others_flow(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")

        await delivery.put(*versions("a", 1), *versions("b", 1, 2))
        await delivery.settle()

        assert of("b", await delivery.effects()) == [1, 2]
        assert await delivery.parked() == [("a", 1, "ValueError")]
        assert delivery.script.tries("a", 1) == 1 + delivery.tries_together

    async def test_followers_park_behind_and_a_retry_runs_them_in_order(
        self, delivery: Delivery
    ) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")
        await delivery.put(*versions("a", 1, 2, 3))
        await delivery.settle()
        before = await delivery.parked()

        delivery.script.poison.clear()
        retried = await delivery.retry("a")

        assert before == [("a", 1, "ValueError"), ("a", 2, "Behind"), ("a", 3, "Behind")]
        assert retried == 3
        assert of("a", await delivery.said()) == [1, 2, 3]
        assert await delivery.parked() == []

    async def test_after_a_retry_the_subject_flows_again(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")
        await delivery.put(*versions("a", 1, 2))
        await delivery.settle()
        delivery.script.poison.clear()
        await delivery.retry("a")

        await delivery.put(*versions("a", 3))
        await delivery.settle()

        assert of("a", await delivery.said()) == [1, 2, 3]
        assert await delivery.parked() == []

    async def test_a_retry_that_fails_changes_nothing(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = ValueError("still")
        await delivery.put(*versions("a", 1, 2))
        await delivery.settle()

        with pytest.raises(ValueError, match="still"):
            await delivery.retry("a")

        assert [one[1] for one in await delivery.parked()] == [1, 2]
        assert await delivery.said() == []

    async def test_a_retry_of_nothing_says_so(self, delivery: Delivery) -> None:
        with pytest.raises(NotFound):
            await delivery.retry("a")

    async def test_dropping_needs_a_second_person(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")
        await delivery.put(*versions("a", 1, 2))
        await delivery.settle()

        with pytest.raises(InvalidInput):
            await delivery.drop("a", by="ann", second="")
        with pytest.raises(Conflict):
            await delivery.drop("a", by="ann", second="ann")
        dropped = await delivery.drop("a", by="ann", second="bob")
        await delivery.put(*versions("a", 3))
        await delivery.settle()

        assert dropped == 2
        assert of("a", await delivery.said()) == [3]

    async def test_what_is_not_ready_is_tried_again(self, delivery: Delivery) -> None:
        delivery.script.fail("a", 1, NotReady("not yet"), NotReady("not yet"))

        await delivery.put(*versions("a", 1, 2))
        await delivery.settle()

        assert of("a", await delivery.said()) == [1, 2]
        assert delivery.script.tries("a", 1) == 3
        assert await delivery.parked() == []

    async def test_what_never_gets_ready_is_parked(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = NotReady("not yet")

        await delivery.put(*versions("a", 1), *versions("b", 1))
        await delivery.settle()

        assert await delivery.parked() == [("a", 1, "NotReady")]
        tries = FEW.ready_tries + delivery.tries_together
        assert delivery.script.tries("a", 1) == tries

    async def test_what_is_unavailable_is_retried_and_never_parked(
        self, delivery: Delivery
    ) -> None:
        down = [StoreUnavailable("down"), BrokerUnavailable("down"), StoreUnavailable("down")] * 2
        delivery.script.fail("a", 1, *down)

        await delivery.put(*versions("a", 1, 2))
        await delivery.settle()

        assert of("a", await delivery.said()) == [1, 2]
        assert delivery.script.tries("a", 1) == 7
        assert await delivery.parked() == []

    async def test_an_unknown_type_is_parked_with_its_followers(self, delivery: Delivery) -> None:
        known = encode(versions("a", 1)[0])
        unknown = known.replace(b"dataset.published.v1", b"dataset.published.v9")

        await delivery.put_bytes(DATASETS, b"a", unknown)
        await delivery.put(*versions("a", 2))
        await delivery.settle()

        assert await delivery.parked() == [("a", 1, "UnknownType"), ("a", 2, "Behind")]

    @pytest.mark.parametrize(
        "value",
        [None, b"", b"{", b"\xff\xfe", b"[]", b'"text"', b"NaN", b"{}", b"[" * 100_000],
        ids=["tombstone", "empty", "cut", "not-utf8", "list", "text", "nan", "no-event", "nested"],
    )
    async def test_bytes_that_are_no_event_are_parked(
        self, delivery: Delivery, value: bytes | None
    ) -> None:
        await delivery.put_bytes(OFFERS, b"a", value)
        await delivery.put(heard(an_offer("b", 1)))
        await delivery.settle()

        assert await delivery.parked() == [("a", None, "InvalidEvent")]
        assert await delivery.effects() == [("b", 1)]

    async def test_an_id_that_somebody_else_used_keeps_no_event_out(
        self, delivery: Delivery
    ) -> None:
        genuine = heard(an_offer("a", 1))
        forged = heard(an_offer("a", 2), event_id=genuine.id)

        await delivery.put(forged, genuine, forged, genuine)
        await delivery.settle()

        assert sorted(await delivery.effects()) == [("a", 1), ("a", 2)]

    async def test_nonsense_of_outsiders_stops_nobody(self, delivery: Delivery) -> None:
        much = FEW.parked + 20
        for number in range(much):
            await delivery.put_bytes(OFFERS, b"a", b"nonsense %d" % number)
        await delivery.put(heard(an_offer("b", 1)))
        await delivery.settle()
        delivery.script.poison["c", 1] = ValueError("a bug")
        await delivery.put(*versions("c", 1))
        await delivery.settle()

        parked = await delivery.parked()
        assert of("b", await delivery.effects()) == [1]
        assert parked == [("a", None, "InvalidEvent")] * FEW.parked + [("c", 1, "ValueError")]
        assert await delivery.turned_away() == much - FEW.parked

    async def test_what_an_outsider_breaks_a_reaction_with_stops_nobody(
        self, delivery: Delivery
    ) -> None:
        much = FEW.parked + 3
        for number in range(1, much + 1):
            delivery.script.poison["a", number] = ValueError("a bug")
        offers = [heard(an_offer("a", number)) for number in range(1, much + 1)]

        await delivery.put(*offers, heard(an_offer("b", 1)))
        await delivery.settle()

        assert of("b", await delivery.effects()) == [1]
        assert len(await delivery.parked()) == FEW.parked
        assert await delivery.turned_away() == 3

    async def test_a_record_too_large_to_be_kept_is_turned_away(self, delivery: Delivery) -> None:
        await delivery.put_bytes(OFFERS, b"a", b"x" * 300_000)
        await delivery.put_bytes(OFFERS, b"x" * 5_000, b"{")
        await delivery.settle()

        assert await delivery.turned_away() == 1
        assert len(await delivery.parked()) == 1

    async def test_nonsense_under_a_subject_keeps_none_of_its_events_from_a_retry(
        self, delivery: Delivery
    ) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")
        await delivery.put_bytes(OFFERS, b"a", b"nonsense")
        await delivery.put(heard(an_offer("a", 1)))
        await delivery.settle()
        delivery.script.poison.clear()

        retried = await delivery.retry("a", OFFERS)

        assert retried == 1
        assert await delivery.parked() == [("a", None, "InvalidEvent")]
        assert ("a", 1) in await delivery.effects()

    async def test_a_long_name_of_an_outsider_stops_nobody(self, delivery: Delivery) -> None:
        name = "".join(chr(0x1F300 + number % 700) for number in range(3_000))

        await delivery.put(heard(an_offer(name, 1)), heard(an_offer("b", 1)))
        await delivery.settle()

        assert await delivery.effects() == [("b", 1)]
        assert [failure for _, _, failure in await delivery.parked()] == ["InvalidEvent"]

    async def test_an_event_that_is_not_said_on_its_topic_is_parked(
        self, delivery: Delivery
    ) -> None:
        await delivery.put_bytes(OFFERS, b"a", encode(versions("a", 1)[0]))
        await delivery.settle()

        assert await delivery.parked() == [("a", None, "InvalidEvent")]
        assert await delivery.effects() == []

    async def test_an_event_whose_key_is_not_its_subject_is_parked(
        self, delivery: Delivery
    ) -> None:
        await delivery.put_bytes(OFFERS, b"b", encode(heard(an_offer("a", 1))))
        await delivery.put_bytes(OFFERS, None, encode(heard(an_offer("a", 2))))
        await delivery.settle()

        assert [failure for _, _, failure in await delivery.parked()] == ["InvalidEvent"] * 2
        assert await delivery.effects() == []

    async def test_a_sequence_that_is_no_position_is_parked(self, delivery: Delivery) -> None:
        for sequence in (b"0", b"-1", b"x", b"9" * 30):
            value = encode(versions("a", 1)[0]).replace(
                b'"sequence":"1"', b'"sequence":"' + sequence + b'"'
            )
            await delivery.put_bytes(DATASETS, b"a", value)
        await delivery.settle()

        assert [failure for _, _, failure in await delivery.parked()] == ["InvalidEvent"] * 4

    async def test_a_known_type_without_a_reaction_only_takes_its_place(
        self, delivery: Delivery
    ) -> None:
        refused = heard(a_refusal("a"), 2)

        await delivery.put(*versions("a", 1), refused, refused, *versions("a", 3))
        await delivery.settle()

        assert of("a", await delivery.said()) == [1, 3]
        assert await delivery.parked() == []

    async def test_a_missing_event_stops_its_subject_and_no_other(self, delivery: Delivery) -> None:
        await delivery.put(*versions("a", 1, 3, 4), *versions("b", 1, 2))
        await delivery.settle()

        assert of("a", await delivery.said()) == [1]
        assert of("b", await delivery.said()) == [1, 2]
        assert await delivery.parked() == []

    async def test_a_missing_event_that_comes_late_brings_the_others_along(
        self, delivery: Delivery
    ) -> None:
        await delivery.put(*versions("a", 1, 4, 3, 2), *versions("a", 5))
        await delivery.settle()
        # Those held follow after the batch that brought the missing one.
        await delivery.settle()

        assert of("a", await delivery.said()) == [1, 2, 3, 4, 5]

    async def test_the_first_event_of_a_subject_has_sequence_1(self, delivery: Delivery) -> None:
        await delivery.put(*versions("a", 7))
        await delivery.settle()

        assert await delivery.effects() == []
        assert await delivery.parked() == []

    async def test_a_retried_event_keeps_the_id_of_what_it_says(self, delivery: Delivery) -> None:
        one = heard(a_version("a", 1), 1)
        delivery.script.fail("a", 1, StoreUnavailable("down"))

        await delivery.put(one, one)
        await delivery.settle()

        assert await delivery.said() == [("a", 1)]


class DatabaseBusContract(BusContract):
    """What memory cannot do."""

    async def test_the_effect_of_a_failed_reaction_is_taken_back(self, delivery: Delivery) -> None:
        delivery.script.poison["a", 1] = ValueError("a bug")

        await delivery.put(*versions("a", 1))
        await delivery.settle()

        assert await delivery.effects() == []
        assert await delivery.said() == []

    async def test_what_was_turned_away_is_taken_when_it_is_sent_again(
        self, delivery: Delivery
    ) -> None:
        much = FEW.parked + 1
        for number in range(1, much + 1):
            delivery.script.poison["a", number] = ValueError("a bug")
        offers = [heard(an_offer("a", number)) for number in range(1, much + 1)]
        await delivery.put(*offers)
        await delivery.settle()
        delivery.script.poison.clear()

        await delivery.put(*offers)
        await delivery.settle()

        assert await delivery.effects() == [("a", much)]
        assert len(await delivery.parked()) == FEW.parked
