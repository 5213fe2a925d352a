"""People with keys, and what they are asked to decide about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from services.deployer.api import approvals, deciding, freezes, reading
from shared import http
from shared.access import hash_of
from shared.events import (
    Check,
    DatasetName,
    Digest,
    EvaluationCompleted,
    Gate,
    Json,
    ModelDefined,
    ModelName,
    SliceVerdict,
)
from shared.settings import ServiceSettings
from tests.deployer.conftest import Site

PUMP = ModelName("pump")

PEOPLE: Mapping[str, tuple[str, list[str], list[str]]] = {
    # key: the person, the roles, the teams
    "ann": ("ann", ["approver"], ["water"]),
    "ann-phone": ("ann", ["approver"], ["water"]),
    "bob": ("bob", ["approver", "viewer"], ["water"]),
    "cid": ("cid", ["approver"], ["*"]),
    "wanda": ("wanda", ["approver", "data_scientist"], ["water"]),
    "root": ("root", ["admin"], ["*"]),
    "olga": ("olga", ["operator"], ["water"]),
    "otto": ("otto", ["operator"], ["*"]),
    "vic": ("vic", ["viewer"], ["water"]),
    "gas": ("gas", ["admin"], ["gas"]),
}
"""Wanda writes specifications, also root once; ann has two keys; gas is of another team."""


def write_keys(path: Path, **more: Any) -> None:
    """The file of keys; the key of `ann` is `tw_ann`."""
    entries = [
        {"id": key, "hash": hash_of(f"tw_{key}"), "principal": name, "roles": roles, "teams": teams}
        for key, (name, roles, teams) in PEOPLE.items()
    ]
    path.write_text(json.dumps({"keys": entries, **more}))


class Door:
    """The deployer's door, asked as one person or another."""

    def __init__(self, site: Site, folder: Path) -> None:
        keys = folder / "people.json"
        write_keys(keys)
        settings = ServiceSettings(
            kafka="127.0.0.1:1",
            artifacts=f"file://{folder}",
            port=0,
            admin_port=0,
            keys_file=str(keys),
        )
        app = http.build(
            "deployer",
            settings,
            [
                reading.router(site.store, lambda: site.now),
                deciding.router(site.database, site.people),
                approvals.router(site.governance, lambda: site.now),
                freezes.router(site.calendars, lambda: site.now),
            ],
            ready=lambda: {"ready": True},
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://deployer"
        )

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, *, key: str = ""
    ) -> httpx.Response:
        """One request; `key` makes it the same as another with that key."""
        headers = {"Authorization": f"Bearer tw_{who}"} | ({"Idempotency-Key": key} if key else {})
        return await self.http.request(method, f"/v1{path}", json=body, headers=headers)

    async def decide(
        self, who: str, rollout: UUID, word: str = "approve", body: Any = None, *, key: str = ""
    ) -> httpx.Response:
        """Approve, deny, withdraw or override."""
        return await self.ask(who, "POST", f"/rollouts/{rollout}/{word}", body, key=key)


def a_spec(model: str = PUMP, owner: str = "water", **rollout: Any) -> Json:
    """A specification whose versions are rolled out at once when nothing else is said."""
    return {
        "apiVersion": "tidewheel/v1",
        "name": model,
        "owner": owner,
        "task": "regression",
        "data": {"dataset": "flow", "target": "y"},
        "rollout": {"strategy": "direct", "probation": "0", **rollout},
    }


def a_verdict_about(
    version: int,
    champion: int | None = None,
    *,
    model: ModelName = PUMP,
    owner: str = "water",
    accepted: bool = True,
    authors: Mapping[str, str] | None = None,
    dataset_version: int | None = None,
    **rollout: Any,
) -> EvaluationCompleted:
    """What the evaluator says of a version, with figures for people to read."""
    return EvaluationCompleted(
        model=model,
        version=version,
        accepted=accepted,
        reason="accepted" if accepted else "slice_harmed",
        mode="refresh" if champion else "first",
        gates=(
            Gate(
                metric="mae",
                versus="champion" if champion else "baseline",
                passed=True,
                estimate=0.12,
                lower=0.05,
                upper=None,
                confidence=0.95,
                margin=0.01,
                rows=1200,
                test="paired bootstrap",
                detail="",
            ),
        ),
        slices=(_slice("summer", 0.3), _slice("frost", -0.02)),
        checks=(Check(name="bounds", passed=True, detail="all answers between 0 and 40"),),
        manifest=Digest(f"{version:064x}"),
        champion=champion,
        champion_manifest=Digest(f"{champion:064x}") if champion else None,
        dataset=DatasetName("flow"),
        dataset_version=dataset_version or version,
        dataset_digest=Digest("d" * 64),
        split=Digest("e" * 64),
        evidence=Digest("f" * 64),
        spec=a_spec(model, owner, **rollout),
        rows=1200,
        seed=1,
        seconds=0.1,
        authors={"spec": "wanda", "data": "dora"} if authors is None else authors,
        card=Digest("c" * 64),
    )


def _slice(name: str, estimate: float) -> SliceVerdict:
    return SliceVerdict(
        name=name,
        where=f"season == '{name}'",
        role="watched",
        metric="mae",
        passed=True,
        rows=300,
        estimate=estimate,
        lower=estimate - 0.1,
        upper=None,
        margin=0.1,
        p_value=0.4,
        detail="",
    )


def a_definition(by: str, model: ModelName = PUMP, owner: str = "water") -> ModelDefined:
    """Somebody defines a model."""
    return ModelDefined(
        model=model,
        dataset=DatasetName("flow"),
        spec=a_spec(model, owner),
        spec_digest=Digest("a" * 64),
        code_digest=Digest("b" * 64),
        defined_by=by,
    )
