"""The process behind the part `aws`. Run by `tunemesh up`:

    python -m emulators.aws --port 25000 --data .tunemesh/data/aws

Files in the data folder: `registry.json` (Glue: registries, data catalog), `lake-formation.json`,
`delivery-streams.json`, and S3 objects below `s3/`. The ids of schema versions are inside every
record on the topics, and the topics outlast a restart, so a change is in its file before it is
answered.
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

from emulators.aws import ACCOUNT, HEALTH, HOST, REGION, objects, state
from emulators.aws.firehose import Firehose
from emulators.aws.wsgi import Application, Environ, StartResponse, answer

CHANGES = ("Create", "Register", "Put", "Update", "Delete", "Remove", "Tag", "Untag")
"""How the names of the operations begin that change something."""

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
"""Paths: this service has no X-Amz-Target."""

DATA_OPERATIONS = ("PutRecord", "PutRecordBatch")
"""Those of Firehose that change no delivery stream."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A backend of moto whose state is in a file, and how it gets there and back."""

    backend: Any
    path: Path
    dump: Callable[[Any], dict[str, Any]]
    restore: Callable[[Any, dict[str, Any]], None]

    def load(self) -> None:
        """Fills the backend from the file, if there is one."""
        if self.path.exists():
            self.restore(self.backend, json.loads(self.path.read_text(encoding="utf-8")))

    def save(self) -> None:
        """Writes the file."""
        state.save(self.path, self.dump(self.backend))


class Durable:
    """A WSGI application around moto's: answers the health check, saves after each change."""

    def __init__(self, inner: Application, kept: Mapping[str, Kept]) -> None:
        """`kept` is by service, as it is named in X-Amz-Target, or LAKE_FORMATION."""
        self.inner = inner
        self.kept = kept
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == HEALTH:
            return answer(start_response, 200, {"status": "ok"})
        kept = self.kept.get(_changed_service(environ))
        if kept is None:
            return self.inner(environ, start_response)
        with self.lock:
            body = list(self.inner(environ, start_response))
            kept.save()
        return body


def _changed_service(environ: Environ) -> str:
    """The service that a request changes something of; empty when it does not."""
    if environ.get("PATH_INFO") in LAKE_FORMATION_CHANGES:
        return LAKE_FORMATION
    service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
    changes = operation.startswith(CHANGES) and operation not in DATA_OPERATIONS
    return service if changes else ""


def main() -> None:
    """Serves until TERM."""
    parser = argparse.ArgumentParser(prog="python -m emulators.aws")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT  # read by moto when it is imported

    from moto.backends import get_backend
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    kept = {
        "AWSGlue": Kept(
            get_backend("glue")[ACCOUNT][REGION],
            arguments.data / "registry.json",
            state.dump_glue,
            state.restore_glue,
        ),
        LAKE_FORMATION: Kept(
            get_backend("lakeformation")[ACCOUNT][REGION],
            arguments.data / "lake-formation.json",
            state.dump_lake_formation,
            state.restore_lake_formation,
        ),
        "Firehose_20150804": Kept(
            get_backend("firehose")[ACCOUNT][REGION],
            arguments.data / "delivery-streams.json",
            state.dump_streams,
            state.restore_streams,
        ),
    }
    for service in kept.values():
        service.load()
    objects.keep(get_backend("s3")[ACCOUNT]["aws"], arguments.data / "s3")

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    moto = DomainDispatcherApplication(create_backend_app)
    application = Firehose(Durable(moto, kept))
    run_simple(HOST, arguments.port, application, threaded=True, use_reloader=False)


if __name__ == "__main__":
    main()
