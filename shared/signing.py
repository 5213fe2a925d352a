"""Requests on the bus are signed: who wrote to a topic proves nothing to those who read it.

Ed25519 (RFC 8032) over the canonical JSON of id, source, type, subject, time and data. The key's
id stands in the signature itself: `ed25519:<key id>:<base64>`. Public keys lie in the file of keys:
`"signers": [{"id", "principal", "public_key", "speaks_for": "self" | "all"}]`.
"""

import base64
import json
import time
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from shared import clock, codec
from shared.access import Watched, moment_of
from shared.errors import Conflict, Unauthenticated
from shared.events import Event, Heard

E = TypeVar("E", bound=Event)

MAX_AGE: Final = timedelta(minutes=15)
LEEWAY: Final = timedelta(seconds=60)
"""So far may another machine's clock be ahead."""

_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_LONGEST: Final = 400
"""Characters of a signature with a key id of reasonable length."""


class BadSignature(Unauthenticated):
    """The event is not signed by whom it would have to be; its code says in which way.

    Codes: signature_missing, signature_malformed, signature_wrong, signer_unknown,
    signer_revoked, request_too_old, request_from_future.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and the id under which its public key is known."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        public: bytes = _private(self.secret).public_key().public_bytes_raw()
        return public


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signed; a service that has seen others' credentials may speak for them."""

    principal: str
    key: str
    may_speak_for_others: bool

    def speaks_for(self, by: str) -> bool:
        """Whether what it signed may say that `by` asked for it."""
        return self.may_speak_for_others or by == self.principal


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSigner:
    """A public key of the file, revoked ones too: theirs is a code of its own."""

    signer: Signer
    public: bytes
    revoked: bool
    expires: datetime | None


def signed_text(heard: Heard[Event]) -> bytes:
    """What is signed: the same bytes at both ends, whatever wrote the JSON between them.

    Fields at their defaults are left out, so that a reader with a newer optional field agrees.
    """
    return json.dumps(
        {
            "id": str(heard.id),
            "source": heard.source,
            "type": heard.event.TYPE,
            "subject": heard.event.subject,
            "time": heard.time.astimezone(UTC).isoformat(),
            "data": codec.changed_fields(heard.event),
        },
        sort_keys=True,
        allow_nan=False,
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def sign(heard: Heard[E], private_key: bytes, key_id: str) -> Heard[E]:
    """The event with its signature.

    Args:
        private_key: the Ed25519 seed, 32 bytes.
        key_id: the id of the public key in the file of keys; without a colon.
    """
    signature = _private(private_key).sign(signed_text(heard))
    text = f"ed25519:{key_id}:{base64.b64encode(signature).decode()}"
    return replace(heard, signature=text)


def _private(secret: bytes) -> Any:
    # Loaded with the first signature: services that never sign or check one do without.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
    )

    return Ed25519PrivateKey.from_private_bytes(secret)


def _is_genuine(public: bytes, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


class Signers:
    """The public keys of the file of keys, read again when it changes."""

    def __init__(
        self,
        path: Path,
        *,
        max_age: timedelta = MAX_AGE,
        now: clock.Clock = clock.now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        nothing: Mapping[str, KnownSigner] = {}
        self._file = Watched(path, read_signers, nothing, monotonic)
        self._max_age = max_age
        self._now = now

    def verify(self, heard: Heard[Event]) -> Signer:
        """Who signed this event.

        Raises:
            BadSignature: it is not signed, not by a known key, not over these words, or long ago.
        """
        key_id, signature = _parts(heard.signature)
        known = self._file.value().get(key_id)
        if known is None:
            raise BadSignature("The key of this signature is not known.", code="signer_unknown")
        if known.revoked or (known.expires is not None and self._now() >= known.expires):
            raise BadSignature("The key of this signature was revoked.", code="signer_revoked")
        if heard.time.tzinfo is None:
            raise BadSignature("The time lacks its offset from UTC.", code="signature_wrong")
        if not _is_genuine(known.public, signature, signed_text(heard)):
            raise BadSignature("The signature is not over this event.", code="signature_wrong")
        self._check_age(heard.time)
        return known.signer

    def _check_age(self, said_at: datetime) -> None:
        age = self._now() - said_at
        if age > self._max_age:
            minutes = self._max_age.total_seconds() / 60
            raise BadSignature(
                f"It was signed more than {minutes:g} minutes ago; ask again.",
                code="request_too_old",
            )
        if age < -LEEWAY:
            raise BadSignature(
                "It was signed by a clock that is ahead; set that clock.",
                code="request_from_future",
            )


def _parts(text: str | None) -> tuple[str, bytes]:
    """The id of the key and the signature."""
    if not text:
        raise BadSignature("The request is not signed.", code="signature_missing")
    kind, _, rest = text[: _LONGEST + 1].partition(":")
    key_id, _, encoded = rest.partition(":")
    signature = _decoded(encoded)
    if (
        kind != "ed25519"
        or not key_id
        or len(text) > _LONGEST
        or len(signature) != _SIGNATURE_BYTES
    ):
        raise BadSignature(
            "A signature is written `ed25519:<key id>:<base64 of 64 bytes>`.",
            code="signature_malformed",
        )
    return key_id, signature


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (NotBase64, ValueError):
        return b""


def read_signers(data: bytes) -> Mapping[str, KnownSigner]:
    """The public keys of a file, by their id.

    Raises:
        ValueError: the file is not what `make up` writes.
    """
    document = orjson.loads(data)
    try:
        return {str(entry["id"]): _known(entry) for entry in document.get("signers", [])}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the signers in the file of keys have a wrong form: {error}") from error


def _known(entry: Mapping[str, Any]) -> KnownSigner:
    public, speaks_for = _decoded(str(entry["public_key"])), entry.get("speaks_for", "self")
    if len(public) != _KEY_BYTES or speaks_for not in ("self", "all"):
        raise ValueError(f"signer {entry['id']} needs a public key of 32 bytes, for self or all")
    return KnownSigner(
        signer=Signer(
            principal=str(entry["principal"]),
            key=str(entry["id"]),
            may_speak_for_others=speaks_for == "all",
        ),
        public=public,
        revoked=entry.get("revoked", False) is not False,
        expires=moment_of(entry.get("expires")),
    )


def read_signing_key(data: bytes) -> SigningKey:
    """The private key of a file: `{"id": …, "private_key": <base64 of 32 bytes>}`.

    Raises:
        ValueError: it holds no such key.
    """
    document = orjson.loads(data)
    try:
        key_id, secret = str(document["id"]), _decoded(str(document["private_key"]))
    except (KeyError, TypeError) as error:
        raise ValueError("it holds no signing key") from error
    if not key_id or ":" in key_id or len(secret) != _KEY_BYTES:
        raise ValueError("it holds no Ed25519 key of 32 bytes with an id without colon")
    return SigningKey(id=key_id, secret=secret)


class Seal:
    """Signs with the key of a file, which may be replaced by a new one at any time."""

    def __init__(self, path: Path | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        nothing: SigningKey | None = None
        self._file = Watched(path, read_signing_key, nothing, monotonic) if path else None

    def sign(self, heard: Heard[E]) -> Heard[E]:
        """The event with its signature.

        Raises:
            Conflict: there is no key here.
        """
        key = self._file.value() if self._file else None
        if key is None:
            raise Conflict(
                "This registry has no signing key, so it asks nobody on the bus; ask an admin to "
                "set one, or use the door of the service itself.",
                code="no_signing_key",
            )
        return sign(heard, key.secret, key.id)
