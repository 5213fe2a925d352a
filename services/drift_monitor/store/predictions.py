"""Predictions, kept until their labels come, and the batches that were counted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from services.drift_monitor.store.outcomes import label_of
from services.drift_monitor.store.versions import Key
from services.drift_monitor.windows import Kept
from shared.events import ModelName
from shared.postgres import Database, Row
from shared.streams import Positions


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that is kept, with what its label makes of its answer."""

    row: Kept
    loss: float | None
    baseline_loss: float | None


class PredictionTable:
    """One row per answered row."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def note_batches(self, batches: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those of the batches, by replica and number, that were never counted."""
        rows = await self.database.fetch(
            "insert into batch (replica, number) select distinct * from unnest($1::text[], "
            "$2::bigint[]) order by 1, 2 on conflict do nothing returning replica, number",
            [replica for replica, _ in batches],
            [number for _, number in batches],
        )
        return {(row["replica"], row["number"]) for row in rows}

    async def note_applied(self, positions: Positions) -> None:
        """Note how far partitions of a stream are applied, with what was applied."""
        await self.database.executemany(
            'insert into applied (topic, "partition", position) values ($1, $2, $3) '
            'on conflict (topic, "partition") do update set position = excluded.position, '
            "applied_at = now()",
            [(*place, position) for place, position in positions.items()],
        )

    async def known_ids(self, ids: Sequence[str]) -> set[str]:
        rows = await self.database.fetch(
            "select id from prediction where id = any($1::text[])", list(ids)
        )
        return {row["id"] for row in rows}

    async def add_predictions(self, rows: Sequence[Kept], windows: Mapping[str, int]) -> None:
        """Keep rows, each with the number of its window; their labels are kept by themselves."""
        if not rows:
            return
        # As text: an array of arrays would become one array of two dimensions.
        lists = {
            _digest_of(names): orjson.dumps(list(names)).decode()
            for names in {row.names for row in rows}
        }
        await self.database.execute(
            "insert into column_names (digest, names) select digest, names::jsonb "
            "from unnest($1::text[], $2::text[]) as n (digest, names) order by 1 "
            "on conflict do nothing",
            list(lists),
            list(lists.values()),
        )
        await self.database.execute(_ADD_PREDICTIONS, *_columns(rows, windows))

    async def claim_unclaimed(self, model: str, version: int, limit: int) -> list[Kept]:
        """Rows of a version that came before it was known, in the order in which they came.

        Once they have their windows, the next ones follow.
        """
        rows = await self.database.fetch(
            f'{_KEPT} where p.model = $1 and p.version = $2 and p."window" is null '
            "order by p.place limit $3 for update of p",
            model,
            version,
            limit,
        )
        return [_kept(row) for row in rows]

    async def place_predictions(self, windows: Mapping[str, int]) -> None:
        """Put rows that were kept before into their windows."""
        await self.database.execute(
            'update prediction p set "window" = r.number '
            "from unnest($1::text[], $2::int[]) as r (id, number) where p.id = r.id",
            list(windows),
            list(windows.values()),
        )

    async def predictions(self, ids: Sequence[str]) -> dict[str, Kept]:
        rows = await self.database.fetch(f"{_KEPT} where p.id = any($1::text[])", list(ids))
        return {row["id"]: _kept(row) for row in rows}

    async def answered(self, prediction: str) -> Answered | None:
        """One answer as it was given."""
        row = await self.database.fetchrow(f"{_KEPT} where p.id = $1", prediction)
        return Answered(_kept(row), row["loss"], row["baseline_loss"]) if row else None

    async def rows_of_window(self, key: Key, window: int, limit: int) -> list[Kept]:
        """Rows of a window in their order: all of them, or a sample that is always the same.

        Which rows are in a sample depends on nothing but their ids, so that it stands for the whole
        window and not for its beginning.
        """
        rows = await self.database.fetch(_SAMPLED, *key, window, limit)
        return [_kept(row) for row in rows]

    async def has_rows(self, key: Key, window: int) -> bool:
        """Whether rows of a window are still kept."""
        found = await self.database.fetchval(
            "select exists (select from prediction "
            'where model = $1 and version = $2 and "window" = $3)',
            *key,
            window,
        )
        return bool(found)

    async def untold(self, model: str, version: int) -> list[Kept]:
        """Labelled rows that could not be told while this other arm or shadow was not known."""
        rows = await self.database.fetch(_UNTOLD, model, version)
        return [_kept(row) for row in rows]


_ADD_PREDICTIONS: Final = """
    insert into prediction (id, model, version, "window", names, features, answer, score, arm,
        rung, predicted_at, entity, weight, arms, manifest, generation)
    select id, model, version, "window", names, features, answer::jsonb, score, arm, rung,
        predicted_at, entity, weight, arms::jsonb, manifest, generation
    from unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::bytea[],
        $7::text[], $8::float8[], $9::text[], $10::text[], $11::timestamptz[], $12::text[],
        $13::float8[], $14::text[], $15::text[], $16::int[])
        with ordinality as r (id, model, version, "window", names, features, answer, score, arm,
        rung, predicted_at, entity, weight, arms, manifest, generation, n)
    order by n
"""
_KEPT: Final = (
    "select p.*, c.names as column_names, o.value, o.revision, o.observed_at, o.event, "
    "o.loss, o.baseline_loss from prediction p join column_names c on c.digest = p.names "
    "left join outcome o on o.place = p.place and o.counts"
)
_SAMPLED: Final = f"""{_KEPT} where p.id = any(array(
        select id from prediction where model = $1 and version = $2 and "window" = $3
        order by md5(id), id limit $4
    )) order by p.place
"""  # noqa: S608 - constants only
_UNTOLD: Final = f"""{_KEPT} where o.counts and p.id in (
        select id from prediction where model = $1 and arms @> to_jsonb($2::int)
            and not told and arms <> '[]'
        union select seen from unseen where model = $1 and version = $2::int and not told
    ) order by p.place for update of p
"""  # noqa: S608 - constants only


@lru_cache(maxsize=4096)
def _digest_of(names: tuple[str, ...]) -> str:
    return hashlib.sha256(orjson.dumps(list(names))).hexdigest()[:32]


def _columns(rows: Sequence[Kept], windows: Mapping[str, int]) -> tuple[list[Any], ...]:
    """Column by column, in the order of the statement: there are a great many rows."""
    return (
        [row.id for row in rows],
        [row.model for row in rows],
        [row.version for row in rows],
        [windows.get(row.id) for row in rows],
        [_digest_of(row.names) for row in rows],
        [orjson.dumps(row.features) for row in rows],
        [orjson.dumps(row.answer).decode() for row in rows],
        [row.score for row in rows],
        [row.arm for row in rows],
        [row.rung for row in rows],
        [row.at for row in rows],
        [row.entity for row in rows],
        [row.weight for row in rows],
        [orjson.dumps(row.arms).decode() if row.arms else "[]" for row in rows],
        [row.manifest for row in rows],
        [row.generation for row in rows],
    )


def _kept(row: Row) -> Kept:
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
        label=label_of(row),
        entity=row["entity"],
        weight=row["weight"],
        arms=tuple(row["arms"]),
        told=row["told"],
        manifest=row["manifest"],
        generation=row["generation"],
    )
