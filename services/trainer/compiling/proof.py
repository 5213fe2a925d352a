"""Is the graph the estimator? Compared on held-out rows and on probes; the record says so.

What counts as the same: a row that one refuses the other refuses too, labels are equal, and no
number differs by more than the record's tolerance. One difference, and the graph is not used.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import skl2onnx
import sklearn
from numpy.typing import NDArray

from services.trainer.compiling.converting import OPSETS, compiled
from services.trainer.compiling.nodes import CannotCompile
from services.trainer.compiling.probes import probes
from shared import onnx_models
from shared.errors import Unprocessable
from shared.manifest import Column, Compiled, Golden
from shared.models import Label, predict
from shared.onnx_models import Signature, as_inputs

RELATIVE: Final = 1e-9
ABSOLUTE_SHARE: Final = 1e-9
"""Of the largest answer to a held-out row; of 1 for shares of classes."""
MOST_SECONDS: Final = 20.0
_GOLDEN: Final = 4
Task = Literal["regression", "classification"]
Answer = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Result:
    """The graph, if it is the estimator, and in any case the record."""

    data: bytes | None
    record: Compiled


def compile_model(
    estimator: Any,
    columns: Sequence[Column],
    task: Task,
    classes: Sequence[Label],
    rows: NDArray[Any],
    seed: int,
    *,
    seconds: float = MOST_SECONDS,
) -> Result:
    """A graph that is proved to answer as the estimator does, or the reason why there is none.

    Args:
        rows: held-out rows as the estimator takes them, shape (rows, columns).
        seed: of the probes.
        seconds: a proof that takes longer is none.
    """
    signature = Signature.of(columns, classes)
    try:
        data = compiled(estimator, columns, signature)
        deadline = time.monotonic() + seconds
        record = _proved(estimator, data, columns, task, rows, seed, signature, deadline)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library raises, scikit-learn answers
        reason = (str(error).partition("\n")[0] or type(error).__name__)[:300]
        return Result(None, Compiled(engine="scikit-learn", reason=reason, libraries=_libraries()))
    return Result(data, record)


def _libraries() -> dict[str, str]:
    own = {"scikit-learn": sklearn.__version__, "skl2onnx": skl2onnx.__version__}
    return own | onnx_models.versions()


def _proved(
    estimator: Any,
    data: bytes,
    columns: Sequence[Column],
    task: Task,
    rows: NDArray[Any],
    seed: int,
    signature: Signature,
    deadline: float,
) -> Compiled:
    session = onnx_models.load(data, signature)
    tried = probes(estimator, columns, rows, seed)
    both = np.concatenate([rows, tried])

    def original(some: NDArray[Any]) -> NDArray[np.float64]:
        if time.monotonic() > deadline:
            raise CannotCompile("the proof takes too long")
        found = predict(estimator, some, task)
        return found.values[:, None] if found.probabilities is None else found.probabilities

    expected = answered(original, both, signature.answers)
    with np.errstate(all="ignore"):
        found = session.answers(*as_inputs(columns, both))
    scale = _scale(expected[: len(rows)], task)
    largest = difference(expected, found, scale, task)
    refused = np.logical_not(np.isfinite(expected).all(axis=1))
    return Compiled(
        engine="onnx",
        opsets=OPSETS,
        libraries=_libraries(),
        rows=len(rows),
        probes=len(tried),
        refused=int(refused.sum()),
        largest_difference=largest,
        absolute_tolerance=ABSOLUTE_SHARE * scale,
        relative_tolerance=RELATIVE,
        golden=_golden(both, expected, refused, len(rows)),
    )


def answered(original: Answer, rows: NDArray[Any], width: int) -> NDArray[np.float64]:
    """What the estimator says to each row; NaN for a row that it refuses.

    It refuses all rows of a question for one of them, so questions that fail are halved.
    """
    try:
        return original(rows)
    except Unprocessable:
        if len(rows) == 1:
            return np.full((1, width), np.nan)
        half = len(rows) // 2
        return np.concatenate(
            [answered(original, part, width) for part in (rows[:half], rows[half:])]
        )


def _scale(expected: NDArray[np.float64], task: Task) -> float:
    finite = np.abs(expected[np.isfinite(expected)])
    return 1.0 if task == "classification" or not len(finite) else float(finite.max()) or 1.0


def difference(
    expected: NDArray[np.float64], found: NDArray[np.float64], scale: float, task: Task
) -> float:
    """The largest difference of two answers to a row that is not refused.

    Raises:
        CannotCompile: they are not the same; it says where.
    """
    if found.shape != expected.shape:
        raise CannotCompile(f"its graph gives {found.shape} answers for {expected.shape}")
    refused = np.logical_not(np.isfinite(expected).all(axis=1))
    strange = refused != ~np.isfinite(found).all(axis=1)
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        who = "scikit-learn refuses" if refused[row] else "its graph refuses"
        raise CannotCompile(f"{who} compared row {row}, and the other answers it")
    said, own = expected[~refused], found[~refused]
    if task == "classification" and (said.argmax(axis=1) != own.argmax(axis=1)).any():
        raise CannotCompile("its graph names another label")
    apart = np.abs(said - own)
    allowed = ABSOLUTE_SHARE * scale + RELATIVE * np.abs(said)
    if (apart > allowed).any():
        raise CannotCompile(f"its graph differs by {apart.max():.3g}, {allowed.max():.3g} allowed")
    return float(apart.max(initial=0.0))


def _golden(
    rows: NDArray[Any], expected: NDArray[np.float64], refused: NDArray[np.bool_], held: int
) -> tuple[Golden, ...]:
    """A few rows with their answers, held-out ones and probes, and one that is refused."""
    usable = np.flatnonzero(~refused)
    picked = [*usable[usable < held][:_GOLDEN], *usable[usable >= held][::37][:_GOLDEN]]
    picked += np.flatnonzero(refused)[:1].tolist()
    return tuple(
        Golden(
            row=tuple(None if v is None or v != v else v for v in rows[i].tolist()),
            answers=None if refused[i] else tuple(expected[i].tolist()),
        )
        for i in picked
    )
