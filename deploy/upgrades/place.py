"""Where an operator's options lead: a target, and the machine that upgrades what runs on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from deploy.local import flink_cluster
from deploy.local.settings import LocalSettings
from deploy.upgrades.machine import Machine
from deploy.upgrades.target import Target
from deploy.upgrades.verification import VerifySettings

AWS_VERIFY = VerifySettings(least_seconds=300, most_seconds=1_200, poll_seconds=15, checkpoints=2)
"""Checkpoints are a minute apart there, and CloudWatch is minutes late."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the options mean."""

    settings: LocalSettings
    target: Target
    machine: Machine

    @property
    def local(self) -> bool:
        """Whether it is the laptop's cluster."""
        return self.target.kind == "local"


_OPTIONS = (
    click.option(
        "--target",
        "kind",
        type=click.Choice(["local", "aws"]),
        default="local",
        show_default=True,
        help="The laptop's cluster, or Managed Service for Apache Flink.",
    ),
    click.option("--application", default="tunemesh", show_default=True, help="Its name."),
    click.option("--region", help="aws: the region."),
    click.option("--bucket", help="aws: the S3 bucket for the code."),
    click.option("--prefix", default="tunemesh/", show_default=True, help="aws: of its keys."),
    click.option("--role", help="aws: ARN of the role that a new application takes on."),
)

CHANGES = (
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="GROUP:NAME=VALUE",
        help="A property.",
    ),
    click.option("--parallelism", type=click.IntRange(1, 256), help="In task slots."),
)


def with_options(options: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def placed_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that gets a Place instead of the options that mean it."""

    @wraps(command)
    def placed(
        kind: str,
        application: str,
        region: str | None,
        bucket: str | None,
        prefix: str,
        role: str | None,
        **arguments: Any,
    ) -> None:
        settings = LocalSettings.from_environment(os.environ)
        releases = settings.home / "releases"
        target: Target
        journals = settings.home / "upgrades"
        if kind == "local":
            from deploy.upgrades.local_cluster import LocalCluster

            target = LocalCluster(application, settings, os.environ, click.echo)
            journals = settings.data(flink_cluster.PART) / "upgrades"
        else:
            from deploy.upgrades.managed_flink import ManagedFlink, ManagedFlinkSettings

            region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            if region is None or bucket is None:
                raise click.UsageError("--target aws needs --region and --bucket")
            where = ManagedFlinkSettings(region, bucket, prefix, role)
            target = ManagedFlink.connect(application, where, releases)
        machine = Machine(
            target,
            journals / f"{kind}-{application}.json",
            verify=VerifySettings() if kind == "local" else AWS_VERIFY,
            report=click.echo,
        )
        command(Place(settings, target, machine), **arguments)

    found: Callable[..., Any] = with_options(_OPTIONS)(placed)
    return found
