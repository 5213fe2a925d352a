"""Every call about judgement and governance: approvals, windows, audit, verdicts."""

from collections.abc import Sequence

from tidewheel.calling import Call, Json, get, given, post, quoted


def approvals(limit: int, cursor: str | None) -> Call:
    """Rollouts that wait for people, with what these are to decide by."""
    path, what = "/v1/approvals", "approvals cannot be listed"
    return get("deployer", path, what, limit=limit, cursor=cursor)


def decide(rollout: str, verb: str, comment: str, manifest: str | None) -> Call:
    """`approve`, `deny` or `withdraw`; with a manifest only if it is still that artifact."""
    path, what = f"/v1/rollouts/{quoted(rollout)}/{verb}", f"the rollout is not decided ({verb})"
    return post("deployer", path, what, {"comment": comment} | given(manifest=manifest))


def override(rollout: str, reason: str) -> Call:
    """Break-glass: the rollout goes on outside its window."""
    path, what = f"/v1/rollouts/{quoted(rollout)}/override", "the window stays closed"
    return post("deployer", path, what, {"reason": reason})


def freezes(over: bool) -> Call:
    """Declared freezes; `over` lists those of the past, too."""
    query = {"over": "true"} if over else {}
    return get("deployer", "/v1/freezes", "freezes cannot be listed", **query)


def freeze(names: Sequence[str], starts_at: str | None, ends_at: str, reason: str) -> Call:
    """Nothing changes in this time for these models, or for all."""
    body = {"models": list(names), "ends_at": ends_at, "reason": reason}
    body |= given(starts_at=starts_at)
    return post("deployer", "/v1/freezes", "nothing is frozen", body)


def lift(freeze_id: str, reason: str) -> Call:
    """A freeze ends before its time."""
    path, what = f"/v1/freezes/{quoted(freeze_id)}/lift", f"the freeze {freeze_id} stays"
    return post("deployer", path, what, {"reason": reason})


def production(name: str, at: str | None) -> Call:
    """What was in production at a moment, on whose word and which evidence."""
    path, what = f"/v1/models/{quoted(name)}/production", f"the history of {name} cannot be told"
    return get("registry", path, what, at=at)


def answered(prediction: str) -> Call:
    """One answer as it was given, and its outcome where it is known."""
    path, what = f"/v1/predictions/{quoted(prediction)}", f"{prediction} is not explained"
    return get("drift_monitor", path, what)


def provenance(answer: Json) -> Call:
    """What this answer rests on: data, code, run, verdict, approval, deployment."""
    path = f"/v1/models/{quoted(answer['model'])}/provenance"
    what = f"the origin of {answer['prediction_id']} cannot be told"
    query = {name: answer[name] for name in ("version", "generation", "at")}
    return get("registry", path, what, **given(**query))


def audit_log(
    since: str | None,
    until: str | None,
    name: str | None,
    person: str | None,
    limit: int,
    cursor: str | None,
) -> Call:
    """Facts of governance, newest first."""
    query = given(since=since, until=until, model=name, person=person, limit=limit, cursor=cursor)
    return get("registry", "/v1/audit", "the audit log cannot be listed", **query)


def audit_head() -> Call:
    """The newest link of the log's chain."""
    return get("registry", "/v1/audit/head", "the head of the audit log cannot be shown")


def audit_rows() -> Call:
    """Every row of the log with its link, as lines of JSON."""
    return Call(
        what="the audit log cannot be verified",
        service="registry",
        method="GET",
        path="/v1/audit/verify",
        query={"rows": "true"},
        seconds=600.0,
    )


def verdict(event_id: str) -> Call:
    """One verdict."""
    return get("evaluator", f"/v1/verdicts/{quoted(event_id)}", "the verdict cannot be shown")


def replay(event_id: str) -> Call:
    """A verdict computed once more from its evidence."""
    path, what = f"/v1/verdicts/{quoted(event_id)}/replay", "the verdict is not computed again"
    return Call(what=what, service="evaluator", method="POST", path=path, body={}, seconds=300.0)


def backtest(policy: Json, name: str | None) -> Call:
    """Every recorded verdict by a changed policy, as lines of JSON."""
    return Call(
        what="the policy is not tried",
        service="evaluator",
        method="POST",
        path="/v1/backtests",
        body={"policy": policy} | given(model=name),
        seconds=600.0,
    )


def card(name: str, version: int, format_: str) -> Call:
    """The card of a version: `md` or `html`."""
    path = f"/v1/models/{quoted(name)}/versions/{version}/card"
    return get("evaluator", path, f"there is no card of {name} v{version}", format=format_)


def anchor(name: str) -> Call:
    """The best champion so far, and those before it."""
    path = f"/v1/models/{quoted(name)}/anchor"
    return get("evaluator", path, f"the anchor of {name} cannot be shown")


def retire_anchor(name: str, reason: str) -> Call:
    """The anchor is withdrawn; the champion takes its place."""
    path, what = f"/v1/models/{quoted(name)}/anchor/retire", f"the anchor of {name} stays"
    return post("evaluator", path, what, {"reason": reason})


def best(name: str, metric: str, reason: str) -> Call:
    """The best registered version by a metric is to be rolled out."""
    path, what = f"/v1/models/{quoted(name)}/best", f"the best version of {name} is not looked for"
    return post("evaluator", path, what, {"metric": metric, "reason": reason})
