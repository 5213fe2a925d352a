"""A token says who somebody is only when a key of the issuer signed it, for us, for now."""

import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from fastapi import APIRouter, Depends
from pydantic import ValidationError

from shared import http
from shared.access import Keys, Principal, Role
from shared.errors import NotPermitted, Unauthenticated, Unavailable
from shared.http import allow
from shared.jwks import RETRY_SECONDS, STALE_SECONDS, IssuerKeys, Source, read_key_set, strict_json
from shared.oidc import Expected, IssuedTokens
from shared.settings import ServiceSettings
from tests.support.issuer import (
    AUDIENCE,
    Issuer,
    Signing,
    base64url,
    compact,
    new_ec,
    new_rsa,
    public_jwk,
    public_pem,
    running_issuer,
)

pytestmark = pytest.mark.enable_socket

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOW = NOON.timestamp()
FOREIGN = new_rsa()
KEYS: dict[str, Signing] = {
    "rsa": new_rsa(),
    "ec": new_ec(),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer(dict(KEYS)) as running:
        yield running


@dataclass
class Seconds:
    """A clock that moves when it is told to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def people(folder: Path) -> Keys:
    vera = {
        "subject": "vera@example.org",
        "principal": "vera",
        "grants": [{"team": "pumps", "roles": ["approver"]}],
    }
    (folder / "keys.json").write_text(json.dumps({"keys": [], "people": [vera]}))
    return Keys(folder / "keys.json")


@pytest.fixture
def tokens(issuer: Issuer, seconds: Seconds, tmp_path: Path) -> IssuedTokens:
    return IssuedTokens(
        expected=Expected(issuer=issuer.url, audience=AUDIENCE),
        issuer_keys=IssuerKeys(Source(issuer=issuer.url), seconds),
        people=people(tmp_path),
        now=lambda: NOON,
    )


@pytest.mark.parametrize(("key_id", "alg"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
async def test_a_token_of_the_issuer_names_a_principal(
    issuer: Issuer, tokens: IssuedTokens, key_id: str, alg: str
) -> None:
    found = await tokens.principal(issuer.token(key_id, alg, issuer.claims(NOW)))

    assert found.name == "vera"
    assert found.grants == {"pumps": frozenset({Role.APPROVER})}


async def test_roles_in_a_token_count_for_nothing(issuer: Issuer, tokens: IssuedTokens) -> None:
    claims = issuer.claims(NOW, roles=["admin"], groups=["admin"], teams=["*"], scope="admin")

    found = await tokens.principal(issuer.token("rsa", "RS256", claims))

    assert found.roles == {Role.APPROVER}
    assert found.teams == {"pumps"}


async def test_whom_nobody_gave_a_role_is_told_what_to_ask_for(
    issuer: Issuer, tokens: IssuedTokens
) -> None:
    token = issuer.token("rsa", "RS256", issuer.claims(NOW, sub="eve@example.org"))

    with pytest.raises(NotPermitted, match="ask an admin to add this subject"):
        await tokens.principal(token)


Mint = Callable[[Issuer], str]


def _of(key_id: str = "rsa", alg: str = "RS256", **changes: Any) -> Mint:
    return lambda issuer: issuer.token(key_id, alg, issuer.claims(NOW, **changes))


def _headed(**header: Any) -> Mint:
    alg = header.pop("alg", "RS256")
    return lambda issuer: issuer.token("rsa", alg, issuer.claims(NOW), **header)


def _raw(claims: Callable[[str], str], header: str = '{"alg":"RS256","kid":"rsa"}') -> Mint:
    """Signed by the issuer's own key over exactly these texts."""
    return lambda issuer: compact(KEYS["rsa"], header, claims(json.dumps(issuer.claims(NOW))))


def _with(text: str) -> Callable[[str], str]:
    """The good claims with more text before their end."""
    return lambda good: good[:-1] + text + "}"


def _without(name: str, text: str) -> Callable[[str], str]:
    def changed(good: str) -> str:
        claims = json.loads(good)
        claims.pop(name)
        return json.dumps(claims)[:-1] + text + "}"

    return changed


def _unsigned(alg: str) -> Mint:
    def mint(issuer: Issuer) -> str:
        header = base64url(json.dumps({"alg": alg, "kid": "rsa"}).encode())
        return f"{header}.{base64url(json.dumps(issuer.claims(NOW)).encode())}."

    return mint


def _hmac_with_the_public_key(issuer: Issuer) -> str:
    header = base64url(b'{"alg":"HS256","kid":"rsa"}')
    text = f"{header}.{base64url(json.dumps(issuer.claims(NOW)).encode())}"
    mac = hmac.new(public_pem(KEYS["rsa"]), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64url(mac)}"


def _foreign(**header: Any) -> Mint:
    """Signed by a key of somebody else, who brings it along."""

    def mint(issuer: Issuer) -> str:
        head = json.dumps({"alg": "RS256", "kid": "rsa"} | header)
        return compact(FOREIGN, head, json.dumps(issuer.claims(NOW)))

    return mint


def _cut(issuer: Issuer) -> str:
    return _of()(issuer)[:-1]


def _changed(issuer: Issuer) -> str:
    head, _, signature = _of()(issuer).split(".")
    return f"{head}.{base64url(json.dumps(issuer.claims(NOW, sub='ada')).encode())}.{signature}"


DAY = 24 * 3600
HOSTILE: dict[str, Mint] = {
    "alg none": _unsigned("none"),
    "alg nOnE": _unsigned("nOnE"),
    "alg none with a signature": _headed(alg="none"),
    "HS256 with the public key": _hmac_with_the_public_key,
    "alg RS512": _headed(alg="RS512"),
    "alg that is no text": _headed(alg=["RS256"]),
    "no alg": lambda issuer: compact(KEYS["rsa"], '{"kid":"rsa"}', json.dumps(issuer.claims(NOW))),
    "unknown crit": _headed(crit=["x"], x=1),
    "crit b64": _headed(crit=["b64"], b64=False),
    "empty crit": _headed(crit=[]),
    "other audience": _of(aud="other"),
    "no audience": _of(aud=None),
    "audiences without ours": _of(aud=["a", "b"]),
    "audience that contains ours": _of(aud="tidewheel-other"),
    "other issuer": _of(iss="https://id.example.org"),
    "issuer with a slash": lambda issuer: _of(iss=issuer.url + "/")(issuer),
    "no issuer": _of(iss=None),
    "no exp": _of(exp=None),
    "no nbf": _of(nbf=None),
    "exp NaN": _raw(_without("exp", ', "exp": NaN')),
    "exp Infinity": _raw(_without("exp", ', "exp": Infinity')),
    "exp 1e400": _raw(_without("exp", ', "exp": 1e400')),
    "exp 10^400": _raw(_without("exp", f', "exp": {10**400}')),
    "exp of 5000 digits": _raw(_without("exp", f', "exp": {"9" * 5000}')),
    "exp as text": _of(exp=str(int(NOW) + 600)),
    "exp true": _of(exp=True),
    "exp negative": _of(exp=-1),
    "expired": _of(exp=int(NOW) - 31),
    "nbf in the future": _of(nbf=int(NOW) + 31, iat=int(NOW)),
    "iat in the future": _of(iat=int(NOW) + 3600),
    "iat as text": _of(iat="now"),
    "longer than a day": _of(exp=int(NOW) + DAY),
    "begun long ago": _of(nbf=int(NOW) - 2 * DAY),
    "issued long ago": _of(iat=int(NOW) - 2 * DAY),
    "exp twice": _raw(_with(f', "exp": {int(NOW) + 60}')),
    "sub twice": _raw(_with(', "sub": "ada"')),
    "alg twice": _raw(lambda good: good, '{"alg":"none","alg":"RS256","kid":"rsa"}'),
    "no sub": _of(sub=None),
    "sub empty": _of(sub=""),
    "sub that is no text": _of(sub=["vera@example.org"]),
    "sub of 1000 characters": _of(sub="v" * 1000),
    "jku with a foreign key": _foreign(jku="http://127.0.0.1:1/keys"),
    "jwk with a foreign key": _foreign(jwk=public_jwk(FOREIGN, "rsa")),
    "x5u with a foreign key": _foreign(x5u="http://127.0.0.1:1/chain"),
    "x5c with a foreign key": _foreign(x5c=["AAAA"]),
    "signed by nobody we know": _foreign(),
    "unknown kid": _headed(kid="other"),
    "kid of another kind of key": _headed(kid="ec"),
    "kid that is a path": _headed(kid="../../dev/null"),
    "kid that is a number": _headed(kid=7),
    "kid that is a list": _headed(kid=["rsa"]),
    "kid of 1000 characters": _headed(kid="k" * 1000),
    "ES256 for an RSA key": _headed(alg="ES256"),
    "of another kind": _headed(typ="logout+jwt"),
    "kind that is no text": _headed(typ=1),
    "1 MB": _of(more="x" * 1_000_000),
    "9 kB": _of(more="x" * 9_000),
    "truncated": _cut,
    "claims changed": _changed,
    "two parts": lambda issuer: _of()(issuer).rpartition(".")[0],
    "four parts": lambda issuer: _of()(issuer) + ".AAAA",
    "encrypted": lambda _: "eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA",
    "padded": lambda issuer: _of()(issuer) + "==",
    "claims that are a list": _raw(lambda _: "[]"),
    "claims that are no JSON": _raw(lambda _: "{"),
    "claims nested without end": _raw(lambda _: '{"a":' * 900 + "1" + "}" * 900),
    "no token at all": lambda _: "hello",
    "characters beyond ASCII": lambda _: "é.é.é",
    "a line break": lambda issuer: _of()(issuer) + "\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_lets_nobody_in(
    issuer: Issuer, tokens: IssuedTokens, name: str
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await tokens.principal(HOSTILE[name](issuer))

    assert refused.value.status == 401
    assert all(path in ("/.well-known/openid-configuration", "/keys") for path in issuer.asked)


@pytest.mark.parametrize(
    "mint",
    [
        _of(aud=["other", AUDIENCE]),
        _of(exp=int(NOW) - 29),
        _of(nbf=int(NOW) + 29, iat=None),
        _of(exp=NOW + 600.5),
        _headed(typ="at+jwt"),
        _headed(jku="http://127.0.0.1:1/keys"),
    ],
    ids=["several audiences", "just expired", "nearly begun", "half seconds", "kind", "jku"],
)
async def test_a_token_within_the_limits_lets_in(
    issuer: Issuer, tokens: IssuedTokens, mint: Mint
) -> None:
    assert (await tokens.principal(mint(issuer))).name == "vera"
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_new_key_is_fetched_and_unknown_ones_ask_the_issuer_seldom(
    issuer: Issuer, tokens: IssuedTokens, seconds: Seconds
) -> None:
    await tokens.principal(_of()(issuer))
    issuer.keys["new"] = new_ec()
    fresh = _of("new", "ES256")(issuer)

    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await tokens.principal(fresh)
    assert issuer.asked.count("/keys") == 1

    seconds.now += RETRY_SECONDS
    assert (await tokens.principal(fresh)).name == "vera"
    assert issuer.asked.count("/keys") == 2


async def test_a_key_that_is_withdrawn_counts_no_more(
    issuer: Issuer, tokens: IssuedTokens, seconds: Seconds
) -> None:
    token = _of()(issuer)
    await tokens.principal(token)

    del issuer.keys["rsa"]
    seconds.now += 600

    with pytest.raises(Unauthenticated):
        await tokens.principal(token)


async def test_known_keys_count_for_a_day_while_the_issuer_is_away(
    issuer: Issuer, tokens: IssuedTokens, seconds: Seconds
) -> None:
    token = _of()(issuer)
    await tokens.principal(token)
    issuer.away = True

    seconds.now += STALE_SECONDS
    assert (await tokens.principal(token)).name == "vera"

    seconds.now += 1
    with pytest.raises(Unavailable):
        await tokens.principal(token)

    issuer.away = False
    seconds.now += RETRY_SECONDS
    assert (await tokens.principal(token)).name == "vera"


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://id.example.org"},
        {"jwks_uri": "http://203.0.113.7/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://127.0.0.1@203.0.113.7/keys"},
        {"jwks_uri": None},
    ],
)
async def test_keys_come_from_nowhere_else(
    issuer: Issuer, tokens: IssuedTokens, description: dict[str, Any]
) -> None:
    issuer.description = description

    with pytest.raises(Unavailable):
        await tokens.principal(_of()(issuer))
    assert "/keys" not in issuer.asked


