"""Labels beside the answers that they judge, and how many of each window have one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any, Final, NamedTuple

import orjson

from services.drift_monitor.quality import Answers, Label, Labelled, Observed, Outcome, Value
from services.drift_monitor.quality.firsts import Firsts
from services.drift_monitor.store.packing import (
    ID,
    LARGE,
    MOMENT,
    REAL,
    SMALL,
    TRUTH,
    WHOLE,
    Fixed,
    gaps_in,
    streamed,
)
from services.drift_monitor.store.sketches import Place
from services.drift_monitor.store.versions import Key
from services.drift_monitor.store.waiting import turn, uuid_of
from shared.postgres import Database, Row

MOST_DUE: Final = 20_000
"""Losses of one version that are fed at a time; the rest is fed the next time. More than one
request may hold, so that a whole moment always fits."""


SEPARATOR: Final = "\x1f"
"""Of texts that are sent as one."""
_Known = tuple[Label | None, datetime | None]
_NO_LABEL: Final[_Known] = (None, None)


class Weighed(NamedTuple):
    """A label with what it makes of the answer.

    Attributes:
        loss, baseline_loss: of the answer and of the rule's; None where they cannot be had.
        cell: of the score; None where it has none.
    """

    outcome: Outcome
    loss: float | None = None
    baseline_loss: float | None = None
    cell: int | None = None


class Lost(NamedTuple):
    """What first labels make of their answers, column by column, in their order.

    Attributes:
        losses, baseline_losses: of the answers and of the rule's; None where they cannot be had.
        cells: of the scores; None where there is none.
    """

    losses: Sequence[float | None] = ()
    baseline_losses: Sequence[float | None] = ()
    cells: Sequence[int | None] = ()


class Fed(NamedTuple):
    """A loss as the running tests get it, in the order of predictions."""

    at: datetime
    place: int
    window: int | None
    loss: float


class Due(NamedTuple):
    """Losses to be fed now, and the moment of predictions up to which they are all."""

    losses: list[Fed]
    reached: datetime


class OutcomeTable:
    """One row per label that counts, or that counted once."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def answers(self, ids: Sequence[str]) -> Answers:
        """What was answered, with the label that counts now; without what is not known."""
        await self._look_up()
        # One row of whole columns is read in three quarters of the time that a row for each takes.
        row = await self.database.fetchrow(_ANSWERS, *joined_texts(ids))
        if row is None or row["ids"] is None:
            return Answers()
        *columns, labelled = row
        columns[5] = orjson.loads(columns[5])
        counting = await self._counting([place for place in labelled if place is not None])
        known = [counting.get(place, _NO_LABEL) for place in labelled]
        return Answers._make([*columns, *map(list, zip(*known, strict=True))])

    async def _counting(self, places: Sequence[int]) -> dict[int | None, _Known]:
        """The labels that count now and when they were accepted; all of these places have one."""
        if not places:
            return {}
        rows = await self.database.fetch(_COUNTING, places)
        return {row["place"]: (_label(*row[1:5]), row["known_at"]) for row in rows}

    async def _look_up(self) -> None:
        """Until the commit, tables are read by their indexes.

        A plan is kept by the connection; one that was made while a table was nearly empty would
        read all of it, once per row, until somebody has counted its rows again.
        """
        await self.database.execute("set local enable_seqscan = off")

    async def features_of(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The features of predictions by name, for rules that answer from them."""
        if not ids:
            return {}
        rows = await self.database.fetch(
            "select p.id, p.features, c.names from prediction p "
            "join column_names c on c.digest = p.names where p.id = any($1::text[])",
            list(ids),
        )
        return {
            row["id"]: dict(zip(row["names"], orjson.loads(row["features"]), strict=False))
            for row in rows
        }

    async def keep(self, labels: Sequence[Weighed]) -> None:
        """Write labels down; of a prediction that has one already the new one counts."""
        replaced = [
            one.outcome.given.place
            for one in labels
            if one.outcome.counts and one.outcome.given.label is not None
        ]
        if replaced:
            await self.database.execute(
                "update outcome set counts = false where place = any($1::bigint[]) and counts",
                replaced,
            )
        counting = [_columns(one) for one in labels if one.outcome.counts]
        if counting:
            await self.database.copy("outcome", _COLUMNS, counting)
        past = [_columns(one) for one in labels if not one.outcome.counts]
        if past:
            await self.database.executemany(_KEEP_PAST, past)

    async def keep_firsts(self, firsts: Firsts, lost: Lost) -> None:
        """Write first labels down, all of which count."""
        if not firsts.labels:
            return
        fixed = _fixed_columns(firsts, lost)
        names, columns = [*fixed, "model", "value"], list(fixed.values())
        texts = _texts(firsts.value)
        if any(0 < gaps_in(values) < firsts.labels for _, values in columns):
            plain = [values for _, values in columns]
            rows = zip(*plain, firsts.model, map(bytes.decode, texts), strict=True)
            await self.database.copy("outcome", names, rows)
            return
        models = [model.encode() for model in firsts.model]
        async with self.database.transaction() as transaction:
            await transaction.connection.copy_to_table(
                "outcome",
                columns=names,
                source=streamed(columns, [models, texts]),
                format="binary",
            )

    async def take_labels(self, ids: Sequence[str]) -> list[Observed]:
        """All labels of these predictions, in the order of their acceptance; they are gone."""
        await self._look_up()
        rows = await self.database.fetch(_TAKE, list(ids))
        return sorted((_observed(row) for row in rows), key=turn)

    async def labelled(
        self, place: Place, begun_at: datetime, ended_at: datetime, known_at: datetime | None = None
    ) -> Labelled:
        """Losses of the labelled rows of a window as known now, or at an earlier moment."""
        row = await self.database.fetchrow(
            _LABELLED if known_at is None else _LABELLED_THEN,
            *place,
            begun_at,
            ended_at,
            *([] if known_at is None else [known_at]),
        )
        if row is None or not row["losses"]:
            return Labelled.of([])
        return Labelled.of(row["losses"], row["rule"], row["cells"])

    async def due(
        self, wanted: Mapping[Key, tuple[datetime, datetime]], most: int = MOST_DUE
    ) -> dict[Key, Due]:
        """Losses of predictions of versions after one moment and up to another, in their order.

        Args:
            most: of one version; what is left is due the next time.
        """
        if not wanted:
            return {}
        rows = await self.database.fetch(
            _DUE,
            [model for model, _ in wanted],
            [version for _, version in wanted],
            [after for after, _ in wanted.values()],
            [until for _, until in wanted.values()],
            most,
        )
        found: dict[Key, list[Fed]] = {}
        for model, version, *fed in rows:
            found.setdefault((model, version), []).append(Fed(*fed))
        return {key: due_of(losses, wanted[key][1], most) for key, losses in found.items()}

    async def count_labels(self, joined: Mapping[Place, int]) -> None:
        """Add labels to the windows of their predictions."""
        if not joined:
            return
        wanted = sorted(joined)
        await self.database.execute(
            "insert into window_quality (model, version, number, labels) "
            "select * from unnest($1::text[], $2::int[], $3::int[], $4::int[]) "
            "on conflict (model, version, number) "
            "do update set labels = window_quality.labels + excluded.labels",
            [model for model, _, _ in wanted],
            [version for _, version, _ in wanted],
            [number for _, _, number in wanted],
            [joined[place] for place in wanted],
        )


PARTED: Final = "(string_to_array($1, $2))[2:]"
"""Texts that were sent as one. Before the first of them is an empty one: of nothing but an empty
text the database would make no text at all."""
_ANSWERS: Final = f"""
    select array_agg(p.id) as ids, array_agg(p.place), array_agg(p.model), array_agg(p.version),
        array_agg(p."window"), '[' || string_agg(p.answer::text, ',') || ']', array_agg(p.score),
        array_agg(p.predicted_at),
        array_agg(p.arms <> '[]' or p.id in (
            select seen from unseen where seen = any({PARTED}))),
        array_agg(o.place)
    from prediction p left join outcome o on o.place = p.place and o.counts
    where p.id = any({PARTED})
"""  # noqa: S608 - constants only
_COUNTING: Final = """
    select place, value, revision, observed_at, event, known_at
    from outcome where place = any($1::bigint[]) and counts
"""
_TAKE: Final = """
    with answered as materialized (select id, place from prediction where id = any($1::text[])),
    now as (
        delete from outcome o using answered a where o.place = a.place and o.counts
        returning a.id, o.*
    ), past as (
        delete from outcome o using answered a where o.place = a.place and not o.counts
        returning a.id, o.*
    )
    select * from now union all select * from past
"""
"""Label by label through the two indexes that there are: each has the labels of one kind."""
_COLUMNS: Final = (
    "place",
    "model",
    "version",
    "window",
    "at",
    "known_at",
    "value",
    "revision",
    "observed_at",
    "event",
    "loss",
    "baseline_loss",
    "cell",
    "counts",
)
_KEEP_PAST: Final = """
    insert into outcome (place, model, version, "window", at, known_at, value, revision,
        observed_at, event, loss, baseline_loss, cell, counts)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict do nothing
"""
_LABELLED: Final = """
    select array_agg(loss) as losses, array_agg(baseline_loss) as rule, array_agg(cell) as cells
    from outcome where model = $1 and version = $2 and "window" = $3 and at between $4 and $5
        and counts and loss is not null
"""
_LABELLED_THEN: Final = """
    select array_agg(loss) as losses, array_agg(baseline_loss) as rule, array_agg(cell) as cells
    from (
        select distinct on (place) loss, baseline_loss, cell from outcome
        where model = $1 and version = $2 and "window" = $3 and at between $4 and $5
            and known_at <= $6
        order by place, revision desc, observed_at, event
    ) as then_known where loss is not null
"""
_DUE: Final = """
    select o.model, o.version, o.at, o.place, o."window", o.loss
    from unnest($1::text[], $2::int[], $3::timestamptz[], $4::timestamptz[])
        as k (model, version, after, until)
    cross join lateral (
        select * from outcome where model = k.model and version = k.version and at > k.after
            and at <= k.until and counts and loss is not null
        order by at, place limit $5
    ) o
    order by o.model, o.version, o.at, o.place
"""


def joined_texts(texts: Sequence[str]) -> tuple[str, str]:
    """All of them behind an empty one as one text, and what parts them, which none contains.

    The driver looks at each text of an array at length, and outsiders may write any of them.
    """
    parted = SEPARATOR
    while (joined := parted.join(["", *texts])).count(parted) > len(texts):
        parted = token_hex()
    return joined, parted


def due_of(losses: list[Fed], until: datetime, most: int) -> Due:
    """A list that was cut ends before its last moment: more of that may have been left out."""
    if len(losses) < most:
        return Due(losses, until)
    whole = [one for one in losses if one.at < losses[-1].at] or losses
    return Due(whole, whole[-1].at)


def _columns(one: Weighed) -> tuple[Any, ...]:
    (given, label, known_at, counts), loss, baseline_loss, cell = one
    return (
        given.place,
        given.model,
        given.version,
        given.window,
        given.at,
        known_at,
        orjson.dumps(label.value).decode(),
        label.revision,
        label.observed_at,
        label.event,
        loss,
        baseline_loss,
        cell,
        counts,
    )


def _fixed_columns(firsts: Firsts, lost: Lost) -> dict[str, tuple[Fixed, Sequence[Any]]]:
    return {
        "place": (LARGE, firsts.place),
        "version": (WHOLE, firsts.version),
        "window": (WHOLE, firsts.window),
        "at": (MOMENT, firsts.at),
        "known_at": (MOMENT, firsts.known_at),
        "revision": (WHOLE, firsts.revision),
        "observed_at": (MOMENT, firsts.observed_at),
        "event": (ID, firsts.event),
        "loss": (REAL, lost.losses),
        "baseline_loss": (REAL, lost.baseline_losses),
        "cell": (SMALL, lost.cells),
        "counts": (TRUTH, [True] * firsts.labels),
    }


def _texts(values: Sequence[Value]) -> Sequence[bytes]:
    """Each value as JSON."""
    if set(map(type, values)) <= {float, int}:
        # Numbers have no commas.
        return orjson.dumps(values)[1:-1].split(b",")
    return [orjson.dumps(value) for value in values]


def _label(value: str, revision: int, observed_at: datetime, event: Any) -> Label:
    return Label(orjson.loads(value), revision, observed_at, uuid_of(event))


def _observed(row: Row) -> Observed:
    return Observed(
        prediction=row["id"],
        model=row["model"],
        value=orjson.loads(row["value"]),
        revision=row["revision"],
        observed_at=row["observed_at"],
        event=uuid_of(row["event"]),
        known_at=row["known_at"],
    )


def label_of(row: Row) -> Label | None:
    """The label that counts in a row with the columns of its outcome; None where it has none."""
    if row["event"] is None:
        return None
    return _label(row["value"], row["revision"], row["observed_at"], row["event"])
