"""The knobs of the registry."""

import tempfile
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """What the registry is told at start, as `TIDEWHEEL_REGISTRY_<KNOB>`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_REGISTRY_", frozen=True)

    uploads: Path = Path(tempfile.gettempdir()) / "tidewheel-registry"
    """Folder of files on their way in. Swept at start; needs room for `upload_limit_bytes` per
    upload at a time."""

    upload_limit_bytes: int = Field(default=512_000_000, ge=1_000)
    """Bytes. A larger dataset file is answered 413."""

    upload_seconds: float = Field(default=900, gt=0)
    """Seconds that a file may take to arrive, so that slow senders hold nothing for ever."""

    roots: dict[str, str] = Field(default_factory=dict)
    """Where references may lead, as JSON: `{"lake": "file:///…", "bucket": "s3://…"}`. Without
    it nothing is published by reference."""

    most_columns: int = Field(default=2_000, ge=1, le=10_000)
    """Columns of a dataset."""

    most_cells: int = Field(default=200_000_000, ge=1)
    """Rows x columns of a dataset."""

    profile_seconds: float = Field(default=120, gt=0)
    """Seconds that looking at one file may take; the process that looks is killed after them."""

    profile_megabytes: int = Field(default=512, ge=64)
    """Megabytes that looking at one file may take, beyond the libraries."""

    profile_together: int = Field(default=2, ge=1, le=32)
    """Files that are looked at at the same time."""

    offer_workers: int = Field(default=1, ge=1, le=16)
    """Offers that are worked on at the same time."""

    anchor_seconds: float = Field(default=300, gt=0)
    """Seconds between two looks at the head of the log's chain; a head that has moved is told on
    the topic of anchors. What is cut off later than the last anchor cannot be noticed."""

    signing_key: Path | None = None
    """File of the private key (`{"id", "private_key"}`, Ed25519, 0600) with which requests of
    people are signed before they are said on the bus. Without it they are not taken here."""

    lock: Path | None = Path(__file__).parents[2] / "constraints.lock"
    """File of pinned requirements of the installation; versions of estimators in code digests
    come from it."""
