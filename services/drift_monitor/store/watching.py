"""Everything that watching needs, under one lock per model."""

from collections.abc import Iterable
from datetime import datetime

from services.drift_monitor.store.alarms import AlarmTable
from services.drift_monitor.store.courses import CourseTable
from services.drift_monitor.store.delays import DelayTable
from services.drift_monitor.store.outcomes import OutcomeTable
from services.drift_monitor.store.predictions import PredictionTable
from services.drift_monitor.store.qualities import QualityTable
from services.drift_monitor.store.settling import SettlingTable
from services.drift_monitor.store.sketches import SketchTable
from services.drift_monitor.store.unseen import UnseenTable
from services.drift_monitor.store.versions import VersionTable
from services.drift_monitor.store.waiting import WaitingTable


class PostgresStore(
    VersionTable,
    PredictionTable,
    UnseenTable,
    SketchTable,
    WaitingTable,
    OutcomeTable,
    QualityTable,
    DelayTable,
    SettlingTable,
    CourseTable,
    AlarmTable,
):
    """The monitor's own database. Every method joins the open transaction."""

    async def lock(self, models: Iterable[str]) -> None:
        """Nobody else counts, joins or closes anything of these models until the commit.

        An advisory lock rather than a row's, because feedback may name any model at all.
        """
        await self.database.execute(
            "select pg_advisory_xact_lock(key) from (select distinct hashtextextended(m, 7436) "
            "as key from unnest($1::text[]) as m order by 1) as keys",
            sorted(set(models)),
        )

    async def forget(self, before: datetime) -> dict[str, int]:
        """Drop what is older; how many labels never found a prediction, by model."""
        await self.database.execute("delete from prediction where heard_at < $1", before)
        await self.database.execute("delete from unseen where heard_at < $1", before)
        await self.database.execute("delete from batch where heard_at < $1", before)
        await self.forget_outcomes(before)
        return await self.drop_waiting(before)

    async def forget_windows(self, before: datetime) -> None:
        """Drop closed windows that ended before this moment, with what was found in them."""
        await self.database.execute(
            "with gone as (delete from window_sketch where closed_at is not null and ended_at < $1 "
            "returning model, version, number) delete from window_quality q using gone g "
            "where (q.model, q.version, q.number) = (g.model, g.version, g.number)",
            before,
        )
