"""A signature holds over one event, by one known key, for a short time."""

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared import codec
from shared.errors import Conflict
from shared.events import ApprovalGiven, Digest, Event, Heard, ModelName, RollbackRequested
from shared.events import RolloutId as Rollout
from shared.signing import (
    BadSignature,
    Seal,
    Signers,
    SigningKey,
    read_signers,
    read_signing_key,
    sign,
)

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
KEY = SigningKey(id="registry-1", secret=bytes(range(32)))
OTHER = SigningKey(id="other-1", secret=bytes(reversed(range(32))))
ROLLOUT = Rollout(UUID(int=7))


def an_approval(**changes: Any) -> ApprovalGiven:
    given: dict[str, Any] = {
        "model": ModelName("pumps"),
        "rollout": ROLLOUT,
        "version": 3,
        "manifest": Digest("a" * 64),
        "granted": True,
        "by": "vera",
    }
    return ApprovalGiven(**(given | changes))


def heard_of(event: Event, **changes: Any) -> Heard[Event]:
    envelope: dict[str, Any] = {"id": UUID(int=1), "source": "//tidewheel/registry", "time": NOON}
    return Heard(event=event, correlation=UUID(int=1), **(envelope | changes))


def an_entry(key: SigningKey = KEY, **changes: Any) -> dict[str, Any]:
    return {
        "id": key.id,
        "principal": "the-registry",
        "public_key": base64.b64encode(key.public).decode(),
        "speaks_for": "all",
    } | changes


def write(path: Path, *entries: dict[str, Any]) -> None:
    path.write_text(json.dumps({"keys": [], "signers": list(entries)}))


def signers(path: Path, *entries: dict[str, Any], now: datetime = NOON) -> Signers:
    write(path, *(entries or [an_entry()]))
    seconds = iter(range(0, 10_000, 10))
    return Signers(path, now=lambda: now, monotonic=lambda: float(next(seconds)))


def signed(event: Event | None = None, **changes: Any) -> Heard[Event]:
    return sign(heard_of(event or an_approval(), **changes), KEY.secret, KEY.id)


def code_of(verify: Callable[[], object]) -> str:
    with pytest.raises(BadSignature) as refused:
        verify()
    assert refused.value.status == 401
    return refused.value.code


def test_what_was_signed_is_known_again_behind_the_wire(tmp_path: Path) -> None:
    heard = signed(an_approval(comment="geprüft ✓"))

    signer = signers(tmp_path / "keys").verify(codec.decode(codec.encode(heard)))

    assert signer.principal == "the-registry"
    assert signer.speaks_for("anybody")


def test_who_signs_for_itself_speaks_for_nobody_else(tmp_path: Path) -> None:
    entry = an_entry(principal="vera", speaks_for="self")

    signer = signers(tmp_path / "keys", entry).verify(signed())

    assert signer.speaks_for("vera")
    assert not signer.speaks_for("ada")


def test_an_optional_field_that_is_spelt_out_changes_no_signature(tmp_path: Path) -> None:
    body = json.loads(codec.encode(signed()))
    body["data"].pop("comment", None)
    body["time"] = "2026-05-04T14:00:00+02:00"

    heard = codec.decode(json.dumps(body).encode())

    assert signers(tmp_path / "keys").verify(heard)


@pytest.mark.parametrize(
    "change",
    [
        {"id": UUID(int=2)},
        {"source": "//tidewheel/trainer"},
        {"time": NOON + timedelta(seconds=1)},
        {"time": NOON.replace(tzinfo=None)},
        {"event": an_approval(granted=False)},
        {"event": an_approval(by="ada")},
        {"event": an_approval(manifest="b" * 64)},
        {"event": an_approval(model="fans")},
        {"event": RollbackRequested(model=ModelName("pumps"), by="vera", reason="x")},
    ],
)
def test_a_signature_holds_for_these_words_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    forged = replace(signed(), **change)

    assert code_of(lambda: signers(tmp_path / "keys").verify(forged)) == "signature_wrong"


@pytest.mark.parametrize("text", [None, ""])
def test_a_request_without_a_signature_is_refused(tmp_path: Path, text: str | None) -> None:
    heard = replace(signed(), signature=text)

    assert code_of(lambda: signers(tmp_path / "keys").verify(heard)) == "signature_missing"


