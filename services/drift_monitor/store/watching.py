"""Everything that watching needs, under one lock per model."""

from collections.abc import Iterable

from services.drift_monitor.store.alarms import AlarmTable
from services.drift_monitor.store.behind import BehindTable
from services.drift_monitor.store.courses import CourseTable
from services.drift_monitor.store.delays import DelayTable
from services.drift_monitor.store.fleet import FleetTable
from services.drift_monitor.store.horizon import HorizonTable
from services.drift_monitor.store.idle import IdleTable
from services.drift_monitor.store.outcomes import OutcomeTable
from services.drift_monitor.store.periods import PeriodTable
from services.drift_monitor.store.predictions import PredictionTable
from services.drift_monitor.store.qualities import QualityTable
from services.drift_monitor.store.settling import SettlingTable
from services.drift_monitor.store.sketches import SketchTable
from services.drift_monitor.store.unjudged import UnjudgedTable
from services.drift_monitor.store.unseen import UnseenTable
from services.drift_monitor.store.versions import VersionTable
from services.drift_monitor.store.waiting import WaitingTable
from shared.postgres import Database


class PostgresStore(
    VersionTable,
    PredictionTable,
    UnseenTable,
    SketchTable,
    UnjudgedTable,
    BehindTable,
    IdleTable,
    WaitingTable,
    OutcomeTable,
    QualityTable,
    DelayTable,
    SettlingTable,
    HorizonTable,
    CourseTable,
    FleetTable,
    PeriodTable,
    AlarmTable,
):
    """The monitor's own database. Every method joins the open transaction."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.unchecked = {}
        self.unread = set()

    async def lock(self, models: Iterable[str]) -> None:
        """Nobody else counts, joins or closes anything of these models until the commit.

        An advisory lock rather than a row's, because feedback may name any model at all.
        """
        await self.database.execute(
            "select pg_advisory_xact_lock(key) from (select distinct hashtextextended(m, 7436) "
            "as key from unnest($1::text[]) as m order by 1) as keys",
            sorted(set(models)),
        )
