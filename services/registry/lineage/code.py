"""Which code a specification stands for: its own text and the libraries that it names.

The digest covers what the canonical specification says about fitting and, by name, the version of
every distribution that its estimators come from. Versions are read from the lock of the
installation, because the estimators run in the trainer's environment, which need not be the
registry's. Only the distributions that are named count: an update of anything else trains nothing
anew. Where the lock does not pin a distribution, the version installed here counts; where there is
none either, the digest of the lock stands in for it, so that a change of the environment is never
missed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from shared.events import Digest
from shared.spec import ModelSpec

_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_KNOWN: Final = {"sklearn": "scikit-learn"}
_ALWAYS: Final = "sklearn"
"""Default candidates, pipelines and the model's file come from it, whatever is named."""


def modules_of(spec: ModelSpec) -> frozenset[str]:
    """The top-level modules that the estimators come from."""
    used = {candidate.use for candidate in spec.train.candidates}
    for candidate in spec.train.candidates:
        used |= set(_used(candidate.arguments))
    return frozenset({_ALWAYS, *(re.split(r"[.:]", name)[0] for name in used)})


def _used(value: Any) -> list[str]:
    """What is named inside arguments: steps of a pipeline are given like candidates."""
    if isinstance(value, dict):
        own = [value["use"]] if isinstance(value.get("use"), str) else []
        return own + [name for inner in value.values() for name in _used(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in _used(inner)]
    return []


@dataclass(frozen=True, slots=True)
class Lock:
    """The pinned versions of an installation."""

    pins: Mapping[str, str]
    digest: str

    @classmethod
    def read(cls, path: Path | None) -> "Lock":
        """The pins of a file of requirements; none where there is no file."""
        text = path.read_text(encoding="utf-8") if path and path.is_file() else ""
        pins = {_normal(name): version for name, version in _PIN.findall(text)}
        return cls(pins, hashlib.sha256(text.encode()).hexdigest())

    def versions(self, modules: frozenset[str]) -> dict[str, str]:
        """The distribution and version behind each module."""
        named = {module: _distribution(module) for module in sorted(modules)}
        return {name: self._version(name) for name in named.values()}

    def _version(self, name: str) -> str:
        return self.pins.get(name) or _installed(name) or f"unknown in lock {self.digest}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(module: str) -> str:
    known = _KNOWN.get(module)
    return known or _normal(next(iter(_installed_modules().get(module, [module]))))


@cache
def _installed_modules() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


_FITTED: Final = ("task", "data", "train")
"""The parts that decide what is fitted. A changed rollout or gate trains nothing anew."""


def code_digest(spec: ModelSpec, versions: Mapping[str, str]) -> Digest:
    """Digest of what is fitted and how, together with the versions of what that names."""
    canonical = spec.canonical()
    text = json.dumps(
        {
            "spec": {part: canonical[part] for part in _FITTED},
            "distributions": dict(versions),
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return Digest(hashlib.sha256(text.encode()).hexdigest())
