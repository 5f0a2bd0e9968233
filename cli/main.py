"""The `tunemesh` command: its sub-commands by name, loaded when they are called.

Loading one sub-command must not load another's libraries: `tunemesh status` answers without
pyflink.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from schemas.errors import TunemeshError

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a sub-command lives (`module:attribute`) and its line in `tunemesh --help`."""

    target: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "demo": Entry("cli.demos.stream:demo", "The whole stream on this machine, with a summary."),
    "bootstrap-demo": Entry(
        "cli.demos.bootstrap:bootstrap_demo", "From empty stores to a trained recommender."
    ),
    "upgrade-demo": Entry(
        "cli.demos.upgrade:upgrade_demo", "Upgrades and a rollback while events flow."
    ),
    "up": Entry("cli.local:up", "Start the platform's parts, side by side."),
    "submit": Entry("cli.submit:submit", "Topics, schemas, and the job on the cluster."),
    "down": Entry("cli.local:down", "Stop the parts; leaves no process."),
    "status": Entry("cli.status:status", "What runs, and how far the jobs have come."),
    "logs": Entry("cli.local:logs", "The log of a part; -f follows it."),
    "jars": Entry("cli.local:jars", "The jars of pom-deps.txt: fetch, list, path."),
    "package": Entry("cli.package:package", "The zip for Managed Flink."),
    "deploy": Entry("cli.deploy:deploy", "Submit, upgrade, roll back applications."),
    "schemas": Entry("cli.schemas:schemas", "Contracts: check, register, diff."),
    "export": Entry("cli.products:export", "Stores to data products on S3."),
    "catalog": Entry("cli.products:catalog", "Data products: register, find, describe, grants."),
    "replay": Entry("cli.verification:replay", "Publish events and keep a ledger of them."),
    "fill": Entry("cli.fill:fill", "Send events to the domains' back ends."),
    "verify": Entry("cli.verification:verify", "Reconcile the ledger with what came out."),
    "bootstrap": Entry(
        "cli.bootstrap:bootstrap", "Personalize from what has been: imports, training, campaign."
    ),
    "dlq": Entry("cli.verification:dlq", "Dead letters: list, show, replay."),
}


class LazyGroup(click.Group):
    """A click group that imports a sub-command's module when the sub-command is asked for."""

    def __init__(self, entries: Mapping[str, Entry], **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # click's own keyword arguments
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table: the way a newcomer meets them."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The sub-command, its module imported now; None for a name that is not in the table."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.target} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of sub-commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])


tunemesh = LazyGroup(
    COMMANDS,
    name="tunemesh",
    help="Real-time recommendations in a data mesh, on this machine.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Runs a click command and returns its exit code; errors meant for people are one message
    each."""
    try:
        code = command.main(args=arguments, prog_name="tunemesh", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TunemeshError as error:
        click.echo(f"tunemesh: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("tunemesh: interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


class CommandError(TunemeshError):
    """A command did not end as whoever gave it had expected."""


def given(*arguments: str, code: int = 0) -> None:
    """Runs a command of this tool and shows it, as if a person had given it.

    Raises CommandError for another exit code.
    """
    click.echo(f"$ tunemesh {' '.join(arguments)}")
    sys.stdout.flush()
    if (found := run(tunemesh, arguments)) != code:
        expected = f", expected was {code}" if code else ""
        raise CommandError(f"tunemesh {' '.join(arguments[:2])} ended with {found}{expected}")


def main() -> None:
    """The entry point of the `tunemesh` script."""
    sys.exit(run(tunemesh))


if __name__ == "__main__":
    main()
