"""Where the services are and which key opens them: flag, then environment, then context file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidewheel.errors import Failure, plainly
from tidewheel.exits import Exit

FILE = Path(".tidewheel") / "context.json"
_START = "start a system with `make up`, or name a context file with TIDEWHEEL_CONTEXT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One installation as this client sees it.

    Attributes:
        origin: where this was read, for people.
        services: base address by service name.
        key: the API key; never printed.
    """

    origin: str
    services: Mapping[str, str]
    key: str

    def url(self, service: str) -> str:
        """The address of a service.

        Raises:
            Failure: the context does not name it.
        """
        if service not in self.services:
            raise Failure(
                f"the address of {service} is not known",
                why=(f"{self.origin} names {', '.join(sorted(self.services)) or 'none'}",),
                fix="name one of these, or another context file with TIDEWHEEL_CONTEXT",
                exit_code=Exit.CONFIGURATION,
            )
        return self.services[service].rstrip("/")


def find(file: str | Path | None = None, key: str | None = None) -> Context:
    """The context to use.

    Args:
        file: a context file; else TIDEWHEEL_CONTEXT, else `.tidewheel/context.json` in this folder
            or one above it.
        key: an API key; else TIDEWHEEL_KEY, else the one in the file.

    Raises:
        Failure: there is none, or it cannot be read.
    """
    named = file or _environment("TIDEWHEEL_CONTEXT")
    found = _read(Path(named) if named else _upwards(Path.cwd()))
    given = key or _environment("TIDEWHEEL_KEY")
    return replace(found, key=given) if given else found


def _environment(name: str) -> str:
    return os.environ.get(name, "")  # noqa: TID251 - the client's only look at it


def _upwards(folder: Path) -> Path:
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
    raise Failure(
        "no running system is known here",
        why=(f"there is no {FILE} in {folder} or above it",),
        fix=_START,
        exit_code=Exit.CONFIGURATION,
    )


def _read(file: Path) -> Context:
    try:
        plain: Any = json.loads(file.read_text())
        services = {str(name): str(url) for name, url in plain["services"].items()}
        return Context(origin=str(file), services=services, key=_key(plain, file.parent))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(
            f"{file} cannot be used",
            why=(
                plainly(error) if isinstance(error, OSError) else f"it has a wrong form: {error}",
            ),
            fix=_START,
            exit_code=Exit.CONFIGURATION,
        ) from error


def _key(plain: Mapping[str, Any], folder: Path) -> str:
    if plain.get("key_file"):
        return (folder / str(plain["key_file"])).read_text().strip()
    return str(plain.get("key", ""))
