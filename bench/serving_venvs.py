"""Virtual environments of the peers: pinned, made when they are missing, each alone.

`python -m bench.serving_venvs` makes them all; a peer that cannot be had is said and passed over.
"""

import subprocess
from pathlib import Path
from typing import Final

from local.paths import CHECKOUT

FOLDER: Final = CHECKOUT / ".venv-bench"
_MODEL: Final = ("scikit-learn==1.9.1", "joblib==1.6.0")
_FAST: Final = ("uvicorn==0.54.0", "httptools==0.9.0", "uvloop==0.23.0")
PINS: Final[dict[str, tuple[str, ...]]] = {
    "hello": _FAST,
    "fastapi": ("fastapi==0.165.0", *_FAST, *_MODEL),
    "bentoml": ("bentoml==1.4.39", *_FAST, *_MODEL),
    # Its worker pool does not start under a newer uvloop.
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0", *_MODEL),
}


def python_of(peer: str) -> Path | None:
    """The interpreter of a peer's environment, as far as it is there with these pins."""
    made = FOLDER / peer / "pins"
    is_made = made.exists() and made.read_text() == "\n".join(PINS[peer])
    return FOLDER / peer / "bin" / "python" if is_made else None


def make(peer: str) -> str:
    """Make a peer's environment unless it is there; the reason why it cannot be had, or nothing."""
    if python_of(peer) is not None:
        return ""
    folder = FOLDER / peer
    uv = str(CHECKOUT / ".venv/bin/uv")
    base = str(CHECKOUT / ".venv/bin/python")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", base, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *PINS[peer]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    (folder / "pins").write_text("\n".join(PINS[peer]))
    return ""


def main() -> None:
    for peer in PINS:
        reason = make(peer)
        print(f"{peer:10} {f'not installed: {reason}' if reason else 'ready'}", flush=True)


if __name__ == "__main__":
    main()
