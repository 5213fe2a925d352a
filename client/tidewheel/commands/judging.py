"""evaluate, backtest, card, anchor: verdicts again, by other rules, and what they rest on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Model, client, show, tell, write
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.client import Client

evaluate = typer.Typer(no_args_is_help=True, help="Verdicts, computed again.")
anchor = typer.Typer(no_args_is_help=True, help="The best champion so far.")


@evaluate.command("replay")
def replay(
    event: Annotated[str, typer.Argument(help="The verdict's event id, from verdicts or why.")],
    json: AsJson = False,
) -> None:
    """Compute a verdict once more from its evidence: `equal`, or what differs (exit 1)."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.replay(event)
    if json:
        screen.as_json(answer)
    elif answer["same"]:
        screen.out.print("equal")
    else:
        names = {"field": "field", "recorded": "recorded", "now": "now"}
        screen.table(answer.get("differences") or [], names, none="it differs")
    if not answer["same"]:
        raise typer.Exit(Exit.DIFFERS)


def backtest(
    policy: Annotated[
        Path, typer.Option("--policy", help="YAML with gates, slices, checks or evaluation.")
    ],
    model: Annotated[str | None, typer.Option("--model", help="One model; all without.")] = None,
    json: AsJson = False,
) -> None:
    """Try changed rules on every recorded verdict; nothing is decided by it."""
    from tidewheel import screen

    changed = _policy(policy)
    with client() as tidewheel:
        lines = tidewheel.backtest(changed, name=model)
        if json:
            for line in lines:
                screen.as_json(line)
            return
        differing, summary = _followed(lines)
    columns = {
        "model": "model",
        "version": "version",
        "was": "was",
        "would be": "would",
        "verdict": "event_id",
    }
    if differing:
        screen.table(differing, columns, none="")
    tell(_summary(summary))


def _policy(file: Path) -> dict[str, Any]:
    import yaml

    from tidewheel.errors import Failure, plainly

    try:
        found = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        why = plainly(error) if isinstance(error, OSError) else " ".join(str(error).split())
        raise Failure(f"{file} cannot be read", why=(why,), exit_code=Exit.INPUT) from error
    if not isinstance(found, dict):
        raise Failure(
            f"{file} is no policy",
            why=("a policy has the keys gates, slices, checks or evaluation of a specification",),
            exit_code=Exit.INPUT,
        )
    # A whole specification will do, too: only what decides about verdicts is taken from it.
    if "apiVersion" in found:
        kept = ("gates", "slices", "checks", "evaluation")
        return {name: found[name] for name in kept if name in found}
    return found


def _followed(
    lines: Iterable[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """The differing decisions and the summary; progress is shown to who looks."""
    from tidewheel import screen
    from tidewheel.errors import Failure

    differing: list[dict[str, Any]] = []
    summary: Mapping[str, Any] | None = None
    with screen.talk.status("comparing …") as status:
        for line in lines:
            if "progress" in line:
                status.update(f"{line['progress']['verdicts']} verdicts compared …")
            elif "differs" in line:
                differing.append(_difference(line["differs"]))
            elif "error" in line:
                what = "the policy was tried on a part of the record only"
                raise Failure(what, why=(str(line["error"]),), exit_code=Exit.TEMPORARY)
            summary = line.get("summary", summary)
    return differing, summary


def _difference(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "was": _words(one["recorded"]), "would": _words(one["now"])}


def _words(decision: Mapping[str, Any]) -> str:
    return "accepted" if decision["accepted"] else f"rejected: {decision['reason']}"


def _summary(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "the answer broke off before its summary"
    told = (
        f"{summary['verdicts']} verdicts: {summary['same']} the same, "
        f"{summary['newly_accepted']} newly accepted, {summary['newly_rejected']} newly rejected, "
        f"{summary['other_reason']} rejected for another reason"
    )
    skipped = summary.get("not_judged") or {}
    return told + "".join(f"\n  {count} not judged: {why}" for why, count in skipped.items())


def card(
    model: Model,
    version: Annotated[int | None, typer.Argument(help="The champion's without.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A file; else MODEL-VERSION.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="html (default) or md.")] = None,
    json: AsJson = False,
) -> None:
    """Write a version's card to a file: data, parameters, metrics with intervals, slices, plots."""
    from tidewheel import screen

    kind = format_ or ("md" if out and out.suffix in (".md", ".markdown") else "html")
    if kind not in ("html", "md"):
        raise typer.BadParameter("--format is html or md")
    with client() as tidewheel:
        number = version or _present(tidewheel, model)
        content = tidewheel.card(model, number, format_=kind)
    file = out or Path(f"{model}-{number}.{kind}")
    write(file, content)
    if json:
        screen.as_json({"model": model, "version": number, "file": str(file)})
    else:
        tell(f"the card of {model} v{number} is in {file}")


def _present(tidewheel: "Client", model: str) -> int:
    """The champion, or the newest version while there is none."""
    from tidewheel.errors import Failure

    try:
        champion = tidewheel.deployment(model).get("champion")
    except Failure as failure:
        if failure.status != 404:
            raise
        champion = None
    number = champion.get("version") if isinstance(champion, dict) else champion
    if number is None:
        newest = tidewheel.model_versions(model, limit=1).get("items") or []
        number = newest[0]["version"] if newest else None
    if number is None:
        raise Failure(
            f"{model} has no card",
            why=("it has no version yet",),
            fix=f"tidewheel runs {model} tells what was trained",
        )
    return int(number)


@anchor.command("show")
def anchor_show(model: Model, json: AsJson = False) -> None:
    """Show the best champion so far and those before it."""
    from tidewheel import screen

    with client() as tidewheel:
        found = tidewheel.anchor(model)
    if json:
        screen.as_json(found)
        return
    columns = {
        "version": "version",
        "since": "since",
        "withdrawn": "retired_at",
        "by": "retired_by",
        "reason": "reason",
    }
    show({"items": found.get("history")}, columns, json=False, none=f"{model} has no anchor yet")


@anchor.command("retire")
def anchor_retire(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log for ever.")],
    json: AsJson = False,
) -> None:
    """Withdraw the anchor; candidates are compared with the present champion from now on."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.retire_anchor(model, reason)
    if json:
        screen.as_json(answer)
    else:
        tell(f"{model}: v{answer.get('retired')} is withdrawn, the anchor is v{answer['anchor']}")
