"""kill -9 at every point: before each change that a process makes to S3."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

WRITES = frozenset(
    {
        "abort_multipart_upload",
        "complete_multipart_upload",
        "create_multipart_upload",
        "delete_object",
        "delete_objects",
        "put_object",
        "upload_part",
    }
)
MAX_WRITES = 50
SECONDS = 240


class Killed:
    """An S3 client whose process is killed when it has made so many changes and begins the next."""

    def __init__(self, s3: Any, survived: int) -> None:
        self._s3 = s3
        self._left = survived

    def __getattr__(self, name: str) -> Any:
        if name in WRITES:
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1
        return getattr(self._s3, name)


def killed_at_each_write(run: Callable[[int], None]) -> Iterator[int]:
    """Runs a function in a process of its own, again and again, until it survives.

    Its argument is how many changes to survive: none, one, ... Yields how often it was killed,
    after each time.
    """
    for survived in range(MAX_WRITES):
        process = multiprocessing.get_context("fork").Process(target=run, args=(survived,))
        process.start()
        process.join(SECONDS)
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
        yield survived + 1
    raise AssertionError("it never survives")
