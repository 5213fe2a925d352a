"""One predictor against another, or against a limit, on the same rows: which test fits.

| Metric | independent rows | entities with several rows | rows in time |
|---|---|---|---|
| mean of row losses | bootstrap-t | bootstrap-t over entity sums | t of block means |
| accuracy | Tango's score, McNemar | t of entity sums | t of block means |
| ROC AUC | DeLong | BCa over entities | BCa over circular blocks |
| other | BCa | BCa over entities | BCa over circular blocks |
"""

from services.evaluator.comparison.comparing import (
    Asked,
    Compared,
    Dependence,
    Found,
    compare,
    dependence_of,
)
from services.evaluator.comparison.intervals import Interval

__all__ = ["Asked", "Compared", "Dependence", "Found", "Interval", "compare", "dependence_of"]
