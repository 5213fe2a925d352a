"""The chapters in their order. Each does what people do, waits, and writes down what it saw."""

from __future__ import annotations

import time

from local.demo import bad
from local.demo.data import HOUR, day
from local.demo.live import MODEL
from local.demo.log import Event, is_a, of_cascade
from local.demo.world import DATASET, World, ids, is_end, told_gates
from tidewheel.narrate import data_of, short_type, told


def first_promotion(world: World) -> None:
    world.screen.chapter(
        "Three weeks of data, one model",
        "A robust line must beat the last known flow on held-out hours before it answers anybody.",
    )
    world.apply("linear")
    cascade = world.publish("flow-2022-04-11", day(4, 11))
    end = world.end_of(cascade)
    if end is not None and is_end(end, "model.promoted"):
        world.applied(end)
    verdict = world.verdict(cascade)
    world.promise(
        "The first version is promoted",
        held=is_end(end, "model.promoted"),
        evidence=f"{told_gates(verdict)}\npromoted {ids(end)}",
    )
    world.live.play(day(4, 18))


def trainer_killed(world: World) -> None:
    world.screen.chapter(
        "A week later; the trainer is killed with kill -9 in the middle of training",
        "The job's lease runs out, the next attempt does it again, and it counts once.",
    )
    cascade = world.publish("flow-2022-04-18", day(4, 18))
    started = world.log.wait(of_cascade(cascade, is_a("training.started")), seconds=20)
    killed = world.stack.kill("trainer")
    world.screen.line(f"  {world.screen.seconds:5.1f} s  kill -9 of the trainer, pid {killed}")
    end = world.canary(cascade, day(4, 25), seconds=60)
    attempts = world.log.found(of_cascade(cascade, is_a("training.started")))
    completed = world.log.found(of_cascade(cascade, is_a("training.completed")))
    promoted = world.log.found(of_cascade(cascade, is_a("model.promoted")))
    world.promise(
        "The trainer dies midway (kill -9); the cascade completes exactly once",
        held=started is not None and len(attempts) > 1 and len(completed) == len(promoted) == 1,
        evidence=f"pid {killed}; {len(attempts)} attempts started, {len(completed)} completed\n"
        f"{ids(*completed)}",
    )
    verdict = world.verdict(cascade)
    world.promise(
        "A retrain is promoted over the champion",
        held=is_end(end, "model.promoted") and data_of(end or {}).get("previous") is not None,
        evidence=f"{told_gates(verdict)}\npromoted {ids(end)}",
    )
    world.live.play(day(4, 25))


def bad_batches(world: World) -> None:
    world.screen.chapter(
        "Two bad files",
        "Nothing of them is published; every reason is said at once.",
    )
    mark = world.log.mark
    rows = world.series.rows_until(day(4, 25))
    reasons = 0
    for name, content in (("no-target", bad.without_target(rows)), ("broken", bad.broken(rows))):
        file = bad.write(world.stack.files / f"{name}.csv", content)
        code, answer = world.run(
            "publish", DATASET, str(file), shown=f"publish {DATASET} {file.name}"
        )
        reasons += max(0, len(answer.get("why", ())) - 1) if code == 65 else 0
    last = world.log.wait(lambda _: len(_refusals(world, mark)) >= 2, since=mark, seconds=15)
    refused = _refusals(world, mark)
    world.promise(
        "Bad batches are refused with every reason",
        held=last is not None and len(refused) == 2 and reasons >= 3,
        evidence=f"{reasons} reasons in {len(refused)} refusals\n{ids(*refused)}",
    )


def _refusals(world: World, since: int) -> list[Event]:
    return world.log.found(is_a("dataset.refused"), since)


