"""What a replica says keeps its id when it is said again, and only then."""

from __future__ import annotations

from pathlib import Path

from services.serving.handlers.voice import Voice
from services.serving.store.spool import Spool
from shared import clock
from shared.codec import decode
from shared.events import GroundTruthObserved, ModelName


def observed(value: float | str | bool) -> GroundTruthObserved:
    return GroundTruthObserved(
        model=ModelName("flow"), prediction="p-1", value=value, observed_at=clock.now()
    )


def test_a_label_sent_again_is_the_same_event_and_one_of_another_kind_is_not(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool.db", cap_bytes=100_000, now=clock.now)
    voice = Voice(spool=spool, replica="0", url="", now=clock.now, wake=lambda: None)

    voice.observed([observed(v) for v in ("1.0", "1.0", 1.0, True, "True")])

    ids = [decode(one.message.value or b"").id for one in spool.outgoing(10)]
    spool.close()
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
