"""HTTP: what waits for people, and what they are to decide by."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from services.deployer.api.asking import Limit, Looking, text_of
from services.deployer.domain import Endpoint, Rollout
from services.deployer.evidence import words_of
from services.deployer.handlers.people import APPROVERS
from services.deployer.permission import (
    Approvals,
    Surroundings,
    excluded,
    expires_at,
    missing,
    own_work,
)
from services.deployer.store import Governance
from shared.access import Principal
from shared.clock import Clock
from shared.events import Json
from shared.http import page


def router(governance: Governance, now: Clock) -> APIRouter:
    """The list of what waits for an approval."""
    routes = APIRouter(prefix="/v1")

    @routes.get("/approvals")
    async def approvals(principal: Looking, limit: Limit = 100, cursor: str = "") -> dict[str, Any]:
        waiting = await governance.waiting(
            visible=principal.visible, after=text_of(cursor), limit=limit
        )
        items = [await _item(governance, endpoint, principal, now) for endpoint in waiting]
        last = waiting[-1].model if len(waiting) == limit else None
        return page([item for item in items if item], last)

    return routes


async def _item(
    governance: Governance, endpoint: Endpoint, principal: Principal, now: Clock
) -> Json:
    rollout = endpoint.rollout
    if rollout is None or rollout.approvals is None:
        return {}
    around = await governance.surroundings(endpoint.model, (), now())
    verdict = await governance.verdict(rollout.evaluation)
    former = (
        await governance.verdict_of_version(endpoint.model, rollout.champion)
        if rollout.champion is not None
        else None
    )
    return {
        "rollout": rollout.id,
        "model": endpoint.model,
        "owner": endpoint.owner,
        "version": rollout.version,
        "champion": rollout.champion,
        "manifest": rollout.manifest,
        "evaluation": rollout.evaluation,
        "dataset_version": rollout.dataset_version,
        "proposed_at": rollout.proposed_at,
        **_people(endpoint, rollout, rollout.approvals, around, principal),
        "evidence": words_of(verdict, former) if verdict else None,
    }


def _people(
    endpoint: Endpoint,
    rollout: Rollout,
    approvals: Approvals,
    around: Surroundings,
    principal: Principal,
) -> Json:
    """Who has, who must, and who may not."""
    policy = rollout.rules.approval
    authors = around.authors(rollout.authors, rollout.requested_by)
    return {
        "policy": policy.word,
        "needed": policy.needed,
        "missing": missing(approvals, policy, authors),
        "approved_by": approvals.granted_by,
        "authors": authors,
        "excluded": excluded(policy, authors),
        "expires_at": expires_at(approvals, policy),
        "you": _you(endpoint, rollout, approvals, authors, principal),
    }


def _you(
    endpoint: Endpoint,
    rollout: Rollout,
    approvals: Approvals,
    authors: Mapping[str, str],
    principal: Principal,
) -> str:
    """Whether the person who looks may approve, in a sentence."""
    if not principal.may_in(endpoint.owner, APPROVERS):
        return "You may not approve: you do not hold the role approver for this model."
    if principal.name in excluded(rollout.rules.approval, authors):
        return own_work(principal.name, authors)
    if principal.name in approvals.granted_by:
        return "You have approved this already; you may take that back."
    return "You may approve this."
