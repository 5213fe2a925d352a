"""The client for programs that await."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Self

import httpx

from tidewheel import calls, context, governance, periods
from tidewheel.calling import Call, Json, Progress, Row, answer, document
from tidewheel.errors import Failure
from tidewheel.sending import RECONNECT_SECONDS, async_chunks, no_answer, pause_after, request_of
from tidewheel.stream import ALIVE, EventLines


class AsyncClient:
    """One installation of Tidewheel. Calls that are repeatable are repeated when it is busy."""

    def __init__(self, *, context_file: str | Path | None = None, key: str | None = None) -> None:
        self.context = context.find(context_file, key)
        self._http = httpx.AsyncClient(trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def send(self, call: Call) -> Json:
        """Send one call and return the JSON of its answer.

        Raises:
            Failure: it was refused or not answered.
        """
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(call)
            except Failure as failure:
                pause = pause_after(call, failure, tries)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, call: Call) -> Json:
        content = (
            async_chunks(call.body, call.progress)
            if isinstance(call.body, Path)
            else call.content()
        )
        try:
            got = await self._http.request(**request_of(call, self.context, content))
        except httpx.HTTPError as error:
            raise no_answer(call, self.context, error) from error
        return answer(call, got.status_code, got.content, got.headers)

    async def read(self, call: Call) -> bytes:
        """Send one call whose answer is a document.

        Raises:
            Failure: it was refused or not answered.
        """
        try:
            got = await self._http.request(**request_of(call, self.context, call.content()))
        except httpx.HTTPError as error:
            raise no_answer(call, self.context, error) from error
        return document(call, got.status_code, got.content, got.headers)

    async def lines(self, call: Call) -> AsyncIterator[Json]:
        """Send one call whose answer comes line by line, each a JSON object.

        Raises:
            Failure: it was refused, not answered, or broke off.
        """
        request = request_of(call, self.context, call.content())
        try:
            async with self._http.stream(**request) as got:
                if got.status_code >= 400:
                    content = await got.aread()
                    answer(call, got.status_code, content, got.headers)
                async for line in got.aiter_lines():
                    if line:
                        yield json.loads(line)
        except httpx.HTTPError as error:
            raise no_answer(call, self.context, error) from error

    async def watch(
        self, cascade_id: str, quiet: Callable[[], None] | None = None
    ) -> AsyncIterator[Json]:
        """The events of a cascade, those of the past first, then as they happen.

        Args:
            cascade_id: as a receipt names it.
            quiet: called whenever the service says that nothing has happened for a while.
        """
        lines = EventLines()
        while True:
            call = calls.cascade_events(cascade_id, lines.last_id)
            try:
                async with self._http.stream(**request_of(call, self.context, None)) as got:
                    if got.status_code >= 400:
                        content = await got.aread()
                        answer(call, got.status_code, content, got.headers)
                    async for line in got.aiter_lines():
                        if quiet and line == ALIVE:
                            quiet()
                        event = lines.feed(line)
                        if event is not None:
                            yield event
            except httpx.ReadTimeout:
                continue
            except httpx.HTTPError as error:
                raise no_answer(call, self.context, error) from error
            await asyncio.sleep(RECONNECT_SECONDS)

    async def publish(
        self,
        dataset: str,
        source: str | Path,
        *,
        format_: str | None = None,
        progress: Progress | None = None,
    ) -> Json:
        """Publish a file, or `root:key`; the same content again has the same receipt."""
        return await self.send(calls.publish(dataset, source, format_, progress))

    async def datasets(self) -> Json:
        """All datasets."""
        return await self.send(calls.datasets())

    async def dataset_versions(
        self, dataset: str, *, limit: int = 50, cursor: str | None = None
    ) -> Json:
        """Versions of a dataset, newest first."""
        return await self.send(calls.dataset_versions(dataset, limit, cursor))

    async def apply(self, spec: Json) -> Json:
        """Define a model, or change its definition."""
        return await self.send(calls.apply(spec))

    async def models(self, *, limit: int = 100, cursor: str | None = None) -> Json:
        """All models."""
        return await self.send(calls.models(limit, cursor))

    async def model(self, name: str) -> Json:
        """One model."""
        return await self.send(calls.model(name))

    async def model_versions(
        self, name: str, *, limit: int = 50, cursor: str | None = None
    ) -> Json:
        """Versions of a model, newest first."""
        return await self.send(calls.model_versions(name, limit, cursor))

    async def why(self, name: str, *, limit: int = 10) -> Json:
        """The last decisions about a model, each with its event."""
        return await self.send(calls.why(name, limit))

    async def events(
        self,
        *,
        subject: str | None = None,
        type_: str | None = None,
        after: int | str | None = None,
        limit: int = 100,
        newest: bool = False,
        without: str | None = None,
    ) -> Json:
        """Events in the order in which the registry heard them; `newest`: the last page of them."""
        return await self.send(
            calls.events(subject, type_, after, limit, newest=newest, without=without)
        )

    async def outcomes(self, *, dataset: str | None = None, name: str | None = None) -> Json:
        """What became of each dataset version, per model."""
        return await self.send(calls.outcomes(dataset, name))

    async def freshness(
        self, name: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Json:
        """From published to served: p50, p95, p99 and staleness, of one model or of all."""
        return await self.send(calls.freshness(name, limit, cursor))

    async def cascade(self, cascade_id: str) -> Json:
        """Everything that one trigger brought about."""
        return await self.send(calls.cascade(cascade_id))

    async def train(self, name: str) -> Json:
        """Ask for a run."""
        return await self.send(calls.train(name))

    async def runs(
        self, name: str | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> Json:
        """Training runs, newest first."""
        return await self.send(calls.runs(name, limit, cursor))

    async def ask_batch(
        self,
        name: str,
        *,
        version: int | None = None,
        dataset: str | None = None,
        dataset_version: int | None = None,
    ) -> Json:
        """Have a whole dataset version answered; the same batch again is the same job."""
        return await self.send(calls.ask_batch(name, version, dataset, dataset_version))

    async def batch(self, batch_id: str) -> Json:
        """How far a batch is, or what came of it."""
        return await self.send(calls.batch(batch_id))

    async def batches(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Json:
        """The batches of a model, newest first."""
        return await self.send(calls.batches(name, limit, cursor))

    async def batch_output(self, batch_id: str) -> bytes:
        """The file of answers, a row for every row."""
        return await self.read(calls.batch_output(batch_id))

    async def verdicts(self, name: str, *, limit: int = 20) -> Json:
        """Verdicts about a model, newest first."""
        return await self.send(calls.verdicts(name, limit))

    async def deployments(self) -> Json:
        """The desired state of every endpoint."""
        return await self.send(calls.deployments())

    async def deployment(self, name: str) -> Json:
        """Champion, rollout, arms, ladder and replicas of one endpoint."""
        return await self.send(calls.deployment(name))

    async def rollouts(self, name: str, *, limit: int = 20) -> Json:
        """Rollouts of a model, newest first."""
        return await self.send(calls.rollouts(name, limit))

    async def approvals(self, *, limit: int = 100, cursor: str | None = None) -> Json:
        """Rollouts that wait for people."""
        return await self.send(governance.approvals(limit, cursor))

    async def approve(self, rollout: str, comment: str, *, manifest: str | None = None) -> Json:
        """Allow a waiting rollout; with a manifest only if it is still that artifact."""
        return await self.send(governance.decide(rollout, "approve", comment, manifest))

    async def deny(self, rollout: str, comment: str, *, manifest: str | None = None) -> Json:
        """Refuse a waiting rollout."""
        return await self.send(governance.decide(rollout, "deny", comment, manifest))

    async def withdraw(self, rollout: str, comment: str) -> Json:
        """Take an approval back."""
        return await self.send(governance.decide(rollout, "withdraw", comment, None))

    async def override(self, rollout: str, reason: str) -> Json:
        """Break-glass: let a rollout go on outside its window."""
        return await self.send(governance.override(rollout, reason))

    async def freezes(self, *, over: bool = False) -> Json:
        """Declared freezes; `over` lists those of the past, too."""
        return await self.send(governance.freezes(over))

    async def freeze(
        self, names: Sequence[str], ends_at: str, reason: str, *, starts_at: str | None = None
    ) -> Json:
        """Let nothing change in this time for these models; for all when none is named."""
        return await self.send(governance.freeze(names, starts_at, ends_at, reason))

    async def lift(self, freeze: str, reason: str) -> Json:
        """End a freeze before its time."""
        return await self.send(governance.lift(freeze, reason))

    async def annotations(self, dataset: str, *, state: str | None = None, limit: int = 50) -> Json:
        """What was said of periods of a dataset, and what the monitor suggests."""
        return await self.send(periods.annotations(dataset, state, limit))

    async def annotate(
        self,
        dataset: str,
        reason: str,
        *,
        tag: str | None = None,
        starts_at: str | None = None,
        ends_at: str | None = None,
        column: str | None = None,
        models: Sequence[str] = (),
        evidence: Sequence[str] = (),
        proposal: str | None = None,
    ) -> Json:
        """Say what a period is; what is not given comes from a proposal of the monitor."""
        call = periods.annotate(
            dataset,
            reason,
            tag=tag,
            starts_at=starts_at,
            ends_at=ends_at,
            column=column,
            models=models,
            evidence=evidence,
            proposal=proposal,
        )
        return await self.send(call)

    async def decide_annotation(
        self, dataset: str, annotation: str, verb: str, reason: str
    ) -> Json:
        """`approve` or `decline` what waits for a second person, `lift` what is active."""
        return await self.send(periods.decide_annotation(dataset, annotation, verb, reason))

    async def brakes(self, *, limit: int = 50) -> Json:
        """Brakes that keep models from being retrained."""
        return await self.send(periods.brakes(limit))

    async def release(self, scope: str, reason: str) -> Json:
        """Let the models of a brake be retrained."""
        return await self.send(periods.release(scope, reason))

    async def explain_prediction(self, prediction: str) -> Json:
        """One answer with everything that it rests on, also after rollbacks."""
        answer = await self.send(governance.answered(prediction))
        return {"answer": answer, "origin": await self.send(governance.provenance(answer))}

    async def production(self, name: str, *, at: str | None = None) -> Json:
        """What was in production at a moment, on whose word and which evidence."""
        return await self.send(governance.production(name, at))

    async def audit_log(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        name: str | None = None,
        person: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Json:
        """Facts of governance, newest first."""
        return await self.send(governance.audit_log(since, until, name, person, limit, cursor))

    async def audit_head(self) -> Json:
        """The newest link of the log's chain, and the last anchor."""
        return await self.send(governance.audit_head())

    def audit_rows(self) -> AsyncIterator[Json]:
        """Anchors, rows with their links, and the service's own verdict on them."""
        return self.lines(governance.audit_rows())

    async def verdict(self, event_id: str) -> Json:
        """One verdict."""
        return await self.send(governance.verdict(event_id))

    async def replay(self, event_id: str) -> Json:
        """Compute a verdict once more from its evidence."""
        return await self.send(governance.replay(event_id))

    def backtest(self, policy: Json, *, name: str | None = None) -> AsyncIterator[Json]:
        """What a changed policy would have decided: differences, progress, and a summary."""
        return self.lines(governance.backtest(policy, name))

    async def card(self, name: str, version: int, *, format_: str = "html") -> bytes:
        """The card of a version, as HTML or Markdown."""
        return await self.read(governance.card(name, version, format_))

    async def anchor(self, name: str) -> Json:
        """The best champion so far, and those before it."""
        return await self.send(governance.anchor(name))

    async def retire_anchor(self, name: str, reason: str) -> Json:
        """Withdraw the anchor; the champion takes its place."""
        return await self.send(governance.retire_anchor(name, reason))

    async def best(self, name: str, metric: str, *, reason: str = "") -> Json:
        """Ask for the best registered version by a metric."""
        return await self.send(governance.best(name, metric, reason))

    async def served(self, name: str) -> Json:
        """How serving answers for a model, and the columns that it takes."""
        return await self.send(calls.served(name))

    async def roll_back(self, name: str, reason: str, *, version: int | None = None) -> Json:
        """Make an earlier version the champion again."""
        return await self.send(calls.roll_back(name, reason, version))

    async def predict(self, name: str, rows: Sequence[Row], *, explain: bool = False) -> Json:
        """Answers for one row or many, with what they are made of if that is wanted."""
        return await self.send(calls.predict(name, rows, explain=explain))

    async def explain(self, name: str, rows: Sequence[Row]) -> Json:
        """What the champion's answers to these rows are made of; no prediction is logged."""
        return await self.send(calls.explain(name, rows))

    async def feedback(self, name: str, observations: Sequence[Row]) -> Json:
        """Say what really happened."""
        return await self.send(calls.feedback(name, observations))

    async def replay_window(
        self,
        name: str,
        version: int,
        window: int,
        *,
        alpha: float | None = None,
        shift: float | None = None,
    ) -> Json:
        """Compute the verdict about a window again: what differs, by its own rules or by others."""
        return await self.send(calls.replayed_window(name, version, window, alpha, shift))

    async def drift(
        self, name: str, *, limit: int = 20, version: int | None = None, cursor: str | None = None
    ) -> Json:
        """How far the inputs have moved: the champion first, then the newest versions."""
        return await self.send(calls.drift(name, "drift", limit, version, cursor))

    async def picture(
        self,
        name: str,
        what: str,
        *,
        version: int | None = None,
        feature: str | None = None,
        window: int | None = None,
    ) -> bytes:
        """What the monitor saw, as SVG: `drift`, `quality`, or the `distribution` of a feature."""
        return await self.read(calls.picture(name, what, version, feature, window))

    async def ask_report(
        self, name: str, *, version: int | None = None, window: int | None = None
    ) -> Json:
        """Have a window drawn, the newest one by default."""
        return await self.send(calls.ask_report(name, version, window))

    async def report(self, report_id: str) -> Json:
        """How a report stands."""
        return await self.send(calls.report(report_id))

    async def report_page(self, report_id: str) -> bytes:
        """A finished report as HTML; open it as a file, it holds what others chose."""
        return await self.read(calls.report_page(report_id))

    async def quality(
        self, name: str, *, limit: int = 20, version: int | None = None, cursor: str | None = None
    ) -> Json:
        """How wrong the answers were as far as labels have come, or are estimated to be."""
        return await self.send(calls.drift(name, "quality", limit, version, cursor))

    async def windows(
        self, name: str, *, limit: int = 20, version: int | None = None, cursor: str | None = None
    ) -> Json:
        """Windows of predictions that were compared with the reference."""
        return await self.send(calls.drift(name, "windows", limit, version, cursor))

    async def dead_letters(self, service: str, limit: int = 100) -> Json:
        """Events that a service set aside."""
        return await self.send(calls.dead_letters(service, limit))

    async def retry_dead_letters(self, service: str, topic: str, subject: str) -> Json:
        """Handle the parked events of a subject again, in order."""
        return await self.send(calls.retry_dead_letters(service, topic, subject))
