"""The options of `tunemesh deploy`: the deployment that they select, and the changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cli.connections import require_aws
from cli.parameters import APPLICATION_NAME
from connectors.flink.properties import RUN_OPTIONS, Groups, read_groups
from deploy.local import flink_cluster
from deploy.local.settings import LocalSettings
from deploy.package.contents import RUN_FILES
from deploy.upgrades.machine import UpgradeMachine
from deploy.upgrades.planning import DeploymentContext, merge_properties
from deploy.upgrades.target import Target
from deploy.upgrades.verification import VerifySettings
from jobs.settings import PIPELINES

AWS_VERIFY = VerifySettings(min_seconds=300, max_seconds=1_200, poll_seconds=15, min_checkpoints=2)
"""Checkpoints are a minute apart on AWS, and CloudWatch's metrics are minutes late."""

_DEPLOYMENT = (
    click.option(
        "--target",
        "kind",
        type=click.Choice(["local", "aws"]),
        default="local",
        help="The local cluster, or Managed Service for Apache Flink.",
    ),
    click.option(
        "--application",
        type=APPLICATION_NAME,
        default="tunemesh",
        help="The application's name.",
    ),
    click.option("--region", help="aws: the region."),
    click.option("--bucket", help="aws: the S3 bucket for releases."),
    click.option(
        "--prefix",
        default="tunemesh/",
        help="aws: prefix of releases.",
    ),
    click.option("--role", help="aws: ARN of the role that a new application assumes."),
)

CHANGES = (
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="GROUP:NAME=VALUE",
        callback=lambda context, option, texts: parse_assignments(texts),
        help="Set a property.",
    ),
    click.option("--parallelism", type=click.IntRange(1, 256), help="Number of task slots."),
)


def with_options(options: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    """Return a decorator that adds options to a command."""

    def add_options(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add_options


def with_deployment(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select a deployment; the command gets its DeploymentContext."""

    @wraps(command)
    def call(
        kind: str,
        application: str,
        region: str | None,
        bucket: str | None,
        prefix: str,
        role: str | None,
        **arguments: Any,
    ) -> None:
        settings = LocalSettings.from_environment(os.environ)
        target: Target
        journals = settings.home / "upgrades"
        if kind == "local":
            from deploy.upgrades.local_cluster import LocalCluster

            target = LocalCluster(application, settings, os.environ, click.echo)
            journals = settings.data(flink_cluster.NAME) / "upgrades"
        else:
            from deploy.upgrades.managed_flink import ManagedFlink, ManagedFlinkSettings

            region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            if region is None or bucket is None:
                raise click.UsageError("--target aws needs --region and --bucket")
            require_aws("Managed Flink", "kinesisanalyticsv2", region)
            service = ManagedFlinkSettings(region, bucket, prefix, role)
            target = ManagedFlink.connect(application, service, settings.home / "releases")
        machine = UpgradeMachine(
            target,
            journals / f"{kind}-{application}.json",
            verify=VerifySettings() if kind == "local" else AWS_VERIFY,
            report=click.echo,
        )
        command(DeploymentContext(settings, target, machine), **arguments)

    decorated: Callable[..., Any] = with_options(_DEPLOYMENT)(call)
    return decorated


def new_properties(
    context: DeploymentContext,
    pipelines: tuple[str, ...],
    file: Path | None,
    overrides: Mapping[str, Mapping[str, str]],
) -> Groups:
    """Return the properties of a new application; raises click.UsageError without a file on AWS."""
    if file is not None:
        groups = read_groups(file)
    elif context.is_local:
        from deploy.local import application

        groups = application.property_groups(context.settings, pipelines)
    else:
        raise click.UsageError("a new application on aws needs --properties FILE")
    if not context.is_local:
        groups = {**groups, RUN_OPTIONS: RUN_FILES}
    return merge_properties(groups, overrides)


def parse_pipelines(text: str) -> tuple[str, ...]:
    """Return the pipelines that --pipelines names; raises UsageError for an unknown one."""
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(PIPELINES) or len(set(names)) < len(names):
        expected = f"one or more of {', '.join(PIPELINES)}, separated by commas, each once"
        raise click.UsageError(f"--pipelines {text}: expected {expected}")
    return names


def parse_assignments(assignments: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the property groups of `GROUP:NAME=VALUE` texts; raises click.UsageError."""
    groups: dict[str, dict[str, str]] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        group, colon, prop = name.partition(":")
        if not (equals and colon and group and prop):
            raise click.UsageError(f"--set {text}: expected GROUP:NAME=VALUE")
        groups.setdefault(group, {})[prop] = value
    return groups
