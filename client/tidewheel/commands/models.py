"""models, status, why, runs, verdicts, drift: what is the case, and why."""

from typing import Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, Model, client, show
from tidewheel.exits import Exit


def models(limit: Limit = 100, json: AsJson = False) -> None:
    """List the models."""
    with client() as tidewheel:
        found = tidewheel.models(limit=limit)
    columns = {
        "model": "model",
        "dataset": "dataset",
        "task": "task",
        "owner": "owner",
        "newest version": "version",
    }
    show(found, columns, json=json, none="no model yet: tidewheel apply -f SPEC.yaml")


def status(
    model: Annotated[str | None, typer.Argument(help="One model; all without.")] = None,
    json: AsJson = False,
) -> None:
    """Show what answers now: champion, canary, generation, replicas."""
    from tidewheel import screen

    with client() as tidewheel:
        names = [model] if model else [one["model"] for one in tidewheel.deployments()["items"]]
        found = [tidewheel.deployment(name) for name in names]
    if json:
        screen.as_json(found)
        return
    rows = [_status_row(one) for one in found]
    columns = {name: name for name in (rows[0] if rows else {})}
    screen.table(rows, columns, none="nothing is deployed yet")


def _status_row(one: dict[str, Any]) -> dict[str, Any]:
    champion, rollout = one.get("champion"), one.get("rollout") or {}
    version = champion.get("version") if isinstance(champion, dict) else champion
    arms = one.get("arms") or []
    return {
        "model": one.get("model"),
        "champion": f"v{version}" if version is not None else "baseline rule",
        "generation": one.get("generation"),
        "arms": ", ".join(map(_arm, arms)) or None,
        "rollout": f"v{rollout['version']} {rollout.get('stage', '')}" if rollout else None,
        "replicas": ", ".join(map(_replica, one.get("replicas") or [])) or None,
    }


def _arm(arm: dict[str, Any]) -> str:
    unseen = " unseen" if arm.get("role") == "shadow" else ""
    return f"v{arm['version']} {arm['weight']:.0%}{unseen}"


def _replica(one: Any) -> str:
    return f"{one.get('replica')}@{one.get('generation')}" if isinstance(one, dict) else str(one)


def why(model: Model, limit: Limit = 10, json: AsJson = False) -> None:
    """Tell the last decisions about a model, each with its event."""
    with client() as tidewheel:
        found = tidewheel.why(model, limit=limit)
    columns = {"when": "time", "what": "type", "why": "text", "event": "event_id"}
    none = f"nothing has been decided about {model} yet"
    show(found, columns, json=json, none=none, readable=True)


def runs(
    model: Annotated[str | None, typer.Argument(help="One model; all without.")] = None,
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """List training runs, newest first."""
    with client() as tidewheel:
        found = tidewheel.runs(model, limit=limit)
    columns = {
        "run": "run",
        "model": "model",
        "data": "dataset_version",
        "trigger": "trigger",
        "state": "state",
        "attempt": "attempt",
    }
    show(found, columns, json=json, none="no run yet")


def verdicts(model: Model, limit: Limit = 20, json: AsJson = False) -> None:
    """List what the evaluator decided, newest first."""
    with client() as tidewheel:
        found = tidewheel.verdicts(model, limit=limit)
    columns = {
        "version": "version",
        "accepted": "accepted",
        "reason": "reason",
        "mode": "mode",
        "against": "champion",
        "use of rows": "holdout_use",
        "event": "event_id",
    }
    show(found, columns, json=json, none="no verdict yet")


def drift(
    model: Model,
    quality: Annotated[bool, typer.Option("--quality", help="Of the answers instead.")] = False,
    replay: Annotated[
        int | None, typer.Option("--replay", help="Compute this window's verdict again.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="This one; of --replay the champion without.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Level to --replay with, in place of its own.")
    ] = None,
    shift: Annotated[
        float | None, typer.Option(help="Tolerance to --replay with, in place of its own.")
    ] = None,
    limit: Limit = 10,
    json: AsJson = False,
) -> None:
    """Show how inputs and answers compare with the reference; --quality: how wrong they were.

    --replay WINDOW computes its verdict again: `equal`, or what differs (exit 1).
    """
    from tidewheel import screen, watched

    if replay is not None:
        if quality:
            raise typer.BadParameter("--replay computes a verdict about drift, not --quality")
        _replay(model, version, replay, alpha, shift, json)
        return
    if alpha is not None or shift is not None:
        raise typer.BadParameter("--alpha and --shift try other rules: they go with --replay")
    with client() as tidewheel:
        if quality:
            found = tidewheel.quality(model, limit=limit, version=version)
        else:
            found = tidewheel.drift(model, limit=min(limit, _MOST_VERSIONS), version=version)
    if quality and not json:
        found = {**found, "items": watched.quality(found["items"])}
    if quality:
        show(found, _QUALITY, json=json, none=f"{model}: {_NO_QUALITY}")
    elif json:
        screen.as_json(found["versions"])
    else:
        screen.out.print("\n".join(watched.drift(found)), markup=False)
    if not quality and found.get("next"):
        more = "raise --limit, or " if limit < _MOST_VERSIONS else ""
        screen.talk.print(f"there are more versions: {more}name one with --version")


def _replay(
    model: str,
    version: int | None,
    window: int,
    alpha: float | None,
    shift: float | None,
    json: bool,
) -> None:
    """A verdict once more; without a version that of the champion's window."""
    from tidewheel import screen, watched

    with client() as tidewheel:
        number = version or watched.champion(tidewheel.drift(model, limit=1))
        found = tidewheel.replay_window(model, number, window, alpha=alpha, shift=shift)
    if json:
        screen.as_json(found)
    elif found["same"]:
        screen.out.print("equal")
    else:
        names = {"field": "field", "recorded": "recorded", "now": "now"}
        screen.table(found["differences"], names, none="it differs")
    if not found["same"]:
        raise typer.Exit(Exit.DIFFERS)


_MOST_VERSIONS = 100
_QUALITY = {
    "window": "name",
    "labels": "labels",
    "due": "due",
    "state": "state",
    "value": "value",
    "estimated": "estimated",
    "promised": "promised",
    "rule": "rule",
}
_NO_QUALITY = "no closed window has labels, or scores to estimate from"
