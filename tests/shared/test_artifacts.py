"""Blobs are found by their digest, written once, and never used when they are something else."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import from_url

from shared import artifacts
from shared.artifacts import ArtifactStore, digest_of, digest_of_file, key_of
from shared.errors import ArtifactCorrupt, NotFound, StoreUnavailable


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/a folder")


@settings(max_examples=25)
@given(data=st.binary(max_size=3000))
def test_what_was_put_is_got(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = ArtifactStore(f"file://{tmp_path_factory.mktemp('store')}")

    assert store.get(store.put(data)) == data


def test_the_same_bytes_twice_are_one_blob(store: ArtifactStore, tmp_path: Path) -> None:
    first, second = store.put(b"x"), store.put(b"x")

    assert first == second == digest_of(b"x")
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_a_file_is_kept_under_its_digest(store: ArtifactStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"rows" * 1000)

    store.put_file(file, digest_of_file(file))

    assert store.get(digest_of(b"rows" * 1000)) == b"rows" * 1000


def test_bytes_that_changed_at_rest_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    digest = store.put(b"model")
    (tmp_path / "a folder" / key_of(digest)).write_bytes(b"modem")

    with pytest.raises(ArtifactCorrupt):
        store.get(digest)
    with pytest.raises(ArtifactCorrupt):
        store.fetch(digest, tmp_path / "target" / "file")
    assert list((tmp_path / "target").iterdir()) == []


def test_what_is_not_there_is_not_found(store: ArtifactStore, tmp_path: Path) -> None:
    missing = digest_of(b"nothing")

    assert not store.has(missing)
    with pytest.raises(NotFound):
        store.get(missing)
    with pytest.raises(NotFound):
        store.fetch(missing, tmp_path / "file")
    assert not (tmp_path / "file").exists()


async def test_a_stretch_of_a_blob_is_streamed(store: ArtifactStore) -> None:
    data = bytes(range(256)) * 10_000
    digest = await store.aput(data)

    got = b"".join([piece async for piece in store.stream(digest, 1000, 2_000_000)])

    assert got == data[1000:2_000_000]


async def test_a_store_that_takes_a_request_and_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "RETRY", timedelta(milliseconds=300))
    asked: list[asyncio.StreamWriter] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    of_the_environment = {
        "ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "ALLOW_HTTP": "true",
        "READ_TIMEOUT": "100ms",
        "ACCESS_KEY_ID": "anybody",
        "SECRET_ACCESS_KEY": "nothing",
        "REGION": "here",
    }
    for name, value in of_the_environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = ArtifactStore("s3://blobs/of-a-test")

    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailable):
            await store.aget(digest_of(b"x"))

    assert len(asked) > 1  # it was tried again
    for writer in asked:
        writer.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        *((f"{scheme}://blobs/x", "AZURE") for scheme in ("az", "adl", "azure", "abfs", "abfss")),
        ("https://an-account.blob.core.windows.net/blobs", "AZURE"),
        ("s3a://blobs/x", "AWS"),
        ("https://s3.eu-central-1.amazonaws.com/blobs", "AWS"),
        ("gs://blobs/x", "GOOGLE"),
        ("https://blobs.example/x", "HTTP"),
    ],
)
def test_what_the_environment_says_of_a_stores_requests_is_not_forgotten(
    url: str, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "anybody")
    monkeypatch.setenv(f"{environment}_USER_AGENT", "of the environment")
    told: list[Any] = []

    def opened(*args: Any, client_options: Any, **kwargs: Any) -> Any:
        told.append(client_options)
        return from_url(*args, client_options=client_options, **kwargs)

    monkeypatch.setattr(artifacts, "from_url", opened)
    ArtifactStore(url)

    assert told[0]["user_agent"] == "of the environment"
