"""The knobs that every service has; each service adds its own in its settings.py."""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings


class ServiceSettings(BaseSettings):
    """What every service is told at start, under its own prefix `TIDEWHEEL_<SERVICE>_`."""

    kafka: str
    """Bootstrap servers, `host:port[,host:port]`."""

    topic_prefix: str = ""
    """Put before every topic name, so that installations can share a broker."""

    artifacts: str
    """Address of the object store: `file:///…`, `s3://…`, `gs://…` or `az://…`."""

    replica: str = Field(default="0", pattern=r"^[a-z0-9-]{1,40}$")
    """Which replica this is (the ordinal on Kubernetes); names the static group member."""

    host: str = "127.0.0.1"
    """Address the public door listens on; loopback unless somebody decides otherwise."""

    port: int = Field(ge=0, le=65535)
    """Port of the public door."""

    admin_host: str = "127.0.0.1"
    """Address of the admin door (`/metrics`); loopback by default."""

    admin_port: int = Field(ge=0, le=65535)
    """Port of the admin door."""

    keys_file: str
    """File of hashed API keys and their roles, read again when it changes. There is no default
    key: without this file nobody is let in."""

    oidc_issuer: str = ""
    """Issuer of tokens, exactly as they name it, `https://id.example.org/realm`; http only on
    loopback. Without it only API keys are taken. Roles never come from a token: the people whom
    it names stand in the file of keys."""

    oidc_audience: str = ""
    """What a token must name as its audience; needed with an issuer."""

    oidc_keys: str = ""
    """Address of the issuer's key set, where its own description is not to be asked for it."""

    oidc_leeway_seconds: int = Field(default=30, ge=0, le=60)
    """Seconds that the issuer's clock may differ from ours."""

    oidc_ca_file: Path | None = None
    """File of certificates (PEM) whom to trust instead of the usual authorities."""

    request_age_seconds: int = Field(default=900, ge=1, le=86_400)
    """Seconds for which a signed request on the bus counts."""

    environment: Literal["production", "local", "test"] = "production"
    """`production` refuses fault points."""

    fault: str = ""
    """Named fault point that kills this process, for tests only: `point` or `point:nth`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""

    body_limit_bytes: int = Field(default=1_000_000, ge=1_000)
    """Bytes. A larger request body is refused (uploads have a limit of their own)."""

    head_seconds: float = Field(default=10.0, gt=0, le=120)
    """Seconds. A connection that has not sent the whole head of a request by then is refused."""

    body_seconds: float = Field(default=10.0, gt=0, le=120)
    """Seconds in which at least `body_bytes` of a body must come, again and again; a slower one is
    refused."""

    body_bytes: int = Field(default=10_000, ge=0)
    """Bytes; see `body_seconds`."""

    connections_limit: int = Field(default=1_000, ge=1)
    """Connections of one door at the same time; the next one is refused with 503."""

    quiet_seconds: float = Field(default=0.0, ge=0, le=3)
    """Seconds from being told to stop, when `/ready` begins to say no, until the doors close:
    as long as whoever spreads the requests needs to notice."""

    @field_validator("oidc_issuer", "oidc_keys")
    @classmethod
    def _is_safe(cls, address: str) -> str:
        if address and not is_safe_address(address):
            raise ValueError("it is neither an https address nor on this machine")
        return address

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.oidc_issuer) != bool(self.oidc_audience):
            raise ValueError("oidc_issuer and oidc_audience are set together or not at all")
        if self.oidc_keys and not self.oidc_issuer:
            raise ValueError("oidc_keys needs oidc_issuer")
        return self


def is_safe_address(address: str) -> bool:
    """Whether keys may come from there: by https, or from this machine itself."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.username or parts.password or parts.fragment or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class DatabaseSettings(ServiceSettings):
    """The knobs of a service that owns a database (every one but serving)."""

    database: SecretStr
    """Address of the PostgreSQL database that this service alone uses."""

    pool_size: int = Field(default=8, ge=2, le=100)
    """Connections to the database; the relay holds one more of its own."""
