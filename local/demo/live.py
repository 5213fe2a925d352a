"""The series as it happened: a prediction for every hour over HTTP, its ground truth following."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from local.demo.data import Hour, Series, day
from local.demo.screen import Screen
from local.demo.tally import Tally
from tidewheel import Client, Failure

MODEL = "water-flow"
_PER_SECOND = 60.0


class Live:
    """The clock of the story. It only moves forward, and an hour is asked for once."""

    def __init__(self, client: Client, series: Series, screen: Screen, start: datetime) -> None:
        self._client = client
        self.series = series
        self._screen = screen
        self._now = start
        self._before: tuple[Hour, str] | None = None
        self.tally = Tally()

    @property
    def now(self) -> datetime:
        return self._now

    def play(
        self,
        until: datetime,
        *,
        per_second: float = _PER_SECOND,
        stop: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Hour after hour until that moment or until told to stop; the tally of this stretch."""
        whole, self.tally = self.tally, Tally()
        started = time.monotonic()
        for count, hour in enumerate(self.series.between(self._now, until), start=1):
            if stop():
                until = hour.at
                break
            self._hour(hour)
            self._screen.clock(hour.at, self.tally)
            time.sleep(max(0.0, started + count / per_second - time.monotonic()))
        self._now = max(self._now, until)
        stretch, self.tally = self.tally, whole.with_more(self.tally)
        self._screen.stretch(stretch, time.monotonic() - started)
        return stretch

    def observe_last(self) -> None:
        """The ground truth of the last hour that was predicted."""
        if self._before:
            self._observe(*self._before)
            self._before = None

    def _hour(self, hour: Hour) -> None:
        self.observe_last()
        began = time.monotonic()
        try:
            row = self.series.features(hour)
            answer = self._client.predict(MODEL, [row])["predictions"][0]
        except Failure as failure:
            self.tally.refused.append(str(failure))
            return
        self.tally.slowest_seconds = max(self.tally.slowest_seconds, time.monotonic() - began)
        self.tally.asked.append(answer["prediction_id"])
        self.tally.rungs[answer["rung"]] += 1
        self.tally.versions[f"v{answer['version']}"] += 1
        self._before = hour, answer["prediction_id"]

    def _observe(self, hour: Hour, prediction: str) -> None:
        observed = {"prediction_id": prediction, "value": hour.flow}
        try:
            self._client.feedback(MODEL, [observed])
        except Failure as failure:
            self.tally.refused.append(str(failure))
        else:
            self.tally.observed += 1


START = day(4, 11)
