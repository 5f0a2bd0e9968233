"""The HTTP server of the emulator, on loopback, for boto3.

Requests are checked against botocore's service model first: required members, types, lengths,
patterns, enumerations, and members that are not in the model.
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
from emulators.validation import compile_check, violation_error

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
    """botocore's model of the service."""

    def __init__(self) -> None:
        model = botocore.session.get_session().get_service_model("kinesisanalyticsv2")
        self.prefix = str(model.metadata["targetPrefix"])
        self.version = str(model.metadata["jsonVersion"])
        self._checks = {
            name: compile_check(model.operation_model(name).input_shape) for name in OPERATIONS
        }

    def check(self, operation: str, body: dict[str, Any]) -> None:
        """Raises ServiceError for a request that the model does not allow."""
        check = self._checks.get(operation)
        if check is None:
            raise ServiceError("UnknownOperationException", operation)
        violations = check(body)
        if violations:
            raise ServiceError("InvalidArgumentException", violation_error(violations).message)


class CallHandler(Protocol):
    """Handles calls: the service, or a wrapper around it."""

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body of the response; raises ServiceError."""


@contextmanager
def serving(service: CallHandler) -> Iterator[str]:
    """Run a server for a service until the block ends; yields its address."""
    model, lock = Model(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            prefix, _, operation = self.headers["X-Amz-Target"].partition(".")
            try:
                if prefix != model.prefix or "Credential=" not in self.headers["Authorization"]:
                    raise ServiceError("UnknownOperationException", prefix)
                body = json.loads(text)
                model.check(operation, body)
                with lock:
                    self._respond(200, service.answer(operation, body))
            except ServiceError as error:
                status = 500 if error.code == "InternalFailure" else 400
                self._respond(status, {"__type": error.code, "message": error.message})

        def _respond(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", f"application/x-amz-json-{model.version}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="managed-flink", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
