"""The knobs of the drift monitor."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Read once, by `app`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_DRIFT_MONITOR_", frozen=True)

    alpha: float = Field(default=5e-4, gt=0, le=0.1)
    """Probability that a window without any change is called drifted, all tests together; the
    same for calling the answers of a window worse."""

    label_horizon_days: float = Field(default=30.0, gt=0, le=3650)
    """Days. Predictions and labels that found no partner are kept so long; then they are counted
    as orphaned and dropped."""

    report_seconds: float = Field(default=120.0, ge=10, le=3600)
    """Seconds. A report that takes longer is killed."""

    report_megabytes: int = Field(default=1500, ge=256, le=100_000)
    """Megabytes that one report may take beyond its libraries."""
