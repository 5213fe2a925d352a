"""events, outcomes, cascade, dlq: the log and what was set aside."""

from typing import Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, client, show, tell

SERVICES = ("registry", "trainer", "evaluator", "deployer", "drift_monitor")
"""Those with a database, and so with dead letters to retry."""
SIGNS_OF_LIFE = "replica.announced,serving.measured"
"""What replicas say all the time, and what `events` shows only with --all or by its type."""


def events(
    subject: Annotated[str | None, typer.Option(help="Of one dataset or model.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Such as model.promoted.")] = None,
    after: Annotated[str | None, typer.Option(help="Those behind this position.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Signs of life as well.")] = False,
    limit: Limit = 50,
    json: AsJson = False,
) -> None:
    """List the newest events, the last one last; with --after those behind a position."""
    hidden = None if every or type_ else SIGNS_OF_LIFE
    with client() as tidewheel:
        found = tidewheel.events(
            subject=subject,
            type_=type_,
            after=after,
            limit=limit,
            newest=after is None,
            without=hidden,
        )
    columns = {
        "position": "position",
        "time": "time",
        "type": "type",
        "subject": "subject",
        "event": "id",
    }
    show(found, columns, json=json, none="no event", readable=True)


def outcomes(
    dataset: Annotated[str | None, typer.Option(help="Of one dataset.")] = None,
    model: Annotated[str | None, typer.Option(help="Of one model.")] = None,
    json: AsJson = False,
) -> None:
    """Show what became of each dataset version, per model."""
    with client() as tidewheel:
        found = tidewheel.outcomes(dataset=dataset, name=model)
    columns = {
        "dataset": "dataset",
        "version": "dataset_version",
        "model": "model",
        "outcome": "outcome",
        "event": "event_id",
    }
    show(found, columns, json=json, none="no dataset version has reached a model yet")


dlq = typer.Typer(no_args_is_help=True, help="Events that were set aside.")


@dlq.command("ls")
def dlq_ls(
    service: Annotated[str | None, typer.Option(help="One service; all without.")] = None,
    limit: Limit = 100,
    json: AsJson = False,
) -> None:
    """List parked events, then outsiders' records of which only the position was kept."""
    with client() as tidewheel:
        names = [service] if service else [*SERVICES]
        told = {name: tidewheel.dead_letters(name, limit) for name in names}
    found = [_row(name, "whole", one) for name in names for one in told[name].get("items", [])]
    away = {name: told[name].get("turned_away") or {} for name in names}
    found += [_row(name, "position", one) for name in names for one in away[name].get("newest", [])]
    names_of = ("service", "kept", "topic", "partition", "offset", "subject", "failure", "reason")
    columns = dict(zip(names_of, names_of, strict=True))
    more = next((one["next"] for one in told.values() if one.get("next")), None)
    show({"items": found, "next": more}, columns, json=json, none="nothing is parked")
    for name in names if not json else ():
        for topic, number in (away[name].get("totals") or {}).items():
            tell(f"{name} has turned {number} records of {topic} away; the newest are listed")


def _row(service: str, kept: str, letter: dict[str, Any]) -> dict[str, Any]:
    return {"service": service, "kept": kept, **letter}


@dlq.command("retry")
def dlq_retry(service: str, topic: str, subject: str, json: AsJson = False) -> None:
    """Handle the parked events of a subject again, in order."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.retry_dead_letters(service, topic, subject)
    if json:
        screen.as_json(answer)
    else:
        tell(f"{service}: {answer['retried']} handled")
