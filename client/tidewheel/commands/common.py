"""What every verb shares."""

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
