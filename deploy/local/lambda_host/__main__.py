"""The process of the service `services`, started by `tunemesh up services`:

    python -m deploy.local.lambda_host

It waits for the services that the back ends need, creates missing topics, schemas and tables, and
then answers. Its only state is checkpoints.json in its data folder: how far the streams of DynamoDB
have been published.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from connectors.stores.dynamodb import table_name
from deploy.local import dynamodb, kafka, postgresql, process, services
from deploy.local.application import connect_registry, topic_spec
from deploy.local.lambda_host.event_source import Checkpoints, StreamMapping
from deploy.local.lambda_host.gateway import application
from deploy.local.python_servers import AWS, BACK_ENDS
from deploy.local.settings import HOST, REGISTRY, LocalSettings, aws_environment
from schemas.model import Contracts, Role, load_contracts
from services import item_store, item_stream, outbox, user_store
from services.settings import ServiceSettings

DRAIN_SECONDS = 10.0
"""How long the publishers may take to finish their current work."""

log = logging.getLogger("deploy.local.lambda_host")


def handler_environment(settings: LocalSettings) -> dict[str, str]:
    """Return the handlers' environment variables on this platform."""
    return {
        **aws_environment(settings),
        "TUNEMESH_BOOTSTRAP_SERVERS": settings.kafka.address,
        "TUNEMESH_REGISTRY": REGISTRY,
        "TUNEMESH_DATABASE": postgresql.connection_string(settings),
        # There is no authoriser in front of these handlers, and only programs of this machine call.
        "TUNEMESH_AUTHORIZATION": "off",
    }


def set_up(settings: LocalSettings, contracts: Contracts) -> None:
    """Create missing topics, schemas and tables of the domains."""
    written = [*contracts.sources, contracts.only(Role.DEAD_LETTER)]
    kafka.create_topics(settings.kafka.address, [topic_spec(contract) for contract in written])
    schemas = connect_registry(settings)
    for contract in written:
        schemas.register(contract)
    user_store.create_tables(postgresql.connection_string(settings), contracts.only(Role.USER))
    tables = dynamodb.create_client(settings, "dynamodb")
    for contract in contracts.with_role(Role.ITEM):
        item_store.create_table(tables, contract)


def publishers(
    settings: LocalSettings, contracts: Contracts, stop: threading.Event
) -> list[Callable[[], None]]:
    """Return the publishers' functions, each of which runs until ``stop`` is set."""
    service = ServiceSettings.from_environment()
    checkpoints = Checkpoints(settings.data(BACK_ENDS) / "checkpoints.json")

    def invoke(event: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
        return item_stream.handler(event, None)

    runs: list[Callable[[], None]] = [
        outbox.OutboxPublisher(service.required_database, service.publisher(), contracts, stop).run
    ]
    for contract in contracts.with_role(Role.ITEM):
        streams = dynamodb.create_client(settings, "dynamodbstreams")
        runs.append(StreamMapping(streams, table_name(contract), invoke, checkpoints, stop).run)
    return runs


def _wait_for_services(settings: LocalSettings) -> None:
    """Wait until the services that the back ends need answer, and log which do not yet."""
    needed = (kafka.NAME, AWS, postgresql.NAME, dynamodb.NAME)
    waiting = list(services.servers(settings, needed, os.environ))
    logged: list[str] = []
    while waiting := [server for server in waiting if not server.is_healthy()]:
        names = [server.name for server in waiting]
        if names != logged:
            logged = names
            log.info("waiting for %s", ", ".join(names))
        time.sleep(process.POLL_SECONDS)


def _run_or_exit(run: Callable[[], None]) -> None:
    """Run a publisher; if it fails, end the process, which `status` shows."""
    try:
        run()
    except BaseException:
        log.exception("a publisher has failed")
        os._exit(1)


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)-5s %(name)s - %(message)s",
    )
    settings = LocalSettings.from_environment(os.environ)
    os.environ.update(handler_environment(settings))
    contracts = load_contracts()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    _wait_for_services(settings)
    set_up(settings, contracts)
    stop = threading.Event()
    threads = [
        threading.Thread(target=_run_or_exit, args=(run,), name=f"publisher-{number}", daemon=True)
        for number, run in enumerate(publishers(settings, contracts, stop))
    ]
    for thread in threads:
        thread.start()
    from aiohttp import web

    web.run_app(
        application(contracts),
        host=HOST,
        port=settings.services.number,
        access_log=None,
        print=None,
    )
    stop.set()
    for thread in threads:
        thread.join(DRAIN_SECONDS)


if __name__ == "__main__":
    main()
