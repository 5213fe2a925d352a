"""The demo's own system: one at a time."""

from pathlib import Path

import pytest

from local.demo.stack import AnotherDemo, DemoStack
from local.paths import Places


def test_a_second_demo_leaves_the_first_alone(tmp_path: Path) -> None:
    places = Places(tmp_path / "demo")
    held = DemoStack(places)._only_one()

    second = DemoStack(places)
    with pytest.raises(AnotherDemo):
        second.start()
    second.end()

    assert not places.folder.exists()
    held.close()
