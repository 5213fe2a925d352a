"""picture, report: what the monitor saw, to look at."""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tidewheel.commands.common import AsJson, Model, client, tell
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
    version: Annotated[int | None, typer.Option(help="The champion without.")] = None,
) -> None:
    """Draw what the monitor saw."""
    what = "distribution" if feature is not None else shown.value
    with client() as tidewheel:
        out.write_bytes(tidewheel.picture(model, what, version=version, feature=feature))
    tell(f"{out}")


def report(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Where the HTML goes.")],
    version: Annotated[int | None, typer.Option(help="Goes with --window.")] = None,
    window: Annotated[int | None, typer.Option(help="The newest one without.")] = None,
    json: AsJson = False,
) -> None:
    """Have a window drawn by Evidently, with the monitor's own verdicts."""
    from tidewheel import screen

    with client() as tidewheel:
        asked = str(tidewheel.ask_report(model, version=version, window=window)["report"])
        found = tidewheel.report(asked)
        with screen.talk.status("drawing …"):
            while found["state"] == "waiting":
                time.sleep(_LOOK_SECONDS)
                found = tidewheel.report(asked)
        if found["state"] == "done":
            out.write_bytes(tidewheel.report_page(asked))
    if json:
        screen.as_json(found)
    elif found["state"] == "done":
        drifted = ", ".join(found["summary"]["drifted"]) or "none"
        tell(f"{model} v{found['version']}, window {found['window']}: drifted: {drifted}")
        tell(f"  {out}")
    else:
        tell(f"{model}: the report could not be drawn: {found['detail']}")
    if found["state"] != "done":
        raise typer.Exit(Exit.TEMPORARY)
