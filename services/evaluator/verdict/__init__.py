"""Evidence, rules and what was known before, into a verdict: pure, and the same bit for bit."""

from services.evaluator.slices import SliceTerms
from services.evaluator.verdict.deciding import decide
from services.evaluator.verdict.replaying import Replay, replayed
from services.evaluator.verdict.terms import (
    DRAWS,
    ENGINE,
    GateTerms,
    Given,
    Mode,
    Reason,
    Rules,
    Verdict,
    given_of,
    is_shown_superior,
    proven_gains,
    refused,
    rules_from,
    rules_of,
)

__all__ = [
    "DRAWS",
    "ENGINE",
    "GateTerms",
    "Given",
    "Mode",
    "Reason",
    "Replay",
    "Rules",
    "SliceTerms",
    "Verdict",
    "decide",
    "given_of",
    "is_shown_superior",
    "proven_gains",
    "refused",
    "replayed",
    "rules_from",
    "rules_of",
]
