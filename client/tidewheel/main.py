"""The `tidewheel` command."""

import sys
import traceback
from typing import Annotated, Any

import typer

from tidewheel import __version__
from tidewheel.commands import (
    batch,
    control,
    datasets,
    freshness,
    governance,
    history,
    judging,
    log,
    models,
    periods,
    pictures,
    predictions,
    specs,
)
from tidewheel.commands import local as local_commands
from tidewheel.exits import Exit

app = typer.Typer(
    name="tidewheel",
    help="Keeps machine-learning models fresh: publish data, the rest follows.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
_VERBS = (
    (datasets.publish, "publish", "Data and models"),
    (datasets.datasets, "datasets", "Data and models"),
    (datasets.versions, "versions", "Data and models"),
    (specs.apply, "apply", "Data and models"),
    (specs.check, "check", "Data and models"),
    (models.models, "models", "Data and models"),
    (control.train, "train", "Data and models"),
    (models.runs, "runs", "Data and models"),
    (predictions.predict, "predict", "Answers"),
    (predictions.feedback, "feedback", "Answers"),
    (batch.batch, "batch", "Answers"),
    (batch.batches, "batches", "Answers"),
    (models.status, "status", "Answers"),
    (models.why, "why", "Decisions"),
    (models.verdicts, "verdicts", "Decisions"),
    (judging.card, "card", "Decisions"),
    (control.best, "best", "Decisions"),
    (control.rollback, "rollback", "Decisions"),
    (judging.backtest, "backtest", "Decisions"),
    (governance.approvals, "approvals", "People"),
    (governance.approve, "approve", "People"),
    (governance.deny, "deny", "People"),
    (governance.withdraw, "withdraw", "People"),
    (governance.override, "override", "People"),
    (governance.freeze, "freeze", "People"),
    (governance.freezes, "freezes", "People"),
    (governance.lift, "lift", "People"),
    (models.drift, "drift", "Watching"),
    (pictures.picture, "picture", "Watching"),
    (pictures.report, "report", "Watching"),
    (freshness.freshness, "freshness", "Watching"),
    (periods.annotate, "annotate", "Watching"),
    (periods.annotations, "annotations", "Watching"),
    (periods.annotation, "annotation", "Watching"),
    (periods.brakes, "brakes", "Watching"),
    (periods.release, "release", "Watching"),
    (history.explain, "explain", "Looking back"),
    (history.production, "production", "Looking back"),
    (log.events, "events", "Looking back"),
    (log.outcomes, "outcomes", "Looking back"),
)
"""Each verb with the heading below which the help lists it."""
_GROUPS = (
    (judging.evaluate, "evaluate", "Decisions"),
    (judging.anchor, "anchor", "Decisions"),
    (history.audit, "audit", "Looking back"),
    (log.dlq, "dlq", "Looking back"),
)
for _verb, _name, _heading in _VERBS:
    app.command(_name, rich_help_panel=_heading)(_verb)
for _group, _name, _heading in _GROUPS:
    app.add_typer(_group, name=_name, rich_help_panel=_heading)
app.command(
    "local",
    rich_help_panel="This installation",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(local_commands.local)


@app.callback()
def options(
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="-vv shows where an error arose.")
    ] = 0,
) -> None:
    """Keeps machine-learning models fresh: publish data, the rest follows."""
    del verbose  # read by `main` from the command line, so that it works before parsing too


@app.command(rich_help_panel="This installation")
def version() -> None:
    """Print the version."""
    sys.stdout.write(f"{__version__}\n")


def main() -> None:
    """Run the command and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command; errors are told in at most four lines."""
    try:
        ended = typer.main.get_command(app).main(arguments, "tidewheel", standalone_mode=False)
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output, like `head`, has seen enough.
        return Exit.DONE
    except Exception as error:  # noqa: BLE001 - the last place before a traceback would be shown
        return _told(error, arguments)
    return ended if isinstance(ended, int) else Exit.DONE


def _told(error: Exception, arguments: list[str]) -> int:
    from tidewheel.errors import Failure  # noqa: PLC0415 - only when something went wrong

    if isinstance(error, Failure):
        _print(error, arguments)
        return error.exit_code
    if hasattr(error, "format_message"):
        if not error.format_message():
            return Exit.USAGE  # a verb without its arguments: its help was shown
        sys.stderr.write(f"error: {error.format_message()}\n  fix: {_help_of(error)}\n")
        return Exit.USAGE
    if _wants_trace(arguments):
        traceback.print_exception(error)
    why = f"  why: {type(error).__name__}: {error}".splitlines()[0]
    sys.stderr.write(f"error: a bug in the command\n{why}\n  fix: report it with -vv\n")
    return Exit.BUG


def _print(failure: Any, arguments: list[str]) -> None:
    import json  # noqa: PLC0415 - only when something went wrong

    if "--json" in arguments:
        sys.stderr.write(json.dumps(failure.plain()) + "\n")
    else:
        sys.stderr.write("\n".join(failure.lines()) + "\n")
    if _wants_trace(arguments):
        traceback.print_exception(failure)


def _wants_trace(arguments: list[str]) -> bool:
    return "-vv" in arguments or arguments.count("-v") + arguments.count("--verbose") > 1


def _help_of(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'tidewheel'} --help"


if __name__ == "__main__":
    main()
