"""Concurrent readers with one consumer and bounded memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_DEPTH: Final = 2
"""Results for each reader that wait for the consumer."""

_POLL_SECONDS: Final = 0.1


class _Ended:
    """A reader has ended."""


def read_in_parallel(readers: Sequence[Callable[[], Iterator[T]]], workers: int) -> Iterator[T]:
    """Yield the results of all readers in no particular order; ``workers`` threads read.

    A reader runs in one thread. The first exception of any reader is raised here, and the others
    stop at their next result, as they do when the consumer stops early.
    """
    waiting: queue.SimpleQueue[Callable[[], Iterator[T]]] = queue.SimpleQueue()
    for reader in readers:
        waiting.put(reader)
    threads = max(1, min(workers, len(readers)))
    results: queue.Queue[T | BaseException | _Ended] = queue.Queue(threads * _DEPTH)
    stop = threading.Event()

    def hand_over(result: T | BaseException | _Ended) -> bool:
        while not stop.is_set():
            try:
                results.put(result, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            while not stop.is_set():
                try:
                    reader = waiting.get_nowait()
                except queue.Empty:
                    break
                for result in reader():
                    if not hand_over(result):
                        return
        except BaseException as error:  # noqa: BLE001  # raised again in the consumer's thread
            hand_over(error)
        else:
            hand_over(_Ended())

    pool = [threading.Thread(target=work, name=f"read-{n}", daemon=True) for n in range(threads)]
    for thread in pool:
        thread.start()
    try:
        ended = 0
        while ended < threads:
            result = results.get()
            if isinstance(result, _Ended):
                ended += 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:
        stop.set()
        for thread in pool:
            thread.join()
