"""Where one answer came from, as a few lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from tidewheel.cards import labelled, moment, verdict_lines

Data = Mapping[str, Any]


def card(found: Data) -> list[str]:
    """The answer, who gave it, and what that rests on down to the rows and the approver."""
    answer, origin = found["answer"], found["origin"]
    return [
        f"{answer['prediction_id']}: {answer['model']} answered {_value(answer)}",
        *labelled("when", moment(answer["at"])),
        *labelled("asked", *_features(answer)),
        *labelled("by", _who(answer), origin["role"]),
        *labelled("digest", str(answer.get("manifest") or "")),
        *labelled("outcome", _outcome(answer.get("outcome"))),
        *labelled("data", *_data(origin.get("data") or {})),
        *labelled("code", *_code(origin.get("code") or {})),
        *labelled("trained", *_trained(origin.get("training") or {})),
        *(verdict_lines(origin["verdict"]) if origin.get("verdict") else ()),
        *labelled("approved", *_approved(origin.get("rollout") or {})),
        *labelled("story", *origin["story"]),
        *labelled("since", *origin["since_then"]),
    ]


def _value(answer: Data) -> str:
    score = answer.get("score")
    return f"{answer['answer']}" + (f" (score {score:.4g})" if score is not None else "")


def _features(answer: Data) -> Iterator[str]:
    if answer.get("entity") is not None:
        yield f"about {answer['entity']}"
    yield ", ".join(f"{name}={value}" for name, value in answer["features"].items())


def _who(answer: Data) -> str:
    if answer["version"] is None:
        return f"the {answer['rung']} rule, no version of the model"
    below = "" if answer["rung"] == answer["arm"] else f", rung {answer['rung']}"
    return f"version {answer['version']}, arm {answer['arm']}{below}"


def _outcome(outcome: Data | None) -> str:
    if outcome is None:
        return "not known yet"
    loss = f", loss {outcome['loss']:.4g}" if outcome.get("loss") is not None else ""
    rule = outcome.get("baseline_loss")
    return f"{outcome['value']}{loss}" + (f", of the rule {rule:.4g}" if rule is not None else "")


def _data(data: Data) -> Iterator[str]:
    if not data:
        return
    rows = f", {data['rows']} rows" if data.get("rows") else ""
    yield f"{data['dataset']} v{data['version']}{rows}, published by {data['published_by']}"
    period = data.get("period")
    if period:
        yield f"{period['column']} {moment(period['from'])} to {moment(period['to'])}"
    for left in data.get("left_out") or ():
        span = f"{moment(left['from'])} to {moment(left['to'])}"
        yield f"without {span} ({left['tag']}, {left['author']}: {left['reason']})"
    yield f"sha256 {data['digest']}"


def _code(code: Data) -> Iterator[str]:
    if code:
        yield f"{code['code_digest']} (code)"
        yield f"{code['spec_digest']} (specification)"


def _trained(run: Data) -> Iterator[str]:
    if not run:
        return
    why = run.get("requested_by") or run["trigger"]
    left = f", {run['rows_left_out']} left out" if run.get("rows_left_out") else ""
    yield f"{run['use']} on {run['rows_trained']} rows{left}, because of {why}"
    yield f"run {run['run']}, {moment(run['completed_at'])}"


def _approved(rollout: Data) -> Iterator[str]:
    if not rollout:
        return
    people = ", ".join(rollout["approved_by"])
    yield f"by {people}" if people else "nobody's approval was asked for"
    if rollout["strategy"]:
        yield f"rolled out: {rollout['strategy']}"
