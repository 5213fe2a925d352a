"""What every verb shares."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tidewheel.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")]
Model = Annotated[str, typer.Argument(help="The model's name.")]


def client() -> "Client":
    from tidewheel.client import Client

    return Client()


def show(
    found: dict[str, Any],
    columns: dict[str, str],
    *,
    json: bool,
    none: str,
    key: str = "items",
    readable: bool = False,
) -> None:
    """A list as JSON or as a table; `readable` shortens types and moments of events."""
    from tidewheel import screen

    items = found.get(key) or []
    if json:
        screen.as_json(items)
        return
    screen.table([_shortened(one) for one in items] if readable else items, columns, none=none)
    if found.get("next"):
        screen.talk.print("there are more: raise --limit")


def _shortened(event: dict[str, Any]) -> dict[str, Any]:
    from tidewheel.narrate import short_type

    moment = str(event.get("time", "")).replace("T", " ")[:19]
    return {**event, "type": short_type(event), "time": moment}


def check_writable(file: Path) -> None:
    """Refuse a file that cannot be written, before anything is done to fill it.

    Raises:
        Failure: its folder is not there, or is not ours; or it is a folder itself.
    """
    from tidewheel.errors import Failure

    why = ""
    if file.is_dir():
        why = "it is a folder"
    elif not file.parent.is_dir():
        why = f"there is no folder {file.parent}"
    elif not os.access(file if file.exists() else file.parent, os.W_OK):
        why = "permission denied"
    if why:
        raise Failure(f"{file} cannot be written", why=(why,))


def write(file: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        Failure: it cannot be written.
    """
    from tidewheel.errors import Failure, plainly

    try:
        file.write_bytes(content)
    except OSError as error:
        raise Failure(f"{file} cannot be written", why=(plainly(error),)) from error


def tell(line: str) -> None:
    from tidewheel import screen

    screen.talk.print(line, markup=False)


def done(answer: dict[str, Any], words: str, json: bool) -> None:
    """That something was done, with the event that says so."""
    from tidewheel import screen

    if json:
        screen.as_json(answer)
        return
    tell(words)
    if answer.get("event_id"):
        tell(f"  event {answer['event_id']}")
