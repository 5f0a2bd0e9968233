"""Shared by the commands of the benchmarks: their end, and the description of the machine."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from connectors.flink.interpreter import is_optimised_build
from schemas.errors import TunemeshError


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Run a command; an error, SIGTERM or Ctrl-C ends it with a message."""
    # Processes that were started are stopped, as at any other end.
    signal.signal(signal.SIGTERM, _exit)
    if not is_optimised_build():
        print(f"{name}: {sys.executable} is no optimised build; decoding is a third slower")
    try:
        sys.exit(main())
    except TunemeshError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(f"{name}: stopped")


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit("stopped by SIGTERM")


def describe_machine() -> dict[str, Any]:
    """Return the description of the machine for a report."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "python_is_optimised": is_optimised_build(),
        "system": f"{platform.system()} {platform.machine()}",
    }
