"""A specification from YAML, with every fault named by line, column and key.

YAML is composed to nodes, which know their places, and never loaded as objects.
"""

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shared.errors import Fault, InvalidInput, wrong_things
from shared.spec import ModelSpec, read_spec

MOST_BYTES: Final = 256_000
_MOST_NODES: Final = 20_000
_MOST_DEPTH: Final = 32
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_EXPONENT: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_SEXAGESIMAL: Final = re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.\d*)?")
_WORDS: Final = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecFault(Fault):
    """One thing that is wrong, and where in the text; `detail` names the place too."""

    line: int
    column: int
    key: str
    what: str
    file: str = ""

    def __str__(self) -> str:
        """`pump.yaml:9:11  data.tagret: unknown key 'tagret', did you mean 'target'?`."""
        place = ":".join(filter(None, (self.file, str(self.line), str(self.column))))
        return f"{place}  {self.key}: {self.what}{f', {self.hint}' if self.hint else ''}"


class SpecFaults(InvalidInput):
    """The text is no specification; `faults` holds every fault with its line and column."""

    code = "invalid_spec"

    def __init__(self, faults: Sequence[SpecFault]) -> None:
        super().__init__(wrong_things(faults, "the specification"), faults)
        self.places = tuple(faults)


def read_spec_yaml(text: str | bytes, name: str = "") -> ModelSpec:
    """The specification in a YAML (or JSON) text.

    Args:
        text: the whole file.
        name: of the file, for the faults.

    Raises:
        SpecFaults: every fault at once, each with its place.
    """
    try:
        return _read(text)
    except SpecFaults as found:
        raise SpecFaults([replace(fault, file=name) for fault in found.places]) from None


def _read(text: str | bytes) -> ModelSpec:
    document = _Document(_composed(_decoded(text)))
    try:
        spec = read_spec(document.plain, is_new=True)
    except ValidationError as error:
        faults = [*document.faults, *_located(document, error)]
    else:
        faults = document.faults
        if not faults:
            return spec
    raise SpecFaults(sorted(faults, key=lambda fault: (fault.line, fault.column)))


def _decoded(text: str | bytes) -> str:
    if len(text) > MOST_BYTES:
        raise _only(1, 1, f"the specification has more than {MOST_BYTES} bytes")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _only(text.count(b"\n", 0, error.start) + 1, 1, "these bytes are no UTF-8") from error


def _only(line: int, column: int, what: str) -> SpecFaults:
    return SpecFaults([_placed(line, column, (), what)])


def _placed(line: int, column: int, path: Path, what: str, hint: str = "") -> SpecFault:
    return SpecFault(
        pointer="".join(f"/{_escaped(str(part))}" for part in path),
        detail=f"line {line}, column {column}: {what}",
        hint=hint,
        line=line,
        column=column,
        key=_dotted(path),
        what=what,
    )


def _composed(text: str) -> Node:
    try:
        _check_depth(text)
        node: Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _only(line, column, error.problem or "this is not YAML") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _only(1, 1, f"this is not YAML: {str(error)[:200]}") from error
    if node is None:
        raise _only(1, 1, "the specification is empty")
    if not isinstance(node, MappingNode):
        raise _only(1, 1, "a specification is a mapping of keys to values")
    return node


