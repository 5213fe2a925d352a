"""What can stand in the way of starting, each said in one line with its remedy."""

from __future__ import annotations

from pathlib import Path


class CannotStart(Exception):
    """Something this machine lacks or something that failed; nothing half-started is left."""


class NotRunning(CannotStart):
    def __init__(self) -> None:
        super().__init__("the stack is not running; start it with: make up")


class JarsUnavailable(CannotStart):
    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the Kafka jars could not be fetched ({cause}); "
            "they are needed once: connect to the network and run this again"
        )


class JarsDiffer(CannotStart):
    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"fetched jars do not match local/kafka-jars.sha256: {', '.join(names)}; "
            "nothing was kept, run this again"
        )


class EndedEarly(CannotStart):
    def __init__(self, name: str, log: Path, last_line: str) -> None:
        super().__init__(f"{name} ended while starting: {last_line or 'no output'} (see {log})")


class TookTooLong(CannotStart):
    def __init__(self, what: str, seconds: float, log: Path | None = None) -> None:
        where = f" (see {log})" if log else ""
        super().__init__(f"{what} was not ready after {seconds:.0f} s{where}")


class StateLost(CannotStart):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds a database whose password is gone; start afresh with: make clean"
        )


class WrongDatabaseVersion(CannotStart):
    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"the data was written by PostgreSQL {found}, the binaries are {wanted}; "
            "use the same as before, or start afresh with: make clean"
        )


class WrongPlatform(CannotStart):
    def __init__(self, found: str) -> None:
        super().__init__(
            f"the local stack needs Linux, this is {found}; use the containers instead"
        )
