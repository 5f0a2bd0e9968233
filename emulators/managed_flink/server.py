"""The local kinesisanalyticsv2 over HTTP, on loopback: what boto3 talks to in the tests.

Requests are checked by botocore's own model first: required members, types, lengths, patterns,
enumerations, and members that the model does not know.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import botocore.session

from emulators.errors import ServiceError
from emulators.managed_flink.records import Refusal
from emulators.validation import compile_check, refuse

OPERATIONS = (
    "CreateApplication",
    "CreateApplicationSnapshot",
    "DeleteApplicationSnapshot",
    "DescribeApplication",
    "DescribeApplicationOperation",
    "DescribeApplicationSnapshot",
    "DescribeApplicationVersion",
    "ListApplicationOperations",
    "ListApplicationSnapshots",
    "RollbackApplication",
    "StartApplication",
    "StopApplication",
    "UpdateApplication",
)


class Model:
    """What botocore knows of the service."""

    def __init__(self) -> None:
        model = botocore.session.get_session().get_service_model("kinesisanalyticsv2")
        self.prefix = str(model.metadata["targetPrefix"])
        self.version = str(model.metadata["jsonVersion"])
        self._checks = {
            name: compile_check(model.operation_model(name).input_shape) for name in OPERATIONS
        }

    def check(self, operation: str, body: dict[str, Any]) -> None:
        """Raises Refusal for a request that the model does not allow."""
        check = self._checks.get(operation)
        if check is None:
            raise Refusal("UnknownOperationException", operation)
        try:
            violations = check(body)
        except ServiceError as error:
            raise Refusal("SerializationException", error.message) from error
        if violations:
            raise Refusal("InvalidArgumentException", refuse(violations).message)


class Answers(Protocol):
    """A service, or what stands before one."""

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises Refusal."""


@contextmanager
def serving(service: Answers) -> Iterator[str]:
    """The address of a server that answers for a service, until the block ends."""
    model, lock = Model(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            prefix, _, operation = self.headers["X-Amz-Target"].partition(".")
            try:
                if prefix != model.prefix or "Credential=" not in self.headers["Authorization"]:
                    raise Refusal("UnknownOperationException", prefix)
                body = json.loads(text)
                model.check(operation, body)
                with lock:
                    self._answer(200, service.answer(operation, body))
            except Refusal as error:
                status = 500 if error.code == "InternalFailure" else 400
                self._answer(status, {"__type": error.code, "message": error.message})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", f"application/x-amz-json-{model.version}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="managed-flink", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
