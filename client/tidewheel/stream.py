"""Server-sent events, line by line."""

import json
from typing import Any, Final

ALIVE: Final = ": alive"
"""What the registry sends when nothing has happened for a while."""


class EventLines:
    """Puts lines together to events and remembers where a new connection has to go on."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._data: list[str] = []

    def feed(self, line: str) -> dict[str, Any] | None:
        """The event that this line completes, if it completes one."""
        if not line:
            return self._completed()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self.last_id = value
        return None

    def _completed(self) -> dict[str, Any] | None:
        text, self._data = "\n".join(self._data), []
        plain = json.loads(text) if text else None
        return plain if isinstance(plain, dict) else None
