"""The windows that one is compared with."""

from collections.abc import Mapping

from services.drift_monitor.store import PostgresStore
from services.drift_monitor.store.sketches import Place
from shared.sketch import Layout, Sketch


def readable(
    store: PostgresStore, layout: Layout, place: Place, kept: Mapping[int, bytes]
) -> dict[int, Sketch]:
    """Sketches before a window, by number, without those that cannot be read any more.

    A window whose sketch was spoiled after its verdict is told once, and takes no other with it.
    """
    found: dict[int, Sketch] = {}
    for number, sketch in kept.items():
        try:
            found[number] = layout.read(sketch)
        except Exception as error:  # noqa: BLE001 - whatever is in it, it is this window's alone
            store.tell_unread(f"window {number}", place[:2], error)
    return found
