"""An explanation in sentences, and as the figures of a reply."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from services.serving.explanation.places import Place, place_of
from shared import baselines
from shared.background import Background
from shared.events import Json
from shared.manifest import Column

if TYPE_CHECKING:
    from services.serving.explanation.values import Explained

Label = float | str | bool
_SUBJECTS: Final[Mapping[str, str]] = {
    "answer": "the answer",
    "log_answer": "the logarithm of the answer",
    "probability": "the probability of {}",
    "log_odds": "the log-odds of {}",
    "score": "the score of {}",
}
_METHODS: Final[Mapping[str, str]] = {
    "linear": "exact Shapley values of a sum over the columns, against the training rows",
    "tree": "exact path-dependent Shapley values of the trees",
    "sampled": "Shapley values from random orders of the columns, against training rows",
}


def told(
    explained: "Explained",
    columns: Sequence[Column],
    row: Mapping[str, Any],
    background: Background,
    label: Label | None,
) -> dict[str, Any]:
    """An explanation as it is sent: figures, and one sentence for each column, largest first."""
    subject = _SUBJECTS[explained.scale].format(_shown(label))
    found = [
        _feature(explained, index, row.get(column.name), background, subject)
        for index, column in enumerate(columns)
    ]
    found.sort(key=lambda feature: -abs(feature["contribution"]))
    plain: dict[str, Any] = {
        "method": explained.method,
        "how": _METHODS[explained.method],
        "exact": explained.is_exact,
        "scale": explained.scale,
        "base": explained.base,
        "output": explained.output,
        "compared_with": "ranges of training" if background.is_rough else "training rows",
        "features": found,
        "words": [_summary(explained, subject), *(feature["words"] for feature in found)],
    }
    if label is not None:
        plain["class"] = label
    if not explained.is_exact:
        plain |= {"base_error": explained.base_error, "samples": explained.samples}
    return plain


def _feature(
    explained: "Explained", index: int, value: Any, background: Background, subject: str
) -> dict[str, Any]:
    profile = background.profiles[index]
    place = place_of(value, profile)
    contribution = float(explained.contributions[index])
    error = None if explained.errors is None else float(explained.errors[index])
    plain: dict[str, Any] = {
        "name": profile.name,
        "value": value,
        "contribution": contribution,
        "reference": _reference(place),
        "words": sentence(profile.name, value, place, contribution, error, subject),
    }
    if error is not None:
        plain["error"] = error
    return plain


def _reference(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = {"status": place.status, "missing_share": place.missing}
    if place.quantile is not None:
        found["quantile"] = place.quantile
    if place.usual is not None:
        found["usual"] = list(place.usual)
    if place.share is not None:
        found["share"] = place.share
    return found


def _summary(explained: "Explained", subject: str) -> str:
    usual, found = _number(explained.base), _number(explained.output)
    return f"usually {subject} is {usual}, for this row it is {found}"


def sentence(
    name: str, value: Any, place: Place, contribution: float, error: float | None, subject: str
) -> str:
    """What one column did: `load 93 (usually 40 to 80) raised the answer by 2.1`."""
    what = f"{name} {_with_place(value, place)}"
    uncertain = "" if error is None else f" (standard error {_number(error)})"
    size = _number(abs(contribution))
    if size == "0":
        return f"{what} did not change {subject}{uncertain}"
    verb = "raised" if contribution > 0 else "lowered"
    return f"{what} {verb} {subject} by {size}{uncertain}"


def _with_place(value: Any, place: Place) -> str:
    shown = _shown(value)
    match place.status:
        case "missing":
            return f"is missing, as in {_percent(place.missing)} of the training rows, and"
        case "unseen":
            return f"{shown} (never seen in training)"
        case "unknown":
            return shown
        case "outside" if place.usual is not None:
            return f"{shown} (outside of all that training saw, usually {_range(place.usual)})"
    if place.usual is not None and not isinstance(value, bool):
        return f"{shown} (usually {_range(place.usual)})"
    if place.share is not None:
        return f"{shown} (as in {_percent(place.share)} of the training rows)"
    return shown


def _range(usual: tuple[float, float]) -> str:
    low, high = map(_number, usual)
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(float(value))
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _number(value: float) -> str:
    """At most four digits that count, and no exponent where people would not write one."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    if 1e4 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"


# --- rules ------------------------------------------------------------------------------------


def told_rule(rule: Json, row: Mapping[str, Any]) -> dict[str, Any]:
    """The lowest rung explains itself: the rule is the explanation."""
    answer = baselines.answer(rule, row)
    shown = _shown(answer)
    match rule["rule"]:
        case "constant":
            words = f"the baseline rule answers {shown} to every row"
        case "majority":
            words = f"the baseline rule answers {shown}, the most frequent label of training"
        case "column":
            words = _column_words(rule, row, answer)
        case _:
            words = f"the baseline rule {rule.get('expression', rule['rule'])} gives {shown}"
    is_number = isinstance(answer, float | int) and not isinstance(answer, bool)
    return {
        "method": "rule",
        "how": "the rule itself",
        "exact": True,
        "scale": "answer",
        "base": answer if is_number else None,
        "output": answer,
        "rule": rule,
        "features": [],
        "words": [words],
    }


def _column_words(rule: Json, row: Mapping[str, Any], answer: Label) -> str:
    column = rule["column"]
    if row.get(column) is None:
        return f"{column} is missing, so the baseline rule answers {_shown(answer)}"
    return f"the baseline rule answers with {column}, which is {_shown(answer)}"
