"""The knobs of serving."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Read once, by `app`."""

    model_config = SettingsConfigDict(env_prefix="TIDEWHEEL_SERVING_", frozen=True)

    data: Path
    """Folder of this replica alone: desired states, artifacts, spool. Losing it loses the
    predictions that the broker has not acknowledged; everything else comes back from the log."""

    artifacts_folder: Path | None = None
    """Folder for artifacts that several replicas of this machine share; inside `data` when empty.
    It is swept by the replica whose `data` holds it."""

    workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer on the one address, each a replica of its own: number 0 with the given
    `data`, `replica` and `admin_port`, number N with `data/worker-N`, `replica-N` and
    `admin_port + N`; they share the artifacts. Every limit in bytes is of each."""

    url: str = ""
    """Where clients reach this replica, for `replica.announced`; `http://host:port` when empty."""

    body_limit_bytes: int = Field(default=8_000_000, ge=1_000)
    """Bytes. A larger request body is refused; wide enough for a batch of rows."""

    rows_limit: int = Field(default=10_000, ge=1, le=100_000)
    """Rows. A larger batch is refused: it would hold up the others."""

    default_model: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$")
    """Name of the model that the bare `POST /invocations` asks, for callers of MLflow's servers;
    empty: there is no such route."""

    answer_seconds: float = Field(default=2.0, gt=0, le=60)
    """Seconds. A version that takes longer counts as failed and the rung below answers; one that
    hangs on the loop holds up everybody for so long, once, and is asked in threads from then on."""

    rest_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Seconds. After three failures in a row a version is not asked for so long; then one request
    tries it again."""

    inline_seconds: float = Field(default=0.002, ge=0, le=0.1)
    """Seconds. A version that answers small requests faster is asked on the loop itself, because
    the way to a thread and back would cost more; 0 always takes a thread."""

    answer_threads: int = Field(default=4, ge=1, le=64)
    """Threads for slower versions and large requests."""

    waiting_requests: int = Field(default=2_000, ge=1, le=100_000)
    """Requests for predictions that were read and are not answered; one more is refused with 503,
    because it would wait longer than its caller."""

    waiting_bytes: int = Field(default=128 * 2**20, ge=1_000_000)
    """Bytes of their bodies together; what is read of them takes some ten times as much."""

    requests_per_second: float = Field(default=0, ge=0, le=1e6)
    """Requests for predictions that a key may send per second; beyond, 429. 0: as many as it likes.
    A key's own entry in the file of keys may say otherwise (`"rate": {"per_second": 50}`)."""

    requests_burst: float = Field(default=0, ge=0, le=1e6)
    """Requests that a key may send at once after a while without; 0: those of two seconds."""

    shadow_seconds: float = Field(default=2.0, gt=0, le=60)
    """Seconds. A question to a shadow that takes longer is its error; nobody waits for it."""

    shadow_rows: int = Field(default=1_000, ge=1, le=100_000)
    """Rows that wait for shadows; who comes while there are so many is dropped and counted."""

    spool_bytes: int = Field(default=512 * 2**20, ge=10_000)
    """Bytes. What the spool holds at most while the broker is away; the 5 % above it are for this
    replica's own events. Full, it refuses (`lineage: required`) or counts gaps (`best_effort`)."""

    spool_hours: float = Field(default=72.0, gt=0, le=24 * 365)
    """Hours. Rows that the broker has not acknowledged by then are deleted and counted as gaps:
    features of people must not lie about. Rows whose log is required stay until they are told."""

    spool_sync_seconds: float = Field(default=1.0, ge=0, le=60)
    """Seconds between two syncs of the spool to the disk, beside the answers: what a power cut
    takes at most. The end of the process alone takes nothing. 0 syncs each answer before it is
    given, which costs what the disk takes for it."""

    quiet_seconds: float = Field(default=0.5, ge=0, le=3)
    """Seconds from being told to stop, when `/ready` begins to say no, until the doors close:
    as long as whoever spreads the requests needs to notice."""

    batch_rows: int = Field(default=100, ge=1, le=1_000)
    """Rows of one `predictions.logged`."""

    batch_seconds: float = Field(default=0.1, gt=0, le=10)
    """Seconds. An answered row waits no longer for company before it is sent."""

    announce_seconds: float = Field(default=5.0, gt=0, le=10)
    """Seconds between two `replica.announced`; silence of 15 means the replica is gone."""

    fetch_seconds: float = Field(default=60.0, gt=0, le=600)
    """Seconds. A store that does not bring an artifact by then is tried again later."""

    open_bytes: int = Field(default=512 * 2**20, ge=1_000_000)
    """Bytes, estimated. What open versions may take together; above it the least recently asked
    are closed, and opened again by their next request. The libraries come on top: some 60 MB, with
    scikit-learn some 250."""

    opening_seconds: float = Field(default=5.0, gt=0, le=60)
    """Seconds. A request waits so long for a version that is being opened; then the rung below
    answers it, and the version goes on being opened."""

    openers: int = Field(default=2, ge=1, le=32)
    """Threads that open versions."""

    probe: Literal["child", "inside"] = "child"
    """Where a new version is proved loadable before it counts as applied: `child` is a process
    that a hostile file may crash or hang; `inside`, in a thread of this one, saves its memory."""

    probe_megabytes: int = Field(default=1_024, ge=64)
    """Megabytes that a child may take to prove versions."""

    load_seconds: float = Field(default=60.0, gt=0, le=600)
    """Seconds. A version that has not loaded and given its first answers by then is refused."""

    retry_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Seconds. The longest wait before a version that could not be loaded is tried again."""

    artifacts_kept_hours: float = Field(default=168.0, ge=0)
    """Hours. Artifacts that no desired state names are kept so long, for a rollback without the
    store."""
