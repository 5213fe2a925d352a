from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.errors import Unprocessable
from shared.events import Digest
from shared.manifest import Column, Compiled, File, Golden, Manifest, plain, read_manifest

DIGEST = Digest("0" * 64)


def a_manifest(**changes: Any) -> Manifest:
    manifest = Manifest(
        model="demand",
        task="classification",
        metric="log_loss",
        columns=(Column(name="a", kind="number", minimum=0.0, maximum=1.0),),
        target="y",
        classes=("no", 1.0, True),
        files={"model.skops": File(digest=DIGEST, size_bytes=3)},
        baseline={"rule": "constant", "value": 1.0},
        entity=None,
        bounds=(0.0, 1.0),
        lineage="best_effort",
        objective_seconds=0.1,
        dataset="sales",
        dataset_version=1,
        dataset_digest=DIGEST,
        spec_digest=DIGEST,
        code_digest=DIGEST,
        exclusions_digest=DIGEST,
        holdout=DIGEST,
        reference=DIGEST,
        use="sklearn.linear_model.Ridge",
        hyperparameters={"alpha": 1.0},
        seed=7,
        rows_trained=10,
        rows_held_out=2,
        metrics={"log_loss": 0.5},
        environment={"python": "3.11"},
    )
    return replace(manifest, **changes)


def test_a_manifest_survives_its_bytes() -> None:
    manifest = a_manifest()

    assert read_manifest(manifest.to_bytes()) == manifest
    assert plain(manifest)["metrics"] == {"log_loss": 0.5}


def test_the_same_manifest_has_the_same_bytes_whatever_the_order_of_its_parts() -> None:
    one = a_manifest(metrics={"a": 1.0, "b": 2.0})
    other = a_manifest(metrics={"b": 2.0, "a": 1.0})

    assert one.to_bytes() == other.to_bytes()


def test_a_manifest_from_before_models_were_compiled_reads_on() -> None:
    plain_manifest = plain(a_manifest())
    del plain_manifest["compiled"]

    assert read_manifest(orjson.dumps(plain_manifest)) == a_manifest()


def test_a_record_of_a_compiled_model_survives_its_bytes() -> None:
    rows = Golden(row=(1.5, None, "1"), answers=(0.25, 0.75)), Golden(row=(None,), answers=None)
    record = Compiled(engine="onnx", opsets={"": 18}, rows=3, golden=rows)

    assert read_manifest(a_manifest(compiled=record).to_bytes()).compiled == record


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", a_manifest().to_bytes()[:-2]])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(Unprocessable, match="no manifest"):
        read_manifest(data)


def test_a_manifest_of_another_format_is_refused() -> None:
    data = a_manifest().to_bytes().replace(b"tidewheel/manifest/v1", b"tidewheel/manifest/v9")

    with pytest.raises(Unprocessable):
        read_manifest(data)
