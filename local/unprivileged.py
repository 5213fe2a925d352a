"""The account PostgreSQL runs under when we are root, which it refuses to be."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from local.process import Account

_NOBODY = 65534


def account() -> Account | None:
    """None for an ordinary user, who needs no other account."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(uid=_NOBODY, gid=_NOBODY)
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


def can_enter(folder: Path, who: Account) -> bool:
    """Asked of the system by trying, because modes alone do not tell it all."""
    return _succeeds(who, "/bin/sh", "-c", 'cd "$1"', "sh", str(folder))


def can_run(binary: Path, who: Account) -> bool:
    return _succeeds(who, str(binary), "--version")


def _succeeds(who: Account, *argv: str) -> bool:
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            user=who.uid,
            group=who.gid,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
