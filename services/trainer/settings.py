"""The knobs of the trainer."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Read once, by `app`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_TRAINER_", frozen=True)

    allowed_modules: tuple[str, ...] = ("sklearn",)
    """Modules that estimators may come from, with all below them. Who adds one lets specifications
    run its code; what it fits must be made of types that `shared.models` trusts."""

    concurrency: int = Field(default=1, ge=1, le=64)
    """Runs at a time, each in a process of its own with one thread per library."""

    lease_seconds: float = Field(default=15.0, ge=1, le=600)
    """Seconds. A run whose worker is silent for so long is begun again by another."""

    memory_ceiling: int = Field(default=16_384, ge=256, le=1_000_000)
    """Megabytes. A run gets what its specification asks for, but never more than this."""

    inline_bytes: int = Field(default=32_000_000, ge=0, le=500_000_000)
    """Bytes. A larger dataset is handed to the run as a file instead of in memory."""

    batch_seconds: float = Field(default=1800.0, ge=1, le=86_400)
    """Seconds. A batch of answers that takes longer is killed."""

    batch_megabytes: int = Field(default=4096, ge=256, le=1_000_000)
    """Megabytes that one batch of answers may take beyond its libraries."""
