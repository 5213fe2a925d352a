"""HTTP: drift, quality and windows of a model, single answers, reports."""

from fastapi import APIRouter

from services.drift_monitor.api import answers, drawing, pictures, replaying, watching
from services.drift_monitor.handlers.measuring import Measuring
from services.drift_monitor.handlers.replaying import Replaying
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from shared.jobs import Jobs


def router(
    store: PostgresStore,
    reading: Reading,
    reporting: Reporting,
    jobs: Jobs,
    measuring: Measuring,
    opened: drawing.Opened,
) -> APIRouter:
    """The routes of the monitor.

    Args:
        opened: a finished report as HTML, by its digest.
    """
    routes = APIRouter(prefix="/v1")
    routes.include_router(watching.router(store, reading, measuring))
    routes.include_router(replaying.router(Replaying(store=store, profiles=measuring.profiles)))
    routes.include_router(answers.router(store))
    routes.include_router(pictures.router(store, reading, measuring.profiles))
    routes.include_router(drawing.router(store, reading, reporting, jobs, opened))
    return routes
