"""Every candidate on the inner rows, judged on the validation rows; the best one is refitted."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import optuna
from numpy.typing import NDArray

from services.trainer.fitting.building import Builder
from services.trainer.fitting.candidates import DEFAULTS, Task, prepare
from services.trainer.fitting.reading import CannotTrain
from shared.errors import Unprocessable
from shared.losses import metric_value, row_losses
from shared.models import classes_of, predict
from shared.spec import Candidate, ModelSpec, Range

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A matrix, shape (n, features), and the outcomes, shape (n,)."""

    X: NDArray[Any]
    y: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate with one set of parameters; `score` is its mean loss, lower is better."""

    candidate: Candidate
    parameters: Parameters
    score: float
    fit_seconds: float

    @property
    def hyperparameters(self) -> Parameters:
        """What was fixed and what was found."""
        return {**self.candidate.arguments, **self.parameters}


class Search:
    """Tries the candidates of one specification."""

    def __init__(
        self,
        spec: ModelSpec,
        builder: Builder,
        inner: Rows,
        validation: Rows,
        *,
        deadline: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is fitted yet.

        Args:
            deadline: no new trial of a search begins after this moment of `monotonic`.
        """
        self._spec = spec
        self._builder = builder
        self._inner = inner
        self._validation = validation
        self._deadline = deadline
        self._monotonic = monotonic

    def best_of_each(self) -> list[Trial]:
        """The best trial of every candidate, in the order of the specification.

        Raises:
            CannotTrain: a candidate could not be fitted with any of its parameters.
        """
        candidates = self._spec.train.candidates or DEFAULTS[self._spec.task]
        return [
            self._best(candidate, trials, place)
            for place, (candidate, trials) in enumerate(
                zip(candidates, shares(candidates, self._spec.train.trials), strict=True)
            )
        ]

    def _best(self, candidate: Candidate, trials: int, place: int) -> Trial:
        if not candidate.search:
            return self._tried(candidate, {})
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self._spec.train.seed + place)
        )
        found: list[Trial] = []
        failure: CannotTrain | None = None
        for number in range(trials):
            if number and self._monotonic() > self._deadline:
                break
            asked = study.ask()
            try:
                trial = self._tried(candidate, suggested(asked, candidate.search))
            except CannotTrain as error:
                failure = error
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                found.append(trial)
                study.tell(asked, trial.score)
        if not found and failure is not None:
            raise failure
        return min(found, key=lambda trial: trial.score)

    def _tried(self, candidate: Candidate, parameters: Parameters) -> Trial:
        started = self._monotonic()
        estimator = fitted(self._spec, self._builder, candidate, parameters, self._inner)
        seconds = self._monotonic() - started
        score = validation_score(self._spec, estimator, self._validation)
        if not np.isfinite(score):
            raise CannotTrain(f"{candidate.use}: its {self._spec.metric} is not finite")
        return Trial(candidate=candidate, parameters=parameters, score=score, fit_seconds=seconds)


def fitted(
    spec: ModelSpec, builder: Builder, candidate: Candidate, parameters: Parameters, rows: Rows
) -> Any:
    """The candidate, fitted to these rows.

    Raises:
        CannotTrain: it cannot be fitted; the sentence is the library's.
    """
    estimator = prepare(builder, candidate, parameters, spec.task, spec.train.seed)
    try:
        with seeded(spec.train.seed):
            estimator.fit(rows.X, rows.y)
    except MemoryError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise CannotTrain(f"{candidate.use} cannot be fitted: {first}") from error
    return estimator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Chance from one seed, threads instead of processes, and no warnings on the output."""
    np.random.seed(seed % 2**32)
    with warnings.catch_warnings(), joblib.parallel_config(backend="threading"):
        warnings.simplefilter("ignore")
        yield


def validation_score(spec: ModelSpec, estimator: Any, rows: Rows) -> float:
    """The metric over the validation rows.

    Raises:
        CannotTrain: there is nothing left to be judged on, or the estimator cannot answer.
    """
    return metric_value(spec.metric, validation_losses(spec, estimator, rows))


def validation_losses(spec: ModelSpec, estimator: Any, rows: Rows) -> NDArray[np.float64]:
    """The loss of each validation row.

    Rows of a class that the inner rows lack are left out: no candidate could name it.

    Raises:
        CannotTrain: there is nothing left to be judged on, or the estimator cannot answer.
    """
    classes = classes_of(estimator) if spec.task == "classification" else ()
    chosen = np.array([not classes or label in classes for label in rows.y.tolist()], dtype=bool)
    if not chosen.any():
        raise CannotTrain("the validation rows hold only classes that the rows before them lack")
    try:
        answers = predict(estimator, rows.X[chosen], spec.task)
        return row_losses(spec.metric, rows.y[chosen], answers, classes)
    except Unprocessable as error:
        raise CannotTrain(str(error)) from error


def suggested(trial: Any, search: Mapping[str, Range | list[Any]]) -> Parameters:
    """Parameters from the ranges; whole numbers when both ends are."""
    return {name: _one(trial, name, space) for name, space in search.items()}


def _one(trial: Any, name: str, space: Range | list[Any]) -> Any:
    if isinstance(space, list):
        # By place, so that choices may be anything JSON holds.
        return space[trial.suggest_categorical(name, list(range(len(space))))]
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(name, space.low, space.high, log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def shares(candidates: Sequence[Candidate], trials: int) -> list[int]:
    """How many trials each candidate has: one without a search, the others share the rest."""
    searched = sum(bool(candidate.search) for candidate in candidates)
    left = max(trials - (len(candidates) - searched), searched)
    given = iter(left // searched + (place < left % searched) for place in range(searched))
    return [next(given) if candidate.search else 1 for candidate in candidates]


__all__ = ["Rows", "Search", "Task", "Trial", "fitted", "seeded", "shares"]
