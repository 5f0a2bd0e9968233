"""A function's metrics among Flink's, in thread and in process mode.

In process mode PyFlink's own way serves: gauges that are read at the end of each bundle, so nothing
moves while a bundle is processed. In thread mode PyFlink 2.2.1 gives a table function the metric
group of process mode, which leads nowhere. So the group is taken from the Java task itself, which
its thread knows, and its gauges hold numbers that a Python thread sets every second. (Gauges that
call Python, as PyFlink has them for DataStream functions, enter the interpreter on a thread of
Flink's under the state of the task's thread, which may be in use.)

Metrics cost a record nothing: the numbers are plain attributes until they are read. They need no
version check: a Flink without these classes has no such metrics, and the log says so.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial

from pyflink.table import FunctionContext

from connectors.flink.internals.java_task import accessing, current_task, java_class
from connectors.flink.internals.version import InternalsError
from connectors.flink.metric_group import GROUPS, LABEL

LOG = logging.getLogger(__name__)

PUSH_SECONDS = 1.0

Register = Callable[[str], Callable[[int], None] | None]
"""Creates a gauge of a name; returns its setter, None where Flink calls the gauge."""


class Gauges:
    """The metrics of one function, from its opening to its closing.

    ``read`` returns every number by name, and runs on any thread; names may be added, then
    :meth:`grow` has to be called. Metrics are never a reason to fail: where Flink offers no way,
    that is logged and there are none.
    """

    def __init__(
        self, function: str, read: Callable[[], Mapping[str, int]], context: FunctionContext
    ) -> None:
        self._read = read
        self._values: Mapping[str, int] = {}
        self._set: dict[str, Callable[[int], None]] = {}
        self._shown: dict[str, int] = {}
        self._names: set[str] = set()
        self._register: Register | None = None
        try:
            self._register = _java_gauges(function) or self._pyflink_gauges(function, context)
            self.grow()
        except (InternalsError, RuntimeError) as error:
            # PyFlink raises RuntimeError where metrics are switched off.
            LOG.warning("%s: no metrics of Python functions: %s", function, error)
            self._register = None
        PUSHER.add(self)

    def grow(self) -> None:
        """Create gauges for the names that are new; on the function's own thread only."""
        if self._register is None:
            return
        for name in self._read():
            if name not in self._names:
                if (setter := self._register(name)) is not None:
                    self._set[name] = setter
                self._names.add(name)
        self.push()

    def push(self) -> None:
        """Set the gauges that are set from here to the present numbers."""
        if not self._set:
            return
        for name, value in self._read().items():
            if name in self._set and self._shown.get(name) != value:
                self._shown[name] = value
                self._set[name](value)

    def close(self) -> None:
        """Set them a last time."""
        PUSHER.remove(self)
        self.push()

    def _pyflink_gauges(self, function: str, context: FunctionContext) -> Register:
        group = context.get_metric_group()
        for name in GROUPS:
            group = group.add_group(name)
        group = group.add_group(LABEL, function)

        def register(name: str) -> None:
            group.gauge(name, partial(self._value, name, first=not self._names))

        return register

    def _value(self, name: str, first: bool) -> int:
        # Flink calls the gauges one after the other, the first of them first.
        if first or name not in self._values:
            self._values = self._read()
        return self._values.get(name, 0)


def _java_gauges(function: str) -> Register | None:
    """Return what creates gauges of the Java task of this thread; None outside of a JVM."""
    task = current_task()
    if task is None:
        return None
    with accessing("the metric group of a task"):
        group = task.getMetricGroup()
        for name in GROUPS:
            group = group.addGroup(name)
        group = group.addGroup(LABEL, function)
        # Meant for watermarks, and the only gauge of Flink's that can be set to a number.
        gauge_class = java_class("org.apache.flink.streaming.runtime.metrics.WatermarkGauge")

    def register(name: str) -> Callable[[int], None]:
        with accessing("a gauge of a task"):
            gauge = gauge_class()
            gauge.setCurrentWatermark(0)
            group.gauge(name, gauge)
            setter: Callable[[int], None] = gauge.setCurrentWatermark
            return setter

    return register


class _Pusher:
    """A thread that sets gauges as long as a function of this process is open.

    It is no thread of Java's, so all that it may call there is a method that takes numbers and
    returns nothing: creating or returning an object needs what only Java's threads have.
    """

    def __init__(self) -> None:
        self._gauges: weakref.WeakSet[Gauges] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, gauges: Gauges) -> None:
        with self._lock:
            self._gauges.add(gauges)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
                self._thread.start()

    def remove(self, gauges: Gauges) -> None:
        with self._lock:
            self._gauges.discard(gauges)

    def _run(self) -> None:
        while True:
            with self._lock:
                present = tuple(self._gauges)
                if not present:
                    self._thread = None
                    return
            for gauges in present:
                try:
                    gauges.push()
                except Exception as error:  # noqa: BLE001 - a metric is no reason to stop the others
                    LOG.warning("metrics: %s", error)
            del present, gauges  # a closed function keeps no thread alive
            time.sleep(PUSH_SECONDS)


PUSHER = _Pusher()
