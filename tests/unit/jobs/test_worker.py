"""What a worker's functions share: created once, and closed when it has been replaced."""

from __future__ import annotations

from collections.abc import Callable

from jobs.worker import Shared


class Engine:
    """Notes whether it was closed."""

    def __init__(self, opened: list[Engine]) -> None:
        self.closed = False
        opened.append(self)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class Function:
    """A function of a task."""


def joining(shared: Shared[Engine]) -> tuple[list[Engine], Callable[..., Engine]]:
    """The engines that were created, and a function to join one."""
    opened: list[Engine] = []
    return opened, lambda kind, key, function: shared.join(
        kind, key, function, lambda: Engine(opened)
    )


def test_functions_of_a_key_share_an_object_that_outlives_a_restart() -> None:
    """All of them leave and join again: it is the same object."""
    shared = Shared[Engine]()
    opened, join = joining(shared)
    for _ in range(3):
        functions = [Function(), Function()]
        assert join("events", 1, functions[0]) is join("events", 1, functions[1])
        for function in functions:
            shared.leave(function)
    assert [engine.closed for engine in opened] == [False]


def test_changed_settings_leave_one_object_of_a_kind() -> None:
    """However often they change; other kinds are not touched."""
    shared = Shared[Engine]()
    opened, join = joining(shared)
    other, busy = Function(), Function()
    join("users", 0, other)
    shared.leave(other)
    join("events", "busy", busy)
    for key in range(100):
        function = Function()
        join("events", key, function)
        shared.leave(function)
    assert [n for n, engine in enumerate(opened) if not engine.closed] == [0, 1, 101]


def test_a_function_that_was_never_closed_keeps_nothing() -> None:
    """One whose start failed is garbage without having left."""
    shared = Shared[Engine]()
    opened, join = joining(shared)
    for key in range(3):
        join("events", key, Function())
    assert [engine.closed for engine in opened] == [True, True, False]
