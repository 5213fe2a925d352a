"""The card of a model version: what it is, how it did, where not to trust it.

A pure function of the verdict, its evidence and the version's manifest: the same facts give the
same bytes. `facts` and `judgement` say what is known, `prose` and `page` write it down, `outlook`,
`plots` and `pictures` draw. A card needs nothing else to be read: no script, no address, no file.
"""

from dataclasses import dataclass

import orjson

from services.evaluator.card import facts, judgement, page, prose
from services.evaluator.card.outlook import outlook_of
from services.evaluator.card.parts import Section
from services.evaluator.card.plots import period_of, pictures_of
from services.evaluator.evidence import Evidence
from shared.events import Json
from shared.manifest import Manifest
from shared.plain_text import plain

__all__ = ["Card", "card_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The same card twice: for a terminal or a repository, and for a browser with pictures."""

    markdown: str
    html: str


def card_of(event_fields: Json, evidence: Evidence | None, manifest: Manifest) -> Card:
    """The card of the version that a verdict is about.

    Args:
        event_fields: the fields of `EvaluationCompleted`; what is not known yet may be missing.
        evidence: what the verdict was computed from; None where it came to no comparison.
        manifest: of the candidate.
    """
    said: Json = orjson.loads(orjson.dumps(event_fields))
    title = plain(f"Model card: {manifest.model}, version {said.get('version')}")
    headline = judgement.headline(said)
    outlook = None if evidence is None else outlook_of(evidence, said)
    period = None if evidence is None else period_of(evidence.times)
    sections = _sections(said, manifest, period)
    return Card(
        markdown=prose.written(title, headline, sections),
        html=page.shown(
            title,
            headline,
            sections,
            pictures_of(outlook) if outlook else (),
            accepted=bool(said.get("accepted")),
            pictures_before="Slices",
        ),
    )


def _sections(said: Json, manifest: Manifest, period: str | None) -> list[Section]:
    return [
        facts.identity(said, manifest),
        facts.data(said, manifest, period),
        facts.parameters(manifest),
        judgement.metrics(said, manifest),
        judgement.slices(said),
        judgement.checks(said),
        judgement.uses(said),
        facts.limits(said, manifest),
        judgement.authors(said),
        facts.environment(manifest),
        judgement.origin(said),
    ]