def rejected(world: World) -> None:
    world.screen.chapter(
        "Somebody tries support vectors",
        "A changed model must be shown better than the champion on the same held-out hours.",
    )
    cascade = world.apply("kernel")
    end = world.end_of(cascade)
    world.promise(
        "A retrain is rejected",
        held=is_end(end, "evaluation.completed"),
        evidence=f"{data_of(end or {}).get('reason')}: {told_gates(end)}",
    )


def canary_goes_wrong(world: World) -> None:
    world.screen.chapter(
        "One more week of data: support vectors are accepted, and meet hours they never saw",
        "32 hours are missing on 24 April, so lags are unknown. Held-out rows could not tell.",
    )
    cascade = world.publish("flow-2022-04-25", day(4, 25))
    before = world.live.tally
    asked, refused = len(before.asked), len(before.refused)
    end = world.canary(cascade, day(4, 27) + 13 * HOUR)
    after = world.live.tally
    verdict = world.verdict(cascade)
    accepted = bool(verdict and data_of(verdict)["accepted"])
    world.promise(
        "A canary that goes wrong is rolled back, and no caller notices",
        held=accepted and is_end(end, "rollout.aborted") and len(after.refused) == refused,
        evidence=f"{told_gates(verdict)}\nthen {data_of(end or {}).get('detail')}\n"
        f"{len(after.asked) - asked} hours answered, {len(after.refused) - refused} not\n"
        f"aborted {ids(end)}",
    )


def leak(world: World) -> None:
    world.screen.chapter(
        "27 April: the flow falls to a quarter",
        "A real leak in the series. The monitor sees it in the predictions and their truths.",
    )
    mark = world.log.mark
    world.live.play(day(5, 2))
    seen = world.log.wait(is_a("quality.degraded"), since=mark, seconds=20)
    asked = world.log.wait(
        is_a("retraining.requested", "retraining.withheld", reason="quality"),
        since=mark,
        seconds=10,
    )
    _settle_retraining(world, mark)
    caused = world.log.found(
        lambda event: asked is not None and event.get("causation") == asked["id"], mark
    )
    follows = caused[:1] + world.log.found(is_a("deployment.rolled_back"), mark)[:1]
    world.promise(
        "The leak is seen by the monitor, and something follows",
        held=seen is not None and asked is not None and bool(follows),
        evidence="\n".join(
            f"{short_type(one)} {told(one)}\n  {one['id']}"
            for one in (seen, asked, *follows)
            if one
        ),
    )


def _settle_retraining(world: World, mark: int) -> None:
    """What was asked for ends before the story goes on, so that chapters do not mix."""
    for asked in world.log.found(is_a("retraining.requested"), mark):
        world.end_of(str(asked["correlation"]), seconds=15)


def leak_in_training(world: World) -> None:
    world.screen.chapter(
        "The week with the leak is published",
        "Trained before the leak and judged on it, the new model fails; so does its mended form.",
    )
    end = world.end_of(world.publish("flow-2022-05-02", day(5, 2)))
    mended = world.end_of(world.apply("mended"))
    world.promise(
        "A retrain on the leak does not replace the champion",
        held=all(is_end(one, "evaluation.completed") for one in (end, mended)),
        evidence=f"{told_gates(end)}\n{told_gates(mended)}",
    )
    world.live.play(day(5, 9))


def mended(world: World) -> None:
    world.screen.chapter(
        "Another week: the mended model is shown better, and survives the next gap",
        "Hours are missing again from 10 to 13 May.",
    )
    cascade = world.publish("flow-2022-05-09", day(5, 9))
    end = world.canary(cascade, day(5, 15))
    world.promise(
        "A better model takes over, shown better and proven on live hours",
        held=is_end(end, "model.promoted"),
        evidence=f"{told_gates(world.verdict(cascade))}\npromoted {ids(end)}",
    )


