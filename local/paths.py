"""Where everything of one stack lives: a folder in the checkout, and what must lie outside it."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.process import Account
from local.unprivileged import can_enter

CHECKOUT = Path(__file__).resolve().parent.parent
_SYSTEM_DATA = Path("/var/lib/tidewheel")


@dataclass(frozen=True, slots=True)
class Places:
    """The files and folders of one stack, all below one folder."""

    folder: Path

    @property
    def kafka(self) -> Path:
        return self.folder / "kafka"

    @property
    def postgres(self) -> Path:
        """A folder, or a link to where the unprivileged account may go."""
        return self.folder / "postgres"

    @property
    def copied_binaries(self) -> Path:
        """Beside the data and not inside it, so that the account cannot change what it runs."""
        return self.postgres.resolve().parent / "binaries"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def serving(self) -> Path:
        return self.folder / "serving"

    @property
    def uploads(self) -> Path:
        """Where the registry keeps what is still coming in."""
        return self.folder / "uploads"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def part_pids(self) -> Path:
        return self.folder / "pids" / "parts"

    @property
    def service_pids(self) -> Path:
        return self.folder / "pids" / "services"

    @property
    def ports(self) -> Path:
        return self.folder / "ports.json"

    @property
    def context(self) -> Path:
        return self.folder / "context.json"

    @property
    def hashed_keys(self) -> Path:
        return self.folder / "keys.json"

    @property
    def plain_keys(self) -> Path:
        return self.folder / "keys.secret.json"

    @property
    def signing_key(self) -> Path:
        """The registry's own; it signs what people ask for on the bus."""
        return self.folder / "signing.secret.json"

    @property
    def passwords(self) -> Path:
        return self.folder / "passwords.secret.json"

    @property
    def overrides(self) -> Path:
        return self.folder / "overrides.env"

    @property
    def control(self) -> Path:
        return self.folder / "control.sock"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def demo(self) -> Places:
        """Where the demo's own stack lives."""
        return Places(self.folder / "demo")

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Others may pass through to what is theirs, and list or read nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for private in (self.logs, self.kafka, self.artifacts, self.serving, self.uploads):
            private.mkdir(exist_ok=True)
            private.chmod(0o700)

    def outside(self) -> Path:
        """The folder of this stack in the system's variable data, named after where it is."""
        key = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:16]
        return _SYSTEM_DATA / key

    def settle_postgres(self, who: Account | None) -> Path:
        """The folder for PostgreSQL's data, enterable by the account it runs under."""
        if who is None:
            self.postgres.mkdir(exist_ok=True)
            self.postgres.chmod(0o700)
        elif can_enter(self.folder, who):
            self.postgres.mkdir(exist_ok=True)
        elif not self.postgres.is_symlink():
            self._move_outside()
        target = self.postgres.resolve()
        if who is not None:
            os.chown(target, who.uid, who.gid)
            target.chmod(0o700)
        return target

    def _move_outside(self) -> None:
        outside = self.outside()
        # Without the link it belonged to a stack that was deleted by hand.
        shutil.rmtree(outside, ignore_errors=True)
        data = outside / "data"
        data.mkdir(parents=True)
        for passed in (_SYSTEM_DATA, outside):
            passed.chmod(0o711)
        if self.postgres.is_dir():
            self.postgres.rmdir()
        self.postgres.symlink_to(data)

    def delete(self) -> None:
        shutil.rmtree(self.outside(), ignore_errors=True)
        with suppress(OSError):  # it holds what belongs to other checkouts, or never was
            _SYSTEM_DATA.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)


def default_places() -> Places:
    return Places(CHECKOUT / ".tidewheel")
