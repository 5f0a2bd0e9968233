"""moto's registries, catalogs, grants and delivery streams as JSON in files.

moto keeps everything in memory. These functions convert the state that must outlast a restart from
moto's objects to JSON, and back to new objects at the next start.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any

FORMAT = 1


def dump_glue(backend: Any) -> dict[str, Any]:
    """The registries and the data catalog of moto's Glue backend as JSON.

    Partitions of tables are not included.
    """
    return {
        "format": FORMAT,
        "databases": [
            _fields(
                database,
                tables=[_fields(table, partitions=[]) for table in database.tables.values()],
            )
            for database in backend.databases.values()
        ],
        "registries": [
            _fields(registry, schemas=[_schema(schema) for schema in registry.schemas.values()])
            for registry in backend.registries.values()
        ],
        "tags": backend.tagger.tags,
    }


def restore_glue(backend: Any, state: dict[str, Any]) -> None:
    """Puts what :func:`dump_glue` returned into an empty backend."""
    from moto.glue import models

    _check_format(state)
    # Files written before the catalog was supported have no databases.
    for database_fields in state.get("databases", ()):
        database = _object(models.FakeDatabase, database_fields)
        database.tables = OrderedDict()
        for table_fields in database_fields["tables"]:
            table = _object(models.FakeTable, table_fields)
            table.partitions = OrderedDict()
            database.tables[table.name] = table
        backend.databases[database.name] = database
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


def dump_lake_formation(backend: Any) -> dict[str, Any]:
    """The permissions and registered locations of moto's Lake Formation backend as JSON."""
    return {
        "format": FORMAT,
        "resources": [_fields(resource) for resource in backend.resources.values()],
        "grants": {
            catalog: [_fields(permission) for permission in granted.permissions]
            for catalog, granted in backend.grants.items()
        },
    }


def restore_lake_formation(backend: Any, state: dict[str, Any]) -> None:
    """Puts what :func:`dump_lake_formation` returned into an empty backend."""
    from moto.lakeformation import models

    _check_format(state)
    for fields in state["resources"]:
        resource = _object(models.Resource, fields)
        backend.resources[resource.arn] = resource
    for catalog, permissions in state["grants"].items():
        granted = models.PermissionCatalog()
        granted.permissions = {_object(models.Permission, fields) for fields in permissions}
        backend.grants[catalog] = granted


def dump_streams(backend: Any) -> dict[str, Any]:
    """The delivery streams of moto's Firehose backend as JSON."""
    streams = [_fields(stream) for stream in backend.delivery_streams.values()]
    return {"format": FORMAT, "streams": streams}


def restore_streams(backend: Any, state: dict[str, Any]) -> None:
    """Puts what :func:`dump_streams` returned into an empty backend."""
    from moto.firehose import models

    _check_format(state)
    for fields in state["streams"]:
        stream = _object(models.DeliveryStream, fields)
        backend.delivery_streams[stream.delivery_stream_name] = stream


def _check_format(state: dict[str, Any]) -> None:
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']}, expected {FORMAT}")


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
    """Writes the state atomically: a crash leaves the previous state or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(state, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
