"""Starts an application: settings -> tables and functions -> the compiled plans of its pipelines.

on Managed Flink         the service runs this file's ``main`` (property groups from the service)
on a standalone cluster  flink run --python jobs/main.py --properties FILE
in this process          IS_LOCAL=true python -m jobs.main     (./application_properties.json)
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.flink.properties import ProcessSettings, properties_file, read_groups
from connectors.glue.registry import GlueRegistry, NotRegistered
from jobs.settings import ApplicationSettings, RegistrySettings, application_settings
from schemas.errors import TunemeshError
from schemas.model import Contracts, Role, contract_folders, load_contracts
from schemas.settings import ENVIRONMENT, read

WRITTEN_ROLES = (Role.ENRICHED, Role.DEAD_LETTER, Role.DELETION, Role.TREND)
"""Roles of the topics that the application writes; it starts only if these are registered."""


def start(
    settings: ApplicationSettings, *, in_process: bool, pipe: Path | None = None, warm: bool = False
) -> Any:
    """Submit the application; returns Flink's TableResult.

    ``pipe``: a gate to wait at (:mod:`jobs.submission.gate`) before the submission itself;
    ``warm``: warm up fresh TaskManagers before that (:mod:`jobs.submission.warm_up`).
    """
    # Late, so that an invalid setting is reported before Flink starts a Java process.
    from connectors.kafka.librdkafka import KafkaOffsets
    from connectors.opensearch import set_up_opensearch
    from jobs import analytics, enrichment, recommendations
    from jobs.delivery_functions import opensearch_settings
    from jobs.environment import THREAD, execution_mode, make_tables, register_sink
    from jobs.freshness.watch import dimension_topics, reset_committed_offsets
    from jobs.functions import connect_registry
    from jobs.submission import gate, plan
    from jobs.submission.timestamps import check_timestamps
    from jobs.submission.warm_up import warm_up

    settings = replace(settings, execution_mode=execution_mode(settings))
    contracts, extra = load_contracts(), contract_folders()[1:]
    registry = connect_registry(
        settings.registry, contracts, wait_seconds=settings.registry.wait_seconds
    )
    settings = replace(
        settings, registry=registered_versions(contracts, settings.registry, registry)
    )
    kafka = KafkaOffsets(settings.kafka.bootstrap_servers, settings.kafka.python_client)
    if enrichment.NAME in settings.pipelines and settings.enrichment.check_timestamps:
        topics = [contract.topic for contract in contracts.sources]
        check_timestamps(kafka, topics, settings.kafka.bootstrap_servers)
    if settings.analytics is not None:
        set_up_opensearch(opensearch_settings(settings.analytics, Role.TREND))
    tables = make_tables(settings, in_process=in_process)
    register_sink(tables, contracts, settings, "dead_letters", Role.DEAD_LETTER)
    for pipeline in (enrichment, recommendations, analytics):
        if pipeline.NAME in settings.pipelines:
            pipeline.register(tables, contracts, extra, settings)
    compiled = plan.read_plan(settings.pipelines)
    if pipe is not None:
        plan.rehearse(tables, compiled)
        if settings.execution_mode == THREAD and warm:
            warm_up(tables)
        for key, value in gate.wait(pipe).configuration().items():
            tables.get_config().set(key, value)
    # After the gate: until then the previous deployment reads the same topics.
    if enrichment.NAME in settings.pipelines and not settings.enrichment.restored:
        reset_committed_offsets(kafka, dimension_topics(contracts), settings.group(enrichment.NAME))
    return plan.execute(tables, compiled)


def registered_versions(
    contracts: Contracts, settings: RegistrySettings, registry: GlueRegistry
) -> RegistrySettings:
    """The settings with every version of the contracts that is registered.

    With them the functions read records of a version that is deleted later. Raises RegistryError
    when a contract that the application writes is not registered: without its id it would be a job
    that restarts indefinitely. That of a domain may be missing, which publishes nothing yet.
    """
    written = [contracts.only(role) for role in WRITTEN_ROLES]
    versions = dict.fromkeys(settings.versions)
    for contract in contracts:
        for version in contract.versions:
            try:
                version_id = registry.version_id(contract, version.number)
            except NotRegistered:
                if contract in written and version is contract.newest:
                    raise
                continue
            versions[version_id, contract.name, version.number] = None
    return replace(settings, versions=tuple(versions))


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the application; if it runs in this process, wait until it ends."""
    parser = argparse.ArgumentParser(prog="jobs.main", description=__doc__.splitlines()[0])
    parser.add_argument("--properties", help="property file, as Managed Flink writes it")
    parser.add_argument("--gate", type=Path, help="named pipe to wait at before the submission")
    parser.add_argument("--warm", action="store_true", help="make fresh TaskManagers ready first")
    options, _ = parser.parse_known_args(arguments)
    try:
        in_process = read(ProcessSettings, {ENVIRONMENT: os.environ}).in_process
        file = properties_file(options.properties, in_process=in_process)
        settings = application_settings(read_groups(file))
        result = start(settings, in_process=in_process, pipe=options.gate, warm=options.warm)
    except TunemeshError as error:
        print(f"tunemesh: {error}", file=sys.stderr)
        return error.exit_code
    if in_process:
        result.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
