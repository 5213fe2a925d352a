"""approvals, approve, deny, withdraw, override, freeze, freezes, lift: whoever must agree."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, client, done, show, tell

if TYPE_CHECKING:
    from tidewheel.client import Client

Rollout = Annotated[str, typer.Argument(help="The rollout's id, from approvals or --watch.")]


def _said(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("say why; it is kept in the log")
    return reason


_KEPT = "Why; kept in the log for ever."
Comment = Annotated[str, typer.Option("--comment", "--reason", help=_KEPT, callback=_said)]
Why = Annotated[str, typer.Option("--reason", help=_KEPT, callback=_said)]
Manifest = Annotated[
    str | None,
    typer.Option("--manifest", help="Only if it is still this artifact; from approvals."),
]


def approvals(
    model: Annotated[str | None, typer.Argument(help="Of one model; all without.")] = None,
    limit: Limit = 50,
    json: AsJson = False,
) -> None:
    """Show what waits for people: what changes, how it compared, who may not approve."""
    from tidewheel import cards, screen

    with client() as tidewheel:
        found = tidewheel.approvals(limit=limit)
        items = [one for one in found["items"] if model in (None, one["model"])]
        if json:
            screen.as_json(items)
            return
        for item in items:
            verdict = _verdict(tidewheel, item["evaluation"])
            screen.out.print("\n".join(cards.approval(item, verdict)) + "\n", markup=False)
    if not items:
        tell("nothing waits for an approval")
    elif found.get("next"):
        tell("there are more: raise --limit")


def _verdict(tidewheel: "Client", evaluation: Any) -> dict[str, Any] | None:
    """The figures behind the sentences; the card does without when the evaluator is away."""
    from tidewheel.errors import Failure

    try:
        return tidewheel.verdict(str(evaluation))
    except Failure:
        return None


def approve(
    rollout: Rollout, comment: Comment, manifest: Manifest = None, json: AsJson = False
) -> None:
    """Allow a rollout that waits for a person."""
    with client() as tidewheel:
        answer = tidewheel.approve(rollout, comment, manifest=manifest)
    missing = answer.get("missing") or 0
    more = f"; {missing} more must agree" if missing else ""
    done(answer, f"approved{more}", json)


def deny(
    rollout: Rollout, comment: Comment, manifest: Manifest = None, json: AsJson = False
) -> None:
    """Refuse a rollout that waits for a person."""
    with client() as tidewheel:
        answer = tidewheel.deny(rollout, comment, manifest=manifest)
    done(answer, "denied; the champion answers on", json)


def withdraw(rollout: Rollout, comment: Comment, json: AsJson = False) -> None:
    """Take your approval back while the version answers nobody."""
    with client() as tidewheel:
        answer = tidewheel.withdraw(rollout, comment)
    done(answer, "taken back; the rollout waits again", json)


def override(rollout: Rollout, reason: Why, json: AsJson = False) -> None:
    """Break-glass: let a rollout go on outside its window. Approvals still count."""
    with client() as tidewheel:
        answer = tidewheel.override(rollout, reason)
    done(answer, "the window is overridden for this rollout, and the log says by whom", json)


def freeze(
    reason: Why,
    until: Annotated[str, typer.Option(help="2027-01-06T18:00:00+01:00, or 2h, 3d from now.")],
    since: Annotated[str | None, typer.Option("--from", help="A moment; now without.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="One; all without.")] = None,
    json: AsJson = False,
) -> None:
    """Let nothing be rolled out in this time; rollbacks stay possible."""
    from tidewheel import moments

    starts_at = moments.read(since) if since else None
    with client() as tidewheel:
        answer = tidewheel.freeze(model or [], moments.read(until), reason, starts_at=starts_at)
    what = ", ".join(answer.get("models") or []) or "all models"
    done(answer, f"{what} frozen until {answer['ends_at']} ({answer['freeze']})", json)


def freezes(
    over: Annotated[bool, typer.Option("--over", help="Those of the past as well.")] = False,
    json: AsJson = False,
) -> None:
    """List freezes, and who declared them."""
    with client() as tidewheel:
        found = tidewheel.freezes(over=over)
    columns = {
        "freeze": "freeze",
        "models": "models",
        "from": "starts_at",
        "until": "ends_at",
        "by": "by",
        "reason": "reason",
        "lifted by": "lifted_by",
    }
    items = [{**one, "models": one.get("models") or "all"} for one in found["items"]]
    show({**found, "items": items}, columns, json=json, none="nothing is frozen")


def lift(
    freeze_id: Annotated[str, typer.Argument(metavar="FREEZE", help="Its id, from freezes.")],
    reason: Why,
    json: AsJson = False,
) -> None:
    """End a freeze before its time."""
    with client() as tidewheel:
        answer = tidewheel.lift(freeze_id, reason)
    done(answer, f"{freeze_id} is lifted", json)
