"""A small issuer of tokens on loopback: its description, its key set, and tokens of every kind."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

Signing = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
AUDIENCE = "tidewheel"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int, size: int | None = None) -> str:
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def public_jwk(key: Signing, key_id: str) -> dict[str, Any]:
    """The public half as an issuer publishes it."""
    named = {"kid": key_id, "use": "sig"}
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return named | {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384"}[key.curve.name]
        return named | {
            "kty": "EC",
            "crv": curve,
            "x": _number(point.x, size),
            "y": _number(point.y, size),
        }
    raw = key.public_key().public_bytes_raw()
    return named | {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}


def public_pem(key: Signing) -> bytes:
    """The public half as others would find it in a file."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signature_of(key: Signing, text: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(text)


def compact(key: Signing, header: str, claims: str) -> str:
    """A token of exactly these texts, whatever they are."""
    text = f"{base64url(header.encode())}.{base64url(claims.encode())}"
    return f"{text}.{base64url(signature_of(key, text.encode()))}"


@dataclass
class Issuer:
    """What an issuer shows and signs; tests change its fields while it runs.

    Attributes:
        keys: by their id; what is published.
        away: while set, it answers 503.
        asked: the paths that were asked for.
    """

    keys: dict[str, Signing]
    url: str = ""
    away: bool = False
    asked: list[str] = field(default_factory=list)
    description: dict[str, Any] = field(default_factory=dict)
    raw: bytes | None = None

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if self.away:
            return 503, b"{}"
        if path == "/.well-known/openid-configuration":
            described = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.description
            return 200, json.dumps(described).encode()
        if path == "/keys":
            jwks = [public_jwk(key, key_id) for key_id, key in self.keys.items()]
            return 200, self.raw or json.dumps({"keys": jwks}).encode()
        return 404, b"{}"

    def claims(self, now: float, **changes: Any) -> dict[str, Any]:
        """Good claims; a change of None leaves one out."""
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "vera@example.org",
            "nbf": int(now) - 5,
            "iat": int(now) - 5,
            "exp": int(now) + 600,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, key_id: str, alg: str, claims: Mapping[str, Any], **header: Any) -> str:
        """A token signed by one of its keys."""
        head = {"alg": alg, "typ": "JWT", "kid": key_id} | header
        return compact(self.keys[key_id], json.dumps(head), json.dumps(claims))


def new_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def new_ec() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@contextmanager
def running_issuer(keys: dict[str, Signing]) -> Iterator[Issuer]:
    """An issuer that answers until the block ends."""
    issuer = Issuer(keys)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
