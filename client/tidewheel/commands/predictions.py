"""predict, feedback: the endpoint as its callers see it."""

import sys
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Model, client, tell
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.client import Client

Row = dict[str, Any]
_AT_ONCE = 500
_EXPLAINED_AT_ONCE = 100
_UNPROCESSABLE = 422


def predict(
    model: Model,
    row: Annotated[list[str] | None, typer.Option("--row", help="One row as JSON.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Rows: CSV, JSON lines, or - for lines.")
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="Leave out columns that the model does not take.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each answer is made of, in sentences.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Ask for predictions."""
    from tidewheel import screen
    from tidewheel.errors import Failure

    rows = [*map(_row, row or []), *(_rows(file) if file else [])]
    if not rows and file:
        raise Failure(f"{model} gives no prediction", why=(f"{file} has no rows",))
    if not rows:
        raise typer.BadParameter("give --row JSON or --file FILE")
    with client() as tidewheel:
        if ignore_extra:
            rows = _without_extra(tidewheel, model, rows)
        at_once = _EXPLAINED_AT_ONCE if explain else _AT_ONCE
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        try:
            answers = (tidewheel.predict(model, part, explain=explain) for part in parts)
            found = [one for answer in answers for one in answer["predictions"]]
        except Failure as failure:
            if file and failure.status == _UNPROCESSABLE:
                failure.fix = _way_out(tidewheel, model, rows) or failure.fix
            raise
    if json:
        screen.as_json(found)
        return
    names = ("answer", "version", "rung", "arm", "generation", "prediction_id")
    shown = [{**one, "answer": _answer(one["answer"])} for one in found]
    screen.table(shown, dict(zip(names, names, strict=True)), none="no answer")
    if explain:
        for one in found:
            _print_explanation(one)


def _answer(answer: Any) -> Any:
    """Numbers more exactly than a table has them otherwise."""
    return f"{answer:.8g}" if isinstance(answer, float) else answer


def _print_explanation(answered: Row) -> None:
    """The sentences below the id of their prediction."""
    print(f"\n{answered['prediction_id']}: {answered['answer']}")
    explanation = answered.get("explanation")
    if explanation is None:
        print(f"  not explained: {answered.get('not_explained', 'the service is older')}")
        return
    for sentence in explanation["words"]:
        print(f"  {sentence}")


def feedback(
    model: Model,
    prediction: Annotated[str, typer.Argument(help="The prediction's id.")],
    value: Annotated[
        str, typer.Argument(help="""What really happened; a text like a number as 1.""")
    ],
    revision: Annotated[int, typer.Option(min=1, help="Raise it to correct a value.")] = 1,
    json: AsJson = False,
) -> None:
    """Say what really happened."""
    from tidewheel import screen

    observed = {"prediction_id": prediction, "value": _outcome(value), "revision": revision}
    with client() as tidewheel:
        answer = tidewheel.feedback(model, [observed])
    if json:
        screen.as_json(answer)
    else:
        tell("taken")


def _without_extra(tidewheel: "Client", model: str, rows: list[Row]) -> list[Row]:
    """The rows with the model's own columns only; what is left out is said."""
    extra = _extra(tidewheel, model, rows)
    if extra:
        tell(f"not sent, because {model} does not take it: {', '.join(extra)}")
    return [{name: value for name, value in row.items() if name not in extra} for row in rows]


def _way_out(tidewheel: "Client", model: str, rows: list[Row]) -> str:
    """What a file of a dataset usually has too many: its target, its times."""
    from tidewheel.errors import Failure

    try:
        extra = _extra(tidewheel, model, rows)
    except Failure:
        return ""
    return f"--ignore-extra leaves out {', '.join(extra)}" if extra else ""


def _extra(tidewheel: "Client", model: str, rows: list[Row]) -> list[str]:
    served = tidewheel.served(model)
    taken = {column["name"] for column in served.get("columns") or []} | {served.get("entity")}
    return list(dict.fromkeys(name for row in rows for name in row if name not in taken))


def _row(text: str) -> dict[str, Any]:
    import json

    try:
        # What JSON does not know goes on as text, so that the service can say which value it was.
        found = json.loads(text, parse_constant=str)
    except ValueError as error:
        raise typer.BadParameter(f"{text[:60]!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter("a row is an object, {column: value}")
    return found


def _rows(file: Path) -> list[dict[str, Any]]:
    import csv

    if str(file) == "-":
        return [_row(line) for line in sys.stdin if line.strip()]
    try:
        with file.open(newline="") as opened:
            if file.suffix == ".csv":
                found = csv.DictReader(opened)
                return [{name: _value(text) for name, text in row.items()} for row in found]
            return [_row(line) for line in opened if line.strip()]
    except OSError as error:
        from tidewheel.errors import Failure, plainly

        why = (plainly(error),)
        raise Failure(f"{file} cannot be read", why=why, exit_code=Exit.INPUT) from error


def _outcome(text: str) -> Any:
    """As `_value`; in double quotes it is text, whatever it looks like."""
    is_quoted = len(text) > 2 and text[0] == text[-1] == '"'
    return text[1:-1] if is_quoted else _value(text)


def _value(text: str | None) -> Any:
    """Finite numbers, true and false as such; an empty cell is null; anything else is text."""
    if text is None or text == "":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return number if isfinite(number) else text
