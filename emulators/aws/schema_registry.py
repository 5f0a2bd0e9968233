"""The Glue Schema Registry's operations that moto lacks or answers otherwise than the service.

- GetSchemaByDefinition: the service compares canonical forms, moto texts. A serializer sends the
  schema as its library prints it, so it never finds one that was registered as a file. How the
  service makes the form is not documented: here the same text comes first, then the same JSON,
  then Avro's parsing canonical form. A schema without such a version is answered with the
  service's message, on which clients decide whether to create a schema or a version.
- CreateSchema and RegisterSchemaVersion: a definition that is not Avro is refused.
- ListSchemas, ListSchemaVersions, QuerySchemaVersionMetadata, CheckSchemaVersionValidity: added.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastavro.schema import parse_schema, to_parsing_canonical_form

DEFAULT_PAGE_SIZE = 100
_FORMS: tuple[Callable[[str], Any], ...] = (
    lambda definition: definition,
    json.loads,
    lambda definition: to_parsing_canonical_form(json.loads(definition)),
)
"""Of an Avro definition, the strictest first."""


def extend(backend: Any) -> None:
    """Give moto's Glue backend and its operations the service's behaviour."""
    from moto.glue.responses import GlueResponse

    backend.get_schema_by_definition = functools.partial(_get_by_definition, backend)
    backend.create_schema = _with_valid_schema(backend.create_schema)
    backend.register_schema_version = _with_valid_version(backend, backend.register_schema_version)
    operations: Mapping[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
        "list_schemas": _list_schemas,
        "list_schema_versions": _list_versions,
        "query_schema_version_metadata": _query_metadata,
        "check_schema_version_validity": _check_validity,
    }
    for name, operation in operations.items():
        setattr(GlueResponse, name, _response_method(operation))


def avro_problem(definition: str) -> str | None:
    """Why a text is no Avro schema; None if it is one."""
    try:
        parse_schema(json.loads(definition))
    except Exception as error:  # noqa: BLE001 - fastavro raises errors of many types
        return str(error) or type(error).__name__
    return None


def _response_method(
    operation: Callable[[Any, dict[str, Any]], dict[str, Any]],
) -> Callable[[Any], Any]:
    from moto.core.responses import ActionResult

    # moto finds an operation among the functions of the class.
    def respond(response: Any) -> Any:
        return ActionResult(operation(response.glue_backend, response.parameters))

    return respond


def _with_valid_schema(create_schema: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create_schema)
    def create(
        registry_id: Any,
        name: str,
        data_format: str,
        compatibility: str,
        definition: str,
        *rest: Any,
    ) -> Any:
        _check_definition(data_format, definition)
        return create_schema(registry_id, name, data_format, compatibility, definition, *rest)

    return create


def _with_valid_version(backend: Any, register: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(register)
    def register_version(schema_id: dict[str, str], definition: str) -> Any:
        _check_definition(_schema(backend, schema_id).data_format, definition)
        return register(schema_id, definition)

    return register_version


def _check_definition(data_format: str, definition: str) -> None:
    from moto.glue.exceptions import InvalidSchemaDefinitionException

    problem = avro_problem(definition) if data_format == "AVRO" else None
    if problem is not None:
        raise InvalidSchemaDefinitionException(data_format, ValueError(problem))


def _schema(backend: Any, schema_id: dict[str, str]) -> Any:
    from moto.glue.glue_schema_registry_utils import validate_schema_id

    registry, name, _ = validate_schema_id(schema_id, backend.registries)
    return backend.registries[registry].schemas[name]


def _get_by_definition(
    backend: Any, schema_id: dict[str, str], schema_definition: str
) -> dict[str, Any]:
    from moto.glue.exceptions import EntityNotFoundException

    schema = _schema(backend, schema_id)
    _check_definition(schema.data_format, schema_definition)
    forms = _FORMS if schema.data_format == "AVRO" else _FORMS[:1]
    for form in forms:
        wanted = form(schema_definition)
        for version in schema.schema_versions.values():
            if form(version.schema_definition) == wanted:
                answer: dict[str, Any] = version.get_schema_by_definition_as_dict()
                return {**answer, "DataFormat": schema.data_format}
    raise EntityNotFoundException(
        f"Schema version is not found. RegistryName: {schema.registry_name}, "
        f"SchemaName: {schema.schema_name}"
    )


def _list_schemas(backend: Any, payload: dict[str, Any]) -> dict[str, Any]:
    from moto.glue.glue_schema_registry_utils import validate_registry_id

    registries = list(backend.registries.values())
    if payload.get("RegistryId"):
        name = validate_registry_id(payload["RegistryId"], backend.registries)
        registries = [registry for registry in registries if registry.name == name]
    entries = [
        {
            "RegistryName": schema.registry_name,
            "SchemaName": schema.schema_name,
            "SchemaArn": schema.schema_arn,
            "Description": schema.description,
            "SchemaStatus": schema.schema_status,
            "CreatedTime": str(schema.created_time),
            "UpdatedTime": str(schema.updated_time),
        }
        for registry in registries
        for schema in registry.schemas.values()
    ]
    return _page(payload, entries)


def _list_versions(backend: Any, payload: dict[str, Any]) -> dict[str, Any]:
    schema = _schema(backend, payload["SchemaId"])
    entries = [
        {
            "SchemaArn": version.schema_arn,
            "SchemaVersionId": version.schema_version_id,
            "VersionNumber": version.version_number,
            "Status": version.schema_version_status,
            "CreatedTime": str(version.created_time),
        }
        for version in schema.schema_versions.values()
    ]
    return _page(payload, entries)


def _page(payload: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    from moto.glue.exceptions import GSRInvalidInputException

    token = payload.get("NextToken") or "0"
    if not token.isascii() or not token.isdigit():
        raise GSRInvalidInputException("The NextToken is invalid.")
    first = int(token)
    last = first + int(payload.get("MaxResults") or DEFAULT_PAGE_SIZE)
    page: dict[str, Any] = {"Schemas": entries[first:last]}
    if last < len(entries):
        page["NextToken"] = str(last)
    return page


def _query_metadata(backend: Any, payload: dict[str, Any]) -> dict[str, Any]:
    found = backend.get_schema_version(
        payload.get("SchemaId"),
        payload.get("SchemaVersionId"),
        payload.get("SchemaVersionNumber"),
    )
    _, registry, name = found["SchemaArn"].rsplit(":", 1)[1].split("/", 2)
    schema = backend.registries[registry].schemas[name]
    version = schema.schema_versions[found["SchemaVersionId"]]
    wanted = [
        (entry.get("MetadataKey"), entry.get("MetadataValue"))
        for entry in payload.get("MetadataList") or ()
    ]
    created = str(version.created_time)
    entries = {}
    for key, values in version.metadata.items():
        if wanted and not any(
            key == wanted_key and value in (None, *values) for wanted_key, value in wanted
        ):
            continue
        first, *others = [{"MetadataValue": value, "CreatedTime": created} for value in values]
        entries[key] = {**first, "OtherMetadataValueList": others} if others else first
    return {"SchemaVersionId": version.schema_version_id, "MetadataInfoMap": entries}


def _check_validity(backend: Any, payload: dict[str, Any]) -> dict[str, Any]:
    data_format = payload["DataFormat"]
    problem = avro_problem(payload["SchemaDefinition"]) if data_format == "AVRO" else None
    return {"Valid": True} if problem is None else {"Valid": False, "Error": problem}
