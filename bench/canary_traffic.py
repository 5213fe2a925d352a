"""Requests of a canary and its champion, one after the other, as a replica would count them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]

PER_ENTITY = 5
"""Requests that one entity sends in a row, on average, where they come in clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Which arm answered each request, whether that was an error, and slow; shape (n,) each."""

    canary: Flags
    error: Flags
    slow: Flags

    def __len__(self) -> int:
        return len(self.canary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests, errors and slow answers of (canary, champion)."""

    requests: tuple[int, int]
    errors: tuple[int, int]
    slow: tuple[int, int]


Make = Callable[[np.random.Generator, int], Traffic]
"""So many requests, drawn by chance."""


def _flagged(draw: np.random.Generator, canary: Flags, rate: float) -> Flags:
    """Events that come to both arms alike."""
    if not rate:
        return np.zeros(len(canary), dtype=np.bool_)
    return draw.random(len(canary)) < rate


def steady(*, share: float, champion: float, canary: float, slow: float = 0.0) -> Make:
    """Every request of its own, at rates that stay as they are."""

    def made(draw: np.random.Generator, requests: int) -> Traffic:
        arm = draw.random(requests) < share
        error = draw.random(requests) < np.where(arm, canary, champion)
        return Traffic(canary=arm, error=error, slow=_flagged(draw, arm, slow))

    return made


def changing(*, ratio: float = 1.0) -> Make:
    """The share rises 5, 25, 50 %, while the errors of both rise from 1 to 4 % and fall again.

    Counts that are added up over the steps would call the canary worse: it gets its requests
    when errors are many.
    """

    def made(draw: np.random.Generator, requests: int) -> Traffic:
        third = requests // 3
        share = np.repeat([0.05, 0.25, 0.5], [third, third, requests - 2 * third])
        rate = 0.01 + 0.03 * np.sin(np.linspace(0, np.pi * 0.75, requests)) ** 2
        arm = draw.random(requests) < share
        error = draw.random(requests) < rate * np.where(arm, ratio, 1.0)
        return Traffic(canary=arm, error=error, slow=_flagged(draw, arm, 0.0))

    return made


def clustered(*, share: float, rate: float, ratio: float = 1.0) -> Make:
    """Entities ask several times in a row; all requests of a broken entity fail."""

    def made(draw: np.random.Generator, requests: int) -> Traffic:
        lengths = draw.geometric(1 / PER_ENTITY, size=requests)
        entities = int(np.searchsorted(np.cumsum(lengths), requests)) + 1
        arms = draw.random(entities) < share
        broken = draw.random(entities) < rate * np.where(arms, ratio, 1.0)
        of_request = np.repeat(np.arange(entities), lengths[:entities])[:requests]
        arm = arms[of_request]
        return Traffic(canary=arm, error=broken[of_request], slow=_flagged(draw, arm, 0.0))

    return made


def once_per_entity(*, share: float, rate: float, ratio: float = 1.0) -> Make:
    """The same people, of whom each visit counts as one request."""

    def made(draw: np.random.Generator, requests: int) -> Traffic:
        counted = steady(share=share, champion=rate, canary=rate * ratio)
        return counted(draw, requests // PER_ENTITY)

    return made


def heavy(*, share: float, rate: float, ratio: float = 1.0) -> Make:
    """One entity sends a fifth of all requests and stays on its arm, whatever share was asked."""

    def made(draw: np.random.Generator, requests: int) -> Traffic:
        of_one = draw.random(requests) < 0.2
        arm = np.where(of_one, draw.random() < share, draw.random(requests) < share)
        error = draw.random(requests) < rate * np.where(arm, ratio, 1.0)
        return Traffic(canary=arm, error=error, slow=_flagged(draw, arm, 0.0))

    return made


def batches(traffic: Traffic) -> Iterator[Batch]:
    """The smallest batches that hold both arms; those without any event are joined.

    A batch ends with the first request of each run on the canary, so where it ends depends on the
    arms alone. One without an event changes no evidence, so each is joined with those before it;
    it comes just before the next one with an event, when rates that need no event are lowest.
    """
    arm = traffic.canary
    ends = np.flatnonzero(arm & ~np.concatenate([[True], arm[:-1]]))
    flags = [
        side & event
        for event in (np.ones(len(arm), dtype=np.bool_), traffic.error, traffic.slow)
        for side in (arm, ~arm)
    ]
    totals = np.stack([np.cumsum(flag)[ends] for flag in flags], axis=1)
    counts = np.diff(totals, axis=0, prepend=np.zeros((1, len(flags)), dtype=totals.dtype))
    done = np.zeros(len(flags), dtype=totals.dtype)
    for place in np.flatnonzero(counts[:, 2:].any(axis=1)).tolist():
        quiet = totals[place] - counts[place] - done
        if quiet.any():
            yield _batch(quiet)
        yield _batch(counts[place])
        done = totals[place]
    if len(totals) and (totals[-1] - done).any():
        yield _batch(totals[-1] - done)


def _batch(counts: NDArray[np.int64]) -> Batch:
    one, other, wrong, wrong_other, late, late_other = counts.tolist()
    return Batch(requests=(one, other), errors=(wrong, wrong_other), slow=(late, late_other))
