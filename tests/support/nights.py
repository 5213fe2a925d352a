"""Which of many like cases are tested every day; all of them are tested nightly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

Case = str | tuple[str, ...]


def by_day(names: str, cases: Iterable[Case], *everyday: Case) -> pytest.MarkDecorator:
    """Parametrize with all cases; those that are not for every day are nightly.

    Args:
        names: of the parameters, as pytest takes them.

    Raises:
        ValueError: A case for every day is none of the cases.
    """
    known = list(cases)
    if not everyday or set(everyday) - set(known):
        raise ValueError(f"no case for every day, or none of the cases: {everyday}")
    return pytest.mark.parametrize(names, [_marked(case, everyday) for case in known])


def _marked(case: Case, everyday: Sequence[Case]) -> object:
    values = (case,) if isinstance(case, str) else case
    return pytest.param(*values, marks=() if case in everyday else pytest.mark.nightly)
