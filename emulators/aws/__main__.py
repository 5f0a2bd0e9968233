"""The process of the emulator: Glue, Lake Formation, Firehose and S3 on one port.

    python -m emulators.aws --port 25000 --data .tunemesh/data/aws

Files in the data folder: `registry.json` (Glue: registries, data catalog), `lake-formation.json`,
`delivery-streams.json`, and S3 objects below `s3/`. A change is in its file before the
response is sent: clients store the ids of schema versions in data that outlasts a restart.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from emulators.aws import ACCOUNT, HEALTH, HOST, REGION, objects, schema_registry, state
from emulators.aws.firehose import Firehose
from emulators.aws.wsgi import Application, Environ, StartResponse, respond
from emulators.browsers import refusal

CHANGES = ("Create", "Register", "Put", "Update", "Delete", "Remove", "Tag", "Untag")
"""Prefixes of the operations that change state."""

LAKE_FORMATION = "AWSLakeFormation"
LAKE_FORMATION_CHANGES = frozenset(
    {
        "/BatchGrantPermissions",
        "/BatchRevokePermissions",
        "/DeregisterResource",
        "/GrantPermissions",
        "/RegisterResource",
        "/RevokePermissions",
    }
)
"""Paths, because this service has no X-Amz-Target."""

DATA_OPERATIONS = ("PutRecord", "PutRecordBatch")
"""Operations of Firehose that do not change a delivery stream."""


@dataclass(frozen=True, slots=True)
class PersistentBackend:
    """A backend of moto whose state is kept in a file; `dump` and `restore` convert the state."""

    backend: Any
    path: Path
    dump: Callable[[Any], dict[str, Any]]
    restore: Callable[[Any, dict[str, Any]], None]

    def load(self) -> None:
        """Restores the state from the file, if the file exists."""
        if self.path.exists():
            self.restore(self.backend, json.loads(self.path.read_text(encoding="utf-8")))

    def save(self) -> None:
        """Writes the state to the file."""
        state.save(self.path, self.dump(self.backend))


class DurableApplication:
    """A WSGI application around moto's: serves the health check and saves after each change."""

    def __init__(self, inner: Application, backends: Mapping[str, PersistentBackend]) -> None:
        """The keys of `backends` are the services' names in X-Amz-Target, or LAKE_FORMATION."""
        self.inner = inner
        self.backends = backends
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == HEALTH:
            return respond(start_response, 200, {"status": "ok"})
        backend = self.backends.get(_changed_service(environ))
        if backend is None:
            return self.inner(environ, start_response)
        with self.lock:
            body = list(self.inner(environ, start_response))
            backend.save()
        return body


class LocalOnly:
    """A WSGI application that refuses requests that a page of another site causes.

    It also refuses moto's own API, whose reset would empty the files of state.
    """

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        problem = refusal(
            environ.get("HTTP_HOST"),
            environ.get("HTTP_ORIGIN"),
            environ.get("HTTP_SEC_FETCH_SITE"),
        )
        if problem is None and environ.get("PATH_INFO", "").startswith("/moto-api"):
            problem = "The emulator does not offer moto's API."
        if problem is not None:
            return respond(start_response, 403, {"__type": "Forbidden", "message": problem})
        return self.inner(environ, start_response)


def _answer_not_offered(error: Exception) -> tuple[dict[str, str], int]:
    """The response to an operation that moto lacks; a 500 would be repeated by clients."""
    message = f"The emulator does not offer this operation: {error}."
    return {"__type": "UnknownOperationException", "message": message}, 400


def _changed_service(environ: Environ) -> str:
    """The service whose state a request changes; empty for other requests."""
    if environ.get("PATH_INFO") in LAKE_FORMATION_CHANGES:
        return LAKE_FORMATION
    service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
    changes = operation.startswith(CHANGES) and operation not in DATA_OPERATIONS
    return service if changes else ""


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m emulators.aws",
        description="Glue, Lake Formation, Firehose and S3 on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--data", type=Path, required=True, help="folder for persistent state")
    arguments = parser.parse_args()
    # Read by moto when it is imported; without the second it lets pages of any origin read.
    os.environ.update(MOTO_ACCOUNT_ID=ACCOUNT, MOTO_DISABLE_GLOBAL_CORS="true")

    from moto.backends import get_backend
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    def create_app(service: Any) -> Any:
        app = create_backend_app(service)
        app.register_error_handler(NotImplementedError, _answer_not_offered)
        return app

    glue = get_backend("glue")[ACCOUNT][REGION]
    schema_registry.extend(glue)
    backends = {
        "AWSGlue": PersistentBackend(
            glue,
            arguments.data / "registry.json",
            state.dump_glue,
            state.restore_glue,
        ),
        LAKE_FORMATION: PersistentBackend(
            get_backend("lakeformation")[ACCOUNT][REGION],
            arguments.data / "lake-formation.json",
            state.dump_lake_formation,
            state.restore_lake_formation,
        ),
        "Firehose_20150804": PersistentBackend(
            get_backend("firehose")[ACCOUNT][REGION],
            arguments.data / "delivery-streams.json",
            state.dump_streams,
            state.restore_streams,
        ),
    }
    for backend in backends.values():
        backend.load()
    objects.persist(get_backend("s3")[ACCOUNT]["aws"], arguments.data / "s3")

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    moto = DomainDispatcherApplication(create_app)
    application = LocalOnly(Firehose(DurableApplication(moto, backends)))
    run_simple(HOST, arguments.port, application, threaded=True, use_reloader=False)


if __name__ == "__main__":
    main()
