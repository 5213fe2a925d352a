"""Requests that are wrong, made by rule: every bad value in every form of every protocol."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

JSON = "application/json"
MODEL = "/v1/models/flow"
V2 = "/v2/models/flow"
GOOD = {"load": "1.0", "hour": "3", "lag": "0.5"}
NAMES = tuple(GOOD)


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A request that is to be refused.

    Attributes:
        statuses: what it may be answered.
    """

    name: str
    path: str
    body: bytes
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = (400, 413, 422)


# --- forms: where the value of `load` stands, as JSON text


def _row(load: str) -> str:
    return f'{{"load": {load}, "hour": 3, "lag": 0.5}}'


def _columns(load: str) -> str:
    return f'{{"load": [{load}], "hour": [3], "lag": [0.5]}}'


def _arrays(load: str) -> str:
    return f'"names": ["load", "hour", "lag"], "rows": [[{load}, 3, 0.5]]'


def _tensor(name: str, value: str) -> str:
    return f'{{"name": "{name}", "shape": [1], "datatype": "FP64", "data": [{value}]}}'


def _tensors(load: str) -> str:
    return ", ".join((_tensor("load", load), _tensor("hour", "3"), _tensor("lag", "0.5")))


def _matrix(load: str) -> str:
    head = '"name": "rows", "shape": [1, 3], "datatype": "FP64"'
    return f'{{"inputs": [{{{head}, "data": [[{load}, 3, 0.5]]}}]}}'


Form = Callable[[str], str]
OWN: dict[str, Form] = {
    "objects": lambda load: f'{{"rows": [{_row(load)}]}}',
    "row": lambda load: f'{{"row": {_row(load)}}}',
    "columns": lambda load: f'{{"columns": {_columns(load)}}}',
    "arrays": lambda load: f"{{{_arrays(load)}}}",
}
INFER: dict[str, Form] = {
    "tensors": lambda load: f'{{"inputs": [{_tensors(load)}]}}',
    "matrix": _matrix,
}
SCORE: dict[str, Form] = {
    "split": lambda load: (
        f'{{"dataframe_split": {{"columns": ["load", "hour", "lag"], "data": [[{load}, 3, 0.5]]}}}}'
    ),
    "records": lambda load: f'{{"dataframe_records": [{_row(load)}]}}',
    "inputs": lambda load: f'{{"inputs": {_columns(load)}}}',
    "lists": lambda load: f'{{"inputs": [[{load}, 3, 0.5]]}}',
    "instances": lambda load: f'{{"instances": [{_row(load)}]}}',
}
AN_ID = "p-" + "0" * 32
OUTCOME: dict[str, Form] = {
    "outcome": lambda value: (
        f'{{"model": "flow", "observations": [{{"prediction_id": "{AN_ID}", "value": {value}}}]}}'
    )
}
DOORS: dict[str, tuple[str, dict[str, Form]]] = {
    "predict": (f"{MODEL}/predict", OWN),
    "predict a version": (f"{MODEL}/versions/1/predict", {"objects": OWN["objects"]}),
    "predict an alias": (f"{MODEL}/aliases/champion/predict", {"arrays": OWN["arrays"]}),
    "explained": (f"{MODEL}/predict?explain=true", {"objects": OWN["objects"]}),
    "explain": (f"{MODEL}/explain", OWN),
    "infer": (f"{V2}/infer", INFER),
    "infer a version": (f"{V2}/versions/1/infer", {"matrix": INFER["matrix"]}),
    "score": (f"{MODEL}/invocations", SCORE),
    "feedback": ("/v1/feedback", OUTCOME),
}
PREDICTING = tuple(door for door in DOORS if door != "feedback")

VALUES: dict[str, str] = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "2^63": str(2**63),
    "-2^63-1": str(-(2**63) - 1),
    "2^70": str(2**70),
    "400 digits": "9" * 400,
    "5,000 digits": "9" * 5_000,
    "a list": "[1, 1]",
    "an object": '{"$gt": 0}',
    "33 levels": "[" * 33 + "]" * 33,
    "a lone surrogate": '"\\ud800"',
    "a zero": '"a\\u0000b"',
    "a number as text": '"5"',
    "NaN as text": '"NaN"',
    "true": "true",
    "01": "01",
    "+1": "+1",
    ".5": ".5",
    "1.": "1.",
    "1_000": "1_000",
    "0x1F": "0x1F",
    "Arabic digits": "\u0661\u0662",
    "single quotes": "'5'",
    "undefined": "undefined",
    "nothing": "",
    "a second value": "1, 2",
    "an expression": "1+1",
    "a comment": "1 /* one */",
    "long text": '"' + "x" * 5_000 + '"',
    "True": "True",
}


