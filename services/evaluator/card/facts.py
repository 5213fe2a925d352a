"""What a card says of a version itself: what it is, its data, its parameters, its environment."""

from typing import Any, Final

from services.evaluator.card.parts import Block, Items, Section, Words, facts, table
from shared.events import Json
from shared.manifest import Column, Manifest
from shared.plain_text import number, percent, plain

_NO_EXCLUSIONS: Final = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
"""Digest of the empty list, `[]`."""
_MOST_LEVELS: Final = 8
_MOST_LIMITS: Final = 20


def identity(said: Json, manifest: Manifest) -> Section:
    """What this version is and what it answers."""
    spec: Json = said.get("spec") or {}
    classes = ", ".join(plain(label) for label in manifest.classes)
    return Section(
        title="What it is",
        blocks=facts(
            ("Model", said.get("model", manifest.model)),
            ("Version", said.get("version")),
            ("Owner", spec.get("owner")),
            ("Task", manifest.task),
            ("Answers", f"{manifest.target}, one of {classes}" if classes else manifest.target),
            ("Estimator", manifest.use),
            ("Size", _size(sum(file.size_bytes for file in manifest.files.values()))),
            ("Answers within", f"{number(manifest.objective_seconds)} s (objective)"),
            ("Allowed answers", _between(manifest.bounds)),
            ("Entity", manifest.entity),
        ),
    )


def _size(size_bytes: int) -> str:
    return f"{number(size_bytes / 1e6)} MB"


def _between(bounds: tuple[float, float] | None) -> str | None:
    return None if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def data(said: Json, manifest: Manifest, period: str | None) -> Section:
    """What it was fitted on and what judged it."""
    asked: Json = (said.get("spec") or {}).get("data") or {}
    left_out = (
        "none"
        if manifest.exclusions_digest == _NO_EXCLUSIONS
        else f"listed under digest {manifest.exclusions_digest}"
    )
    return Section(
        title="Data",
        blocks=(
            *facts(
                ("Dataset", manifest.dataset),
                ("Version", manifest.dataset_version),
                ("Digest", manifest.dataset_digest),
                ("Rows fitted on", number(manifest.rows_trained)),
                ("Rows held out", number(manifest.rows_held_out)),
                ("Rows that judged", number(said.get("rows"))),
                ("Held out by", "time" if _is_ordered(asked) else "the content of the row"),
                ("Share held out", asked.get("holdout") and percent(float(asked["holdout"]))),
                ("Gap before the held-out rows", asked.get("label_delay")),
                ("Period of the held-out rows", period),
                ("Periods left out", left_out),
            ),
            *_columns(manifest.columns),
        ),
    )


def _is_ordered(asked: Json) -> bool:
    return (asked.get("split") or ("time" if asked.get("time") else "random")) == "time"


def _columns(columns: tuple[Column, ...]) -> tuple[Block, ...]:
    rows = [(column.name, column.kind, seen(column)) for column in columns]
    shown = table(("Column", "Kind", "Seen while fitting"), rows)
    return (Words(text="Columns that it reads:"), *shown) if shown else ()


def seen(column: Column) -> str:
    """The values that a column had among the rows that were fitted on."""
    if column.kind == "text":
        named = ", ".join(plain(level) for level in column.categories[:_MOST_LEVELS])
        more = len(column.categories) - _MOST_LEVELS
        return f"{named} and {more} more" if more > 0 else named
    if column.minimum is None or column.maximum is None:
        return ""
    return f"{number(column.minimum)} to {number(column.maximum)}"


def parameters(manifest: Manifest) -> Section:
    """What its estimator was given."""
    rows: list[tuple[str, Any]] = [(name, value) for name, value in _flat(manifest.hyperparameters)]
    return Section(
        title="Parameters",
        blocks=table(("Parameter", "Value"), [*rows, ("seed", manifest.seed)]),
    )


def _flat(parameters: Json, above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in sorted(parameters.items()):
        if isinstance(value, dict) and len(above) < 60:
            found += _flat(value, f"{above}{name}.")
        else:
            found.append((f"{above}{name}", value))
    return found


def environment(manifest: Manifest) -> Section:
    """What it needs to be loaded, and which code made it."""
    rows = sorted(manifest.environment.items())
    return Section(
        title="Environment",
        blocks=(
            *table(("Needs", "Version"), rows),
            *facts(
                ("Digest of the code", manifest.code_digest),
                ("Digest of the specification", manifest.spec_digest),
            ),
        ),
    )


def limits(said: Json, manifest: Manifest) -> Section:
    """Where it should not be trusted, as far as the facts say so."""
    found = [*_of_columns(manifest), *_of_verdict(said), *_of_rows(said)]
    found.append(
        "Everything here was measured on held-out rows of one dataset version; "
        "it says nothing of a world that has changed since."
    )
    return Section(title="Limits of use", blocks=(Items(texts=tuple(found)),))


def _of_columns(manifest: Manifest) -> list[str]:
    ranged = [c.name for c in manifest.columns if c.kind == "number" and c.minimum is not None]
    texts = [c.name for c in manifest.columns if c.kind == "text"]
    found = []
    if ranged:
        found.append(
            f"It has seen {_named(ranged)} only within the ranges above; beyond them it guesses."
        )
    if texts:
        found.append(f"Levels of {_named(texts)} that are not listed were rare or never seen.")
    return found


def _named(names: list[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more columns" if len(names) > 5 else shown


def _of_verdict(said: Json) -> list[str]:
    found = []
    if not said.get("accepted"):
        found.append("It was rejected and is not meant to answer anybody.")
    if said.get("champion_below_baseline"):
        found.append("The champion was not shown to beat the baseline on these rows.")
    unmet = [check["name"] for check in said.get("checks") or () if not check["passed"]]
    if unmet:
        found.append(f"These checks do not hold: {', '.join(plain(name) for name in unmet)}.")
    return found


def _of_rows(said: Json) -> list[str]:
    found = []
    for gate in said.get("gates") or ():
        effect = gate.get("smallest_effect")
        if effect is not None and gate["versus"] in ("champion", "anchor"):
            found.append(
                f"{_where(gate)}: a difference below {number(effect)} to the {gate['versus']} "
                f"would mostly stay unseen on {number(gate['rows'])} rows."
            )
    found += [
        f"Where {plain(part['where'])}: {plain(part['detail'] or 'harm is not excluded')}."
        for part in said.get("slices") or ()
        if not part["passed"]
    ]
    return found[:_MOST_LIMITS]


def _where(gate: Json) -> str:
    metric = plain(gate["metric"])
    return f"{metric} where {plain(gate['slice'])}" if gate.get("slice") else metric
