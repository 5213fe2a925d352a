"""A version that can answer, how it has been doing, and why another one cannot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal

from services.serving.prediction.reading import Row
from shared.events import Digest
from shared.manifest import Manifest

Value = float | str | bool
Said = tuple[Value, list[float] | None]
"""An answer and, for classification, the probabilities of the classes."""

Engine = Literal["onnx", "scikit-learn"]
"""What computes the answers."""
RefusalReason = Literal["digest_mismatch", "unsafe", "load_failed", "missing", "faulty"]
FAILURES_IN_A_ROW: Final = 3
OUT_OF_TIME: Final = "out of time"
SMALL_ROWS: Final = 32


@dataclass(slots=True, kw_only=True)
class Health:
    """How a loaded version has been doing on this replica; the one thing about it that changes.

    A version that fails three times in a row rests, so that every caller does not wait for the
    same failure; then one failure sends it to rest again and one answer heals it.

    Attributes:
        overdue: calls that ran out of time and have not come back; they hold a thread each.
        seconds: what a small request took of late; one that takes very long counts at once.
        has_hung: it once held up the whole process and is never asked on the loop again.
    """

    seconds: float = 0.0
    has_hung: bool = False
    failures: int = 0
    rests_until: float = -inf
    overdue: int = 0
    cause: str = ""

    def may_answer(self, now: float) -> bool:
        """Whether it is asked at all."""
        return now >= self.rests_until and self.overdue < 2

    def is_well(self, now: float) -> bool:
        """Whether there is nothing to remember about it."""
        is_asked = self.may_answer(now) and not self.overdue
        return is_asked and not self.failures and not self.has_hung

    def answered(self, seconds: float, rows: int) -> None:
        """It gave answers; small requests tell how fast it is."""
        self.failures = 0
        if rows <= SMALL_ROWS:
            self.seconds += 0.1 * (seconds - self.seconds)

    def failed(self, cause: str, *, now: float, rest_seconds: float) -> None:
        """It raised or ran out of time."""
        self.failures += 1
        self.cause = cause
        if self.failures >= FAILURES_IN_A_ROW:
            self.rests_until = now + rest_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What computes a version's answers, while it is open.

    Whoever has asked for it may use it to the end, also when the version is closed meanwhile.

    Attributes:
        say: answers about some rows; raises what the library raises.
        compute: of a compiled model: its numbers, shape (rows, answers), about the numbers, shape
            (rows, columns that are numbers), NaN where missing, and the texts, shape (rows, columns
            that are texts); either is None where there is no such column. Raises Unprocessable as
            `say` does. None where the estimator itself answers.
    """

    engine: Engine
    say: Callable[[Sequence[Row]], list[Said]]
    compute: Callable[[Any, Any], Any] | None = None


@dataclass(slots=True, kw_only=True, eq=False, weakref_slot=True)
class Loaded:
    """A version that was proved loadable; it need not be open.

    Attributes:
        engine: what computes its answers once it is open.
        opened: None until somebody asks, and again once others were asked so much more of late
            that its memory went to them.
    """

    version: int
    digest: Digest
    manifest: Manifest
    engine: Engine
    names: tuple[str, ...]
    health: Health
    opened: Opened | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a version's files could be loaded and gave the answers that are known of them.

    Attributes:
        seconds: processor seconds of a small question.
        fault: why the compiled model is not used although there is one; empty otherwise.
    """

    engine: Engine
    seconds: float
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a version could not be loaded.

    Attributes:
        passing: the store did not answer; nothing is known against the version itself.
    """

    reason: RefusalReason
    detail: str
    passing: bool = False
