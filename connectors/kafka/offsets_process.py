"""Kafka's offsets, read by a small process of its own.

In thread mode the functions run inside Flink's JVM, where librdkafka sometimes ended the whole
process at its import. The process ends with its parent's pipe.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.kafka.offsets import Offsets, OffsetsUnavailable, Partition
from schemas.errors import TunemeshError

ANSWER_SECONDS = 20.0
"""The longest that a call takes, a slow start of the process included; the process is replaced
after that, so that no event waits for one that hangs."""


class OffsetsProcess:
    """The methods of :class:`connectors.kafka.librdkafka.KafkaOffsets`, called in another process.

    A process that has died or does not answer is replaced with the next call; the call that was
    not answered raises OffsetsUnavailable. ``command`` is what to start instead of this module.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        client: Mapping[str, str],
        *,
        command: Sequence[str] = (),
    ) -> None:
        self._settings = {"bootstrap_servers": bootstrap_servers, "client": dict(client)}
        self._command = command or (interpreter(), "-m", "connectors.kafka.offsets_process")
        self.answer_seconds = ANSWER_SECONDS
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def partitions(self, topics: Iterable[str]) -> tuple[Partition, ...]:
        """Return every partition of the topics."""
        return tuple((topic, number) for topic, number in self._call("partitions", list(topics)))

    def ends(self, partitions: Iterable[Partition]) -> Offsets:
        """Return the offset that the next record of each partition will have."""
        return _offsets(self._call("ends", list(partitions)))

    def log_ends(self, partitions: Iterable[Partition]) -> Offsets:
        """Return the offset of the next record, after those of open transactions."""
        return _offsets(self._call("log_ends", list(partitions)))

    def first_records(self, positions: Offsets) -> Offsets:
        """Return the offset of the first committed record at each position or later."""
        return _offsets(self._call("first_records", _rows(positions)))

    def committed(self, group: str, partitions: Iterable[Partition]) -> Offsets:
        """Return what the group has committed; 0 where it has nothing."""
        return _offsets(self._call("committed", group, list(partitions)))

    def commit(self, group: str, offsets: Offsets) -> None:
        """Commit for a group without members."""
        self._call("commit", group, [[*partition, offset] for partition, offset in offsets.items()])

    def _call(self, method: str, *arguments: object) -> Any:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([method, *arguments]) + "\n")
                process.stdin.flush()
                readable = select.select([process.stdout], [], [], self.answer_seconds)[0]
                line = process.stdout.readline() if readable else ""
            except OSError:
                line = ""
            if not line:
                self._end(process)
                raise OffsetsUnavailable("the process that reads Kafka's offsets does not answer")
        answer = json.loads(line)
        if "error" in answer:
            raise OffsetsUnavailable(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process; another call would start one anew."""
        with self._lock:
            if self._process is not None:
                self._end(self._process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()
        self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            # Not as an argument: every user of the machine can read those, and settings have keys.
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(self._settings) + "\n")
        return self._process


def interpreter() -> str:
    """Return this Python as a program.

    Inside a JVM ``sys.executable`` is the first python3 on the PATH, or Java; a Python of another
    version cannot run with this one's modules.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [
        *(f"{prefix}/bin/{version}" for prefix in (sys.prefix, sys.base_prefix)),
        sys.executable or "",
    ]
    for candidate in candidates:
        if Path(candidate).name.startswith("python") and os.access(candidate, os.X_OK):
            return candidate
    return version


def _offsets(rows: Iterable[tuple[str, int, int]]) -> dict[Partition, int]:
    return {(topic, number): offset for topic, number, offset in rows}


def _rows(offsets: Offsets) -> list[list[object]]:
    return [[*partition, offset] for partition, offset in offsets.items()]


def serve() -> None:
    """Answer a line of JSON for each line on the standard input but the first, the settings."""
    from connectors.kafka.librdkafka import KafkaOffsets

    settings = json.loads(sys.stdin.readline())
    kafka = KafkaOffsets(settings["bootstrap_servers"], settings["client"])
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            result: object = None
            if method == "partitions":
                result = kafka.partitions(arguments[0])
            elif method in ("ends", "log_ends"):
                result = _rows(getattr(kafka, method)((t, n) for t, n in arguments[0]))
            elif method == "first_records":
                result = _rows(kafka.first_records(_offsets(arguments[0])))
            elif method == "committed":
                result = _rows(kafka.committed(arguments[0], [(t, n) for t, n in arguments[1]]))
            else:
                kafka.commit(arguments[0], _offsets(arguments[1]))
            answer: dict[str, object] = {"result": result}
        except TunemeshError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
