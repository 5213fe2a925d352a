"""The knobs of the evaluator."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """Read once, by `app`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_EVALUATOR_", frozen=True)

    score_seconds: float = Field(default=120.0, gt=0, le=3600)
    """Seconds. A candidate that is not scored and compared by then is rejected; the child is
    killed."""

    score_megabytes: int = Field(default=2048, ge=256, le=1_000_000)
    """Megabytes that one comparison may take beyond the libraries."""

    concurrency: int = Field(default=1, ge=1, le=64)
    """Verdicts worked on at a time."""

    metric_packages: tuple[str, ...] = ()
    """Packages whose functions may be metrics, `["acme"]` for `acme.losses:tail`. They are imported
    in children only; whoever may install a package here may decide what is promoted."""

    fleet_minimum: int = Field(default=100, ge=2)
    """Models. A smaller fleet shares no false-discovery budget: each model keeps its own alpha."""