def bad_values() -> Iterator[Bad]:
    for door, (path, forms) in DOORS.items():
        for form, written in forms.items():
            for value, text in VALUES.items():
                yield Bad(name=f"{door}, {form}: {value}", path=path, body=written(text).encode())


# --- documents that are wrong as a whole


DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"5",
    "a text": b'"rows"',
    "true": b"true",
    "an empty object": b"{}",
    "spaces": b" \t\r\n",
    "a zero byte": b"\x00",
    "invalid UTF-8": b'{"rows": "\xff"}',
    "overlong UTF-8": b'{"rows": "\xc0\xaf"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"rows": [{}]}'.encode("utf-16"),
    "UTF-32": '{"rows": [{}]}'.encode("utf-32"),
    "two documents": b"{} {}",
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a name twice": b'{"rows": [], "rows": []}',
    "an unknown field": b'{"role": "admin"}',
    "a prototype": b'{"__proto__": {"rows": [{}]}}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.",
    "form data": b"rows=1&load=2",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
}


def bad_documents() -> Iterator[Bad]:
    for door, (path, forms) in DOORS.items():
        for name, body in DOCUMENTS.items():
            yield Bad(name=f"{door}: {name}", path=path, body=body)
        whole = next(iter(forms.values()))("1.5").encode()
        for part in (1, 2, 3):
            cut = whole[: len(whole) * part // 4]
            yield Bad(name=f"{door}: cut at {part}/4", path=path, body=cut)


# --- rows that are wrong as rows


def _objects(path: str, top: str) -> Iterator[tuple[str, str, str]]:
    for name, rows in {
        "no rows": "[]",
        "rows are null": "null",
        "rows are an object": "{}",
        "a row is null": "[null]",
        "a row is a list": "[[1, 2, 3]]",
        "an empty row": "[{}]",
        "the second row is a number": f"[{_row('1')}, 7]",
        "a missing feature": '[{"hour": 3, "lag": 0.5}]',
        "an unknown feature": f"[{_row('1')[:-1]}, " + '"rain": 1}]',
        "a feature twice": '[{"load": 1, "load": 2, "hour": 3, "lag": 0.5}]',
        "a feature twice, escaped": '[{"load": 1, "\\u006coad": 2, "hour": 3, "lag": 0.5}]',
        "a lone surrogate as a name": f"[{_row('1')[:-1]}, " + '"\\udfff": 1}]',
        "a long name": f"[{_row('1')[:-1]}, " + f'"{"n" * 100_000}": 1}}]',
        "3,000 fields": json.dumps([{f"f{i}": 1 for i in range(3_000)}]),
        "too many rows": f"[{', '.join(['{}'] * 10_001)}]",
    }.items():
        yield f"{top}: {name}", path, f'{{"{top}": {rows}}}'


def _by_columns(path: str, top: str) -> Iterator[tuple[str, str, str]]:
    for name, columns in {
        "a list": "[]",
        "an empty object": "{}",
        "ragged": '{"load": [1, 2], "hour": [3], "lag": [0.5]}',
        "a missing column": '{"load": [1], "hour": [3]}',
        "an unknown column": '{"load": [1], "hour": [3], "lag": [1], "rain": [1]}',
        "no values": '{"load": [], "hour": [], "lag": []}',
        "a scalar": '{"load": 1, "hour": 3, "lag": 0.5}',
        "too many values": f'{{"load": {[0] * 10_001}, "hour": [1], "lag": [1]}}',
        "too many columns": json.dumps({f"c{i}": [1] for i in range(2_001)}),
    }.items():
        yield f"{top}: {name}", path, f'{{"{top}": {columns}}}'


def _by_arrays(path: str) -> Iterator[tuple[str, str, str]]:
    for name, document in {
        "ragged": '{"names": ["load", "hour", "lag"], "rows": [[1, 2], [1, 2, 3]]}',
        "a name twice": '{"names": ["load", "load", "lag"], "rows": [[1, 2, 3]]}',
        "a name is a number": '{"names": ["load", 1, "lag"], "rows": [[1, 2, 3]]}',
        "no names": '{"names": [], "rows": [[]]}',
        "no rows": '{"names": ["load", "hour", "lag"]}',
        "rows are objects": '{"names": ["load", "hour", "lag"], "rows": [{}]}',
        "too few names": '{"names": ["load"], "rows": [[1]]}',
        "unknown names": '{"names": ["a", "b", "c"], "rows": [[1, 2, 3]]}',
        "another field": '{"names": ["load"], "rows": [[1]], "columns": {}}',
    }.items():
        yield f"arrays: {name}", path, document


def _tensor_documents(path: str) -> Iterator[tuple[str, str, str]]:
    good = '"name": "rows", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]'
    for name, inputs in {
        "no inputs": "[]",
        "inputs are an object": "{}",
        "an input is null": "[null]",
        "no name": '[{"shape": [1], "datatype": "FP64", "data": [1]}]',
        "no datatype": '[{"name": "load", "shape": [1], "data": [1]}]',
        "an unknown datatype": '[{"name": "load", "shape": [1], "datatype": "INT", "data": [1]}]',
        "no shape": '[{"name": "load", "datatype": "FP64", "data": [1]}]',
        "a negative shape": '[{"name": "load", "shape": [-1], "datatype": "FP64", "data": [1]}]',
        "an empty shape": '[{"name": "load", "shape": [], "datatype": "FP64", "data": [1]}]',
        "a huge shape": f'[{{"name": "rows", "shape": [{2**62}, {2**62}], "datatype": "FP64", '
        '"data": [1]}]',
        "three dimensions": '[{"name": "rows", "shape": [1, 1, 3], "datatype": "FP64", '
        '"data": [1, 2, 3]}]',
        "a fractional shape": '[{"name": "load", "shape": [1.5], "datatype": "FP64", "data": [1]}]',
        "too few values": '[{"name": "rows", "shape": [2, 3], "datatype": "FP64", '
        '"data": [1, 2, 3]}]',
        "another width": '[{"name": "rows", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]',
        "the same name twice": f"[{_tensor('load', '1')}, {_tensor('load', '1')}]",
        "an unknown name": f"[{_tensors('1')}, {_tensor('rain', '1')}]",
        "a missing input": f"[{_tensor('load', '1')}, {_tensor('hour', '1')}]",
        "a fraction in INT64": '[{"name": "rows", "shape": [1, 3], "datatype": "INT64", '
        '"data": [1.5, 2, 3]}]',
        "256 in UINT8": '[{"name": "rows", "shape": [1, 3], "datatype": "UINT8", '
        '"data": [256, 2, 3]}]',
        "texts for numbers": '[{"name": "rows", "shape": [1, 3], "datatype": "BYTES", '
        '"data": ["1", "2", "3"]}]',
        "shared memory": f'[{{{good}, "parameters": {{"shared_memory_region": "x"}}}}]',
        "both forms of data": f'[{{{good}, "parameters": {{"binary_data_size": 24}}}}]',
        "an unknown field": f'[{{{good}, "role": "admin"}}]',
    }.items():
        yield f"infer: {name}", path, f'{{"inputs": {inputs}}}'
    for name, more in {
        "outputs are a text": '"outputs": "y"',
        "an unknown output": '"outputs": [{"name": "nobody"}]',
        "an output twice": '"outputs": [{"name": "answer"}, {"name": "answer"}]',
        "an id of a list": '"id": [1]',
        "an id of a lone surrogate": '"id": "\\ud800"',
        "a long id": f'"id": "{"x" * 5_000}"',
        "parameters are a list": '"parameters": []',
        "an unknown top field": '"inputz": []',
    }.items():
        yield f"infer: {name}", path, f'{{"inputs": [{{{good}}}], {more}}}'


def bad_rows() -> Iterator[Bad]:
    predict, explain, score = (DOORS[door][0] for door in ("predict", "explain", "score"))
    found: list[tuple[str, str, str]] = []
    for path in (predict, explain):
        found += [*_objects(path, "rows"), *_by_columns(path, "columns"), *_by_arrays(path)]
    found += [*_objects(score, "dataframe_records"), *_by_columns(score, "inputs")]
    found += [*_by_columns(score, "instances"), *_tensor_documents(DOORS["infer"][0])]
    found += _split_documents(score)
    for name, path, document in found:
        yield Bad(name=f"{path}: {name}", path=path, body=document.encode())


def _split_documents(path: str) -> Iterator[tuple[str, str, str]]:
    for name, split in {
        "a list": "[]",
        "no data": '{"columns": ["load", "hour", "lag"]}',
        "no columns": '{"data": [[1, 2, 3]]}',
        "ragged": '{"columns": ["load", "hour", "lag"], "data": [[1, 2]]}',
        "an index too long": '{"columns": ["load", "hour", "lag"], "data": [[1, 2, 3]], '
        '"index": [1, 2]}',
        "an unknown field": '{"columns": ["load"], "data": [[1]], "schema": {}}',
    }.items():
        yield f"split: {name}", path, f'{{"dataframe_split": {split}}}'
    yield "two forms", path, '{"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}'


# --- CSV


CSVS: dict[str, bytes] = {
    "empty": b"",
    "a header alone": b"load,hour,lag\n",
    "a name twice": b"load,load,lag\n1,2,3\n",
    "ragged": b"load,hour,lag\n1,2\n",
    "too wide": b"load,hour,lag\n1,2,3,4\n",
    "invalid UTF-8": b"load,hour,lag\n\xff,2,3\n",
    "UTF-16": "load,hour,lag\n1,2,3\n".encode("utf-16"),
    "an open quote": b'load,hour,lag\n"1,2,3\n',
    "a zero": b"load,hour,lag\n1\x00,2,3\n",
    "inf": b"load,hour,lag\ninf,2,3\n",
    "nan": b"load,hour,lag\nnan,2,3\n",
    "1e400": b"load,hour,lag\n1e400,2,3\n",
    "0x1F": b"load,hour,lag\n0x1F,2,3\n",
    "1_000": b"load,hour,lag\n1_000,2,3\n",
    "Arabic digits": "load,hour,lag\n\u0661\u0662,2,3\n".encode(),
    "a formula": b"load,hour,lag\n=cmd|'/c calc'!A0,2,3\n",
    "400 digits": b"load,hour,lag\n" + b"9" * 400 + b",2,3\n",
    "an unknown column": b"load,hour,lag,rain\n1,2,3,4\n",
    "a missing column": b"load,hour\n1,2\n",
    "too many rows": b"load,hour,lag\n" + b"1,2,3\n" * 10_001,
    "a long field": b"load,hour,lag\n" + b"1" * 200_000 + b",2,3\n",
}


def bad_csv() -> Iterator[Bad]:
    for name, body in CSVS.items():
        yield Bad(name=f"CSV: {name}", path=f"{MODEL}/invocations", body=body, kind="text/csv")


# --- the binary extension


def _binary(head: str, tail: bytes, length: str | None = None) -> tuple[bytes, dict[str, str]]:
    told = str(len(head.encode())) if length is None else length
    return head.encode() + tail, {"Inference-Header-Content-Length": told}


def _described(datatype: str, size: str, shape: str = "[1, 3]") -> str:
    return (
        f'{{"inputs": [{{"name": "rows", "shape": {shape}, "datatype": "{datatype}", '
        f'"parameters": {{"binary_data_size": {size}}}}}]}}'
    )


def bad_binary() -> Iterator[Bad]:
    good = struct.pack("<3d", 1.0, 3.0, 0.5)
    head = _described("FP64", "24")
    found: dict[str, tuple[bytes, dict[str, str]]] = {
        "too few bytes": _binary(head, good[:-1]),
        "too many bytes": _binary(head, good + b"\x00"),
        "no bytes": _binary(head, b""),
        "a negative size": _binary(_described("FP64", "-1"), good),
        "a fractional size": _binary(_described("FP64", "24.0"), good),
        "a huge size": _binary(_described("FP64", str(2**70)), good),
        "a size of text": _binary(_described("FP64", '"24"'), good),
        "a size of true": _binary(_described("FP64", "true"), good),
        "a size of null": _binary(_described("FP64", "null"), good),
        "a size below the shape": _binary(_described("FP64", "16"), good[:16]),
        "NaN": _binary(head, struct.pack("<3d", float("nan"), 3.0, 0.5)),
        "infinity": _binary(head, struct.pack("<3d", float("inf"), 3.0, 0.5)),
        "NaN in FP32": _binary(
            _described("FP32", "12"), struct.pack("<3f", float("nan"), 3.0, 0.5)
        ),
        "NaN in FP16": _binary(_described("FP16", "6"), struct.pack("<3e", float("nan"), 3.0, 0.5)),
        "2 in BOOL": _binary(_described("BOOL", "3"), b"\x02\x00\x01"),
        "BYTES that end early": _binary(_described("BYTES", "12"), b"\xff\xff\xff\xff" * 3),
        "BYTES of another count": _binary(_described("BYTES", "5"), b"\x01\x00\x00\x00a"),
        "BYTES of no UTF-8": _binary(_described("BYTES", "15"), b"\x01\x00\x00\x00\xff" * 3),
        "a shape that overflows": _binary(_described("FP64", "24", f"[{2**62}, 4]"), good),
        "another width": _binary(_described("FP64", "24", "[3, 1]"), good),
        "a length beyond": _binary(head, good, str(10**6)),
        "a negative length": _binary(head, good, "-1"),
        "a length of text": _binary(head, good, "all"),
        "a length of 40 digits": _binary(head, good, "9" * 40),
        "a length of Arabic digits": _binary(head, good, "1e3"),
        "a length in the middle": _binary(head, good, "20"),
        "a length of nothing": _binary(head, good, "0"),
        "no length": (head.encode() + good, {}),
    }
    for name, (body, headers) in found.items():
        yield Bad(
            name=f"binary: {name}",
            path=f"{V2}/infer",
            body=body,
            kind="application/octet-stream",
            headers=headers,
        )


# --- Arrow


ARROWS: dict[str, bytes] = {
    "empty": b"",
    "JSON": b'{"rows": [{}]}',
    "a file's magic": b"ARROW1\x00\x00",
    "a huge message": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\x00" * 100,
    "a negative message": b"\xff\xff\xff\xff\x00\x00\x00\x80" + b"\x00" * 100,
    "zeros": b"\x00" * 10_000,
    "ones": b"\xff" * 10_000,
    "Parquet": b"PAR1" + b"\x15\x04" * 50 + b"PAR1",
}


def bad_arrow() -> Iterator[Bad]:
    for path in (f"{MODEL}/predict", f"{MODEL}/versions/1/predict"):
        for name, body in ARROWS.items():
            yield Bad(
                name=f"{path}: Arrow, {name}",
                path=path,
                body=body,
                kind="application/vnd.apache.arrow.stream",
                statuses=(400, 413, 415, 422),
            )


# --- media types, names, sizes, outcomes


KINDS = (
    "", "text/plain", "text/csv", "application/x-pickle", "application/vnd.bentoml+pickle",
    "application/json; charset=utf-16", "application/json; charset=utf-8; x=y", "application/xml",
    "multipart/form-data; boundary=x", "application/x-www-form-urlencoded",
    "application/json" + "x" * 2_000,
)  # fmt: skip
ENCODINGS = ("gzip", "br", "zstd", "deflate", "identity, gzip")


def bad_kinds() -> Iterator[Bad]:
    for door in ("predict", "explain", "feedback"):
        path, forms = DOORS[door]
        body = next(iter(forms.values()))("1.5").encode()
        for kind in KINDS:
            yield Bad(
                name=f"{door}: {kind[:40]!r}", path=path, body=body, kind=kind, statuses=(415,)
            )
    for door in DOORS:
        path, forms = DOORS[door]
        body = next(iter(forms.values()))("1.5").encode()
        for encoding in ENCODINGS:
            yield Bad(
                name=f"{door}: {encoding}",
                path=path,
                body=body,
                headers={"Content-Encoding": encoding},
                statuses=(415,),
            )


PLACES = (
    "..%2f..%2fetc%2fpasswd", "%252e%252e%252f", "%00", "%0d%0aSet-Cookie:x=1", "%ff%fe",
    "%e2%82%ac", "%e2%80%ae", "flow%20", "FLOW", "x" * 64, "x" * 2_000, "-rf", "flow.", "a;b",
    "nobody",
)  # fmt: skip
VERSIONS = ("0", "-1", "1e3", "9" * 40, "%d9%a3", "latest", "1.0", "%20")


def bad_places() -> Iterator[Bad]:
    body = OWN["objects"]("1.5").encode()
    tensors = INFER["matrix"]("1.5").encode()
    for place in PLACES:
        path = f"/v1/models/{place}/predict"
        yield Bad(name=f"model {place[:40]}", path=path, body=body, statuses=(404, 422))
    for version in VERSIONS:
        for path, sent in (
            (f"{MODEL}/versions/{version}/predict", body),
            (f"{V2}/versions/{version}/infer", tensors),
        ):
            yield Bad(name=path[:60], path=path, body=sent, statuses=(404, 409, 422))
    for alias in ("", "nobody", "Champion", "%00"):
        path = f"{MODEL}/aliases/{alias}/predict"
        yield Bad(name=path, path=path, body=body, statuses=(404, 409, 422))
    for query in ("explain=yes", "explain=1", "explain=", "explain=TRUE", "explain=%00"):
        path = f"{MODEL}/predict?{query}"
        yield Bad(name=query, path=path, body=body, statuses=(422,))


OUTCOMES: dict[str, str] = {
    "no model": f'{{"observations": [{{"prediction_id": "{AN_ID}", "value": 1}}]}}',
    "a model of capitals": '{"model": "Flow", "observations": [{}]}',
    "no observations": '{"model": "flow", "observations": []}',
    "observations are null": '{"model": "flow", "observations": null}',
    "an observation is a number": '{"model": "flow", "observations": [7]}',
    "an unknown field": '{"model": "flow", "observations": [{}], "tenant": "other"}',
    "too many": f'{{"model": "flow", "observations": [{", ".join(["{}"] * 1_001)}]}}',
}
MOMENTS = (
    "9999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00", "yesterday", "",
    "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:00", "\u0662\u0660\u0662\u0666-01-01T00:00:00Z",
)  # fmt: skip


def bad_outcomes() -> Iterator[Bad]:
    path = "/v1/feedback"
    for name, document in OUTCOMES.items():
        yield Bad(name=f"feedback: {name}", path=path, body=document.encode())
    for change in (
        *(f'"observed_at": "{moment}"' for moment in MOMENTS),
        '"observed_at": 5',
        *(f'"revision": {text}' for text in ("0", "-1", "1.5", "true", '"1"', "1e400", str(10**7))),
        '"comment": "x"',
    ):
        one = f'{{"prediction_id": "{AN_ID}", "value": 1, {change}}}'
        document = f'{{"model": "flow", "observations": [{one}]}}'
        yield Bad(name=f"feedback: {change}", path=path, body=document.encode())
    for given in ('""', "null", '"p-1"', f'"{AN_ID.upper()}"', f'"s-{"0" * 32}"', '"\\ud800"'):
        one = f'{{"prediction_id": {given}, "value": 1}}'
        document = f'{{"model": "flow", "observations": [{one}]}}'
        yield Bad(name=f"feedback: id {given[:20]}", path=path, body=document.encode())


def bad_sizes() -> Iterator[Bad]:
    for door, (path, _) in DOORS.items():
        yield Bad(name=f"{door}: 9 MB", path=path, body=b" " * 9_000_000, statuses=(413,))


def every_bad_request() -> Sequence[Bad]:
    """All of them."""
    return [
        *bad_values(),
        *bad_documents(),
        *bad_rows(),
        *bad_csv(),
        *bad_binary(),
        *bad_arrow(),
        *bad_kinds(),
        *bad_places(),
        *bad_outcomes(),
        *bad_sizes(),
    ]


# --- requests that mean the same


def same_meaning() -> Sequence[Bad]:
    """Good requests about one row: however it is written, the answer is one."""
    values = ("1.5", "15e-1", "0.15E1", "1.50000000000000000000", " \t1.5\n")
    found = [
        Bad(name=f"{door}, {form}: {value}", path=path, body=written(value).encode())
        for door, (path, forms) in DOORS.items()
        for form, written in forms.items()
        for value in values
        if door != "feedback"
    ]
    orders = [
        '{"rows": [{"lag": 0.5, "hour": 3, "load": 1.5}]}',
        '{"rows": [{"hour": 3.0, "load": 1.5, "lag": 0.5, "pump": null}]}',
        '{"rows": [{"\\u006coad": 1.5, "hour": 3, "lag": 0.5}]}',
        '{"names": ["lag", "load", "hour"], "rows": [[0.5, 1.5, 3]]}',
        '{"columns": {"lag": [0.5], "load": [1.5], "hour": [3]}}',
    ]
    path = f"{MODEL}/predict"
    found += [Bad(name=text, path=path, body=text.encode()) for text in orders]
    csv = Bad(
        name="CSV", path=f"{MODEL}/invocations", body=b"lag,load,hour\r\n0.5,1.5,3\r\n",
        kind="text/csv",
    )  # fmt: skip
    binary = _binary(_described("FP64", "24"), struct.pack("<3d", 1.5, 3.0, 0.5))
    tensors = Bad(name="binary", path=f"{V2}/infer", body=binary[0], headers=binary[1])
    return [*found, csv, tensors]
