"""The platform's part `aws` for tests: a process of its own, with empty data and a free port."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.settings import PROJECT

START_SECONDS = 120


@contextmanager
def aws_part(port: int, data: Path) -> Iterator[str]:
    """Serves at the address that it gives, until the end of the block."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "emulators.aws", "--port", str(port), "--data", str(data)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert process.poll() is None, "the part aws ended at its start"
            assert time.monotonic() < deadline, "the part aws did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_local/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
