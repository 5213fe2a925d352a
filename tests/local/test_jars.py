from __future__ import annotations

import hashlib
from pathlib import Path

from local.jars import COORDINATES, cache_folder, differing, file_name, read_pinned


def test_the_pinned_list_holds_what_kafka_needs_and_no_address() -> None:
    pinned = read_pinned()

    assert set(COORDINATES) <= set(pinned)
    assert len(pinned) == 46
    assert all(len(digest) == 64 and "/" not in name for name, digest in pinned.items())


def test_a_missing_a_changed_and_an_unknown_jar_are_all_named(tmp_path: Path) -> None:
    right = hashlib.sha256(b"right").hexdigest()
    pinned = {"g:whole:1": right, "g:changed:1": right, "g:missing:1": right}
    (tmp_path / "whole-1.jar").write_bytes(b"right")
    (tmp_path / "changed-1.jar").write_bytes(b"wrong")
    (tmp_path / "unknown-1.jar").write_bytes(b"right")

    wrong = differing(tmp_path, pinned)

    assert wrong == ["changed-1.jar", "missing-1.jar", "unknown-1.jar"]


def test_a_coordinate_names_its_file() -> None:
    assert file_name("org.apache.kafka:kafka_2.13:4.2.1") == "kafka_2.13-4.2.1.jar"


def test_a_cache_that_cannot_be_made_is_replaced(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    chosen = cache_folder(tmp_path / "own", {"XDG_CACHE_HOME": str(in_the_way)})

    assert chosen == tmp_path / "own"
