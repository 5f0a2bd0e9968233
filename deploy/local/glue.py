"""The Glue Schema Registry on the laptop: moto's server, made durable.

moto keeps its registry in memory, but the ids of schema versions are inside every record on the
topics, and the topics outlast a restart. So this process writes the registry to a file after each
change, before the change is answered, and reads it at the start. Run by `tunemesh up`:

    python -m deploy.local.glue --port 25000 --data .tunemesh/data/glue
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from deploy.local.process import Launch, Server, answers
from deploy.local.settings import ACCOUNT, HOST, PROJECT, REGION, LocalSettings

PART = "glue"
HEALTH = "/_local/health"
FORMAT = 1

CHANGES = ("Create", "Register", "Put", "Update", "Delete", "Remove", "Tag", "Untag")
"""How the names of the Glue operations begin that change something."""

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def server(settings: LocalSettings) -> Server:
    """The registry."""
    return Server(
        name=PART,
        part=PART,
        ports=(settings.glue,),
        address=settings.glue.url,
        prepare=lambda: Launch(
            (
                sys.executable,
                "-m",
                "deploy.local.glue",
                "--port",
                str(settings.glue.number),
                "--data",
                str(settings.data(PART)),
            ),
            {"PYTHONPATH": str(PROJECT)},
        ),
        healthy=lambda: answers(settings.glue.url + HEALTH),
    )


def dump(backend: Any) -> dict[str, Any]:
    """The registries of moto's Glue backend as JSON."""
    return {
        "format": FORMAT,
        "registries": [
            _fields(registry, schemas=[_schema(schema) for schema in registry.schemas.values()])
            for registry in backend.registries.values()
        ],
        "tags": backend.tagger.tags,
    }


def restore(backend: Any, state: dict[str, Any]) -> None:
    """Puts what :func:`dump` returned into an empty backend."""
    from moto.glue import models

    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']}, expected {FORMAT}")
    for registry_fields in state["registries"]:
        registry = _object(models.FakeRegistry, registry_fields)
        registry.schemas = OrderedDict()
        for schema_fields in registry_fields["schemas"]:
            schema = _object(models.FakeSchema, schema_fields)
            schema.schema_versions = OrderedDict()
            for version_fields in schema_fields["schema_versions"]:
                version = _object(models.FakeSchemaVersion, version_fields)
                schema.schema_versions[version.schema_version_id] = version
            registry.schemas[schema.schema_name] = schema
        backend.registries[registry.name] = registry
    backend.tagger.tags.update(state["tags"])


def _schema(schema: Any) -> dict[str, Any]:
    return _fields(
        schema, schema_versions=[_fields(version) for version in schema.schema_versions.values()]
    )


def _fields(thing: Any, **nested: list[dict[str, Any]]) -> dict[str, Any]:
    fields = {
        name: {"datetime": value.isoformat()} if isinstance(value, datetime) else value
        for name, value in vars(thing).items()
    }
    return fields | nested


def _object(kind: type[Any], fields: dict[str, Any]) -> Any:
    thing: Any = object.__new__(kind)
    for name, value in fields.items():
        is_time = isinstance(value, dict) and value.keys() == {"datetime"}
        setattr(thing, name, datetime.fromisoformat(value["datetime"]) if is_time else value)
    return thing


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes the state so that a crash at any moment leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(state, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class Durable:
    """A WSGI application around moto's: answers the health check, saves after each change."""

    def __init__(self, inner: Application, backend: Any, path: Path) -> None:
        self.inner = inner
        self.backend = backend
        self.path = path
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == HEALTH:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"status": "ok"}']
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if service != "AWSGlue" or not operation.startswith(CHANGES):
            return self.inner(environ, start_response)
        with self.lock:
            body = list(self.inner(environ, start_response))
            save(self.path, dump(self.backend))
        return body


def main() -> None:
    """Serves until TERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.glue")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT  # read by moto when it is imported

    from moto.backends import get_backend
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    backend = get_backend("glue")[ACCOUNT][REGION]
    path = arguments.data / "registry.json"
    if path.exists():
        restore(backend, json.loads(path.read_text(encoding="utf-8")))

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    application = Durable(DomainDispatcherApplication(create_backend_app), backend, path)
    run_simple(HOST, arguments.port, application, threaded=True, use_reloader=False)


if __name__ == "__main__":
    main()
