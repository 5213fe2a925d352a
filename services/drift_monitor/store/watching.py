"""What the monitor remembers. Every method joins the open transaction."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from services.drift_monitor.detection import Comparison
from services.drift_monitor.domain import Policy, Watch
from services.drift_monitor.quality import Label, Measured
from services.drift_monitor.windows import Kept, Watched, Window
from shared.events import Digest, ModelName
from shared.postgres import Database, Row
from shared.sketch import pack, unpack

_POLICY: Final = TypeAdapter(Policy)
_WATCH: Final = TypeAdapter(Watch)
Key = tuple[str, int]
"""Model and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who answers for a model, and when a fresh version was last asked for."""

    champion: int | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A label whose prediction was not heard of yet."""

    prediction: str
    model: str
    label: Label


class PostgresStore:
    """The monitor's own database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def lock(self, models: Iterable[str]) -> None:
        """Nobody else counts, joins or closes anything of these models until the commit.

        An advisory lock rather than a row's, because feedback may name any model at all.
        """
        await self.database.execute(
            "select pg_advisory_xact_lock(key) from (select distinct hashtextextended(m, 7436) "
            "as key from unnest($1::text[]) as m order by 1) as keys",
            sorted(set(models)),
        )

    # --- models and versions --------------------------------------------------------------------

    async def standing(self, model: str) -> Standing:
        row = await self.database.fetchrow(
            "select champion, asked_at from model where model = $1", model
        )
        return Standing(champion=row["champion"], asked_at=row["asked_at"]) if row else Standing()

    async def crown(self, model: str, version: int | None) -> None:
        await self.database.execute(
            "insert into model (model, champion) values ($1, $2) "
            "on conflict (model) do update set champion = excluded.champion",
            model,
            version,
        )

    async def note_asked(self, model: str, at: datetime) -> None:
        await self.database.execute(
            "insert into model (model, asked_at) values ($1, $2) "
            "on conflict (model) do update set asked_at = excluded.asked_at",
            model,
            at,
        )

    async def add_version(self, version: Watched) -> None:
        await self.database.execute(
            "insert into version (model, version, manifest, reference, columns, classes, baseline, "
            "metric, policy, watch, registered_at) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict do nothing",
            version.model,
            version.version,
            version.manifest,
            version.reference,
            list(version.columns),
            list(version.classes),
            version.baseline,
            version.metric,
            _POLICY.dump_python(version.policy, mode="json"),
            _WATCH.dump_python(version.watch, mode="json"),
            version.registered_at,
        )

    async def versions(self, keys: Iterable[Key]) -> dict[Key, Watched]:
        wanted = sorted(set(keys))
        rows = await self.database.fetch(
            "select v.* from version v join unnest($1::text[], $2::int[]) as k (model, version) "
            "using (model, version)",
            [model for model, _ in wanted],
            [version for _, version in wanted],
        )
        return {(row["model"], row["version"]): _watched(row) for row in rows}

    async def newest_versions(self, model: str, limit: int) -> list[Watched]:
        rows = await self.database.fetch(
            "select * from version where model = $1 order by version desc limit $2", model, limit
        )
        return [_watched(row) for row in rows]

    async def save_watch(self, version: Watched, watch: Watch) -> None:
        await self.database.execute(
            "update version set watch = $3 where model = $1 and version = $2",
            version.model,
            version.version,
            _WATCH.dump_python(watch, mode="json"),
        )

    # --- predictions ----------------------------------------------------------------------------

    async def note_batches(self, batches: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those of the batches, by replica and number, that were never counted."""
        rows = await self.database.fetch(
            "insert into batch (replica, number) select distinct * from unnest($1::text[], "
            "$2::bigint[]) order by 1, 2 on conflict do nothing returning replica, number",
            [replica for replica, _ in batches],
            [number for _, number in batches],
        )
        return {(row["replica"], row["number"]) for row in rows}

    async def known_ids(self, ids: Sequence[str]) -> set[str]:
        rows = await self.database.fetch(
            "select id from prediction where id = any($1::text[])", list(ids)
        )
        return {row["id"] for row in rows}

    async def add_predictions(
        self, rows: Sequence[tuple[Kept, float | None, float | None]]
    ) -> None:
        """Keep rows, each with its loss and the baseline's where its label is known."""
        if not rows:
            return
        # As text: an array of arrays would become one array of two dimensions.
        lists = {
            _digest_of(names): orjson.dumps(list(names)).decode()
            for names in {row.names for row, _, _ in rows}
        }
        await self.database.execute(
            "insert into column_names (digest, names) select digest, names::jsonb "
            "from unnest($1::text[], $2::text[]) as n (digest, names) order by 1 "
            "on conflict do nothing",
            list(lists),
            list(lists.values()),
        )
        columns = zip(*(_row_of(*row) for row in rows), strict=True)
        await self.database.execute(_ADD_PREDICTIONS, *(list(column) for column in columns))

    async def claim_unclaimed(self, model: str, version: int) -> list[Kept]:
        """Rows of a version that came before it was known, in the order in which they came."""
        rows = await self.database.fetch(
            f'{_KEPT} where model = $1 and version = $2 and "window" is null order by place '
            "for update of p",
            model,
            version,
        )
        return [_kept(row) for row in rows]

    async def place_predictions(
        self, rows: Sequence[tuple[Kept, float | None, float | None]]
    ) -> None:
        """Put rows that were kept before into their windows."""
        await self.database.executemany(
            'update prediction set "window" = $2, loss = $3, baseline_loss = $4 where id = $1',
            [(row.id, row.window, loss, baseline) for row, loss, baseline in rows],
        )

    async def predictions(self, ids: Sequence[str]) -> dict[str, Kept]:
        rows = await self.database.fetch(f"{_KEPT} where p.id = any($1::text[])", list(ids))
        return {row["id"]: _kept(row) for row in rows}

    async def rows_of_window(self, key: Key, window: int, limit: int) -> list[Kept]:
        rows = await self.database.fetch(
            f'{_KEPT} where model = $1 and version = $2 and "window" = $3 order by place limit $4',
            *key,
            window,
            limit,
        )
        return [_kept(row) for row in rows]

    # --- windows --------------------------------------------------------------------------------

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

    # --- labels ---------------------------------------------------------------------------------

    async def label(self, rows: Sequence[tuple[Kept, float | None, float | None]]) -> None:
        """Write the labels that count, with what they make of the losses."""
        await self.database.executemany(
            "update prediction set label = $2, revision = $3, observed_at = $4, label_event = $5, "
            "loss = $6, baseline_loss = $7 where id = $1",
            [(row.id, *_label_columns(row.label), loss, baseline) for row, loss, baseline in rows],
        )

    async def waiting(self, ids: Sequence[str]) -> dict[tuple[str, str], Waiting]:
        rows = await self.database.fetch(
            "select * from waiting_label where prediction = any($1::text[])", list(ids)
        )
        return {(row["prediction"], row["model"]): _waiting(row) for row in rows}

    async def take_waiting(self, ids: Sequence[str]) -> list[Waiting]:
        rows = await self.database.fetch(
            "delete from waiting_label where prediction = any($1::text[]) returning *", list(ids)
        )
        return [_waiting(row) for row in rows]

    async def wait_for(self, labels: Sequence[Waiting]) -> None:
        await self.database.executemany(
            "insert into waiting_label (prediction, model, value, revision, observed_at, event) "
            "values ($1, $2, $3, $4, $5, $6) on conflict (prediction, model) do update "
            "set value = excluded.value, revision = excluded.revision, "
            "observed_at = excluded.observed_at, event = excluded.event",
            [
                (
                    waiting.prediction,
                    waiting.model,
                    *_label_columns(waiting.label),
                )
                for waiting in labels
            ],
        )

    async def count_waiting(self) -> int:
        return int(await self.database.fetchval("select count(*) from waiting_label"))

    async def forget(self, before: datetime) -> int:
        """Drop what is older; how many labels never found a prediction."""
        await self.database.execute("delete from prediction where heard_at < $1", before)
        await self.database.execute("delete from batch where heard_at < $1", before)
        return await self.database.execute("delete from waiting_label where heard_at < $1", before)


