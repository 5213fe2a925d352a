"""batch, batches: a whole dataset version is answered, file in, file out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import (
    AsJson,
    Limit,
    Model,
    check_writable,
    client,
    show,
    tell,
    write,
)
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.client import Client

_LOOK_SECONDS = 0.3


def batch(
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the answers go; waits for them.")
    ] = None,
    version: Annotated[int | None, typer.Option(help="Who answers; the champion without.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The model's own without.")] = None,
    data_version: Annotated[int | None, typer.Option(help="The newest without.")] = None,
    json: AsJson = False,
) -> None:
    """Have every row of a dataset version answered."""
    from tidewheel import screen

    if out is not None:
        check_writable(out)
    with client() as tidewheel:
        asked = tidewheel.ask_batch(
            model, version=version, dataset=dataset, dataset_version=data_version
        )
        found = tidewheel.batch(str(asked["batch"]))
        if out is not None:
            found = _ended(tidewheel, found)
            if found["output"]:
                write(out, tidewheel.batch_output(str(found["batch"])))
    if json:
        screen.as_json(found)
    else:
        _say(found, out)
    if found["outcome"] == "failed":
        raise typer.Exit(Exit.INPUT)


def batches(model: Model, limit: Limit = 20, json: AsJson = False) -> None:
    """List the batches of a model, newest first."""
    with client() as tidewheel:
        found = tidewheel.batches(model, limit=limit)
    columns = {"version": "version", "data": "dataset_version", "state": "state", "rows": "rows",
               "done": "done", "refused": "refused", "batch": "batch"}  # fmt: skip
    show(found, columns, json=json, none="no batch yet")


def _ended(tidewheel: "Client", found: dict[str, Any]) -> dict[str, Any]:
    """The batch once it is over; how far it is meanwhile."""
    from tidewheel import screen

    with screen.talk.status("waiting for a worker …") as status:
        while found["state"] in ("waiting", "running"):
            if found["state"] == "running":
                status.update(f"{found['done']} of {found['rows']} rows answered …")
            time.sleep(_LOOK_SECONDS)
            found = tidewheel.batch(str(found["batch"]))
    return found


def _say(found: dict[str, Any], out: Path | None) -> None:
    what = f"{found['model']} v{found['version']} on {found['dataset']} v{found['dataset_version']}"
    if found["outcome"] == "failed":
        tell(f"{what}: no answers ({found['reason']}): {found['detail']}")
    elif found["output"] and out is not None:
        refused = f", {found['refused']} without one" if found["refused"] else ""
        tell(f"{what}: {found['rows']} rows answered{refused}: {out}")
    else:
        tell(f"{what}: {found['state']}, batch {found['batch']}")
        tell("  the same command with --out FILE waits for the answers and fetches them")
