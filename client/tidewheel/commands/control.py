"""train, rollback, best: what a person may ask for."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.commands.common import AsJson, Model, client, tell
from tidewheel.exits import Exit

if TYPE_CHECKING:
    from tidewheel.client import Client

_CONFIRM_SECONDS = 30.0
_LOOK_SECONDS = 0.1


def train(model: Model, json: AsJson = False) -> None:
    """Ask for a training run on the newest dataset version."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.train(model)
    if json:
        screen.as_json(answer)
    elif answer.get("run"):
        tell(f"{model}: run {answer['run']} is queued (tidewheel runs {model})")
    else:
        tell(f"{model}: nothing is trained: {answer.get('detail') or answer.get('skipped')}")


def rollback(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the log for ever.")] = "by hand",
    version: Annotated[int | None, typer.Option(help="This one; the previous without.")] = None,
    json: AsJson = False,
) -> None:
    """Make an earlier version the champion; returns when every live replica has applied it."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.roll_back(model, reason, version=version)
        replicas = _confirmed(tidewheel, model, int(answer["generation"]))
    if json:
        screen.as_json({**answer, "replicas": replicas})
    else:
        tell(f"{model}: v{answer.get('from')} → v{answer.get('to')}")
        tell(f"  generation {answer['generation']} applied by {_replicas(replicas)}")
        tell(f"  event {answer.get('event_id')}")


def _confirmed(tidewheel: "Client", model: str, generation: int) -> list[str]:
    """The live replicas, once all of them answer by this generation or a later one."""
    from tidewheel.errors import Failure

    deadline = time.monotonic() + _CONFIRM_SECONDS
    while True:
        replicas: list[dict[str, Any]] = tidewheel.deployment(model).get("replicas") or []
        late = [one for one in replicas if (one.get("generation") or 0) < generation]
        if replicas and not late:
            return [str(one["replica"]) for one in replicas]
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_SECONDS)
    names = ", ".join(str(one["replica"]) for one in late) or "no replica"
    raise Failure(
        f"{model} is rolled back, but not everywhere yet",
        why=(f"generation {generation} is decided; after {_CONFIRM_SECONDS:.0f} s {names} lags",),
        fix=f"it applies as soon as it hears of it: tidewheel status {model}",
        exit_code=Exit.TEMPORARY,
    )


def best(
    model: Model,
    metric: Annotated[str, typer.Option("--metric", help="Such as mae or roc_auc.")],
    reason: Annotated[str, typer.Option("--reason", help="Kept in the log for ever.")] = "",
    json: AsJson = False,
) -> None:
    """Ask for the best registered version by a metric, whichever was trained last."""
    from tidewheel import screen

    with client() as tidewheel:
        answer = tidewheel.best(model, metric, reason=reason)
    if json:
        screen.as_json(answer)
    else:
        tell(f"{model}: the newest versions are compared by {metric} on the same rows")
        tell(f"  what comes of it: tidewheel verdicts {model}")


def _replicas(names: list[str]) -> str:
    """`replica 0`; bare names would read like a count."""
    if not names:
        return "no replica"
    return f"{'replica' if len(names) == 1 else 'replicas'} {', '.join(names)}"
