"""What the functions of a worker process share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Objects by key, one for all functions of a worker process; created when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[Hashable, T] = {}

    def get(self, key: Hashable, create: Callable[[], T]) -> T:
        """Return the object of a key."""
        with self._lock:
            if key not in self._objects:
                self._objects[key] = create()
            return self._objects[key]
