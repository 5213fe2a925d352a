"""The knobs that every service has; each service adds its own in its settings.py."""

from typing import Literal

from pydantic import Field, SecretStr
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

    environment: Literal["production", "local", "test"] = "production"
    """`production` refuses fault points."""

    fault: str = ""
    """Named fault point that kills this process, for tests only: `point` or `point:nth`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""

    body_limit_bytes: int = Field(default=1_000_000, ge=1_000)
    """Bytes. A larger request body is refused (uploads have a limit of their own)."""


class DatabaseSettings(ServiceSettings):
    """The knobs of a service that owns a database (every one but serving)."""

    database: SecretStr
    """Address of the PostgreSQL database that this service alone uses."""

    pool_size: int = Field(default=8, ge=2, le=100)
    """Connections to the database; the relay holds one more of its own."""