def rollback(world: World) -> None:
    world.screen.chapter(
        "Rollback by one command",
        "It returns when every live replica answers by the earlier version.",
    )
    mark, began = world.log.mark, time.monotonic()
    reason = "the operators trust the line"
    code, answer = world.run(
        "rollback", MODEL, "--reason", reason, shown=f'rollback {MODEL} --reason "{reason}"'
    )
    seconds = time.monotonic() - began
    event = world.log.wait(is_a("deployment.rolled_back"), since=mark, seconds=10)
    stretch = world.live.play(day(5, 15))
    served = set(stretch.versions) or {f"v{answer.get('to')}"}
    world.promise(
        "One command rolls back; it returns when all replicas confirm",
        held=code == 0 and event is not None and served == {f"v{answer.get('to')}"},
        evidence=f"v{answer.get('from')} to v{answer.get('to')} in {seconds:.1f} s, generation "
        f"{answer.get('generation')} on {len(answer.get('replicas', ()))} replica(s)\n"
        f"{ids(event)}",
    )


def outage(world: World) -> None:
    world.screen.chapter(
        "Broker and database are stopped",
        "Serving answers from its own disk; predictions wait in its spool until Kafka is back.",
    )
    for part in ("kafka", "postgres"):
        world.stack.stop_part(part)
        world.screen.line(f"  {world.screen.seconds:5.1f} s  {part} stopped")
    stretch = world.live.play(day(5, 17))
    world.live.observe_last()
    file = world.stack.files / "flow-2022-05-09.csv"
    code, _ = world.run("publish", DATASET, str(file), shown=f"publish {DATASET} {file.name}")
    for part in ("postgres", "kafka"):
        world.stack.start_part(part)
        world.screen.line(f"  {world.screen.seconds:5.1f} s  {part} started")
    again, receipt = _publish_until_taken(world, str(file))
    world.promise(
        "Serving answers while broker and database are stopped",
        held=bool(stretch.asked) and not stretch.refused,
        evidence=f"{len(stretch.asked)} of {len(stretch.asked) + len(stretch.refused)} hours "
        f"answered, slowest {stretch.slowest_seconds * 1000:.0f} ms, "
        f"{stretch.observed} ground truths taken",
    )
    world.promise(
        "Publishing meanwhile is refused unharmed; repeated, the same content is the same version",
        held=code in (69, 75) and again == 0 and receipt.get("created") is False,
        evidence=f"exit {code}, then v{receipt.get('version')} again, no new event",
    )


def _publish_until_taken(world: World, file: str) -> tuple[int, dict[str, object]]:
    deadline = time.monotonic() + 40
    while True:
        ran = world.stack.tidewheel("publish", DATASET, file, "--json")
        if ran.code == 0 or time.monotonic() > deadline:
            break
    return world.run("publish", DATASET, file, shown=f"publish {DATASET} flow-2022-05-09.csv")


def explained(world: World) -> None:
    world.screen.chapter(
        "One answer is explained, weeks and a rollback later",
        "From its id to the rows, the run, the verdict and the people behind it, in one call.",
    )
    prediction = world.live.tally.asked[0]
    began = time.monotonic()
    code, found = world.run("explain", prediction, shown=f"explain {prediction}")
    seconds = time.monotonic() - began
    answer, origin = (found.get("answer") or {}), (found.get("origin") or {})
    data, run = (origin.get("data") or {}), (origin.get("training") or {})
    for sentence in [*origin.get("story", ()), *origin.get("since_then", ())][:12]:
        world.screen.line(f"    {sentence}")
    world.promise(
        "Any answer can be explained afterwards, down to its rows and its verdict",
        held=code == 0 and bool(data) and bool(run) and bool(origin.get("verdict")),
        evidence=f"{prediction}: v{answer.get('version')} on {data.get('dataset')} "
        f"v{data.get('version')}, told in {seconds:.1f} s by the command\nrun {run.get('run')}",
    )


ALL = (
    first_promotion,
    trainer_killed,
    bad_batches,
    rejected,
    canary_goes_wrong,
    leak,
    leak_in_training,
    mended,
    rollback,
    outage,
    explained,
)
