"""Principals from tokens of an OpenID Connect issuer.

A token says who somebody is and no more: roles and teams come from the file of keys alone.
Loaded only where an issuer is configured. Sources: RFC 7519, RFC 8725 (best current practices).
"""

import base64
import math
import re
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from shared import clock
from shared.access import Keys, Principal
from shared.errors import NotPermitted, Unauthenticated
from shared.jwks import IssuerKeys, PublicKey, Source, strict_json
from shared.settings import ServiceSettings

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
LONGEST_TOKEN: Final = 8_000
LONGEST_LIFE: Final = timedelta(hours=24)
_LONGEST_NAME: Final = 255
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: what lies behind it is no moment."""
_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_KINDS: Final = ("", "jwt", "at+jwt", "application/jwt", "application/at+jwt")
"""An issuer signs other things too, such as the end of a session, with the same keys."""


class TokenRefused(Unauthenticated):
    """The token proves nothing, or nothing any more."""

    code = "token_refused"


class _Registry(JWSRegistry):
    """The three algorithms, none by default, and sizes of real tokens."""

    max_header_length = 2_000
    max_payload_length = LONGEST_TOKEN

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"{name} is not allowed")
        return self.algorithms[name]


_REGISTRY: Final = _Registry(strict_check_header=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token must say.

    Attributes:
        leeway: so far may the issuer's clock differ from ours; at most a minute.
    """

    issuer: str
    audience: str
    leeway: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedTokens:
    """Tells by its token who somebody is."""

    expected: Expected
    issuer_keys: IssuerKeys
    people: Keys
    now: clock.Clock = clock.now

    async def principal(self, token: str) -> Principal:
        """Whoever shows this token.

        Raises:
            Unauthenticated: the token is not good.
            NotPermitted: it is, but nobody gave this person a role.
            Unavailable: the issuer's keys cannot be had.
        """
        header, claims = _read(token)
        key = await self.issuer_keys.find(str(header.get("kid", "")), header["alg"])
        if key is None or not _is_genuine(token, key):
            raise TokenRefused("This token was not signed by a key of the issuer.")
        subject = subject_of(claims, self.expected, self.now().timestamp())
        known = self.people.person(subject)
        if known is None:
            raise NotPermitted(
                f"Your token is good, but {subject!r} has no role here; ask an admin to add this "
                "subject to the people in the file of keys.",
                code="subject_unknown",
            )
        return known


def _read(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims of a token in the one form that is read; nothing is proved yet."""
    form = _FORM.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
    if form is None:
        raise TokenRefused(f"A token has three parts and at most {LONGEST_TOKEN} characters.")
    try:
        header, claims = (strict_json(_decoded(part)) for part in form.groups()[:2])
    except ValueError as error:
        raise TokenRefused("This token cannot be read.") from error
    _check_header(header)
    return header, claims


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") not in ALGORITHMS:
        raise TokenRefused(f"A token is signed by {', '.join(ALGORITHMS)}.")
    if "crit" in header or "b64" in header:
        raise TokenRefused("This token asks for extensions that are not known here.")
    key_id, kind = header.get("kid", ""), header.get("typ", "")
    if not isinstance(key_id, str) or len(key_id) > _LONGEST_NAME:
        raise TokenRefused("The key id of this token is none.")
    if not isinstance(kind, str) or kind.lower() not in _KINDS:
        raise TokenRefused("This is not a token that says who somebody is.")


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except NotBase64 as error:
        raise ValueError("not base64url") from error


def _is_genuine(token: str, key: PublicKey) -> bool:
    try:
        jws.deserialize_compact(token, key, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError):
        return False
    return True


def subject_of(claims: Mapping[str, Any], expected: Expected, now: float) -> str:
    """Whom a genuine token is about.

    Args:
        now: seconds since 1970.

    Raises:
        TokenRefused: it is for others, or for another time.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("This token is of another issuer.")
    audience = claims.get("aud")
    if expected.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenRefused("This token is for another audience.")
    _check_times(claims, expected.leeway.total_seconds(), now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > _LONGEST_NAME:
        raise TokenRefused("This token does not say whom it is about.")
    return subject


def _check_times(claims: Mapping[str, Any], leeway: float, now: float) -> None:
    expires, begins = _seconds(claims, "exp"), _seconds(claims, "nbf")
    issued = _seconds(claims, "iat") if "iat" in claims else begins
    if now >= expires + leeway:
        raise TokenRefused("This token has expired; get a new one.", code="token_expired")
    if max(begins, issued) > now + leeway:
        raise TokenRefused("This token does not count yet.")
    if expires - min(begins, issued) > LONGEST_LIFE.total_seconds():
        raise TokenRefused("This token lives longer than a day; get a shorter one.")


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    found = claims.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TokenRefused(f"This token needs {name} as a number of seconds.")
    # Compared before it is converted: 10^400 is an integer and no float.
    if not 0 <= found <= _LAST_SECOND or not math.isfinite(found):
        raise TokenRefused(f"{name} of this token is no moment.")
    return float(found)


def open_tokens(settings: ServiceSettings, people: Keys) -> IssuedTokens:
    """What the settings of a service say about tokens."""
    source = Source(
        issuer=settings.oidc_issuer, address=settings.oidc_keys, ca_file=settings.oidc_ca_file
    )
    expected = Expected(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        leeway=timedelta(seconds=settings.oidc_leeway_seconds),
    )
    return IssuedTokens(expected=expected, issuer_keys=IssuerKeys(source), people=people)
