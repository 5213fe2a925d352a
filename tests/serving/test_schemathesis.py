"""Whatever the descriptions of the doors lead a generator to: never a 5xx, never a dropped line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.serving.alone import serving_alone
from tests.serving.building import KEY
from tests.serving.child import Child

pytestmark = [
    pytest.mark.real,  # of sockets
    # The generator warns of what it cannot generate; every case that it makes is sent.
    pytest.mark.filterwarnings("ignore"),
]
BOTH = tuple(GenerationMode)
DOCUMENTS = {
    # Here anything goes, so nothing can be generated that does not.
    "/openapi.json": (GenerationMode.POSITIVE,),
    "/v1/models/flow/openapi.json": BOTH,
}
NAMED = {"model": "flow", "version": "1", "alias": "champion"}
AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with serving_alone(tmp_path_factory.mktemp("schemathesis"), {}, default_model="flow") as found:
        yield found


@dataclass(slots=True)
class Tally:
    """What the cases of one document were answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, case: schemathesis.Case[Any], answer: schemathesis.Response) -> None:
        """A case and its answer."""
        self.statuses[answer.status_code] += 1
        told = f"{case.method} {case.path} {answer.status_code} {answer.text[:200]}"
        is_refused = answer.status_code >= 400
        kinds = answer.headers.get("content-type", [])
        if answer.status_code >= 500 or (is_refused and kinds != ["application/problem+json"]):
            self.wrong.append(told)


def ask_everything(child: Child, document: str, examples: int) -> Tally:
    """Generate cases for every operation of a description, and send them.

    Each is sent as it is, and once more to a model that there is.
    """
    tally = Tally()
    told: dict[str, Any] = child.http.get(document).json()
    schema = schemathesis.openapi.from_dict(told)
    base = f"http://127.0.0.1:{child.settings.port}"
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        for mode in DOCUMENTS[document]:
            with suppress(Unsatisfiable):  # nothing about it can be wrong, or right
                _ask_one(result.ok(), mode, base, examples, tally)
    return tally


def _ask_one(operation: Any, mode: GenerationMode, base: str, examples: int, tally: Tally) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        headers: Mapping[str, str] = {**(case.headers or {}), **AUTH}
        tally.note(case, case.call(base_url=base, headers=headers, timeout=10))
        if case.path_parameters:
            known = {name: NAMED.get(name, "x") for name in case.path_parameters}
            case.path_parameters = known
            tally.note(case, case.call(base_url=base, headers=headers, timeout=10))

    ask()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_generated_requests_are_answered_or_refused(child: Child, document: str) -> None:
    tally = ask_everything(child, document, 12)

    assert tally.wrong == []
    assert sum(tally.statuses.values()) > 50


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_many_generated_requests_are_answered_or_refused(child: Child, document: str) -> None:
    tally = ask_everything(child, document, 500)

    assert tally.wrong == []


def test_every_example_of_a_model_really_predicts(child: Child) -> None:
    told = child.http.get("/v1/models/flow/openapi.json").json()

    statuses = {
        f"{path} {name}": child.http.post(
            path.replace("{version}", "1").replace("{alias}", "champion"), json=example["value"]
        ).status_code
        for path, methods in told["paths"].items()
        for name, example in methods["post"]["requestBody"]["content"]["application/json"][
            "examples"
        ].items()
    }

    assert set(statuses.values()) == {200}, statuses
    assert len(statuses) >= 7
