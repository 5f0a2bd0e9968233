"""Promises of reading side by side: nothing is lost, errors come through, threads end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from batch.exports.parallel import read_in_parallel


def reader(first: int, count: int) -> Callable[[], Iterator[int]]:
    return lambda: iter(range(first, first + count))


def readers_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-")]


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_everything_is_read_once(workers: int) -> None:
    """However many workers there are for the readers."""
    readers = [reader(n * 100, 100) for n in range(10)]
    assert sorted(read_in_parallel(readers, workers)) == list(range(1000))
    assert list(read_in_parallel([], workers)) == []
    assert not readers_left()


def test_an_error_is_raised_and_ends_the_others() -> None:
    """The reader's own exception, in the thread of the consumer."""

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("of the reader")

    def endless() -> Iterator[int]:
        while True:
            yield 2

    with pytest.raises(ZeroDivisionError, match="of the reader"):
        for _ in read_in_parallel([endless, broken], 2):
            pass
    assert not readers_left()


def test_a_consumer_that_stops_early_ends_the_readers() -> None:
    """They do not wait for a consumer."""

    def endless() -> Iterator[int]:
        while True:
            yield 1

    found = read_in_parallel([endless, endless], 2)
    assert next(iter(found)) == 1
    found.close()  # type: ignore[attr-defined]  # it is a generator
    assert not readers_left()


def test_memory_is_bounded() -> None:
    """Readers are never more than a few results ahead of the consumer."""
    made = 0

    def counting() -> Iterator[int]:
        nonlocal made
        for number in range(1000):
            made = number
            yield number

    for taken, _ in enumerate(read_in_parallel([counting], 1)):
        assert made - taken <= 4
