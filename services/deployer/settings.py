"""The knobs of the deployer."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Read once, by `app`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_DEPLOYER_", frozen=True)

    canary_alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Chance that a harmless canary is aborted over its whole life, however often it is looked at,
    and that a harmful one is promoted."""

    canary_delta: float = Field(default=0.5, gt=0, le=10)
    """Ratio. A canary may have this much more errors or slow answers than the champion; smaller
    needs more requests."""

    canary_event_limit: float = Field(default=0.02, gt=0, lt=1)
    """Share of requests. A canary whose rate of errors and of slow answers surely lies below it
    may advance although its events are too rare to be compared with the champion's."""

    young_error_limit: float = Field(default=0.2, gt=0, le=1)
    """Share of requests. A champion in probation whose rate of errors surely lies above it is
    rolled back, whatever the one before it did."""