@pytest.mark.parametrize(
    "raw", [b"[]", b"{}", b'{"keys": 1}', b"{", b'{"keys":[]}' + b" " * 300_000]
)
async def test_a_broken_key_set_changes_nothing(
    issuer: Issuer, tokens: IssuedTokens, seconds: Seconds, raw: bytes
) -> None:
    await tokens.principal(_of()(issuer))
    issuer.raw = raw

    seconds.now += 600

    assert (await tokens.principal(_of()(issuer))).name == "vera"


def test_keys_of_other_kinds_and_short_ones_are_left_out() -> None:
    good = public_jwk(KEYS["ec"], "good")
    short = public_jwk(KEYS["rsa"], "short") | {"n": base64url(b"\xc1" * 128)}
    curve = public_jwk(ec.generate_private_key(ec.SECP384R1()), "p384")
    odd: list[Any] = [
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        public_jwk(KEYS["ec"], "enc") | {"use": "enc"},
        public_jwk(KEYS["ec"], "alg") | {"alg": "ES384"},
        public_jwk(KEYS["ec"], "point") | {"y": "AAAA"},
        {"kty": ["RSA"]},
        "text",
    ]

    known = read_key_set(json.dumps({"keys": [good, short, curve, *odd]}).encode())

    assert set(known) == {("good", "ES256")}


