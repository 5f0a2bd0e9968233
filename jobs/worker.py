"""What the functions of a worker process share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be shared."""

    def close(self) -> None:
        """Free its threads, processes and connections; no function uses it any more."""


T = TypeVar("T", bound=Closable)


class Shared(Generic[T]):
    """Objects by kind and key, one for all functions of a worker process.

    An object is created for the first function that joins it. Without functions it is kept for the
    restart of its job, until another one of its kind is created: so settings that change leave one
    object of each kind at most.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[tuple[str, Hashable], tuple[T, weakref.WeakSet[object]]] = {}

    def join(self, kind: str, key: Hashable, function: object, create: Callable[[], T]) -> T:
        """Return the object of a kind and key, and keep it until the function leaves."""
        with self._lock:
            if (kind, key) not in self._objects:
                self._close_unused(kind)
                self._objects[kind, key] = create(), weakref.WeakSet()
            shared, functions = self._objects[kind, key]
            functions.add(function)
            return shared

    def leave(self, function: object) -> None:
        """Keep no object for a function that closes; one that is garbage leaves without this."""
        with self._lock:
            for _, functions in self._objects.values():
                functions.discard(function)

    def _close_unused(self, kind: str) -> None:
        for place, (shared, functions) in list(self._objects.items()):
            if place[0] == kind and not functions:
                del self._objects[place]
                shared.close()
