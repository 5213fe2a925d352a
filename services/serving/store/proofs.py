"""Which versions were proved loadable, by digest, beside the artifacts.

A proof holds for bytes, for this code and for its libraries: another release proves anew. Replicas
of one machine share proofs as they share artifacts, so a file appears here in one step, too.
"""

import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import orjson

from services.serving.domain.versions import Proof
from shared import telemetry
from shared.events import Digest

CHECKS: Final = 1
"""Raised when what is proved changes."""
_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "skops", "onnx", "onnxruntime")


def release() -> str:
    """Under which proofs hold: this code's checks and the versions of what opens models."""
    known = [str(CHECKS), platform.python_version(), *(_version_of(one) for one in _LIBRARIES)]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()[:16]


def _version_of(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


class Proofs:
    """One small file per version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / release()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def of(self, digest: Digest) -> Proof | None:
        """What was proved of a version; None when nothing was, by this release."""
        try:
            plain = orjson.loads((self._folder / digest).read_bytes())
            return Proof(**plain)
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError, TypeError) as error:
            telemetry.log("proof_not_read", level="warning", digest=digest, reason=str(error))
            return None

    def keep(self, digest: Digest, proof: Proof) -> None:
        """Keep a proof; where the disk does not take it, it is made again after a restart."""
        try:
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".proof-")
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps(proof))
            Path(name).replace(self._folder / digest)
        except OSError as error:
            telemetry.log("proof_not_kept", level="warning", digest=digest, reason=str(error))

    def forget(self, digests: Iterable[Digest]) -> None:
        """These are not known to be loadable any more."""
        for digest in digests:
            (self._folder / digest).unlink(missing_ok=True)
