"""The demos: the stream, the bootstrap, upgrades under load."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli.replay import open_directory
from verification.generator import GeneratedHour, Hour


def with_source(
    min_events: int, events: int, *, anomalies: bool
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of a demo's data; the command gets the source."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--replay",
            "directory",
            type=click.Path(file_okay=False, exists=True, path_type=Path),
            help="Use a replay set instead of generated data.",
        )
        @click.option(
            "--events",
            type=click.IntRange(min=min_events),
            default=events,
            help="Number of generated events.",
        )
        @click.option("--seed", type=int, default=1, help="Seed of generated data.")
        @wraps(command)
        def call(directory: Path | None, events: int, seed: int, **arguments: Any) -> Any:
            if directory is not None:
                return command(open_directory(directory), **arguments)
            hour = Hour(events, seed=seed, anomalies=anomalies)
            return command(GeneratedHour(hour), **arguments)

        return call

    return add
