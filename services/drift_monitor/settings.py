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

    label_horizon_days: float = Field(default=90.0, gt=0, le=3650)
    """Days. Predictions and labels are kept so long, those of a model with slower labels for longer
    (twice its `data.label_delay`); labels that found no prediction by then count as orphaned."""

    window_horizon_days: float = Field(default=400.0, gt=0, le=3650)
    """Days. Windows, with what was found in them, are shown so long; then they are dropped."""

    report_seconds: float = Field(default=120.0, ge=10, le=3600)
    """Seconds. A report that takes longer is killed."""

    report_megabytes: int = Field(default=1500, ge=256, le=100_000)
    """Megabytes that one report may take beyond its libraries."""

    profiles_megabytes: int = Field(default=256, ge=1, le=1_000_000)
    """MiB that reference profiles may take in memory. One that is not there is fetched and read
    again for each verdict, which takes longer than the verdict itself."""

    retrainings_per_hour: int = Field(default=20, ge=1, le=100_000)
    """Retrainings asked for in any hour, all models together; owners share them fairly."""

    brake_fleet_share: float = Field(default=0.10, gt=0, le=1)
    """Share of all models. When more change at once, the cause is taken for a common one."""

    brake_source_share: float = Field(default=0.30, gt=0, le=1)
    """The same of the models that learn from one dataset."""

    brake_least_models: int = Field(default=5, ge=2)
    """Models. Fewer that change at once are no crowd, whatever their share."""

    brake_least_watched: int = Field(default=20, ge=2)
    """Models. A smaller fleet has no brake of its own."""

    brake_span_seconds: float = Field(default=10_800.0, ge=1)
    """Seconds. Changes that are confirmed so close together count as one."""

    settle_seconds: float = Field(default=600.0, ge=0)
    """Seconds. In a fleet that may have a brake, a confirmed change waits so long before a fresh
    version is asked for: others may show that the cause is common."""

    look_seconds: float = Field(default=5.0, gt=0, le=60)
    """Seconds between two looks at what no window brings: brakes and cool-downs that are over."""

    unseen_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Seconds. While the rule answers for a champion, both are compared so often."""
