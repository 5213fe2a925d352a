"""production, explain, audit: what was the case, on whose word, and whether the log is whole."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, Model, client, show, tell
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.auditing import Chain

At = Annotated[str | None, typer.Option("--at", help="2026-11-21T09:00:00+01:00; now without.")]
audit = typer.Typer(no_args_is_help=True, help="Who allowed what, and whether the log is whole.")


def production(model: Model, at: At = None, json: AsJson = False) -> None:
    """Tell what was in production, who proposed and approved it, and on what evidence."""
    from tidewheel import cards, moments, screen

    with client() as tidewheel:
        found = tidewheel.production(model, at=moments.read(at) if at else None)
    if json:
        screen.as_json(found)
    else:
        screen.out.print("\n".join(cards.production(found)), markup=False)


def explain(
    prediction: Annotated[str, typer.Argument(help="The prediction's id, like p-0192….")],
    json: AsJson = False,
) -> None:
    """Tell where one answer came from: features, version, data, code, verdict, approver."""
    from tidewheel import origins, screen

    with client() as tidewheel:
        found = tidewheel.explain_prediction(prediction)
    if json:
        screen.as_json(found)
    else:
        screen.out.print("\n".join(origins.card(found)), markup=False)


@audit.command("ls")
def audit_ls(
    since: Annotated[str | None, typer.Option(help="A moment.")] = None,
    until: Annotated[str | None, typer.Option(help="A moment.")] = None,
    model: Annotated[str | None, typer.Option(help="Of one model.")] = None,
    person: Annotated[str | None, typer.Option(help="By one person.")] = None,
    limit: Limit = 50,
    json: AsJson = False,
) -> None:
    """List approvals, denials, overrides, freezes, rollbacks and promotions, newest first."""
    from tidewheel import moments

    with client() as tidewheel:
        found = tidewheel.audit_log(
            since=moments.read(since) if since else None,
            until=moments.read(until) if until else None,
            name=model,
            person=person,
            limit=limit,
        )
    columns = {"when": "time", "what": "type", "told": "text", "event": "id"}
    show(found, columns, json=json, none="nothing of the kind", readable=True)


@audit.command("head")
def audit_head(json: AsJson = False) -> None:
    """Print the head of the chain, to be noted elsewhere and checked against later."""
    from tidewheel import screen

    with client() as tidewheel:
        found = tidewheel.audit_head()
    if json:
        screen.as_json(found)
    elif found.get("head"):
        screen.out.print(f"{found['head']['position']}:{found['head']['chain']}")
    else:
        tell("nothing is chained yet")


@audit.command("verify")
def audit_verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", help="A head noted earlier, POSITION:CHAIN; may be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Compute the chain of the log anew, here, from its rows; exit 1 when it was tampered with."""
    from tidewheel import screen
    from tidewheel.auditing import Chain

    chain = Chain([_noted(text) for text in anchor or []])
    with client() as tidewheel:
        _go_along(chain, tidewheel.audit_rows())
    if json:
        screen.as_json(chain.plain() | {"served": chain.served})
    else:
        _tell(chain)
    if not chain.is_whole:
        raise typer.Exit(Exit.DIFFERS)


def _noted(text: str) -> tuple[int, str]:
    position, _, link = text.partition(":")
    if not position.isascii() or not position.isdigit() or len(link) != 64:
        raise typer.BadParameter(f"{text[:80]!r} is no head; they look like 1234:<64 digits>")
    return int(position), link.lower()


def _go_along(chain: "Chain", lines: Iterable[dict[str, Any]]) -> None:
    from tidewheel import screen
    from tidewheel.errors import Failure

    with screen.talk.status("verifying …") as status:
        for line in lines:
            chain.feed(line)
            if line.get("kind") == "progress":
                status.update(f"{line['rows']} rows verified, position {line['position']} …")
    if chain.served is None:
        raise Failure(
            "the audit log could not be verified to its end",
            why=("the stream broke off before the verdict",),
            fix="verify again; nothing is said about the log",
            exit_code=Exit.TEMPORARY,
        )


def _tell(chain: "Chain") -> None:
    for fault in chain.faults:
        tell(fault)
    if chain.found > len(chain.faults):
        tell(f"and {chain.found - len(chain.faults)} more")
    if chain.is_whole:
        tell(f"the log is whole: {chain.rows} rows, {chain.anchors} anchors agree")
        tell(f"  to check against later: --anchor {chain.position}:{chain.head.hex()}")
    else:
        tell(f"the log is not what it was: {chain.found} faults in {chain.rows} rows")
    if chain.served is not None and chain.served.get("whole") is not chain.is_whole:
        tell("the service itself says otherwise; what was computed here counts")
