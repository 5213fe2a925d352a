"""annotate, annotations, annotation, brakes, release: what is abnormal, and what waits for it."""

from typing import Annotated

import typer

from tidewheel.commands.common import AsJson, Limit, client, done, show


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why; it is kept in the log")
    return reason


Dataset = Annotated[str, typer.Argument(help="The dataset's name.")]
Why = Annotated[
    str, typer.Option("--reason", help="Why; kept in the log for ever.", callback=_said)
]


def annotate(
    dataset: Dataset,
    reason: Why,
    tag: Annotated[
        str | None,
        typer.Option(help="transient, corrupt, held_out, new_regime, or normal to take it back."),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="First moment of it.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="First moment after it.")] = None,
    proposal: Annotated[
        str | None, typer.Option(help="Take up what the monitor suggests; from annotations.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the row's moment, where it is not clear.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="One; all without.")] = None,
    evidence: Annotated[list[str] | None, typer.Option(help="Id of a verdict.")] = None,
    json: AsJson = False,
) -> None:
    """Say what a period of a dataset is; trainings leave it out by its tag."""
    from tidewheel import moments

    with client() as tidewheel:
        answer = tidewheel.annotate(
            dataset,
            reason,
            tag=tag,
            starts_at=moments.read(since) if since else None,
            ends_at=moments.read(until) if until else None,
            column=column,
            models=model or [],
            evidence=evidence or [],
            proposal=proposal,
        )
    words = f"{answer['share']:.1%} of the rows are {answer['tag']}"
    if answer["state"] == "proposed":
        words += "; above 5 % somebody else must approve it"
    done(answer, f"{words} ({answer['annotation']})", json)


def annotations(
    dataset: Dataset,
    state: Annotated[
        str | None, typer.Option(help="proposed, active, declined or lifted; all without.")
    ] = None,
    limit: Limit = 50,
    json: AsJson = False,
) -> None:
    """List what was said of periods, and what the monitor suggests."""
    with client() as tidewheel:
        found = tidewheel.annotations(dataset, state=state, limit=limit)
    columns = {
        "id": "id",
        "state": "state",
        "tag": "tag",
        "from": "starts_at",
        "to": "ends_at",
        "share": "share",
        "author": "author",
        "reason": "reason",
    }
    items = [
        {
            **one,
            "id": one.get("annotation") or one.get("proposal"),
            "reason": one.get("reason") or one.get("detail"),
        }
        for one in found["items"]
    ]
    show({**found, "items": items}, columns, json=json, none=f"nothing was said of {dataset}")


def annotation(
    verb: Annotated[str, typer.Argument(help="approve, decline or lift.")],
    dataset: Dataset,
    annotation_id: Annotated[str, typer.Argument(metavar="ID", help="From annotations.")],
    reason: Why,
    json: AsJson = False,
) -> None:
    """Approve or decline what waits for a second person, or lift what is active."""
    if verb not in ("approve", "decline", "lift"):
        raise typer.BadParameter("use approve, decline or lift", param_hint="VERB")
    with client() as tidewheel:
        answer = tidewheel.decide_annotation(dataset, annotation_id, verb, reason)
    words = {
        "approve": "approved: trainings leave it out by its tag",
        "decline": "declined",
        "lift": "lifted: the rows are as all others",
    }
    done(answer, words[verb], json)


def brakes(limit: Limit = 50, json: AsJson = False) -> None:
    """List brakes: so many models changed at once that none of them is retrained."""
    with client() as tidewheel:
        found = tidewheel.brakes(limit=limit)
    columns = {
        "scope": "scope",
        "since": "set_at",
        "changed": "confirmed",
        "of": "watched",
        "lifted by": "lifted_by",
        "reason": "reason",
    }
    show(found, columns, json=json, none="no brake is set")


def release(
    scope: Annotated[str, typer.Argument(help="fleet, or dataset/ and a name; from brakes.")],
    reason: Why,
    json: AsJson = False,
) -> None:
    """Let the models of a brake be retrained."""
    with client() as tidewheel:
        answer = tidewheel.release(scope, reason)
    done(answer, f"the brake of {scope} is released", json)
