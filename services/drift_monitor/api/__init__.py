"""HTTP: drift, quality and windows of a model, single answers, reports."""

from fastapi import APIRouter

from services.drift_monitor.api import answers, drawing, watching
from services.drift_monitor.store import PostgresStore, Reading, Reporting
from shared.artifacts import ArtifactStore
from shared.jobs import Jobs


def router(
    store: PostgresStore,
    reading: Reading,
    reporting: Reporting,
    jobs: Jobs,
    artifacts: ArtifactStore,
) -> APIRouter:
    """The routes of the monitor."""
    routes = APIRouter(prefix="/v1")
    routes.include_router(watching.router(store, reading))
    routes.include_router(answers.router(store))
    routes.include_router(drawing.router(store, reading, reporting, jobs, artifacts))
    return routes