@pytest.mark.parametrize(
    "text", [b'{"a":1,"a":1}', b'{"b":{"a":1,"a":2}}', b"\xff", b"1", b'{"a":-Infinity}']
)
def test_json_is_read_without_leniency(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        strict_json(text)


def _settings(folder: Path, **oidc: Any) -> ServiceSettings:
    return ServiceSettings(
        kafka="127.0.0.1:1",
        artifacts=f"file://{folder}",
        port=0,
        admin_port=0,
        keys_file=str(folder / "keys.json"),
        **oidc,
    )


@pytest.mark.parametrize(
    "oidc",
    [
        {"oidc_issuer": "https://id.example.org"},
        {"oidc_audience": "tidewheel"},
        {"oidc_issuer": "http://id.example.org", "oidc_audience": "tidewheel"},
        {"oidc_issuer": "https://a:b@id.example.org", "oidc_audience": "tidewheel"},
        {"oidc_keys": "https://id.example.org/keys"},
        {"oidc_leeway_seconds": 61},
    ],
)
def test_settings_that_would_trust_too_much_are_refused(
    tmp_path: Path, oidc: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        _settings(tmp_path, **oidc)


@pytest.fixture
async def door(issuer: Issuer, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    people(tmp_path)
    router = APIRouter()

    @router.get("/v1/me")
    async def me(principal: Annotated[Principal, Depends(allow(Role.APPROVER))]) -> Any:
        return http.Json({"name": principal.name})

    settings = _settings(
        tmp_path, oidc_issuer=issuer.url, oidc_audience=AUDIENCE, oidc_keys=f"{issuer.url}/keys"
    )
    app = http.build("registry", settings, [router], ready=lambda: {"connected": True})
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_the_door_takes_tokens_beside_keys(issuer: Issuer, door: httpx.AsyncClient) -> None:
    now = datetime.now(UTC).timestamp()  # noqa: TID251 - the door reads the real clock
    good = issuer.token("ec", "ES256", issuer.claims(now))
    late = issuer.token("ec", "ES256", issuer.claims(now, exp=int(now) - 300))

    async def asked(text: str) -> httpx.Response:
        return await door.get("/v1/me", headers={"Authorization": f"Bearer {text}"})

    assert (await asked(good)).json() == {"name": "vera"}
    assert issuer.asked == ["/keys"]
    assert ((await asked(late)).status_code, (await asked(late)).json()["code"]) == (
        401,
        "token_expired",
    )
    assert (await asked("tw_unknown")).json()["code"] == "unauthenticated"
    assert (await asked("x" * 1_000_000)).status_code == 401


async def test_without_its_issuer_the_door_says_so(issuer: Issuer, door: httpx.AsyncClient) -> None:
    issuer.away = True

    answer = await door.get("/v1/me", headers={"Authorization": f"Bearer {_of()(issuer)}"})

    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"


def test_a_service_without_an_issuer_loads_nothing_for_tokens() -> None:
    code = (
        "import sys, shared.http, shared.signing; "
        "print([m for m in ('joserfc', 'cryptography', 'httpx') if m in sys.modules])"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"
