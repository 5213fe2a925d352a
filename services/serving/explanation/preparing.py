"""Which input columns the columns behind a preprocessing step come from.

Only steps that treat every column by itself are followed; after any other one (principal
components, polynomials) a model is explained by sampling.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, Final

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_array

_ONE_TO_ONE: Final = (
    StandardScaler,
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    PowerTransformer,
    QuantileTransformer,
    OrdinalEncoder,
)
_BENT: Final = (
    PowerTransformer,
    QuantileTransformer,
    OrdinalEncoder,
    OneHotEncoder,
    KBinsDiscretizer,
)
Origins = tuple[int, ...]


class NotFollowed(Exception):
    """A step mixes columns, or is not known here."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preprocessing that was followed.

    Attributes:
        origins: for every column of the result, the input column that it comes from.
        bent: input columns that go through more than a straight line (a scaler is one; a missing
            value may have a line of its own).
    """

    origins: Origins
    bent: frozenset[int]


def follow(step: Any, columns: int) -> Prepared:
    """Where the columns behind a step, or a pipeline of steps, come from.

    Raises:
        NotFollowed: they cannot be told apart.
    """
    bent: set[int] = set()
    return Prepared(_followed(step, tuple(range(columns)), bent), frozenset(bent))


def _followed(step: Any, origins: Origins, bent: set[int]) -> Origins:
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return origins
    if isinstance(step, str) and step == "drop":
        return ()
    if isinstance(step, _BENT) or getattr(step, "clip", False):
        bent.update(origins)
    if isinstance(step, _ONE_TO_ONE):
        return origins
    for kind, found in _FOLLOWED.items():
        if isinstance(step, kind):
            return found(step, origins, bent)
    raise NotFollowed(type(step).__name__)


def _pipeline(step: Any, origins: Origins, bent: set[int]) -> Origins:
    for _, part in step.steps:
        origins = _followed(part, origins, bent)
    return origins


def _side_by_side(step: Any, origins: Origins, bent: set[int]) -> Origins:
    parts = [_followed(part, origins, bent) for _, part in step.transformer_list]
    return tuple(chain.from_iterable(parts))


def _columns(step: Any, origins: Origins, bent: set[int]) -> Origins:
    chosen: Mapping[str, Sequence[int]] = step._transformer_to_input_indices  # noqa: SLF001 - the
    # public attribute holds what people wrote: names, masks, slices or functions.
    found: dict[int, int] = {}
    for name, part, _ in step.transformers_:
        taken = tuple(origins[i] for i in chosen.get(name, ()))
        place = step.output_indices_[name]
        behind = _followed(part, taken, bent) if taken else ()
        if len(behind) != place.stop - place.start:
            raise NotFollowed(f"{name} of a ColumnTransformer")
        found |= dict(zip(range(place.start, place.stop), behind, strict=True))
    return tuple(found[i] for i in range(len(found)))


def _imputer(step: Any, origins: Origins, _: set[int]) -> Origins:
    kept = origins
    if not step.keep_empty_features:
        has_value = [value == value for value in step.statistics_.tolist()]
        kept = tuple(o for o, is_kept in zip(origins, has_value, strict=True) if is_kept)
    return (*kept, *(_indicator(step.indicator_, origins) if step.add_indicator else ()))


def _indicator(step: Any, origins: Origins, _: Any = None) -> Origins:
    return tuple(origins[i] for i in step.features_)


def _one_hot(step: Any, origins: Origins, _: set[int]) -> Origins:
    widths = step._n_features_outs  # noqa: SLF001 - names alone cannot be told apart safely
    return tuple(chain.from_iterable(map(repeat, origins, widths)))


def _bins(step: Any, origins: Origins, _: set[int]) -> Origins:
    if step.encode == "ordinal":
        return origins
    return tuple(chain.from_iterable(map(repeat, origins, step.n_bins_.tolist())))


def _selector(step: Any, origins: Origins, _: set[int]) -> Origins:
    return tuple(origins[i] for i in np.flatnonzero(step.get_support()))


def _function(step: Any, origins: Origins, _: set[int]) -> Origins:
    is_check = isinstance(step.func, partial) and step.func.func is check_array
    if step.func is None or is_check:
        return origins
    raise NotFollowed("FunctionTransformer")


_FOLLOWED: Final[Mapping[type[Any], Callable[[Any, Origins, set[int]], Origins]]] = {
    Pipeline: _pipeline,
    FeatureUnion: _side_by_side,
    ColumnTransformer: _columns,
    SimpleImputer: _imputer,
    MissingIndicator: _indicator,
    OneHotEncoder: _one_hot,
    KBinsDiscretizer: _bins,
    SelectorMixin: _selector,
    FunctionTransformer: _function,
}
