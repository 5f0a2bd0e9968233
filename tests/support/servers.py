"""Servers for tests: Python processes that are ended by their own id, and one in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
from moto.server import ThreadedMotoServer

from deploy.local.process import find_processes, is_listening
from deploy.local.settings import HOST, PROJECT, LocalSettings, Port
from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Received:
    """A request that a server of this process got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def http_server(answer: Callable[[Received], tuple[int, bytes]]) -> Iterator[str]:
    """Answer every request with a status and a body; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Received(self.command, self.path, dict(self.headers), body)
            status, content = answer(request)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = reply

        def log_message(self, format: str, *args: object) -> None:
            """Do not log requests in the test's output."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def listening_addresses(settings: LocalSettings, server: str) -> set[str]:
    """The addresses that the processes of a server of the platform listen on."""
    return {
        connection.laddr.ip.removeprefix("::ffff:")
        for found in find_processes(settings, server)
        for connection in found.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


@contextmanager
def python_server(arguments: Sequence[str], port: int) -> Iterator[str]:
    """Run a Python program until the end of the block; yield its address once it listens."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_started() -> bool:
        assert process.poll() is None, f"{arguments} ended at its start"
        return is_listening(Port(port, "a free port"))

    try:
        wait_until(has_started, f"{arguments} listens")
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto in this process; yield its address."""
    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield f"http://{HOST}:{port}"
    finally:
        server.stop()


@contextmanager
def aws_emulator(port: int, data: Path) -> Iterator[str]:
    """Run the emulator of AWS on this data."""
    arguments = ["-m", "emulators.aws", "--port", str(port), "--data", str(data)]
    with python_server(arguments, port) as url:
        yield url
