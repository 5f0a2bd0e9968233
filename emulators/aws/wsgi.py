"""WSGI for the layers around moto: reading a body, passing a call on, and responding."""

from __future__ import annotations

import io
import json
import socket
import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


def read_body(environ: Environ) -> bytes:
    """The body of a request; it can be read once."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(length)
    return body


def with_body(environ: Environ, body: bytes) -> Environ:
    """The same request with another body."""
    return {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def call(inner: Application, environ: Environ) -> tuple[int, bytes]:
    """Calls an application and returns the status and the body of its response."""
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> None:
        statuses.append(status)

    body = b"".join(inner(environ, start_response))
    return int(statuses[-1].partition(" ")[0]), body


def respond(start_response: StartResponse, status: int, document: object) -> list[bytes]:
    """Responds with JSON."""
    headers = [
        ("Content-Type", "application/x-amz-json-1.1"),
        ("x-amzn-RequestId", str(uuid.uuid4())),
    ]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [json.dumps(document).encode()]


def drop_connection(environ: Environ) -> None:
    """Closes the connection without a response.

    Raises the exception that Werkzeug expects for a lost client.
    """
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("dropped by a fault plan")
