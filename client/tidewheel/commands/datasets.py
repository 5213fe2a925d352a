"""publish, datasets: what comes in."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Limit, client, show, tell
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.client import Client


def publish(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    source: Annotated[str, typer.Argument(help="A CSV or Parquet file, or root:key.")],
    watch: Annotated[bool, typer.Option("--watch", help="Stay until the cascade ends.")] = False,
    format_: Annotated[str | None, typer.Option("--format", help="csv or parquet.")] = None,
    json: AsJson = False,
) -> None:
    """Publish a new version of a dataset.

    With --watch: 0 promoted, 3 rejected, 4 aborted or rolled back, 5 waits.
    """
    from tidewheel import screen

    with client() as tidewheel:
        with screen.upload(source) as progress:
            receipt = tidewheel.publish(dataset, source, format_=format_, progress=progress)
        if json:
            screen.as_json(receipt)
        else:
            _print_receipt(receipt)
        if watch:
            raise typer.Exit(_watched(tidewheel, receipt, json=json))


def _print_receipt(receipt: dict[str, Any]) -> None:
    new = "published" if receipt.get("created", True) else "is there already, nothing was published"
    tell(f"{receipt['dataset']} v{receipt['version']} {new}: {receipt.get('rows')} rows")
    tell(f"  event {receipt.get('event_id')}   cascade {receipt.get('cascade')}")


def _watched(tidewheel: "Client", receipt: dict[str, Any], *, json: bool) -> Exit:
    """Print the cascade until every model that the version reached has its end."""
    from tidewheel import narrate, screen

    if not _open_models(tidewheel, receipt):
        tell("no model is trained on it yet: tidewheel apply -f SPEC.yaml")
        return Exit.DONE
    ended = _ended_before(tidewheel, receipt)
    if ended is not None:
        return ended
    ends: dict[str, Exit] = {}
    for event in tidewheel.watch(receipt["cascade"], lambda: _tell_what_waits(tidewheel, receipt)):
        if json:
            screen.as_json(event)
        else:
            _print_event(event)
        end = narrate.ends_with(event)
        if end is not None:
            ends[event["subject"]] = end
            if not _open_models(tidewheel, receipt) - ends.keys():
                break
    return max(ends.values(), default=Exit.DONE)


def _ended_before(tidewheel: "Client", receipt: dict[str, Any]) -> Exit | None:
    """How a version that was there already has ended; its end may lie in another cascade."""
    from tidewheel import narrate

    if receipt.get("created", True):
        return None
    found = tidewheel.outcomes(dataset=receipt["dataset"]).get("items", [])
    of_version = [one for one in found if one["dataset_version"] == receipt["version"]]
    ends = [narrate.exit_of(one["outcome"]) for one in of_version]
    if not ends or None in ends:
        return None
    for one in of_version:
        tell(f"{one['model']} {one['outcome']}  (event {one['event_id']})")
    return max(end for end in ends if end is not None)


def _open_models(tidewheel: "Client", receipt: dict[str, Any]) -> set[str]:
    models = tidewheel.models(limit=1000).get("items", [])
    return {one["model"] for one in models if one.get("dataset") == receipt["dataset"]}


def _tell_what_waits(tidewheel: "Client", receipt: dict[str, Any]) -> None:
    """Runs that wait say nothing, so a person would not know why nothing happens.

    Whoever may publish need not be one who may see runs; then nothing is told.
    """
    from tidewheel.errors import Failure

    try:
        runs = tidewheel.runs(limit=1000).get("items", [])
    except Failure:
        return
    for run in runs:
        if run.get("cascade") == receipt["cascade"] and run.get("state") == "waiting":
            tell(f"{run['model']} waits to be trained, not before {run['not_before'][:19]} UTC")


def _print_event(event: dict[str, Any]) -> None:
    from tidewheel import narrate, screen

    moment = str(event.get("time", ""))[11:23]
    kind, text = narrate.short_type(event), narrate.told(event)
    line = f"{moment:<13}{kind:<24}{event.get('subject', ''):<16}{text}"
    screen.out.print(f"{line}  ({screen.short(event.get('id'))})", markup=False)


def datasets(json: AsJson = False) -> None:
    """List the datasets and their newest versions."""
    with client() as tidewheel:
        found = tidewheel.datasets()
    columns = {"dataset": "dataset", "newest": "version", "rows": "rows", "published": "time"}
    show(found, columns, json=json, none="no dataset yet: tidewheel publish DATASET FILE")


def versions(
    dataset: Annotated[str, typer.Argument(help="The dataset's name.")],
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """List the versions of a dataset."""
    with client() as tidewheel:
        found = tidewheel.dataset_versions(dataset, limit=limit)
    columns = {"version": "version", "rows": "rows", "digest": "digest", "by": "published_by"}
    show(found, columns, json=json, none="no version yet")
