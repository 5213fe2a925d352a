"""What labels make of the answers that they judge: losses, the rule's losses, cells of scores."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from services.drift_monitor.handlers.measuring import cells_of
from services.drift_monitor.handlers.profiles import Profiles, is_of_answers, score_cells
from services.drift_monitor.quality import Judge, Outcome, Value
from services.drift_monitor.quality.firsts import Firsts
from services.drift_monitor.store import Key, PostgresStore
from services.drift_monitor.store.outcomes import Lost, Weighed
from services.drift_monitor.windows import Watched
from shared.sketch import NumberCells

Versions = Mapping[Key, Watched]


@dataclass(slots=True)
class _Column:
    """Answers with their labels, those of a version together."""

    ids: Sequence[str]
    answers: Sequence[Value]
    scores: Sequence[float | None]
    values: Sequence[Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """Cells and rules are a version's own; losses are worked out together where judges agree."""

    store: PostgresStore
    profiles: Profiles

    async def weigh(self, outcomes: Sequence[Outcome], versions: Versions) -> list[Weighed]:
        """Outcomes with what they make of their answers; of unknown versions with nothing."""
        of_version: dict[Key | None, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            key = (outcome.given.model, outcome.given.version or 0)
            of_version[key if key in versions else None].append(outcome)
        found = [Weighed(outcome=outcome) for outcome in of_version.pop(None, ())]
        spans, own = _laid_out(of_version)
        lost = await self._lost(
            _Column(
                [one.given.id for one in own],
                [one.given.answer for one in own],
                [one.given.score for one in own],
                [one.label.value for one in own],
            ),
            spans,
            versions,
        )
        return found + list(map(Weighed, own, *lost))

    async def weigh_firsts(self, firsts: Firsts, versions: Versions) -> Lost:
        """What first labels make of their answers, in their order."""
        column = _Column(firsts.id, firsts.answer, firsts.score, firsts.value)
        return await self._lost(column, firsts.spans, versions)

    async def _lost(self, column: _Column, spans: Mapping[Key, slice], versions: Versions) -> Lost:
        cells: list[int | None] = []
        ruled: list[Value] = []
        rule_scores: list[float | None] = []
        for key, span in spans.items():
            version = versions[key]
            judge = version.judge
            of_score = await self._score_cells(key, version)
            scores = column.answers if is_of_answers(of_score) else column.scores
            cells += cells_of(of_score, scores[span])
            rows: Sequence[Mapping[str, object]] = ()
            if judge.needs_features:
                features = await self.store.features_of(column.ids[span])
                rows = [features.get(one, {}) for one in column.ids[span]]
            answers, own = judge.rule_answers(span.stop - span.start, rows)
            ruled += answers
            rule_scores += own
        losses: list[float | None] = []
        of_rule: list[float | None] = []
        for judge, span in _agreeing(spans, versions):
            values = column.values[span]
            losses += judge.losses(column.answers[span], column.scores[span], values)
            of_rule += judge.losses_or_none(ruled[span], rule_scores[span], values)
        return Lost(losses, of_rule, cells)

    async def _score_cells(self, key: Key, version: Watched) -> NumberCells | None:
        """Cells of the score; as they are kept for counting where the profile cannot be read."""
        if await self.profiles.failure(version, for_labels=True) is None:
            return (await self.profiles.yardstick(version.reference)).cells
        grid = (await self.store.grids([key])).get(key)
        return score_cells(grid.last) if grid is not None else None


def _laid_out(
    of_version: Mapping[Key | None, Sequence[Outcome]],
) -> tuple[dict[Key, slice], list[Outcome]]:
    spans: dict[Key, slice] = {}
    own: list[Outcome] = []
    for key, some in of_version.items():
        if key is not None:
            spans[key] = slice(len(own), len(own) + len(some))
            own += some
    return spans, own


def _agreeing(spans: Mapping[Key, slice], versions: Versions) -> Iterator[tuple[Judge, slice]]:
    """Neighbouring versions whose judges find the same, and where their labels stand."""
    judged = ((versions[key].judge, span) for key, span in spans.items())
    for _, some in groupby(judged, lambda one: one[0].kind):
        (judge, first), *others = some
        last = others[-1][1] if others else first
        yield judge, slice(first.start, last.stop)