_ADD_PREDICTIONS: Final = """
    insert into prediction (id, model, version, "window", names, features, answer, score, arm,
        rung, predicted_at, label, revision, observed_at, label_event, loss, baseline_loss)
    select id, model, version, "window", names, features, answer::jsonb, score, arm, rung,
        predicted_at, label::jsonb, revision, observed_at, label_event, loss, baseline_loss
    from unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::bytea[],
        $7::text[], $8::float8[], $9::text[], $10::text[], $11::timestamptz[], $12::text[],
        $13::int[], $14::timestamptz[], $15::uuid[], $16::float8[], $17::float8[])
        with ordinality as r (id, model, version, "window", names, features, answer, score, arm,
        rung, predicted_at, label, revision, observed_at, label_event, loss, baseline_loss, n)
    order by n
"""
_KEPT: Final = (
    "select p.*, c.names as column_names from prediction p "
    "join column_names c on c.digest = p.names"
)


@lru_cache(maxsize=4096)
def _digest_of(names: tuple[str, ...]) -> str:
    return hashlib.sha256(orjson.dumps(list(names))).hexdigest()[:32]


def _row_of(row: Kept, loss: float | None, baseline: float | None) -> tuple[Any, ...]:
    value, *label = _label_columns(row.label)
    return (
        row.id,
        row.model,
        row.version,
        row.window,
        _digest_of(row.names),
        orjson.dumps(row.features),
        orjson.dumps(row.answer).decode(),
        row.score,
        row.arm,
        row.rung,
        row.at,
        None if value is None else orjson.dumps(value).decode(),
        *label,
        loss,
        baseline,
    )