@pytest.mark.parametrize(
    "text",
    [
        "ed25519",
        "ed25519:registry-1",
        "ed25519:registry-1:",
        "ed25519:registry-1:%%%",
        "ed25519::" + base64.b64encode(bytes(64)).decode(),
        "ed25519:registry-1:" + base64.b64encode(bytes(63)).decode(),
        "ed25519:registry-1:" + base64.b64encode(bytes(65)).decode(),
        "rsa:registry-1:" + base64.b64encode(bytes(64)).decode(),
        "ed25519:registry-1:" + "A" * 100_000,
        "ed25519:" + "k" * 1000 + ":" + base64.b64encode(bytes(64)).decode(),
        "ed25519:registry-1:é",
    ],
)
def test_a_malformed_signature_is_refused(tmp_path: Path, text: str) -> None:
    heard = replace(signed(), signature=text)

    assert code_of(lambda: signers(tmp_path / "keys").verify(heard)) == "signature_malformed"


def test_an_unknown_key_a_foreign_key_and_a_revoked_one_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    strange = sign(heard_of(an_approval()), OTHER.secret, OTHER.id)
    borrowed = sign(heard_of(an_approval()), OTHER.secret, KEY.id)
    ended = an_entry(expires="2026-05-04T12:00:00Z")

    assert code_of(lambda: signers(path).verify(strange)) == "signer_unknown"
    assert code_of(lambda: signers(path).verify(borrowed)) == "signature_wrong"
    revoked = an_entry(revoked=True)
    assert code_of(lambda: signers(path, revoked).verify(signed())) == "signer_revoked"
    assert code_of(lambda: signers(path, ended).verify(signed())) == "signer_revoked"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(15 * 60, ""), (15 * 60 + 1, "request_too_old"), (-60, ""), (-61, "request_from_future")],
)
def test_a_request_counts_for_a_quarter_of_an_hour(tmp_path: Path, seconds: int, code: str) -> None:
    later = signers(tmp_path / "keys", now=NOON + timedelta(seconds=seconds))

    if code:
        assert code_of(lambda: later.verify(signed())) == code
    else:
        assert later.verify(signed())


def test_a_changed_file_counts_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    known = signers(path)
    assert known.verify(signed())

    path.write_text("{half")
    assert known.verify(signed())

    write(path, an_entry(OTHER))
    os.utime(path, ns=(1, 1))
    assert code_of(lambda: known.verify(signed())) == "signer_unknown"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        an_entry(public_key="AAAA"),
        an_entry(public_key="not base64"),
        an_entry(speaks_for="some"),
        an_entry(expires="2026-05-04T12:00:00"),
    ],
)
def test_signers_of_another_form_are_an_error(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_signers(json.dumps({"signers": [entry]}).encode())


def test_a_private_key_is_read_from_its_own_file() -> None:
    secret = base64.b64encode(KEY.secret).decode()

    assert read_signing_key(json.dumps({"id": KEY.id, "private_key": secret}).encode()) == KEY
    assert secret not in repr(KEY)
    for broken in ({"id": "a:b", "private_key": secret}, {"id": "a", "private_key": "AA"}, {}):
        with pytest.raises(ValueError, match="key"):
            read_signing_key(json.dumps(broken).encode())


def test_a_seal_signs_with_the_key_that_its_file_holds_now(tmp_path: Path) -> None:
    file, seconds = tmp_path / "key", iter(range(0, 100, 10))
    seal = Seal(file, lambda: float(next(seconds)))
    with pytest.raises(Conflict) as refused:
        seal.sign(heard_of(an_approval()))
    assert refused.value.code == "no_signing_key"

    for key in (KEY, OTHER):
        content = {"id": key.id, "private_key": base64.b64encode(key.secret).decode()}
        file.write_text(json.dumps(content))
        signed_now = seal.sign(heard_of(an_approval()))
        assert signers(tmp_path / "keys", an_entry(key)).verify(signed_now)


def test_without_a_file_nothing_is_signed() -> None:
    with pytest.raises(Conflict):
        Seal(None).sign(heard_of(an_approval()))
