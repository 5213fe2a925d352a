"""The whole demo, as `make demo` runs it."""

import subprocess
import sys

import pytest

from local.paths import CHECKOUT

pytestmark = [pytest.mark.real, pytest.mark.nightly, pytest.mark.timeout(480)]


def test_every_promise_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local.demo"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "lost 0   doubled 0" in done.stdout
