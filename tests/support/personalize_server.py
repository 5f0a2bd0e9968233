"""The Personalize emulator as a process, for tests that call it with boto3."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from deploy.local.settings import PROJECT
from tests.support.ports import free_port
from tests.support.waiting import wait_until

TRACKING_ID = "tunemesh-local-tracker"
ARN = "arn:aws:personalize:us-east-1:000000000000"
USERS, ITEMS = f"{ARN}:dataset/tunemesh/USERS", f"{ARN}:dataset/tunemesh/ITEMS"
CAMPAIGN = f"{ARN}:campaign/tunemesh"
ANSWER_SECONDS = 60.0
"""For what takes a tenth of a second on an idle machine."""


@dataclass
class Server:
    """The process of an emulator, and clients for it."""

    data: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] = field(init=False)
    _clients: dict[tuple[str, str, float], Any] = field(default_factory=dict)

    def start(self) -> None:
        command = [sys.executable, "-m", "emulators.personalize", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--data", str(self.data), *self.options],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(self._is_ready, "the server's health")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Stops the process; returns its exit code and its output."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=ANSWER_SECONDS)
        return self.process.returncode, output

    def client(self, service: str, *, key: str = "local", timeout: float = ANSWER_SECONDS) -> Any:
        """A client that does not retry; the same one for the same arguments."""
        arguments = (service, key, timeout)
        if arguments not in self._clients:
            self._clients[arguments] = boto3.client(
                service,
                endpoint_url=f"http://127.0.0.1:{self.port}",
                region_name="us-east-1",
                aws_access_key_id=key,
                aws_secret_access_key="local",
                config=Config(retries={"total_max_attempts": 1}, read_timeout=timeout),
            )
        return self._clients[arguments]

    @property
    def events(self) -> Any:
        return self.client("personalize-events")

    @property
    def runtime(self) -> Any:
        return self.client("personalize-runtime")

    def request(
        self, path: str, method: str = "GET", body: object = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
                return response.status, response.read(), dict(response.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def stats(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.request("/_local/stats")[1])
        return document

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after = 0
        while page := self.request(f"/_local/{name}?after={after}&limit=1000")[1].splitlines():
            rows += [json.loads(line) for line in page]
            after = rows[-1]["rowid"]
        return rows

    def use_faults(self, *rules: dict[str, Any], seed: int = 7) -> None:
        plan = {"seed": seed, "rules": list(rules)}
        status, body, _ = self.request("/_local/faults", "PUT", plan)
        assert status == 200, body

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0]
        try:
            return self.request("/_local/health")[0] == 200
        except OSError:
            return False


@contextmanager
def running(data: Path, *options: str) -> Iterator[Server]:
    server = Server(data, options)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate(timeout=ANSWER_SECONDS)
