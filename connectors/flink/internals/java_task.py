"""The Java task whose thread runs a Python function in thread mode, and its private fields.

They are those of Flink 2.2: whoever asks has to do without where they are not as expected.
"""

from __future__ import annotations

from typing import Any


def java_class(name: str) -> Any:
    """A class of the JVM; None outside of a JVM (process mode)."""
    try:
        from pemja import findClass  # type: ignore[import-untyped]
    except ImportError:
        return None
    return findClass(name)


def current_task() -> Any:
    """Flink's Task that this thread runs; None outside of a JVM. On a task's own thread only."""
    threads = java_class("java.lang.Thread")
    if threads is None:
        return None
    thread = threads.currentThread()
    # Flink's own Java options open java.lang for that.
    try:
        return field(thread, "target")
    except Exception:  # noqa: BLE001 - Java's NoSuchFieldException: Java 19 and later
        return field(field(thread, "holder"), "task")


def field(instance: Any, name: str) -> Any:
    """The private field of a Java object."""
    found = instance.getClass().getDeclaredField(name)
    found.setAccessible(True)
    return found.get(instance)
