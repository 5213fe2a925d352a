"""Whether a specification can be a model's definition, beyond what its own form says."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from shared.baselines import columns_of
from shared.errors import Fault
from shared.predicates import read_predicate
from shared.spec import Baseline, ModelSpec
from shared.spec_gate import OF_TASK, judges

_CRON_FIELD: Final = re.compile(r"[\dA-Za-z*,/\-#?]+")
_NUMERIC: Final = frozenset({"integer", "number", "boolean"})


def faults_of(spec: ModelSpec, kinds: Mapping[str, str] | None) -> tuple[Fault, ...]:
    """Everything that is wrong with a specification.

    Args:
        spec: already valid in itself.
        kinds: columns of the newest version of its dataset; None when there is none yet.
    """
    return (
        *_roles(spec),
        *_baseline(spec, kinds),
        *_gates(spec),
        *_judgement(spec, kinds or {}),
        *_schedule(spec),
        *_columns(spec, kinds or {}),
    )


def _roles(spec: ModelSpec) -> Iterator[Fault]:
    """The target is nothing else."""
    data = spec.data
    for place, name in enumerate(data.features or ()):
        if name == data.target:
            detail = f"{name!r} is the target; a model must not see its own answer"
            yield Fault(f"/data/features/{place}", detail, "take it out of the features")
        if name in (data.features or ())[:place]:
            yield Fault(f"/data/features/{place}", f"{name!r} is named twice", "name it once")
    if data.time == data.target:
        yield Fault("/data/time", f"{data.time!r} is the target", "name the column of the moment")
    if spec.serving.entity == data.target:
        yield Fault("/serving/entity", f"{data.target!r} is the target", "name another column")


def _baseline(spec: ModelSpec, kinds: Mapping[str, str] | None) -> Iterator[Fault]:
    """The rule must be computable from the columns of a request alone."""
    rule = spec.effective_baseline
    try:
        needed = _needed(rule)
    except ValueError as error:
        yield Fault("/train/baseline/expression", str(error), "use numbers, columns, + - * /")
        return
    hint = "the rule is answered from a request's features; name one of them"
    for name in sorted(needed):
        pointer = f"/train/baseline/{'column' if rule.lag else rule.rule}"
        if name in {spec.data.target, spec.data.time} or (
            spec.data.features is not None and name not in spec.data.features
        ):
            yield Fault(pointer, f"column {name!r} of the baseline is no feature", hint)
        elif kinds and name not in kinds:
            yield Fault(pointer, f"column {name!r} of the baseline is not in the dataset", hint)
        elif kinds and spec.task == "regression" and kinds[name] not in _NUMERIC:
            detail = f"column {name!r} of the baseline is {kinds[name]}"
            yield Fault(pointer, detail, "regression needs a number")
    yield from _fits_task(rule, spec)


def _fits_task(rule: Baseline, spec: ModelSpec) -> Iterator[Fault]:
    averages = rule.rule in ("mean", "median", "expression")
    if spec.task == "classification" and averages:
        detail = f"{rule.rule} gives a number, classification needs a class"
        yield Fault("/train/baseline", detail, "use majority, constant or column")
    if spec.task == "regression" and rule.rule == "majority":
        yield Fault("/train/baseline", "majority gives a class", "use median, mean or column")
    if spec.task == "regression" and rule.rule == "constant" and isinstance(rule.value, str | bool):
        yield Fault("/train/baseline/value", f"{rule.value!r} is no number", "give a number")


def _needed(rule: Baseline) -> frozenset[str]:
    if rule.lag:
        return frozenset({rule.lag})
    if rule.rule == "expression" and rule.expression:
        return columns_of(rule.expression)
    return frozenset()


def _gates(spec: ModelSpec) -> Iterator[Fault]:
    named = [(f"/gates/{i}/metric", gate.metric) for i, gate in enumerate(spec.gates)]
    named += [(f"/slices/{i}/metric", part.metric) for i, part in enumerate(spec.slices)
              if part.metric is not None]  # fmt: skip
    hint = f"use {', '.join(sorted(OF_TASK[spec.task]))}"
    for pointer, metric in named:
        if not judges(metric, spec.task):
            yield Fault(pointer, f"{metric} does not judge {spec.task}", hint)


def _judgement(spec: ModelSpec, kinds: Mapping[str, str]) -> Iterator[Fault]:
    """Columns that slices, checks and entities read: all but the target may be read."""
    read = [
        (f"/slices/{i}/where", name)
        for i, part in enumerate(spec.slices)
        for name in sorted(read_predicate(part.where).columns)
    ]
    read += [
        (f"/gates/{i}/slice", name)
        for i, gate in enumerate(spec.gates)
        if gate.slice is not None
        for name in sorted(read_predicate(spec.conditions[gate.slice]).columns)
    ]
    read += [(f"/checks/monotone/{name}", name) for name in sorted(spec.checks.monotone)]
    if spec.evaluation.entity is not None:
        read.append(("/evaluation/entity", spec.evaluation.entity))
    for pointer, name in read:
        if name == spec.data.target:
            detail = f"{name!r} is the target, which no request carries"
            yield Fault(pointer, detail, "name another column")
        elif kinds and name not in kinds:
            detail = f"dataset {spec.data.dataset} has no column {name!r}"
            yield Fault(pointer, detail, f"it has {', '.join(list(kinds)[:20])}")
    for name in sorted(spec.checks.monotone):
        if kinds.get(name) in ("text", "time"):
            detail = f"column {name!r} is {kinds[name]}, which does not rise"
            yield Fault(f"/checks/monotone/{name}", detail, "name a column of numbers")


def _schedule(spec: ModelSpec) -> Iterator[Fault]:
    schedule = spec.triggers.schedule
    if schedule is None:
        return
    fields = schedule.split()
    if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(field) for field in fields):
        hint = "minute, hour, day of month, month, day of week, like `0 3 * * *`"
        yield Fault("/triggers/schedule", f"{schedule!r} is not five cron fields", hint)


def _columns(spec: ModelSpec, kinds: Mapping[str, str]) -> Iterator[Fault]:
    """Columns that the dataset does not have, once it has any."""
    if not kinds:
        return
    named = [("/data/target", spec.data.target), ("/data/time", spec.data.time)]
    named += [(f"/data/features/{i}", name) for i, name in enumerate(spec.data.features or ())]
    for pointer, name in named:
        if name is not None and name not in kinds:
            detail = f"dataset {spec.data.dataset} has no column {name!r}"
            yield Fault(pointer, detail, f"it has {', '.join(list(kinds)[:20])}")
    usable = {"integer", "number"} | ({"text", "boolean"} if spec.task != "regression" else set())
    kind = kinds.get(spec.data.target)
    if kind is not None and kind not in usable:
        detail = f"column {spec.data.target!r} is {kind}"
        yield Fault("/data/target", detail, f"{spec.task} needs {' or '.join(sorted(usable))}")
