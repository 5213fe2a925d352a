"""The public keys of an issuer of tokens: fetched over https, kept, and fetched again with care.

Loaded only where an issuer is configured.
"""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from shared import telemetry
from shared.errors import Unavailable
from shared.settings import is_safe_address

PublicKey = RSAKey | ECKey | OKPKey
FRESH_SECONDS: Final = 600.0
"""Keys are fetched again after so long."""
RETRY_SECONDS: Final = 10.0
"""Fetched at most so often, however many tokens name keys that nobody knows."""
STALE_SECONDS: Final = 86_400.0
"""While the issuer does not answer, its keys count for so long, as long as a token may live."""
_FETCH_SECONDS: Final = 5.0
_MOST_BYTES: Final = 256_000
_LEAST_RSA_BITS: Final = 2048
_ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_CURVES: Final = {"RSA": None, "EC": "P-256", "OKP": "Ed25519"}

Known = Mapping[tuple[str, str], PublicKey]
"""Keys by their id and the one algorithm that each is used with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an issuer's keys are.

    Attributes:
        issuer: as tokens name it.
        address: of the key set; found in the issuer's own description when empty.
        ca_file: whom to trust besides the usual authorities.
    """

    issuer: str
    address: str = ""
    ca_file: Path | None = None


class IssuerKeys:
    """The keys of one issuer, as they were when it last answered."""

    def __init__(self, source: Source, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._known: Known = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str, algorithm: str) -> PublicKey | None:
        """The key of this id; without an id, the only one there is for the algorithm.

        Raises:
            Unavailable: the issuer does not answer, and has not for long.
        """
        found = self._find(key_id, algorithm)
        # Who finds its key does not wait for others who look for theirs.
        if self._is_due(found) and not (found and self._fetching.locked()):
            async with self._fetching:
                if self._is_due(found):
                    await self._fetch()
        if self._monotonic() - self._fetched_at > STALE_SECONDS:
            raise Unavailable("the issuer of tokens does not answer; API keys work without it")
        return self._find(key_id, algorithm)

    def _find(self, key_id: str, algorithm: str) -> PublicKey | None:
        if key_id:
            return self._known.get((key_id, algorithm))
        usable = [key for (_, used_with), key in self._known.items() if used_with == algorithm]
        return usable[0] if len(usable) == 1 else None

    def _is_due(self, found: PublicKey | None) -> bool:
        now = self._monotonic()
        is_old = now - self._fetched_at >= FRESH_SECONDS
        return (found is None or is_old) and now - self._tried_at >= RETRY_SECONDS

    async def _fetch(self) -> None:
        self._tried_at = self._monotonic()
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._known = read_key_set(await _key_set(self._source))
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            telemetry.log("issuer_not_read", level="error", issuer=self._source.issuer, why=reason)
        else:
            self._fetched_at = self._monotonic()


async def _key_set(source: Source) -> bytes:
    """The bytes of the key set; its address comes from us or the issuer, never from a token."""
    context = ssl.create_default_context(cafile=source.ca_file)
    async with httpx.AsyncClient(
        verify=context, timeout=_FETCH_SECONDS, follow_redirects=False, trust_env=False
    ) as client:
        address = source.address
        if not address:
            well_known = source.issuer.rstrip("/") + "/.well-known/openid-configuration"
            description = strict_json(await _body(client, well_known))
            if description.get("issuer") != source.issuer:
                raise ValueError("the description at the issuer's address is of another issuer")
            address = str(description.get("jwks_uri", ""))
        return await _body(client, address)


async def _body(client: httpx.AsyncClient, address: str) -> bytes:
    if not is_safe_address(address):
        raise ValueError(f"{address[:200]!r} is neither https nor on this machine")
    found = bytearray()
    async with client.stream("GET", address) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"{address} answers {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            found += chunk
            if len(found) > _MOST_BYTES:
                raise ValueError(f"{address} answers more than {_MOST_BYTES} bytes")
    return bytes(found)


def read_key_set(data: bytes) -> Known:
    """The keys of a set that are ours to use; others, and broken ones, are left out.

    Raises:
        ValueError: it is no key set.
    """
    entries = strict_json(data).get("keys")
    if not isinstance(entries, list):
        raise ValueError("a key set has a list of keys")
    known: dict[tuple[str, str], PublicKey] = {}
    for entry in entries:
        key = _usable(entry) if isinstance(entry, dict) else None
        if key is not None:
            known[str(entry.get("kid", "")), _ALGORITHMS[str(entry["kty"])]] = key
    return known


def _usable(entry: Mapping[str, Any]) -> PublicKey | None:
    kind = entry.get("kty")
    if not isinstance(kind, str) or kind not in _ALGORITHMS:
        return None
    if kind == "RSA" and _bits(entry.get("n")) < _LEAST_RSA_BITS:
        return None
    if (
        entry.get("crv") != _CURVES[kind]
        or entry.get("use", "sig") != "sig"
        or entry.get("alg", _ALGORITHMS[kind]) != _ALGORITHMS[kind]
    ):
        return None
    public = {name: entry[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in entry}
    try:
        key = JWKRegistry.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return key if isinstance(key, PublicKey) else None


def _bits(number: Any) -> int:
    """Bits of a number in base64url; 0 when it is none."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(f"{number}==")).bit_length()
    except ValueError:
        return 0


def strict_json(data: bytes) -> dict[str, Any]:
    """A JSON object, read without leniency: no key twice, no NaN, no endless nesting.

    Raises:
        ValueError: it is anything else.
    """
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_number
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
