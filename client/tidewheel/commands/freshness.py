"""freshness: how long published data waits until it is served."""

from typing import Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, client, show, tell


def freshness(
    model: Annotated[str | None, typer.Argument(help="One model; all without.")] = None,
    limit: Limit = 100,
    json: AsJson = False,
) -> None:
    """Show how long published data waits until it is served: p50, p95, p99, and who is stale."""
    from tidewheel import screen

    with client() as tidewheel:
        found = tidewheel.freshness(model, limit=limit)
    if json:
        screen.as_json(found)
        return
    if model is None:
        fleet = found["fleet"]
        tell(f"all models: {fleet['served']} served, {fleet['waiting']} not yet; {_times(fleet)}")
        columns = {
            "model": "model",
            "newest": "newest_version",
            "served": "served_version",
            "behind": "behind",
            "objective": "objective",
            "stale": "is_stale",
        }
        rows = {**found, "items": [_readable(one) for one in found["items"]]}
        show(rows, columns, json=False, none="no model yet")
        return
    one = _readable(found)
    tell(
        f"{model} answers from version {one['served_version'] or '-'} of {one['dataset']}, "
        f"the newest is {one['newest_version'] or '-'}; behind by {one['behind']}, "
        f"objective {one['objective']}{': stale' if one['is_stale'] else ''}"
    )
    tell(f"{found['served']} versions served; {_times(found)}")
    columns = {
        "version": "dataset_version",
        "published": "published_at",
        "served": "served_at",
        "took": "took",
        "outcome": "outcome",
        "detail": "detail",
    }
    rows = {"items": [{**v, "took": _span(v["seconds"])} for v in found["versions"]]}
    show(rows, columns, json=False, none="no version was published in this time")


def _readable(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **one,
        "behind": _span(one["staleness_seconds"]),
        "objective": _span(one["objective_seconds"]),
    }


def _times(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_span(found[f'{name}_seconds'])}" for name in ("p50", "p95", "p99"))


def _span(seconds: float | None) -> str:
    """As people say it, in the unit that fits; `-` where there is none."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"
