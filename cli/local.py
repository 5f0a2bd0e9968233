"""`tunemesh up`, `down`, `logs` and `jars`: the local platform."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

import click

from cli import terminal
from deploy.local import jars as jar_list
from deploy.local import platform, process
from deploy.local import services as local_services
from deploy.local.settings import LocalSettings, jar_cache
from schemas.errors import TunemeshError
from verification.progress import Step

JAR_SETS = ("flink", "kafka", "opensearch", "dynamodb")
"""The services with jars; the sets have their names."""


class NoLogError(TunemeshError):
    """A service has no log."""

    exit_code = 2


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--fresh", is_flag=True, help="Stop the services first, and delete their data.")
def up(services: tuple[str, ...], fresh: bool) -> None:
    """Start SERVICEs and wait until they answer.

    By default kafka, aws, personalize, opensearch and flink; there are also postgresql, dynamodb
    and services (the domains' back ends). Running services are not restarted.

    \b
    Examples:
      tunemesh up
      tunemesh up kafka aws --fresh
    """
    settings = LocalSettings.from_environment(os.environ)
    chosen = local_services.select(services, local_services.STREAMING)
    if jar_sets := [name for name in JAR_SETS if name in chosen]:
        fetch_jars(jar_sets)
    started = time.monotonic()
    click.echo(f"up: {', '.join(chosen)} in {settings.home}")
    start_services(settings, chosen, fresh=fresh)
    click.echo(f"up after {time.monotonic() - started:.1f} s; stop with: tunemesh down")


def start_services(settings: LocalSettings, services: Sequence[str], *, fresh: bool) -> None:
    """Start services of the local platform and show what is waited for."""
    with terminal.ProgressDisplay() as progress:
        platform.up(
            settings,
            services,
            environ=os.environ,
            fresh=fresh,
            report=click.echo,
            progress=progress,
        )


@click.command()
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
def down(services: tuple[str, ...]) -> None:
    """Stop SERVICEs, by default all. Their data is kept.

    Example: tunemesh down flink
    """
    settings = LocalSettings.from_environment(os.environ)
    stop_services(settings, services)
    running = process.list_running(settings)
    others = f"still running: {', '.join(running)}" if running else "no process is left"
    click.echo(f"down: {others}")


def stop_services(settings: LocalSettings, services: Sequence[str] = ()) -> None:
    """Stop services of the local platform, by default all."""
    with terminal.ProgressDisplay() as progress:
        platform.down(settings, services, report=click.echo, progress=progress)


@click.command()
@click.argument("name", metavar="SERVICE")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=200, help="Number of last lines.")
def logs(name: str, follow: bool, lines: int) -> None:
    """Print the log of SERVICE: kafka, aws, personalize, opensearch, flink-jobmanager, ...

    The log of these commands is named cli.

    Example: tunemesh logs flink-taskmanager-1 -f
    """
    settings = LocalSettings.from_environment(os.environ)
    log = settings.log(name)
    if not log.is_file():
        names = sorted(path.stem for path in log.parent.glob("*.log"))
        raise NoLogError(f"{name!r} has no log. Logs: {', '.join(names) or 'none yet'}.")
    if follow:
        # -F: also after the service was restarted, with a new file.
        subprocess.run(["tail", f"-n{lines}", "-F", log], check=False)
        return
    for line in process.tail(log, lines):
        click.echo(line)


@click.group()
def jars() -> None:
    """The jars of pom-deps.txt, in a cache of this user (TUNEMESH_JAR_CACHE)."""


@jars.command("fetch")
@click.argument("sets", nargs=-1, metavar="[SET]...")
def jars_fetch(sets: tuple[str, ...]) -> None:
    """Download the jars that the cache lacks, and verify their sha256.

    Example: tunemesh jars fetch flink kafka
    """
    fetch_jars(sets)


@jars.command("list")
def jars_list() -> None:
    """List every jar, its set, and whether it is in the cache."""
    cache = jar_cache(os.environ)
    rows = [
        (jar.jar_set, "cached" if (cache / jar.path).is_file() else "absent", jar.coordinates)
        for jar in jar_list.load()
    ]
    terminal.show(terminal.table(("set", "state", "jar"), rows))


@jars.command("path")
@click.argument("jar_set", metavar="SET")
def jars_path(jar_set: str) -> None:
    """Print a set as a Java class path.

    Example: java -cp "$(tunemesh jars path kafka)" kafka.Kafka --version
    """
    click.echo(jar_list.class_path(jar_set, jar_cache(os.environ)))


def fetch_jars(sets: Sequence[str] = ()) -> None:
    """Download the missing and changed jars of the sets, by default of all but tests' sets."""
    cache = jar_cache(os.environ)
    wanted = jar_list.select_sets(jar_list.load(), sets)
    absent = jar_list.list_absent(wanted, cache)
    if not absent:
        click.echo(f"jars: all {len(wanted)} in {cache}")
        return
    started = time.monotonic()
    received = 0
    with terminal.ProgressDisplay() as progress:

        def show(count: int) -> None:
            nonlocal received
            received += count
            done = len(absent) - len(jar_list.list_missing(absent, cache))
            progress(Step("jars", done, len(absent), f"{received / 1e6:.1f} MB"))

        jar_list.fetch(absent, cache, jar_list.repository_url(os.environ), show)
    click.echo(
        f"jars: {len(absent)} of {len(wanted)} fetched to {cache} and verified,"
        f" {received / 1e6:.1f} MB in {time.monotonic() - started:.1f} s"
    )
