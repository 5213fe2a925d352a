"""Estimators from the plain data of a specification; only what is allowed is ever imported."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel

from services.trainer.fitting.reading import CannotTrain
from shared.manifest import Column

# Lists of these arguments hold (name, estimator, …), which scikit-learn wants as tuples.
_OF_TUPLES: Final = frozenset({"steps", "transformers", "estimators", "transformer_list"})
# They would make an estimator read or write files; the second one runs what it reads.
_REFUSED: Final[Mapping[str, frozenset[Any] | None]] = {
    "memory": None,
    "input": frozenset({"content"}),
}
_MOST_DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds estimators for one matrix.

    Attributes:
        allowed: modules, with all below them, that estimators may come from.
        columns: of the matrix, in order; a ColumnTransformer names them.
    """

    allowed: Sequence[str]
    columns: Sequence[Column]

    def build(self, use: str, arguments: Mapping[str, Any]) -> Any:
        """An unfitted estimator.

        Raises:
            CannotTrain: it may not be imported, is no estimator, or does not take its arguments.
        """
        return self._build(use, arguments, 0)

    def _build(self, use: str, arguments: Mapping[str, Any], depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise CannotTrain(f"{use} is nested too deeply")
        kind = resolve(use, self.allowed)
        given = {name: self._argument(use, name, v, depth) for name, v in arguments.items()}
        try:
            return kind(**given)
        except (TypeError, ValueError) as error:
            raise CannotTrain(f"{use} does not take these arguments: {error}") from error

    def _argument(self, use: str, name: str, value: Any, depth: int) -> Any:
        require_harmless(use, name, value)
        if name == "transformers" and isinstance(value, list):
            return [self._transformer(use, entry, depth) for entry in value]
        if name in _OF_TUPLES and isinstance(value, list):
            return [
                tuple(self._value(part, depth) for part in entry)
                if isinstance(entry, list)
                else self._value(entry, depth)
                for entry in value
            ]
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict) and "use" in value and value.keys() <= {"use", "with"}:
            return self._build(str(value["use"]), value.get("with", {}), depth + 1)
        if isinstance(value, list):
            return [self._value(part, depth) for part in value]
        return value

    def _transformer(self, use: str, entry: Any, depth: int) -> tuple[Any, ...]:
        if not isinstance(entry, list) or len(entry) != 3:
            raise CannotTrain(f"{use}: a transformer is [name, what, columns]")
        return str(entry[0]), self._value(entry[1], depth), self._chosen(use, entry[2])

    def _chosen(self, use: str, wanted: Any) -> list[int] | int:
        """Columns by name, or all of a kind: `{kind: text}`."""
        if isinstance(wanted, dict) and wanted.keys() == {"kind"}:
            return [i for i, column in enumerate(self.columns) if column.kind == wanted["kind"]]
        if isinstance(wanted, str):
            return self._place(use, wanted)
        if isinstance(wanted, list):
            return [self._place(use, name) for name in wanted]
        raise CannotTrain(f"{use}: columns are a name, a list of names, or {{kind: …}}")

    def _place(self, use: str, name: Any) -> int:
        for index, column in enumerate(self.columns):
            if column.name == name:
                return index
        raise CannotTrain(f"{use}: there is no feature {name!r}")


def require_harmless(use: str, name: str, value: Any) -> None:
    """See that an argument does not make its estimator reach for files.

    Raises:
        CannotTrain: it does.
    """
    last = name.rpartition("__")[2]
    if last not in _REFUSED or value is None:
        return
    accepted = _REFUSED[last]
    if accepted is None or value not in accepted:
        raise CannotTrain(f"{use}: the argument {name!r} reaches for files; leave it out")


def resolve(use: str, allowed: Sequence[str]) -> type[Any]:
    """The class that a path names, if it may be used.

    What a path resolves to must itself come from an allowed module: a module that is merely
    re-exported under an allowed path is no way around the list.

    Raises:
        CannotTrain: it may not be used, or does not exist.
    """
    path, _, name = use.replace(":", ".").rpartition(".")
    _require_allowed(use, path, allowed)
    try:
        found = getattr(importlib.import_module(path), name, None)
    except ImportError as error:
        raise CannotTrain(f"{use} cannot be imported: {error}") from error
    if not inspect.isclass(found) or not issubclass(found, BaseEstimator | Kernel):
        raise CannotTrain(f"{use} is no estimator; name a class of scikit-learn's kind")
    if not _is_below(found.__module__, allowed):
        raise CannotTrain(f"{use} comes from {found.__module__}, which is not on the allow-list")
    return found


def _require_allowed(use: str, path: str, allowed: Sequence[str]) -> None:
    roots = [root for root in allowed if _is_below(path, [root])]
    inside = use.replace(":", ".")[max(map(len, roots), default=0) :].split(".")
    # Private and test modules are no part of what a library offers.
    hidden = any(part.startswith("_") or part in ("tests", "conftest") for part in inside)
    if not roots or hidden:
        raise CannotTrain(f"{use} is not on the allow-list ({', '.join(allowed)})")


def _is_below(module: str, allowed: Sequence[str]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in allowed)
