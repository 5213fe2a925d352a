"""What was used last, as much of it as fits into some bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key; those that nobody has used for longest go first. Threads may share it.

    Attributes:
        size_bytes: of all values together, as they were said to be. At most as many as are
            allowed, or those of the newest value alone: what was kept last is always here.
    """

    def __init__(self, most_bytes: int) -> None:
        """Empty.

        Args:
            most_bytes: that all values together may have.
        """
        self.most_bytes = most_bytes
        self.size_bytes = 0
        self._values: OrderedDict[K, tuple[int, V]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Whether it is here; asking this is no use of it."""
        return key in self._values

    def get(self, key: K) -> V | None:
        """A value, which is the newest from here on; None where it is not here."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[1]

    def keep(self, key: K, value: V, size_bytes: int) -> None:
        """Keep a value, in place of another of this key; others may go for it."""
        with self._lock:
            before = self._values.pop(key, None)
            self.size_bytes += size_bytes - (before[0] if before else 0)
            self._values[key] = (size_bytes, value)
            while self.size_bytes > self.most_bytes and len(self._values) > 1:
                _, (gone, _) = self._values.popitem(last=False)
                self.size_bytes -= gone
