"""Starts the Personalize emulator: `python -m emulators.personalize --port N --data DIR`.

Exit codes: 0 after SIGTERM or SIGINT, 2 for an invalid argument, a port in use or a data folder in
use; one line on stderr then says what to do.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import fcntl
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from aiohttp import web

from emulators.faults import InvalidPlan, Plan, read_plan
from emulators.personalize.control.operations import ControlPlane
from emulators.personalize.control.source import Source
from emulators.personalize.control.state import STEP_SECONDS, ControlSettings, State
from emulators.personalize.control.training import MAX_INTERACTIONS
from emulators.personalize.control.work import Work
from emulators.personalize.quota import DEFAULT_RATES, Quotas, parse_quota
from emulators.personalize.routes import create_application
from emulators.personalize.rules import Resources
from emulators.personalize.server import Service, load_operations
from emulators.personalize.signature import AccessRules
from emulators.personalize.store import MAX_EVENTS

HOST = "127.0.0.1"
DEFAULT_PORT = 28500
SHUTDOWN_SECONDS = 10.0


class _StartError(Exception):
    """The emulator cannot start; the message says what to change."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(options))
    except _StartError as error:
        print(f"Personalize emulator: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Resources()
    parser = argparse.ArgumentParser(
        prog="python -m emulators.personalize",
        description="Amazon Personalize on 127.0.0.1.",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="default %(default)s")
    parser.add_argument("--data", type=Path, required=True, help="folder for the stored data")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="fault plan (JSON)")
    for option, metavar, text in (
        ("--quota", "NAME=RATE", "calls per second, such as put_events=1000; 'off' for no quota"),
        (
            "--credentials",
            "KEY:SECRET",
            "an access key that may call (no other key may); signatures are verified",
        ),
        ("--denied-key", "KEY", "an access key that receives AccessDeniedException"),
        ("--unknown-key", "KEY", "an access key that receives UnrecognizedClientException"),
    ):
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument("--region", default=defaults.region, help="default %(default)s")
    parser.add_argument("--account", default=defaults.account, help="default %(default)s")
    parser.add_argument(
        "--name",
        default=defaults.name,
        help="name of the dataset group and the campaign, default %(default)s",
    )
    parser.add_argument(
        "--s3-endpoint", metavar="URL", help="endpoint of the S3 for imports; default: no imports"
    )
    parser.add_argument(
        "--step-seconds",
        type=float,
        default=STEP_SECONDS,
        metavar="S",
        help="minimum seconds of CREATE PENDING and CREATE IN_PROGRESS, default %(default)s",
    )
    parser.add_argument(
        "--training-interactions",
        type=int,
        default=MAX_INTERACTIONS,
        metavar="N",
        help="train a model on the newest N, default %(default)s",
    )
    parser.add_argument(
        "--max-events",
        type=int,
        default=MAX_EVENTS,
        metavar="N",
        help="store the newest N events of a dataset group, default %(default)s",
    )
    parser.add_argument("--tracking-id", default=defaults.tracking_id, help="default %(default)s")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    operations = load_operations()
    quotas = Quotas(_parse_rates(options.quota))
    plan = _read_plan(options.faults, [operation.name for operation in operations])
    access = AccessRules(
        secrets=_parse_credentials(options.credentials),
        unknown=frozenset(options.unknown_key),
        denied=frozenset(options.denied_key),
    )
    resources = Resources(
        region=options.region,
        account=options.account,
        name=options.name,
        tracking_id=options.tracking_id,
    )
    # Bound first, so that a port in use is reported before anything is opened. Listening starts
    # when the data is loaded: until then connections are refused instead of hanging.
    bound = _bind(options.port)
    lock = _lock_folder(options.data)
    try:
        try:
            state = State(
                options.data,
                resources,
                Source(options.s3_endpoint, options.region),
                ControlSettings(
                    options.step_seconds, options.training_interactions, options.max_events
                ),
            )
        except sqlite3.Error as error:
            raise _StartError(
                f"cannot use {options.data}: {error}. Choose another --data."
            ) from error
        work = Work(state)
        service = Service(
            operations=operations,
            control=ControlPlane(state, work),
            quotas=quotas,
            plan=plan,
            access=access,
        )
        work.deploy_all(
            lambda done: print(f"Personalize emulator: {done} stored events loaded", flush=True)
        )
        work.resume()
        runner = web.AppRunner(
            create_application(service), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
        await runner.setup()
        site = web.SockSite(runner, bound, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise _bind_error(error, options.port) from error
        port = bound.getsockname()[1]
        print(
            f"Personalize emulator: ready on http://{HOST}:{port}, data in {options.data}",
            flush=True,
        )
        await _wait_for_signal()
        service.release_held_calls()
        await runner.cleanup()
        await service.close()
    finally:
        lock.close()
        bound.close()


async def _wait_for_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise _bind_error(error, port) from error
    return bound


def _bind_error(error: Exception, port: int) -> _StartError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return _StartError(
            f"port {port} on {HOST} is in use. Stop what uses it, or choose another with --port "
            "(tunemesh: TUNEMESH_PERSONALIZE_PORT)."
        )
    return _StartError(
        f"port {port} on {HOST} cannot be used: {error}. Choose another with --port."
    )


def _lock_folder(folder: Path) -> IO[str]:
    """Lock `folder` for this process; the system releases the lock when the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise _StartError(f"cannot use the folder {folder}: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise _StartError(
            f"another Personalize emulator uses the folder {folder}. "
            "Stop it, or choose another --data."
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _parse_rates(quotas: Sequence[str]) -> dict[str, float | None]:
    rates: dict[str, float | None] = dict(DEFAULT_RATES)
    for text in quotas:
        try:
            operation, rate = parse_quota(text)
        except ValueError as error:
            raise _StartError(f"--quota {error}.") from error
        rates[operation] = rate
    return rates


def _read_plan(path: Path | None, operations: Sequence[str]) -> Plan:
    if path is None:
        return Plan()
    try:
        return read_plan(path.read_bytes(), operations)
    except OSError as error:
        raise _StartError(f"--faults: cannot read {path}: {error.strerror}.") from error
    except InvalidPlan as error:
        raise _StartError(f"--faults {path}: {error}.") from error


def _parse_credentials(credentials: Sequence[str]) -> dict[str, str]:
    secrets = {}
    for text in credentials:
        key, separator, secret = text.partition(":")
        if not key or not separator or not secret:
            raise _StartError("--credentials must be KEY:SECRET.")
        secrets[key] = secret
    return secrets


if __name__ == "__main__":
    sys.exit(main())
