"""The OpenAPI description of one model: its columns, what training saw of them, and examples.

What training saw limits nothing: other values are answered too. So ranges and categories stand
beside the schema (`x-training-…`) and not in it.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.serving import VERSION
from services.serving.api.metadata import metadata
from services.serving.domain.bindings import ALIASES, seen_versions
from services.serving.domain.endpoints import Endpoint
from services.serving.prediction.answers import warm_up_rows
from services.serving.prediction.reading import Row
from services.serving.prediction.rows import TEXT_LIMIT, Schema
from shared.manifest import Column

_SCHEMAS: Final = "#/components/schemas/"
_ANY_VALUE: Final = {"type": ["number", "string", "boolean", "null"]}
_DATATYPES: Final = {"number": "FP64", "boolean": "BOOL", "text": "BYTES"}


def example_row(schema: Schema) -> Row:
    """A row from the middle of what training saw."""
    return warm_up_rows(schema.columns)[0]


def described(endpoint: Endpoint) -> dict[str, Any]:
    """The description."""
    model = endpoint.model
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Model {model}",
            "version": str(max(seen_versions(endpoint), default=0)),
            "description": _words(endpoint),
            "x-generation": endpoint.generation,
            "x-tidewheel": VERSION,
        },
        "security": [{"key": []}],
        "paths": _paths(endpoint),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(endpoint),
        },
    }


def _words(endpoint: Endpoint) -> str:
    manifest = endpoint.manifest
    if manifest is None:
        return "No version is on this replica: its rule answers, whatever columns a row has."
    what = f"{manifest.task} of {manifest.target}"
    return f"A {what}, trained on {manifest.rows_trained} rows of {manifest.dataset}."


def _paths(endpoint: Endpoint) -> dict[str, Any]:
    base = f"/v1/models/{endpoint.model}"
    v2 = f"/v2/models/{endpoint.model}"
    examples = request_examples(endpoint)
    ours = _post("Predict rows", "Request", examples["predict"], "Answers")
    infer = _post("Open Inference Protocol", "Inference", examples["infer"], "Inferred")
    version = _named("version", {"type": "string", "pattern": "^[0-9]+$"})
    alias = _named("alias", {"type": "string", "enum": list(ALIASES)})
    return {
        f"{base}/predict": {"post": ours},
        f"{base}/versions/{{version}}/predict": {"post": ours, "parameters": [version]},
        f"{base}/aliases/{{alias}}/predict": {"post": ours, "parameters": [alias]},
        f"{v2}/infer": {"post": infer},
        f"{v2}/versions/{{version}}/infer": {"post": infer, "parameters": [version]},
        f"{base}/invocations": {
            "post": _post("Score as MLflow does", "Invocation", examples["invocations"], "Scores")
        },
    }


def _named(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _post(summary: str, request: str, examples: Mapping[str, Any], response: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    asked = {
        "schema": {"$ref": _SCHEMAS + request},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    answered = {"application/json": {"schema": {"$ref": _SCHEMAS + response}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": asked}},
        "responses": {
            "200": {"description": "Answered.", "content": answered},
            "4XX": {"description": "Not a request of this model.", "content": problem},
            "429": {"description": "This key asks too often; see Retry-After.", "content": problem},
            "503": {"description": "Not at the moment; see Retry-After.", "content": problem},
        },
    }


def request_examples(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Requests that really are answered, by door and by form."""
    row = example_row(endpoint.schema)
    names, values = list(row), list(row.values())
    return {
        "predict": {
            "objects": {"rows": [row]},
            "columns": {"columns": {name: [value] for name, value in row.items()}},
            "arrays": {"names": names, "rows": [values]},
        }
        if row
        else {"objects": {"rows": [row]}},
        "infer": {"tensors": {"inputs": _tensors(endpoint.schema)}} if row else {},
        "invocations": {
            "dataframe_split": {"dataframe_split": {"columns": names, "data": [values]}},
            "dataframe_records": {"dataframe_records": [row]},
            "inputs": {"inputs": {name: [value] for name, value in row.items()}},
        }
        if row
        else {"dataframe_records": {"dataframe_records": [row]}},
    }


