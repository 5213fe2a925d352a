"""The demo's own judge: it has to find what is lost and what is doubled."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from local.demo import verify
from local.demo.log import Event
from local.demo.tally import Tally
from local.demo.verify import Found
from shared import clock, topics
from shared.codec import encode
from shared.events import (
    AuditAnchored,
    DatasetName,
    Digest,
    GroundTruthObserved,
    Heard,
    ModelName,
    PredictionRow,
    PredictionsLogged,
    TrainingSkipped,
)
from shared.events import Event as Said

CASCADE = UUID(int=7)


def heard(event: Said, sequence: int | None = None) -> Heard[Any]:
    return Heard(
        event=event,
        id=uuid4(),
        source="//tidewheel/test",
        time=clock.now(),
        correlation=CASCADE,
        sequence=sequence,
    )


def a_skip(sequence: int) -> Heard[Any]:
    skipped = TrainingSkipped(
        model=ModelName("water-flow"),
        dataset=DatasetName("flow"),
        dataset_version=1,
        trigger="dataset",
        reason="nothing_new",
        detail="nothing new",
    )
    return heard(skipped, sequence)


def folded(*events: Heard[Any]) -> list[Event]:
    return [{"id": str(event.id)} for event in events]


def training(*events: Heard[Any]) -> dict[str, list[bytes]]:
    return {topics.TRAINING.name: [encode(event) for event in events]}


def checked(records: dict[str, list[bytes]], log: list[Event], tally: Tally | None = None) -> Found:
    return verify.check(records, log, tally or Tally())


def test_a_whole_log_is_neither_lost_nor_doubled() -> None:
    one, two = a_skip(1), a_skip(2)

    found = checked(training(one, two), folded(one, two))

    assert (found.events, found.lost, found.doubled, found.repeats) == (2, [], [], 0)


def test_an_anchor_of_the_log_is_not_missed_in_it() -> None:
    anchored = AuditAnchored(log="registry", position=7, chain=Digest("0" * 64))
    records = {topics.AUDIT.name: [encode(heard(anchored, 1))]}

    assert checked(records, []).lost == []


def test_a_gap_in_the_sequence_is_a_loss() -> None:
    one, three = a_skip(1), a_skip(3)

    found = checked(training(one, three), folded(one, three))

    assert len(found.lost) == 1
    assert "sequence 2" in found.lost[0]


def test_a_missing_first_event_is_a_loss() -> None:
    two = a_skip(2)

    assert checked(training(two), folded(two)).lost


def test_the_same_sequence_under_two_ids_is_doubled() -> None:
    one, other = a_skip(1), a_skip(1)

    assert checked(training(one, other), folded(one, other)).doubled


def test_the_same_bytes_again_are_a_repeat_and_no_harm() -> None:
    one = a_skip(1)

    found = checked(training(one, one), folded(one))

    assert (found.repeats, found.lost, found.doubled) == (1, [], [])


def test_one_id_with_two_contents_is_doubled() -> None:
    one = a_skip(1)
    other = replace(one, event=replace(one.event, detail="something else"))

    assert checked(training(one, other), folded(one)).doubled


def test_an_event_that_the_registry_did_not_fold_is_lost_and_twice_is_doubled() -> None:
    one = a_skip(1)

    assert checked(training(one), []).lost
    assert checked(training(one), folded(one, one)).doubled


def predictions(*ids: str, batch: int = 1) -> bytes:
    rows = tuple(
        PredictionRow(
            id=one,
            model=ModelName("water-flow"),
            version=1,
            manifest=None,
            rung="champion",
            arm="champion",
            generation=1,
            entity=None,
            columns=0,
            features=(1.0,),
            answer=1.0,
            score=None,
            at=clock.now(),
        )
        for one in ids
    )
    return encode(heard(PredictionsLogged(replica="0", batch=batch, columns=(("a",),), rows=rows)))


def test_predictions_are_held_against_what_was_asked() -> None:
    tally = Tally(asked=["p-1", "p-2", "p-3"])
    records = {topics.PREDICTIONS.name: [predictions("p-1"), predictions("p-1", "p-2", batch=2)]}

    found = checked(records, [], tally)

    assert found.lost == ["prediction p-3"]
    assert found.doubled == ["prediction p-1"]


def test_a_batch_sent_again_counts_once() -> None:
    again = predictions("p-1")

    found = checked({topics.PREDICTIONS.name: [again, again]}, [], Tally(asked=["p-1"]))

    assert (found.lost, found.doubled) == ([], [])


def test_a_ground_truth_that_never_arrived_is_lost() -> None:
    truth = GroundTruthObserved(
        model=ModelName("water-flow"), prediction="p-1", value=1.0, observed_at=clock.now()
    )

    found = checked({topics.FEEDBACK.name: [encode(heard(truth))]}, [], Tally(observed=2))

    assert found.lost == ["1 ground truths"]


def an_end(kind: str, **data: Any) -> Event:
    return {
        "type": f"tidewheel.{kind}.v1",
        "correlation": str(CASCADE),
        "data": {"model": "water-flow", **data},
    }


RECEIPT = {"cascade": str(CASCADE), "version": 3}


def test_each_accepted_version_has_one_outcome() -> None:
    found = Found()
    log = [an_end("evaluation.completed", accepted=True), an_end("model.promoted")]

    assert verify.check_outcomes([RECEIPT], log, found) == "v3 promoted"
    assert (found.lost, found.doubled) == ([], [])


def test_no_outcome_is_a_loss_and_two_are_doubled() -> None:
    none, two = Found(), Found()

    verify.check_outcomes([RECEIPT], [], none)
    verify.check_outcomes([RECEIPT], [an_end("model.promoted"), an_end("rollout.aborted")], two)

    assert none.lost == ["the outcome of v3"]
    assert len(two.doubled) == 1
