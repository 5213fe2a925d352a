"""What the baseline rule answers to held-out rows: what every candidate must beat."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared import baselines
from shared.events import Json
from shared.losses import Label
from shared.models import Answers


def answers_of(rule: Json, rows: Sequence[Mapping[str, Any]], classes: Sequence[Label]) -> Answers:
    """The rule's answers, in the form in which a model answers.

    Args:
        rule: as fitted on the candidate's training rows.
        rows: as a request would carry them.
        classes: of the candidate; empty for regression.
    """
    found = [baselines.answer(rule, row) for row in rows]
    if not classes:
        return Answers(np.array(found, dtype=np.float64), None)
    values = np.empty(len(found), dtype=object)
    values[:] = found
    if rule["rule"] == "majority":
        shares = [baselines.probabilities(rule, classes)] * len(found)
    else:
        shares = [baselines.one_hot(str(label), classes) for label in found]
    return Answers(values, np.array(shares, dtype=np.float64).reshape(len(found), len(classes)))
