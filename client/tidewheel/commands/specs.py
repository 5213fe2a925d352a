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

    read = {str(file): _read(file)[1] for file in files}
    if json:
        screen.as_json([{"file": file, "faults": faults} for file, faults in read.items()])
    _stop_at([fault for faults in read.values() for fault in faults])
    if not json:
        tell(
            "the specification is right"
            if len(files) == 1
            else f"{len(files)} specifications are right"
        )


def apply(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="Specifications (YAML).")],
    json: AsJson = False,
) -> None:
    """Define models, or change their definitions. Formatting alone changes nothing."""
    from tidewheel import screen

    read = [_read(file) for file in files]
    _stop_at([fault for _, found in read for fault in found])
    with client() as tidewheel:
        for spec, _ in read:
            answer = tidewheel.apply(spec)
            if json:
                screen.as_json(answer)
            else:
                _print_applied(answer)


def _stop_at(faults: list[str]) -> None:
    for fault in faults:
        tell(fault)
    if faults:
        raise typer.Exit(Exit.INPUT)


def _print_applied(answer: dict[str, Any]) -> None:
    done = "defined" if answer.get("changed", True) else "is defined so already"
    event = f"   event {answer['event_id']}" if answer.get("event_id") else ""
    tell(f"{answer['model']} {done}: specification {str(answer.get('spec_digest'))[:12]}{event}")


def _read(file: Path) -> tuple[dict[str, Any], list[str]]:
    """The specification in canonical form, or what is wrong with it and where."""
    from shared.spec_yaml import SpecFaults, read_spec_yaml

    try:
        return read_spec_yaml(file.read_bytes(), name=str(file)).canonical(), []
    except SpecFaults as faults:
        return {}, [str(fault) for fault in faults.faults]
    except OSError as error:
        return {}, [f"{file}: {error.strerror}"]
