"""The Java task whose thread runs a Python function in thread mode, and private fields of Java."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from connectors.flink.internals.version import InternalsError


def java_class(name: str) -> Any:
    """Return a class of the JVM; None outside of a JVM (process mode)."""
    try:
        from pemja import findClass  # type: ignore[import-untyped]
    except ImportError:
        return None
    return findClass(name)


def current_task() -> Any:
    """Return Flink's Task that this thread runs; None outside of a JVM.

    On a task's own thread only. Raises InternalsError.
    """
    threads = java_class("java.lang.Thread")
    if threads is None:
        return None
    with accessing("the task of a thread"):
        # Flink's own Java options open java.lang for that.
        thread = threads.currentThread()
        if java_class("java.lang.Runtime").version().feature() < 19:
            return field(thread, "target")
        return field(field(thread, "holder"), "task")


def is_task_cancelled() -> bool:
    """Whether Flink has interrupted this task's Java thread, which Python code does not notice.

    Always False outside of a JVM: a process of functions is simply ended.
    """
    threads = java_class("java.lang.Thread")
    return threads is not None and bool(threads.currentThread().isInterrupted())


def field(instance: Any, name: str) -> Any:
    """Return the value of a private field of a Java object."""
    declared = instance.getClass().getDeclaredField(name)
    declared.setAccessible(True)
    return declared.get(instance)


@contextmanager
def accessing(what: str) -> Iterator[None]:
    """Raise InternalsError for whatever Java or its bridge raises."""
    try:
        yield
    except InternalsError:
        raise
    except Exception as error:
        raise InternalsError(f"{what}: {type(error).__name__}: {error}") from error
