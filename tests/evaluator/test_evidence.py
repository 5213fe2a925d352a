"""Evidence to bytes and back."""

from __future__ import annotations

import io

import numpy as np
import pytest

from services.evaluator.evidence import Evidence, read_evidence
from shared.errors import Unprocessable
from shared.events import Check
from tests.evaluator.evident import Task, some_evidence


def full_evidence(task: Task) -> Evidence:
    rows = 21
    mask = np.arange(rows) % 3 == 0
    return some_evidence(
        task,
        rows,
        ordered=True,
        times=np.arange(rows, dtype=np.int64),
        entities=np.arange(rows, dtype=np.int64) // 2,
        slices={"storm & flood": mask},
        found={"load > 80": ~mask, "a": mask},
        own_losses={("candidate", "ours.metrics:cost"): np.linspace(0, 1, rows)},
        checks=(Check(name="size", passed=True, detail="1 MB", value=1.0, limit=2.0),),
    )


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_what_is_written_is_read_back(task: Task) -> None:
    evidence = full_evidence(task)

    again = read_evidence(evidence.to_bytes())

    assert again.to_bytes() == evidence.to_bytes()
    assert again.y.tolist() == evidence.y.tolist()
    assert again.classes == evidence.classes
    assert again.checks == evidence.checks
    assert again.slices["storm & flood"].tolist() == evidence.slices["storm & flood"].tolist()
    assert again.own_losses.keys() == evidence.own_losses.keys()
    assert all((again.answers[name] == evidence.answers[name]).all() for name in evidence.answers)


def test_labels_keep_their_kind() -> None:
    classes = (False, True)
    evidence = some_evidence("classification", 12)
    changed = Evidence(
        task="classification",
        ordered=False,
        y=(evidence.y == "wet").astype(object),
        row_hashes=evidence.row_hashes,
        answers=evidence.answers,
        classes=dict.fromkeys(evidence.answers, classes),
    )

    again = read_evidence(changed.to_bytes())

    assert again.y.tolist() == changed.y.tolist()
    assert again.classes["candidate"] == classes
    assert all(type(label) is bool for label in again.y.tolist())


def test_the_order_of_decision_is_by_time_and_then_by_hash() -> None:
    times = np.array([5, 1, 5, 1], dtype=np.int64)
    hashes = np.array([1, 9, 0, 3], dtype=np.uint64)

    evidence = some_evidence(rows=4, times=times, row_hashes=hashes)

    assert evidence.order().tolist() == [3, 1, 2, 0]
    assert evidence.taken(evidence.order()).row_hashes.tolist() == [3, 9, 0, 1]


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_bytes_that_are_no_evidence_are_refused(keep: int) -> None:
    data = some_evidence(rows=20).to_bytes()[:keep]

    with pytest.raises(Unprocessable, match="no evidence"):
        read_evidence(data)


def test_a_file_of_something_else_is_refused() -> None:
    file = io.BytesIO()
    np.savez(file, y=np.zeros(3), header=np.frombuffer(b"{}", dtype=np.uint8))

    with pytest.raises(Unprocessable, match="no evidence"):
        read_evidence(file.getvalue())
