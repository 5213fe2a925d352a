"""The doors: what is refused, what is shown, and a report that Evidently really drew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest

from services.drift_monitor import reports
from services.drift_monitor.store.horizon import Span
from services.drift_monitor.store.qualities import BEGINNING
from shared import clock
from shared.confined import Confined, Done
from tests.drift_monitor.building import (
    PUMP,
    Floats,
    a_label,
    a_profile,
    autoregressive,
    registered,
)
from tests.drift_monitor.conftest import Site
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

SERIES: Floats = autoregressive(0.3, 1000, 3, seed=1)
PROFILE = a_profile(SERIES, window=50)
QUIET: Floats = autoregressive(0.3, 400, 3, seed=2)


@pytest.fixture
async def watched(site: Site) -> Site:
    """Two windows closed, the second one drifted, and one begun; the first has labels."""
    await site.hear(registered(site.artifacts, PROFILE))
    await site.hear(*site.serving.batches_of(QUIET[:50]))
    await site.hear_together([a_label(p, y + 0.1) for p, y in site.serving.asked])
    await site.hear(*site.serving.batches_of(QUIET[50:120] + np.array([3.0, 0, 0])))
    return site


@pytest.mark.usefixtures("watched")
async def test_the_state_of_drift_is_shown(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/v1/models/pump/drift")).json()

    version = shown["versions"][0]
    assert (version["version"], version["drift"], version["is_degraded"]) == (1, "critical", False)
    assert version["open_window"] == {"window": 3, "rows": 20}
    assert (version["metric"], version["value_is"]) == ("mae", "mae")
    assert version["last_window"]["window"] == 2
    assert version["last_window"]["features"][0]["feature"] == "a"


@pytest.mark.usefixtures("watched")
async def test_quality_is_shown_with_its_completeness(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/v1/models/pump/quality")).json()

    unlabelled, labelled = shown["items"]
    assert (labelled["window"], labelled["completeness"]) == (1, 1.0)
    assert labelled["quality"]["value"] == pytest.approx(0.1)
    assert (labelled["metric"], labelled["value_is"]) == ("mae", "mae")
    # Before labels come there is an estimate, and it is shown.
    assert (unlabelled["window"], unlabelled["labels"], unlabelled["quality"]) == (2, 0, None)
    assert unlabelled["estimate"]["low"] < unlabelled["estimate"]["high"]


@pytest.mark.usefixtures("watched")
async def test_quality_is_told_as_it_was_known_at_a_moment(client: httpx.AsyncClient) -> None:
    path = "/v1/models/pump/versions/1/windows/1/quality"

    now = (await client.get(path, params={"at": "2100-01-01T00:00:00Z"})).json()
    before = (await client.get(path, params={"at": "2020-01-01T00:00:00Z"})).json()
    vague = await client.get(path, params={"at": "2020-01-01T00:00:00"})
    unknown = await client.get("/v1/models/pump/versions/9/windows/1/quality")

    assert now["quality"]["labels"] == 50
    assert before["quality"] is None
    assert (vague.status_code, unknown.status_code) == (422, 404)


async def test_windows_are_forgotten_after_their_horizon(
    client: httpx.AsyncClient, watched: Site
) -> None:
    path = "/v1/models/pump/windows"
    before = (await client.get(path)).json()["items"]

    watched.now += timedelta(days=399)
    await watched.forgetter.forget()
    within = (await client.get(path)).json()["items"]
    watched.now += timedelta(days=2)
    await watched.forgetter.forget()
    after = (await client.get(path)).json()["items"]

    assert [len(items) for items in (before, within, after)] == [3, 3, 1]
    assert after[0]["closed_at"] is None


async def test_a_champion_is_shown_first_however_many_candidates_came_after_it(
    client: httpx.AsyncClient, watched: Site
) -> None:
    for version in range(2, 24):
        await watched.hear(registered(watched.artifacts, PROFILE, version))
    await watched.store.crown(PUMP, 1, watched.now)
    path = "/v1/models/pump"

    first = (await client.get(f"{path}/drift", params={"limit": 20})).json()
    rest = (await client.get(f"{path}/drift", params={"limit": 20, "cursor": first["next"]})).json()
    named = (await client.get(f"{path}/drift", params={"version": 3})).json()
    at = {"at": "2100-01-01T00:00:00Z"}
    known = await client.get(f"{path}/versions/1/windows/1/quality", params=at)
    drift = await client.get(f"{path}/pictures/drift.svg")
    other = await client.get(f"{path}/pictures/drift.svg", params={"version": 23})
    report = (await client.post(f"{path}/reports")).json()

    assert [one["version"] for one in first["versions"]] == [1, *range(23, 4, -1)]
    assert [one["version"] for one in rest["versions"]] == [4, 3, 2]
    assert (rest["next"], [one["version"] for one in named["versions"]]) == (None, [3])
    assert first["versions"][0]["worst"][0]["feature"] == "a"
    assert (known.status_code, known.json()["quality"]["labels"]) == (200, 50)
    assert b"pump v1: drift" in drift.content
    assert b"pump v23: drift" in other.content
    assert (report["version"], report["window"]) == (1, 2)


@pytest.mark.usefixtures("watched")
async def test_windows_are_listed_newest_first_page_by_page(client: httpx.AsyncClient) -> None:
    first = (await client.get("/v1/models/pump/windows?limit=2")).json()
    second = (await client.get(f"/v1/models/pump/windows?limit=2&cursor={first['next']}")).json()

    assert [w["window"] for w in first["items"]] == [3, 2]
    assert [w["window"] for w in second["items"]] == [1]
    assert second["next"] is None


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/models/none/drift", None, 404, "not_found"),
        ("GET", "/v1/models/a%00b/drift", None, 422, "invalid_input"),
        ("GET", "/v1/models/pump/windows?cursor=x.y", None, 422, "invalid_input"),
        ("GET", "/v1/models/pump/drift?cursor=x", None, 422, "invalid_input"),
        ("GET", "/v1/models/pump/drift?version=9", None, 404, "not_found"),
        ("GET", "/v1/models/pump/windows?limit=0", None, 422, "invalid_input"),
        ("GET", "/v1/models/pump/windows?version=99999999999", None, 422, "invalid_input"),
        ("POST", "/v1/models/none/reports", {}, 404, "not_found"),
        ("POST", "/v1/models/pump/reports", {"window": 1}, 422, "invalid_input"),
        ("POST", "/v1/models/pump/reports", {"version": 1, "window": 9}, 404, "not_found"),
        ("POST", "/v1/models/pump/reports", {"version": 1, "window": 3}, 409, "conflict"),
        ("POST", "/v1/models/pump/reports", {"rows": 1}, 422, "invalid_input"),
        ("GET", "/v1/reports/not-an-id", None, 422, "invalid_input"),
        ("GET", f"/v1/reports/{'0' * 32}", None, 404, "not_found"),
    ],
)
async def test_what_is_wrong_is_refused_with_its_reason(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = await client.request(method, path, json=body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.usefixtures("watched")
async def test_a_viewer_may_look_and_not_ask_for_reports(client: httpx.AsyncClient) -> None:
    as_viewer = {"Authorization": "Bearer tw_viewer"}

    looked = await client.get("/v1/models/pump/drift", headers=as_viewer)
    asked = await client.post("/v1/models/pump/reports", headers=as_viewer)

    assert (looked.status_code, asked.status_code) == (200, 403)


@pytest.mark.usefixtures("watched")
async def test_a_request_repeated_with_its_key_is_one_report(
    client: httpx.AsyncClient, site: Site
) -> None:
    key = {"Idempotency-Key": "once"}

    answers = [await client.post("/v1/models/pump/reports", headers=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["report"] == answers[1].json()["report"]
    assert await site.jobs.waiting() == 1


@contextlib.asynccontextmanager
async def a_reporter(site: Site, confined: Confined, *, seconds: float) -> AsyncIterator[None]:
    reporter = site.reporter(confined, seconds=seconds)
    working = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        working.cancel()
        await asyncio.wait({working})


async def ended(client: httpx.AsyncClient, report: str) -> dict[str, Any]:
    async def is_over() -> bool:
        state = (await client.get(f"/v1/reports/{report}")).json()["state"]
        return bool(state != "waiting")

    await eventually(is_over, what="the report", timeout_seconds=100)
    return dict((await client.get(f"/v1/reports/{report}")).json())


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("watched")
async def test_a_report_is_drawn_by_evidently_in_a_child(
    client: httpx.AsyncClient, site: Site
) -> None:
    asked = (await client.post("/v1/models/pump/reports")).json()
    early = await client.get(f"/v1/reports/{asked['report']}/html")

    confined = Confined(reports.LIBRARIES)
    async with a_reporter(site, confined, seconds=100):
        shown = await ended(client, asked["report"])
        untested = an_order(not_tested="24 training rows are too few", season="h03")
        other = await confined.run(reports.DRAW, untested, seconds=100, megabytes=2048)
    html = await client.get(f"/v1/reports/{asked['report']}/html")

    assert early.status_code == 409
    assert (asked["window"], shown["state"], shown["requested_by"]) == (2, "done", "the-operator")
    assert set(shown["summary"]["drifted"]) == {"a", "(all numbers together)"}
    assert shown["size_bytes"] < len(html.content) / 10
    assert {test["status"] for test in shown["summary"]["tests"]} == {"success", "fail"}
    assert shown["summary"]["rows"] == {
        "drawn": 50,
        "window": 50,
        "training_drawn": 500,
        "training": 800,
    }
    assert b"Drawn are 50 of the 50 rows of the window, and 500 of" in html.content
    assert b"Tidewheel, whole window, p-value" in html.content
    assert html.headers["content-disposition"].startswith("attachment")
    assert html.headers["content-security-policy"].startswith("sandbox")
    # What was not tested has not passed, and what has no value is named.
    assert isinstance(other, Done)
    summary = other.result["summary"]
    assert (summary["not_drawn"], summary["drifted"]) == (["<b>"], ["<b>"])
    assert {test["status"] for test in summary["tests"]} == {"not_tested"}
    assert (summary["not_tested"], summary["season"]) == ("24 training rows are too few", "h03")


def test_a_page_says_how_many_rows_it_draws_and_an_old_one_stays_as_it_is() -> None:
    rows = {"drawn": 500, "window": 12_000, "training_drawn": 500, "training": 8_000}
    page = b"<html><body><div>all of it</div></body></html>"

    told = reports.with_words(page, {"rows": rows})

    assert b"Drawn are 500 of the 12,000 rows of the window, and 500 of 8,000 training" in told
    assert told.startswith(b"<html><body><p ")
    assert told.endswith(b"<div>all of it</div></body></html>")
    assert reports.with_words(page, {"drifted": []}) == page


async def test_a_window_without_any_value_is_no_bug_of_the_report(
    client: httpx.AsyncClient, site: Site
) -> None:
    await site.hear(registered(site.artifacts, PROFILE))
    for batch in site.serving.batches_of(QUIET[:50]):
        rows = tuple(replace(row, features=(None, None, None)) for row in batch.rows)
        await site.hear(replace(batch, rows=rows))
    asked = (await client.post("/v1/models/pump/reports")).json()

    async with a_reporter(site, Confined(), seconds=1):
        shown = await ended(client, asked["report"])

    words = "nothing to draw: a, b, c without any value in the rows that are kept"
    assert (shown["state"], shown["detail"]) == ("failed", f"NoValues: {words}")


def an_order(rows: int = 40, **changes: Any) -> dict[str, Any]:
    """A report of two features, the second without any value in the window."""
    chance = np.random.default_rng(5)
    values = [[float(one), None] for one in chance.normal(size=rows)]
    known = [[float(one), 1.0] for one in chance.normal(size=rows)]
    return reports.order(
        ["a", "<b>"], ["number", "number"], known, values, {"a": 1.0, "<b>": 1e-9}, 5e-4,
        rows=(rows, rows), **changes,
    )  # fmt: skip


def test_a_report_says_what_it_does_not_draw_and_what_was_not_tested() -> None:
    rows = {"drawn": 40, "window": 40, "training_drawn": 40, "training": 40}
    told = {"not_tested": "24 training rows are too few", "season": "h03", "not_drawn": ["<b>"]}

    page = reports.with_words(b"<html><body></body></html>", {"rows": rows, **told}).decode()

    assert (
        "Not tested: 24 training rows are too few. That no drift is detected below says nothing"
        in page
    )
    assert "the verdict compares with those of the season h03 alone" in page
    assert "Not drawn, because no row has a value: &lt;b&gt;." in page
    assert "What is said to have drifted" not in page


def test_a_report_of_nothing_is_refused_in_words() -> None:
    order = an_order()
    nothing = order | {"names": ["<b>"], "current": [[None], [float("nan")]]}

    assert reports.why_nothing(order) == ""
    assert reports.why_nothing(nothing) == (
        "nothing to draw: <b> without any value in the rows that are kept"
    )


async def test_a_sample_of_a_window_is_not_its_beginning_and_always_the_same(watched: Site) -> None:
    whole = await watched.store.rows_of_window((PUMP, 1), 1, 1000)

    samples = [await watched.store.rows_of_window((PUMP, 1), 1, 20) for _ in range(2)]

    places = [whole.index(row) for row in samples[0]]
    assert len(whole) == 50
    assert samples[0] == samples[1]
    assert places == sorted(set(places))
    assert len(places) == 20
    assert sum(place < 25 for place in places) < 20
    assert max(places) > 40


async def test_what_no_row_is_kept_of_is_not_drawn(
    client: httpx.AsyncClient, watched: Site
) -> None:
    before = (await client.post("/v1/models/pump/reports")).json()
    await watched.store.forget_telemetry([Span(BEGINNING, clock.now() + timedelta(days=1))])

    after = await client.post("/v1/models/pump/reports", json={"version": 1, "window": 1})
    async with a_reporter(watched, Confined(), seconds=1):
        shown = await ended(client, before["report"])

    assert after.status_code == 409
    assert "No row of window 1 of version 1 is kept any more" in after.json()["detail"]
    assert (shown["state"], shown["detail"]) == (
        "failed",
        "NoRows: no row of the window is kept any more",
    )


@pytest.mark.usefixtures("watched")
async def test_critical_drift_is_drawn_once_without_being_asked(site: Site) -> None:
    reporter = site.reporter(Confined(), seconds=1)

    await reporter.order_alarms()
    await reporter.order_alarms()

    (job,) = await site.database.fetch("select payload from job where kind = 'report'")
    (row,) = await site.database.fetch("select * from report")
    assert (job["payload"]["kind"], job["payload"]["window"]) == ("alarm", 2)
    assert (row["requested_by"], str(row["id"])) == ("tidewheel", job["payload"]["report"])


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("watched")
async def test_an_alarm_draws_the_features_that_drifted(
    client: httpx.AsyncClient, site: Site
) -> None:
    await site.reporter(Confined(), seconds=1).order_alarms()
    (row,) = await site.database.fetch("select id from report")

    async with a_reporter(site, Confined(reports.LIBRARIES), seconds=100):
        shown = await ended(client, str(row["id"]))

    assert shown["summary"]["kind"] == "alarm"
    assert [test["name"] for test in shown["summary"]["tests"]][1:] == ["Value Drift for column a"]


@pytest.mark.usefixtures("watched")
async def test_what_was_seen_is_shown_as_pictures(client: httpx.AsyncClient) -> None:
    path = "/v1/models/pump/pictures"

    drift = await client.get(f"{path}/drift.svg")
    quality = await client.get(f"{path}/quality.svg")
    one = await client.get(f"{path}/distribution.svg", params={"feature": "a"})
    none = await client.get(f"{path}/distribution.svg", params={"feature": "<b>"})
    opened = await client.get(f"{path}/distribution.svg", params={"feature": "a", "window": 3})

    for answer in (drift, quality, one, opened):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["content-security-policy"].startswith("sandbox")
        ElementTree.fromstring(answer.content)
    assert b'class="critical"' in drift.content
    assert b"Window 2: critical: a " in one.content
    assert b"Window 3 is open with 20 rows and not judged yet" in opened.content
    assert b'class="dot estimated"' in quality.content
    assert (none.status_code, none.json()["errors"][0]["pointer"]) == (422, "/query/feature")


@pytest.mark.usefixtures("watched")
async def test_the_worst_features_come_first_in_words(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/models/pump/drift")).json()["versions"][0]

    worst = found["worst"][0]
    assert (worst["feature"], worst["tier"], len(worst["history"])) == ("a", "critical", 2)
    assert worst["words"].startswith("a ")


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("watched")
async def test_a_report_that_cannot_be_drawn_says_so(client: httpx.AsyncClient, site: Site) -> None:
    asked = (await client.post("/v1/models/pump/reports")).json()

    async with a_reporter(site, Confined(), seconds=0.01):
        shown = await ended(client, asked["report"])

    assert shown["state"] == "failed"
    assert "TimedOut" in shown["detail"]