def _check_depth(text: str) -> None:
    """Composing recurses in C, where a very deep document would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _MOST_DEPTH:
            mark = event.start_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise _only(line, column, "this is nested too deeply")


class _Document:
    """Plain data from nodes, and the place of each part of it."""

    def __init__(self, root: Node) -> None:
        self.faults: list[SpecFault] = []
        self.values: dict[Path, Node] = {}
        self.keys: dict[Path, Node] = {}
        self.misread: set[Path] = set()
        self._left = _MOST_NODES
        self.plain = self._plain(root, ())

    def _plain(self, node: Node, path: Path) -> Any:
        self._left -= 1
        if self._left < 0 or len(path) > _MOST_DEPTH:
            raise _at(node, path, "the specification is too large or too deeply nested")
        self.values[path] = node
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._plain(item, (*path, place)) for place, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self._name(key, path)
            if name is None:
                continue
            if name in found:
                first = self.keys[*path, name].start_mark
                detail = f"key {name!r} is given twice, first at {first.line + 1}"
                self.faults.append(_fault(key, (*path, name), f"{detail}:{first.column + 1}"))
                continue
            self.keys[*path, name] = key
            found[name] = self._plain(value, (*path, name))
        return found

    def _name(self, key: Node, path: Path) -> str | None:
        """The key as text; what YAML reads as something else is refused."""
        if not isinstance(key, ScalarNode):
            self.faults.append(_fault(key, path, "a key is a word"))
            return None
        text = str(key.value)
        if key.tag == "tag:yaml.org,2002:bool":
            detail = f"YAML reads the key {text} as {str(_scalar(key)).lower()}"
            self.faults.append(_fault(key, (*path, text), detail, "put it in quotes"))
            self.misread.add((*path, text))
        if key.tag == "tag:yaml.org,2002:merge":
            self.faults.append(_fault(key, (*path, text), "keys are not merged", "write them out"))
            return None
        return text


def _scalar(node: Node) -> Any:
    """The value, with the traps of YAML 1.1 taken out: `1e-3` is a number, `12:30` is text."""
    text, tag = str(node.value), node.tag.rpartition(":")[2]
    if tag == "str" and not getattr(node, "style", None) and _EXPONENT.fullmatch(text):
        return float(text)
    if tag not in ("int", "float", "bool", "null") or _SEXAGESIMAL.fullmatch(text):
        return text
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, yaml.YAMLError):
        return text


def _fault(node: Node, path: Path, what: str, hint: str = "") -> SpecFault:
    mark = node.start_mark
    return _placed(mark.line + 1, mark.column + 1, path, what, hint)


def _at(node: Node, path: Path, what: str) -> SpecFaults:
    return SpecFaults([_fault(node, path, what)])


def _located(document: _Document, error: ValidationError) -> Iterator[SpecFault]:
    """The faults that the specification's own rules found, each put to its place once."""
    items = [(_real_path(document, item), item) for item in error.errors(include_url=False)]
    inside = {path[:size] for path, _ in items for size in range(len(path))}
    seen = set(document.misread)
    for path, item in items:
        # A value that fits one branch of a union but for what lies in it, needs no other branch.
        is_branch = path in inside and item["type"].endswith("_type")
        if path not in seen and not is_branch:
            seen.add(path)
            yield _explained(document, item, path)


def _real_path(document: _Document, item: ErrorDetails) -> Path:
    """Where the fault lies in the text: branches of a union are no part of the path."""
    path: Path = ()
    for part in item["loc"]:
        if (*path, part) in document.values:
            path = (*path, part)
    missing = item["loc"][-1] if item["type"] == "missing" else None
    return (*path, missing) if missing is not None else path


def _explained(document: _Document, item: ErrorDetails, path: Path) -> SpecFault:
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return _unknown(document, path)
    if kind == "missing":
        node = document.keys.get(path[:-1]) or document.values[path[:-1]]
        return _fault(node, path, f"{path[-1]} must be given")
    node = document.values[path]
    detail = item["msg"].removeprefix("Value error, ")
    if kind.startswith("string") and isinstance(given, bool) and isinstance(node, ScalarNode):
        written = str(node.value)
        if written.lower() in _WORDS:
            return _fault(node, path, f"YAML reads {written} as {given}", "put it in quotes")
    return _fault(node, path, detail)


def _unknown(document: _Document, path: Path) -> SpecFault:
    name = str(path[-1])
    near = difflib.get_close_matches(name, _known_keys(path[:-1]), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else ""
    return _fault(document.keys[path], path, f"unknown key {name!r}", hint)


def _known_keys(path: Path) -> list[str]:
    """The keys that the specification has at a place."""
    kinds: set[Any] = {ModelSpec}
    for part in path:
        kinds = {inner for kind in kinds for inner in _inside(kind, part)}
    return [name for kind in kinds if _is_part(kind) for name in _fields(kind)]


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    """The types that may stand under a key or an index of a type."""
    if _is_part(kind):
        found = _fields(kind).get(str(part))
        yield from _options(found) if found is not None else ()
        return
    inner = typing.get_args(kind)
    if typing.get_origin(kind) in (tuple, list) and inner:
        yield from _options(inner[0])
    elif typing.get_origin(kind) is dict and inner:
        yield from _options(inner[1])


def _options(kind: Any) -> Iterator[Any]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for option in typing.get_args(kind):
            yield from _options(option)
    else:
        yield kind


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(kind: type[BaseModel]) -> Mapping[str, Any]:
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "specification"


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
