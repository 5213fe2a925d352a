"""What a card says of the verdict: metrics with intervals, slices, checks, use of the rows."""

from collections.abc import Mapping
from typing import Any, Final

from services.evaluator.card.parts import Block, Section, Words, facts, table
from shared.events import Json
from shared.manifest import Manifest
from shared.plain_text import NOTHING, number, percent, plain

_REASONS: Final[Mapping[str, str]] = {
    "accepted": "every rule holds",
    "worse": "shown to be worse than what it was compared with",
    "not_shown_better": "not shown to be better",
    "not_shown_noninferior": "not shown to be no worse than the margin allows",
    "below_baseline": "not shown to beat the baseline that needs no learning",
    "slice_harmed": "a part of the rows may be harmed",
    "check_failed": "a check of its answers does not hold",
    "limit": "an absolute limit is not kept for sure",
    "insufficient": "the rows are too few to know",
    "cannot_compare": "what it should be compared with cannot be scored",
    "invalid_input": "what it answered, or the rows, cannot be used",
    "holdout_exhausted": "the held-out rows have given all the verdicts they may give",
    "fleet_fdr": "the evidence is too weak for one promotion among so many models",
}
_MODES: Final[Mapping[str, str]] = {
    "first": "the first version, with no champion to compare with",
    "refresh": "newer data only, so it must be no worse",
    "change": "more than the data has changed, so it must be better",
}
_GAIN: Final = "Gain is the loss of the other minus the loss of the candidate."
_ROUNDED: Final = (
    " Figures are rounded to about a quarter of their intervals while these rows still judge, "
    "so that nobody can climb on their noise."
)
_SIDES: Final = ("candidate", "champion", "anchor", "baseline")


def headline(said: Json) -> str:
    """The verdict in a sentence."""
    word = "Accepted" if said.get("accepted") else "Rejected"
    reason = str(said.get("reason", ""))
    mode = str(said.get("mode", ""))
    return f"{word}: {_REASONS.get(reason, reason)} ({_MODES.get(mode, mode)})."


def metrics(said: Json, manifest: Manifest) -> Section:
    """Values on the held-out rows, and the differences with their intervals."""
    gates: list[Json] = said.get("gates") or []
    return Section(
        title="Metrics",
        blocks=(
            *_values(gates),
            *_comparisons(gates),
            *_at_training(manifest),
        ),
    )


def _values(gates: list[Json]) -> tuple[Block, ...]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for gate in gates:
        row = found.setdefault((gate["metric"], gate.get("slice") or ""), {})
        row["candidate"] = gate.get("candidate_value", row.get("candidate"))
        if gate["versus"] in _SIDES:
            row[gate["versus"]] = gate.get("other_value")
    sides = [side for side in _SIDES if any(row.get(side) is not None for row in found.values())]
    rows = [
        (metric, where or "all", *(row.get(side) for side in sides))
        for (metric, where), row in found.items()
    ]
    if not sides:
        return ()
    return (
        Words(text="On the same held-out rows (losses: lower is better):"),
        *table(("Metric", "Rows", *(side.capitalize() for side in sides)), rows),
    )


def _comparisons(gates: list[Json]) -> tuple[Block, ...]:
    rows = [
        (
            gate["metric"],
            gate.get("slice") or "all",
            gate["versus"],
            gate.get("estimate"),
            interval(gate),
            percent(gate["confidence"]),
            -gate["margin"] if gate["margin"] else 0.0,
            gate["test"],
            _basis(gate),
            "passed" if gate["passed"] else "not passed",
        )
        for gate in gates
    ]
    if not rows:
        return ()
    header = (
        "Metric",
        "Rows",
        "Against",
        "Gain",
        "Interval",
        "Each bound holds with",
        "Must be above",
        "Test",
        "Basis",
        "Gate",
    )
    return (
        Words(text=_GAIN + (_ROUNDED if any(map(_is_rounded, gates)) else "")),
        *table(header, rows, _failed(gates)),
        *_details(gates),
    )


def _is_rounded(gate: Json) -> bool:
    """Whoever rounds the figures leaves the standard error out."""
    return gate.get("lower") is not None and gate.get("se") is None


def interval(part: Mapping[str, Any]) -> str:
    """Both bounds, or a dash where they cannot be had."""
    if part.get("lower") is None and part.get("upper") is None:
        return NOTHING
    return f"{number(part.get('lower'))} to {number(part.get('upper'))}"


def _basis(gate: Json) -> str:
    units = gate.get("units") or 0
    rows = f"{number(gate['rows'])} rows"
    return f"{rows}, {number(units)} units" if units and units != gate["rows"] else rows


def _failed(parts: list[Json]) -> list[int]:
    return [place for place, part in enumerate(parts) if not part["passed"]]


