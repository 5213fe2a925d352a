"""Sketches of windows, and what was found in them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import orjson

from services.drift_monitor.detection import Comparison
from services.drift_monitor.quality import Measured
from services.drift_monitor.store.versions import Key
from services.drift_monitor.windows import Window
from shared.events import ModelName
from shared.postgres import Database, Row
from shared.sketch import pack, unpack


class SketchTable:
    """One row per window; one per version is open."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def open_windows(self, keys: Iterable[Key]) -> dict[Key, tuple[Window | None, int]]:
        """The open window of each version, and the number of its newest one."""
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            "select distinct on (w.model, w.version) w.* from window_sketch w "
            "join unnest($1::text[], $2::int[]) as k (model, version) using (model, version) "
            "order by w.model, w.version, w.number desc",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        found: dict[Key, tuple[Window | None, int]] = dict.fromkeys(wanted, (None, 0))
        for row in rows:
            window = _window(row)
            newest = (None if window.is_closed else window, window.number)
            found[row["model"], row["version"]] = newest
        return found

    async def save_windows(self, windows: Sequence[Window], now: datetime) -> None:
        await self.database.executemany(
            "insert into window_sketch (model, version, number, rows, counts, started_at, "
            "ended_at, closed_at, labels) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) "
            "on conflict (model, version, number) do update set rows = excluded.rows, "
            "counts = excluded.counts, started_at = excluded.started_at, "
            "ended_at = excluded.ended_at, closed_at = excluded.closed_at, "
            "labels = excluded.labels",
            [
                (
                    window.model,
                    window.version,
                    window.number,
                    window.rows,
                    pack(window.counts),
                    window.started_at,
                    window.ended_at,
                    now if window.is_closed else None,
                    window.labels,
                )
                for window in windows
            ],
        )

    async def save_comparison(self, window: Window, found: Comparison) -> None:
        await self.database.execute(
            "update window_sketch set severity = $4, mode = $5, alpha = $6, detail = $7, "
            "features = $8 where model = $1 and version = $2 and number = $3",
            window.model,
            window.version,
            window.number,
            found.severity,
            found.mode,
            found.alpha,
            found.detail,
            orjson.loads(orjson.dumps(found.features)),
        )

    async def count_labels(self, joined: Mapping[tuple[str, int, int], int]) -> list[Window]:
        """Add newly joined labels to their windows; the windows as they are then."""
        wanted = sorted(joined)
        rows = await self.database.fetch(
            "update window_sketch w set labels = w.labels + k.joined "
            "from unnest($1::text[], $2::int[], $3::int[], $4::int[]) "
            "as k (model, version, number, joined) where w.model = k.model "
            "and w.version = k.version and w.number = k.number returning w.*",
            [model for model, _, _ in wanted],
            [version for _, version, _ in wanted],
            [number for _, _, number in wanted],
            [joined[key] for key in wanted],
        )
        return sorted((_window(row) for row in rows), key=lambda w: (w.model, w.version, w.number))

    async def losses_of(self, window: Window) -> list[tuple[float, float | None]]:
        """Loss and baseline's loss of every labelled row of a window, in order."""
        rows = await self.database.fetch(
            "select loss, baseline_loss from prediction where model = $1 and version = $2 "
            'and "window" = $3 and loss is not null order by place',
            window.model,
            window.version,
            window.number,
        )
        return [(row["loss"], row["baseline_loss"]) for row in rows]

    async def save_quality(
        self, window: Window, steps: int, found: Measured, baseline: float | None
    ) -> None:
        quality = orjson.loads(orjson.dumps(found)) | {"baseline": baseline}
        await self.database.execute(
            "update window_sketch set steps = $4, quality = $5 "
            "where model = $1 and version = $2 and number = $3",
            window.model,
            window.version,
            window.number,
            steps,
            quality,
        )


def _window(row: Row) -> Window:
    return Window(
        model=ModelName(row["model"]),
        version=row["version"],
        number=row["number"],
        rows=row["rows"],
        counts=unpack(bytes(row["counts"])),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        labels=row["labels"],
        steps=row["steps"],
        is_closed=row["closed_at"] is not None,
    )