def _label_columns(label: Label | None) -> tuple[Any, ...]:
    if label is None:
        return None, None, None, None
    return label.value, label.revision, label.observed_at, label.event


def _kept(row: Row) -> Kept:
    label = None
    if row["label"] is not None:
        label = Label(
            value=row["label"],
            revision=row["revision"],
            observed_at=row["observed_at"],
            event=_uuid(row["label_event"]),
        )
    return Kept(
        id=row["id"],
        model=ModelName(row["model"]),
        version=row["version"],
        names=tuple(row["column_names"]),
        features=tuple(orjson.loads(row["features"])),
        answer=row["answer"],
        score=row["score"],
        arm=row["arm"],
        rung=row["rung"],
        at=row["predicted_at"],
        window=row["window"],
        label=label,
    )


def _waiting(row: Row) -> Waiting:
    label = Label(
        value=row["value"],
        revision=row["revision"],
        observed_at=row["observed_at"],
        event=_uuid(row["event"]),
    )
    return Waiting(prediction=row["prediction"], model=row["model"], label=label)


def _uuid(value: Any) -> UUID:
    # asyncpg's own class compares with UUID but is no instance that json writes alike.
    return UUID(str(value))


def _watched(row: Row) -> Watched:
    return Watched(
        model=ModelName(row["model"]),
        version=row["version"],
        manifest=Digest(row["manifest"]),
        reference=Digest(row["reference"]),
        columns=tuple(row["columns"]),
        classes=tuple(row["classes"]),
        baseline=row["baseline"],
        metric=row["metric"],
        policy=_POLICY.validate_python(row["policy"]),
        watch=_WATCH.validate_python(row["watch"]),
        registered_at=row["registered_at"],
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