def _details(gates: list[Json]) -> tuple[Block, ...]:
    wanting = [
        Words(text=f"{plain(g['metric'])} against {g['versus']}: {plain(g['detail'])}")
        for g in gates
        if not g["passed"] and g.get("detail")
    ]
    return tuple(wanting[:10])


def _at_training(manifest: Manifest) -> tuple[Block, ...]:
    rows = sorted(manifest.metrics.items())
    if not rows:
        return ()
    return (
        Words(text="As the training measured it on the held-out rows, without intervals:"),
        *table(("Metric", "Value"), rows),
    )


def slices(said: Json) -> Section:
    """Parts of the rows against the champion, the worst one that was found among them."""
    parts: list[Json] = said.get("slices") or []
    rows = [
        (
            part["name"],
            part["where"],
            "worst one found" if part["role"] == "found" else part["role"],
            part["metric"],
            number(part["rows"]),
            part["estimate"],
            interval(part),
            -part["margin"] if part["margin"] else 0.0,
            part.get("p_value"),
            "passed" if part["passed"] else "not passed",
        )
        for part in parts
    ]
    header = (
        "Slice",
        "Where",
        "Role",
        "Metric",
        "Rows",
        "Gain",
        "Interval",
        "Must be above",
        "p of harm",
        "Result",
    )
    if not rows:
        return Section(title="Slices", blocks=(Words(text="No part of the rows was compared."),))
    said_of = "The worst one found was looked for among single columns and decides nothing."
    found = any(part["role"] == "found" for part in parts)
    return Section(
        title="Slices",
        blocks=(*table(header, rows, _failed(parts)), *((Words(text=said_of),) if found else ())),
    )


def checks(said: Json) -> Section:
    """What must hold whatever the losses are."""
    parts: list[Json] = said.get("checks") or []
    rows = [
        (
            check["name"],
            "holds" if check["passed"] else "does not hold",
            check.get("value"),
            check.get("limit"),
            check["detail"],
        )
        for check in parts
    ]
    shown = table(("Check", "Result", "Value", "Limit", "Detail"), rows, _failed(parts))
    return Section(title="Checks", blocks=shown or (Words(text="None was asked for."),))


def uses(said: Json) -> Section:
    """How often the rows were asked, and what a fleet or a search for the best adds to it."""
    allowed = ((said.get("spec") or {}).get("evaluation") or {}).get("uses")
    use = said.get("holdout_use", 1)
    return Section(
        title="Use of the held-out rows",
        blocks=(
            *facts(
                ("Verdicts that these rows have given", f"{use} of {allowed}" if allowed else use),
                ("Compared with champion", _version(said.get("champion"))),
                ("Compared with anchor", _version(said.get("anchor"))),
                *_fleet(said.get("fleet")),
            ),
            *_best(said.get("best")),
        ),
    )


def _version(version: Any) -> str:
    return "none" if version is None else f"version {version}"


def _fleet(claim: Json | None) -> tuple[tuple[str, Any], ...]:
    if claim is None:
        return ()
    result = "passed" if claim["passed"] else "not passed"
    shown = claim.get("e_value")
    return (
        ("Fleet", claim["stream"]),
        ("Claim", f"number {claim['claim']}, {claim['accepted_before']} accepted before"),
        ("Evidence", None if shown is None else f"e = {number(shown)}"),
        ("Needed", f"e = {number(claim['threshold'])} ({result})"),
    )


def _best(asked: Json | None) -> tuple[Block, ...]:
    if asked is None:
        return ()
    rows = [(f"version {version}", loss) for version, loss in asked["ranking"]]
    why = f"{plain(asked['by'])} asked for the best version: {plain(asked['reason'])}"
    return (Words(text=why), *table(("Version", f"Loss ({plain(asked['metric'])})"), rows))


def authors(said: Json) -> Section:
    """Whose work it is; none of them may approve it where four eyes are asked for."""
    named: Json = said.get("authors") or {}
    words = {"spec": "Specification", "data": "Data", "training": "Asked for the training"}
    rows = [(words.get(what, what), who) for what, who in sorted(named.items())]
    return Section(
        title="Authors",
        blocks=table(("Part", "By"), rows) or (Words(text="Nobody is named."),),
    )


def origin(said: Json) -> Section:
    """Digests with which the verdict can be computed again, bit for bit."""
    return Section(
        title="How to check this",
        blocks=(
            Words(
                text="The verdict follows from the evidence and the policy below; "
                "`tidewheel evaluate replay` computes it again."
            ),
            *facts(
                ("Manifest", said.get("manifest")),
                ("Split", said.get("split")),
                ("Evidence", said.get("evidence")),
                ("Champion's manifest", said.get("champion_manifest")),
                ("Anchor's manifest", said.get("anchor_manifest")),
                ("Policy", said.get("policy_digest")),
                ("Seed", said.get("seed") and str(said["seed"])),
                ("Draws", said.get("draws")),
                ("Engine", said.get("engine")),
            ),
        ),
    )
