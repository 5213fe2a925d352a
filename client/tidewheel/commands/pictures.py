"""picture, report: what the monitor saw, to look at."""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Model, check_writable, client, tell, write
from tidewheel.exits import Exit

_LOOK_SECONDS = 0.5


class Shown(Enum):
    """What is drawn."""

    DRIFT = "drift"
    QUALITY = "quality"


def picture(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Where the SVG goes.")],
    shown: Annotated[Shown, typer.Argument(help="Features by time, or quality.")] = Shown.DRIFT,
    feature: Annotated[
        str | None, typer.Option(help="This feature beside the reference, instead.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Of the feature; the newest one without.")
    ] = None,
    version: Annotated[int | None, typer.Option(help="The champion without.")] = None,
) -> None:
    """Draw what the monitor saw."""
    if feature is not None and shown is Shown.QUALITY:
        raise typer.BadParameter("--feature draws one feature, not quality")
    if window is not None and feature is None:
        raise typer.BadParameter("--window goes with --feature")
    check_writable(out)
    what = "distribution" if feature is not None else shown.value
    with client() as tidewheel:
        found = tidewheel.picture(model, what, version=version, feature=feature, window=window)
    write(out, found)
    tell(f"{out}")


def report(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Where the HTML goes.")],
    version: Annotated[int | None, typer.Option(help="The champion without.")] = None,
    window: Annotated[
        int | None, typer.Option(help="Of this version; the newest one without.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Have a window drawn by Evidently, with the monitor's own verdicts."""
    from tidewheel import screen

    if window is not None and version is None:
        raise typer.BadParameter("--window goes with --version: windows are numbered by version")
    check_writable(out)
    with client() as tidewheel:
        asked = str(tidewheel.ask_report(model, version=version, window=window)["report"])
        found = tidewheel.report(asked)
        with screen.talk.status("drawing …"):
            while found["state"] == "waiting":
                time.sleep(_LOOK_SECONDS)
                found = tidewheel.report(asked)
        if found["state"] == "done":
            write(out, tidewheel.report_page(asked))
    if json:
        screen.as_json(found)
    elif found["state"] == "done":
        tell(f"{model} v{found['version']}, window {found['window']}: {_found(found['summary'])}")
        tell(f"  {out}")
    else:
        tell(f"{model}: the report could not be drawn: {found['detail']}")
    if found["state"] != "done":
        raise typer.Exit(Exit.TEMPORARY)


def _found(summary: dict[str, Any]) -> str:
    """What drifted, as far as anything was tested, and what could not be drawn."""
    drifted = ", ".join(summary["drifted"])
    reason, undrawn = summary.get("not_tested"), ", ".join(summary.get("not_drawn") or ())
    said = [] if reason and not drifted else [f"drifted: {drifted or 'none'}"]
    said += [f"not tested: {reason}"] if reason else []
    said += [f"not drawn, without values: {undrawn}"] if undrawn else []
    return "; ".join(said)
