"""apply, check: model definitions as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.commands.common import AsJson, client, tell
from tidewheel.exits import Exit

Files = Annotated[list[Path], typer.Argument(help="Specifications (YAML).", exists=True)]


def check(files: Files, json: AsJson = False) -> None:
    """Check specifications without a running system; errors name file, line and column."""
    from tidewheel import screen

    faults = [fault for file in files for fault in _read(file)[1]]
    if json:
        screen.as_json([{"file": str(file), "ok": not _read(file)[1]} for file in files])
    for fault in faults:
        screen.talk.print(fault, markup=False)
    if faults:
        raise typer.Exit(Exit.INPUT)
    if not json:
        tell(f"{len(files)} specification(s) are right")


def apply(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="Specifications (YAML).")],
    json: AsJson = False,
) -> None:
    """Define models, or change their definitions. Formatting alone changes nothing."""
    from tidewheel import screen

    read = [_read(file) for file in files]
    faults = [fault for _, found in read for fault in found]
    if faults:
        for fault in faults:
            screen.talk.print(fault, markup=False)
        raise typer.Exit(Exit.INPUT)
    with client() as tidewheel:
        for spec, _ in read:
            answer = tidewheel.apply(spec)
            if json:
                screen.as_json(answer)
            else:
                _print_applied(answer)


def _print_applied(answer: dict[str, Any]) -> None:
    done = "defined" if answer.get("changed", True) else "is defined so already"
    event = f"   event {answer['event_id']}" if answer.get("event_id") else ""
    tell(f"{answer['model']} {done}: specification {str(answer.get('spec_digest'))[:12]}{event}")


def _read(file: Path) -> tuple[dict[str, Any], list[str]]:
    """The specification in canonical form, or what is wrong with it."""
    from shared.spec_yaml import SpecFaults, read_spec_yaml

    try:
        return read_spec_yaml(file.read_text(), name=str(file)).canonical(), []
    except SpecFaults as faults:
        return {}, [str(fault) for fault in faults.faults]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{file}: {error}"]