def _tensors(schema: Schema) -> list[dict[str, Any]]:
    row = example_row(schema)
    return [
        {
            "name": column.name,
            "shape": [1],
            "datatype": _DATATYPES[column.kind],
            "data": [row[column.name]],
        }
        for column in schema.columns
    ]


# --- schemas


def _schemas(endpoint: Endpoint) -> dict[str, Any]:
    schema = endpoint.schema
    columns = column_schemas(schema)
    row = {
        "type": "object",
        "properties": columns,
        "required": list(schema.names),
        "additionalProperties": False if schema.closed else _ANY_VALUE,
    }
    lists = {name: {"type": "array", "items": one} for name, one in columns.items()}
    rows = {"type": "array", "minItems": 1, "items": {"$ref": f"{_SCHEMAS}Row"}}
    arrays = {"type": "array", "minItems": 1, "items": {"type": "array", "items": _ANY_VALUE}}
    names = {"type": "array", "minItems": 1, "items": {"type": "string"}, "uniqueItems": True}
    by_column = {**row, "properties": lists}
    split = _object(
        {"columns": names, "data": arrays, "index": {"type": "array"}}, "columns", "data"
    )
    return {
        "Row": row,
        "Request": {
            "oneOf": [
                _object({"rows": rows}, "rows"),
                _object({"row": {"$ref": f"{_SCHEMAS}Row"}}, "row"),
                _object({"columns": by_column}, "columns"),
                _object({"names": names, "rows": arrays}, "names", "rows"),
            ]
        },
        "Answers": _answers(endpoint),
        "Inference": _inference(endpoint),
        "Inferred": {"type": "object", "required": ["model_name", "outputs"]},
        "Invocation": {
            "oneOf": [
                _object({"dataframe_split": split}, "dataframe_split"),
                _object({"dataframe_records": rows}, "dataframe_records"),
                _object({"inputs": {"anyOf": [by_column, rows, arrays]}}, "inputs"),
                _object({"instances": {"anyOf": [by_column, rows, arrays]}}, "instances"),
            ]
        },
        "Scores": {"type": "object", "required": ["predictions", "prediction_ids"]},
        "Problem": _PROBLEM,
    }


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def column_schemas(schema: Schema) -> dict[str, Any]:
    """Every name that a row may hold and what belongs there."""
    found = {column.name: _column(column) for column in schema.columns}
    for column in schema.others.values():
        found[column.name] = _column(column) | {"description": "Only other versions know it."}
    if schema.entity is not None and schema.entity not in found:
        found[schema.entity] = {
            "type": ["string", "integer", "null"],
            "description": "Whom the row is about; the same one meets the same version.",
        }
    return found


def _column(column: Column) -> dict[str, Any]:
    match column.kind:
        case "number":
            seen = {"minimum": column.minimum, "maximum": column.maximum}
            found: dict[str, Any] = {"type": ["number", "null"]}
        case "boolean":
            seen, found = {}, {"type": ["boolean", "null"]}
        case _:
            seen = {}
            found = {"type": ["string", "null"], "maxLength": TEXT_LIMIT}
            found["x-training-categories"] = list(column.categories)
    return found | {f"x-training-{n}": value for n, value in seen.items() if value is not None}


def _answers(endpoint: Endpoint) -> dict[str, Any]:
    manifest = endpoint.manifest
    answer: dict[str, Any] = {"type": ["number", "string", "boolean"]}
    if manifest is not None and manifest.task == "regression":
        answer = {"type": "number"}
    one: dict[str, Any] = {
        "type": "object",
        "required": ["prediction_id", "answer", "rung", "arm", "generation"],
        "properties": {
            "prediction_id": {"type": "string"},
            "answer": answer,
            "version": {"type": ["integer", "null"]},
            "digest": {"type": ["string", "null"]},
            "rung": {"type": "string"},
            "arm": {"type": "string"},
            "generation": {"type": "integer"},
        },
    }
    if manifest is not None and manifest.classes:
        one["x-classes"] = list(manifest.classes)
    predictions = {"type": "array", "items": one}
    return {"type": "object", "properties": {"predictions": predictions}}


def _inference(endpoint: Endpoint) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": tensor}},
        "x-metadata": metadata(endpoint, endpoint.schema),
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
