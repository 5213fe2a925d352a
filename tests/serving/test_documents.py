"""The description of one model: every example predicts, and the page can do no harm."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.serving import VERSION
from services.serving.api.documents import PAGE_HEADERS
from services.serving.settings import Settings
from shared.artifacts import ArtifactStore
from shared.manifest import Column
from tests.serving.building import (
    FLOW,
    OTHER_KEY,
    Replica,
    a_classifier,
    a_desired,
    a_version,
)

READER = {"authorization": f"Bearer {OTHER_KEY}"}
COLUMNS = (
    Column(name="load", kind="number", minimum=-2.5, maximum=3.0),
    Column(name="wet", kind="boolean"),
    Column(name="lag", kind="number", minimum=0.0, maximum=1.0),
)


async def described(replica: Replica, store: ArtifactStore, **changes: Any) -> dict[str, Any]:
    await replica.want(a_desired(1, a_version(store, 3, **changes)))
    response = await replica.client.get(f"/v1/models/{FLOW}/openapi.json", headers=READER)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("is_classifier", [False, True])
async def test_every_example_predicts_and_fits_its_schema(
    replica: Replica, store: ArtifactStore, is_classifier: bool
) -> None:
    changes: dict[str, Any] = {"columns": COLUMNS}
    if is_classifier:
        changes |= {"estimator": a_classifier(), "task": "classification"}
        changes |= {"classes": ("dry", "wet"), "metric": "log_loss"}
    document = await described(replica, store, **changes)
    asked = 0

    for path, methods in document["paths"].items():
        content = methods["post"]["requestBody"]["content"]["application/json"]
        answer = methods["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        at = path.replace("{version}", "3").replace("{alias}", "champion")
        for example in content["examples"].values():
            response = await replica.client.post(at, json=example["value"])
            asked += 1

            assert response.status_code == 200, (path, response.text)
            assert "champion" in response.text
            validator(document, content["schema"]).validate(example["value"])
            validator(document, answer).validate(response.json())

    assert asked == 3 * 3 + 2 + 3


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"components": document["components"], **schema})


async def test_columns_are_told_with_what_training_saw(
    replica: Replica, store: ArtifactStore
) -> None:
    document = await described(replica, store, columns=COLUMNS)

    row = document["components"]["schemas"]["Row"]
    assert row["required"] == ["load", "wet", "lag"]
    assert row["additionalProperties"] is False
    assert row["properties"]["load"] == {
        "type": ["number", "null"],
        "x-training-minimum": -2.5,
        "x-training-maximum": 3.0,
    }
    assert row["properties"]["wet"] == {"type": ["boolean", "null"]}
    assert "pump" in row["properties"]
    assert document["info"]["version"] == "3"


async def test_categories_are_told(replica: Replica, store: ArtifactStore) -> None:
    text = Column(name="lag", kind="text", categories=("red", "<b>"))
    # The model cannot answer about texts; what it takes is told all the same.
    document = await described(replica, store, columns=(*COLUMNS[:2], text))

    properties = document["components"]["schemas"]["Row"]["properties"]
    assert properties["lag"]["x-training-categories"] == ["red", "<b>"]


async def test_where_only_the_rule_answers_its_example_predicts_too(replica: Replica) -> None:
    await replica.want(a_desired(1))
    response = await replica.client.get(f"/v1/models/{FLOW}/openapi.json")
    paths = response.json()["paths"]

    for door in ("predict", "invocations"):
        path = f"/v1/models/{FLOW}/{door}"
        examples = paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            answer = await replica.client.post(path, json=example["value"])
            assert answer.status_code == 200, answer.text


class Tags(HTMLParser):
    """Every tag of a page, and whatever could run or be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_holds_no_script_and_escapes_what_models_bring(
    replica: Replica, store: ArtifactStore
) -> None:
    evil = "<script>alert(1)</script>"
    text = Column(name="lag", kind="text", categories=(evil, '"><img src=x onerror=y>'))
    await replica.want(a_desired(1, a_version(store, 3, columns=(*COLUMNS[:2], text), target=evil)))

    response = await replica.client.get(f"/v1/models/{FLOW}/docs", headers=READER)
    page = Tags()
    page.feed(response.text)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy == PAGE_HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert {"script", "img", "iframe", "form", "object", "link"} & set(page.tags) == set()
    assert [n for n, _ in page.attributes if n not in ("lang", "charset", "href")] == []
    assert evil in page.text
    assert "-2.5 to 3" in page.text


@pytest.mark.parametrize("path", ["openapi.json", "docs"])
async def test_an_unknown_model_is_not_described(replica: Replica, path: str) -> None:
    response = await replica.client.get(f"/v1/models/unheard-of/{path}")

    assert response.status_code == 404


def test_the_version_that_is_told_is_that_of_the_package() -> None:
    project = Path(__file__).parents[2] / "services" / "serving" / "pyproject.toml"

    assert f'version = "{VERSION}"' in project.read_text()


def test_a_default_model_has_a_models_name(settings: Settings) -> None:
    with pytest.raises(ValueError, match="default_model"):
        Settings(**(settings.model_dump() | {"default_model": "../etc"}))
