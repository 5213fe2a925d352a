"""What people decide by and look up, as a few lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidewheel import bars
from tidewheel.narrate import interval

Data = Mapping[str, Any]
_WORK: Final = {
    "spec": "wrote the specification",
    "data": "published the data",
    "training": "asked for the training",
    "definition": "defined the model",
    "request": "asked for this version",
}


def approval(item: Data, verdict: Data | None) -> list[str]:
    """What changes, how it compared, who may not approve, until when, and how to decide."""
    return [
        f"{item['model']} v{item['version']} waits for an approval",
        *labelled("", _policy(item)),
        *_evidence(item.get("evidence") or {}, verdict),
        *labelled("may not", ", ".join(_excluded(item))),
        *labelled("approved", ", ".join(item.get("approved_by") or ())),
        *labelled("you", str(item.get("you") or "")),
        *labelled("decide", _decide("approve", item)),
        *labelled("or", _decide("deny", item)),
    ]


def _policy(item: Data) -> str:
    until = f", until {moment(item['expires_at'])}" if item.get("expires_at") else ""
    return f"{item['policy']}: {item['missing']} of {item['needed']} still missing{until}"


def _evidence(evidence: Data, verdict: Data | None) -> Iterator[str]:
    yield from labelled("", str(evidence.get("summary") or ""))
    yield from labelled("changed", *(evidence.get("changed") or ()))
    if verdict is None:
        yield from labelled("gates", *(evidence.get("gates") or ()))
        yield from labelled("worst", str(evidence.get("worst_slice") or ""))
    else:
        yield from figures(verdict)
    yield from labelled("checks", *(evidence.get("checks") or ()))
    yield from labelled("caution", *(evidence.get("cautions") or ()))


def figures(verdict: Data) -> Iterator[str]:
    """Gates and slices, each with its interval and a bar."""
    gates = [_gate(gate) for gate in verdict.get("gates") or ()]
    other = "champion" if verdict.get("champion") else "baseline"
    slices = [_slice(part, other) for part in verdict.get("slices") or ()]
    both = [*gates, *slices]
    wide = max((len(text) for text, _, _ in both), default=0)
    lines = [f"{text:<{wide}}  {picture}  {end}".rstrip() for text, picture, end in both]
    yield from labelled("gates", *lines[: len(gates)])
    yield from labelled("slices", *lines[len(gates) :])


def _gate(gate: Data) -> tuple[str, str, str]:
    where = f" where {gate['slice']}" if gate.get("slice") else ""
    return f"{interval(gate)}{where}", bars.of_gate(gate), _passed(gate)


def _slice(part: Data, other: str) -> tuple[str, str, str]:
    name = f"{part['name']} ({part['role']})"
    if part.get("estimate") is None:
        return f"{name}: {part.get('detail') or 'cannot be had'}", "", _passed(part)
    return f"{name}: {interval({**part, 'versus': other})}", bars.of_gate(part), _passed(part)


def _passed(part: Data) -> str:
    return "passed" if part.get("passed") else "failed"


def _excluded(item: Data) -> list[str]:
    works: dict[str, list[str]] = {}
    for work, who in (item.get("authors") or {}).items():
        works.setdefault(who, []).append(_WORK.get(work, work))
    return [
        f"{who} ({' and '.join(works[who])})" if who in works else str(who)
        for who in item.get("excluded") or ()
    ]


def _decide(verb: str, item: Data) -> str:
    return f'tidewheel {verb} {item["rollout"]} --manifest {item["manifest"]} --comment "…"'


def production(found: Data) -> list[str]:
    """What answered, since when, by whose proposal and word, and on which evidence."""
    proposed, verdict = found.get("proposed") or {}, found.get("verdict")
    return [
        f"{found['model']} at {moment(found['at'])}: {found['sentence']}",
        *labelled("since", _reign(found)),
        *labelled("came by", str(found.get("came_by") or "")),
        *labelled("steps", *(_step(step) for step in found.get("steps") or ())),
        *labelled("proposed", *_proposed(proposed)),
        *labelled("approved", *(_approved(one) for one in found.get("approved") or ())),
        *labelled("glass", _intervention(found.get("break_glass"))),
        *labelled("rollback", _intervention(found.get("rollback"))),
        *(verdict_lines(verdict) if verdict else ()),
        *labelled("event", str(found.get("event_id") or "")),
    ]


def _reign(found: Data) -> str:
    if not found.get("since"):
        return ""
    until = moment(found["until"]) if found.get("until") else "now"
    return f"{moment(found['since'])} to {until}, generation {found.get('generation')}"


def _step(step: Data) -> str:
    return f"{moment(step['time'])}  {step['text']}"


def _proposed(proposed: Data) -> Iterator[str]:
    if not proposed:
        return
    asked = f", asked for by {proposed['requested_by']}" if proposed.get("requested_by") else ""
    data = f"{proposed['dataset']} v{proposed['dataset_version']}"
    yield f"because of {proposed['trigger']}{asked}, trained on {data}"
    for work, who in (proposed.get("authors") or {}).items():
        yield f"{who} {_WORK.get(work, work)}"


def _approved(one: Data) -> str:
    when = f" on {moment(one['time'])}" if one.get("time") else ""
    return f"{one['by']}{when}: {one.get('comment') or 'no comment'}"


def _intervention(one: Data | None) -> str:
    return f"{one['by']} on {moment(one['time'])}: {one['reason']}" if one else ""


def verdict_lines(verdict: Data) -> Iterator[str]:
    """How a verdict ended, with its figures and its evidence."""
    ended = "accepted" if verdict["accepted"] else f"rejected ({verdict['reason']})"
    rows = f"{verdict['rows']} rows, use {verdict.get('holdout_use', 1)} of them"
    yield from labelled("verdict", f"{ended} ({verdict['mode']}) on {rows}")
    yield from figures(verdict)
    yield from labelled("evidence", *_digests(verdict))


def _digests(verdict: Data) -> Iterator[str]:
    for name in ("evidence", "card_html"):
        if verdict.get(name):
            yield f"{verdict[name]} ({name.removesuffix('_html')})"
    yield f"verdict {verdict['event_id']}; tidewheel evaluate replay {verdict['event_id']}"


def moment(text: object) -> str:
    """`2026-11-21 09:00:00 UTC` from what a service wrote."""
    plain = str(text).replace("T", " ")
    utc = plain.endswith(("+00:00", "Z"))
    return f"{plain[:19]} UTC" if utc else plain


def labelled(label: str, *lines: str) -> Iterator[str]:
    """Lines under one label; nothing where there is nothing to say."""
    shown = [line for line in lines if line]
    for place, line in enumerate(shown):
        yield f"  {label if not place else '':<10}{line}"
