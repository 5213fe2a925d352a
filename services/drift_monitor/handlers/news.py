"""What labels have changed, for those who look at it next."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import sub
from typing import Final

from services.drift_monitor.quality.firsts import NOTHING, Firsts
from services.drift_monitor.store import Key
from services.drift_monitor.store.outcomes import Fed, Lost, Weighed
from services.drift_monitor.store.sketches import Place

NOTHING_LOST: Final = Lost()


@dataclass(slots=True)
class News:
    """What a join has changed.

    Attributes:
        joined: how many answers of each window have their first label.
        revised: windows in which a label was replaced by another value.
        delays: of first labels in seconds, by model.
        first: losses by first labels, by version, but for those that stand in columns.
    """

    joined: Counter[Place] = field(default_factory=Counter)
    revised: set[Place] = field(default_factory=set)
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    first: dict[Key, list[Fed]] = field(default_factory=lambda: defaultdict(list))
    firsts: Firsts = NOTHING
    lost: Lost = NOTHING_LOST

    @classmethod
    def of(cls, weighed: Sequence[Weighed], firsts: Firsts, lost: Lost) -> "News":
        """Of labels that took turns, and of those that were the only ones."""
        news = cls(firsts=firsts, lost=lost)
        for one in weighed:
            news._note(one)
        windows = Counter(zip(firsts.model, firsts.version, firsts.window, strict=True))
        for (model, version, window), labels in windows.items():
            if window is not None:
                news.joined[model, version, window] += labels
        for (model, _), span in firsts.spans.items():
            delays = map(sub, firsts.known_at[span], firsts.at[span])
            seconds = list(map(timedelta.total_seconds, delays))
            if seconds and min(seconds) < 0:
                seconds = [max(one, 0.0) for one in seconds]
            news.delays[model] += seconds
        return news

    @property
    def fed(self) -> set[Key]:
        """Versions that have a label more."""
        return {*self.first, *self.firsts.spans}

    def losses(self, key: Key, until: datetime) -> list[Fed]:
        """Losses of a version by first labels of predictions up to a moment."""
        found = [one for one in self.first.get(key, ()) if one.at <= until]
        span = self.firsts.spans.get(key)
        if span is None:
            return found
        firsts = self.firsts
        columns = firsts.at, firsts.place, firsts.window, self.lost.losses
        rows = zip(*(column[span] for column in columns), strict=True)
        return found + [
            Fed(at, place, window, loss)
            for at, place, window, loss in rows
            if at <= until and loss is not None
        ]

    def _note(self, one: Weighed) -> None:
        given, label, known_at, counts = one.outcome
        if not counts:
            return
        place = None
        if given.version is not None and given.window is not None:
            place = (given.model, given.version, given.window)
        if given.label is None:
            self.delays[given.model].append(_seconds(known_at, given.at))
            if given.version is not None and one.loss is not None:
                fed = Fed(given.at, given.place, given.window, one.loss)
                self.first[given.model, given.version].append(fed)
            if place is not None:
                self.joined[place] += 1
        elif place is not None and given.label.value != label.value:
            self.revised.add(place)


def _seconds(known_at: datetime, at: datetime) -> float:
    seconds = (known_at - at).total_seconds()
    return seconds if seconds > 0 else 0.0
