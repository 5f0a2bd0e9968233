"""The `tunemesh` command: its sub-commands by name, imported when they are called.

One sub-command does not import another's libraries: `tunemesh status` starts without pyflink.
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path

import click

from connectors.files import PRIVATE_UMASK
from schemas.errors import TunemeshError
from schemas.settings import ENVIRONMENT, read

INTERRUPTED = 130
LOG_BYTES = 1_000_000

_log = logging.getLogger(__name__)


COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("cli.demos.stream", "Run the whole stream on this machine and verify it."),
    "bootstrap-demo": ("cli.demos.bootstrap", "From empty stores to a trained campaign."),
    "upgrade-demo": ("cli.demos.upgrade", "Upgrades and a rollback while events flow."),
    "up": ("cli.local", "Start services of the local platform."),
    "submit": ("cli.submit", "Start the application on the local cluster."),
    "down": ("cli.local", "Stop services of the local platform."),
    "status": ("cli.status", "Show services, and the progress of running jobs."),
    "logs": ("cli.local", "Print or follow the log of a service."),
    "jars": ("cli.local", "Fetch and list the jars of pom-deps.txt."),
    "package": ("cli.package", "Build the zip for Managed Flink."),
    "deploy": ("cli.deploy", "Submit, upgrade and roll back applications."),
    "schemas": ("cli.schemas", "Check, register and compare contracts."),
    "export": ("cli.products", "Export stores to data products on S3."),
    "catalog": ("cli.products", "Register, find and grant data products."),
    "replay": ("cli.replay", "Publish events, and record them in a ledger."),
    "fill": ("cli.replay", "Send events to the domains' back ends."),
    "verify": ("cli.verify", "Reconcile a ledger with every destination."),
    "bootstrap": ("cli.bootstrap", "Train a campaign from data products."),
    "deletions": ("cli.deletions", "Erase deleted users from Personalize."),
    "dlq": ("cli.dlq", "List, show and replay dead letters."),
}
"""The module of each sub-command, and its line in `tunemesh --help`."""


class LazyGroup(click.Group):
    """A click group that imports a sub-command's module when the sub-command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a sub-command; None for a name that is not in the table."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of sub-commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


tunemesh = LazyGroup(
    name="tunemesh",
    help="""Real-time recommendations in a data mesh.

    Example: tunemesh demo
    """,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
click.version_option(package_name="tunemesh", message="%(prog)s %(version)s")(tunemesh)


class _LogFile(logging.handlers.RotatingFileHandler):
    """A file that is created with its folder when the first record is written."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def log_to_file(file: Path) -> None:
    """Write warnings and errors of libraries to a file: none of them reaches the terminal."""
    # A folder that is not writable costs the log, not the command.
    logging.raiseExceptions = False
    handler = _LogFile(file, maxBytes=LOG_BYTES, backupCount=1, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)


def log_path() -> Path:
    """Return the log file of the commands, also where other settings cannot be used."""
    from deploy.local.settings import HomeSettings

    return read(HomeSettings, {ENVIRONMENT: os.environ}).home / "logs" / "cli.log"


def run(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Run a click command and return its exit code; errors are printed as one message each."""
    try:
        code = command.main(args=arguments, prog_name="tunemesh", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except TunemeshError as error:
        _show_error(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _show_error("interrupted")
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _show_error(message: str) -> None:
    from cli.terminal import show_error  # imports rich, which help and most commands do not need

    show_error(message)


class CommandError(TunemeshError):
    """A command of a demo ended with another exit code than expected."""


def run_shown(*arguments: str, code: int = 0) -> None:
    """Print a command of this tool and run it; raises CommandError for another exit code."""
    click.echo(f"$ tunemesh {' '.join(arguments)}")
    sys.stdout.flush()
    if (ended := run(tunemesh, arguments)) != code:
        expected = f", expected was {code}" if code else ""
        raise CommandError(f"tunemesh {' '.join(arguments[:2])} ended with {ended}{expected}")


def _describe_unexpected(error: Exception) -> str:
    log = log_path()
    # The log does not exist where its folder cannot be written: then the sentence has the reason.
    is_logged = os.access(log, os.R_OK)
    if isinstance(error, OSError):
        where = f"; the traceback is in {log}" if is_logged else ""
        return f"{error}. Check the path, its permissions and the space on its disk{where}"
    if is_logged:
        return f"an unexpected error; please report it with its traceback in {log}"
    return f"an unexpected error; please report it: {error!r} (no traceback: cannot write {log})"


def main() -> None:
    """Run the `tunemesh` script."""
    # Ledgers, logs and data have personal data: they are this user's alone.
    os.umask(PRIVATE_UMASK)
    log_to_file(log_path())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = run(tunemesh)
    except Exception as error:  # noqa: BLE001 - the terminal gets a sentence, the log the traceback
        _log.exception("tunemesh %s", " ".join(sys.argv[1:]))
        _show_error(_describe_unexpected(error))
        code = 1
    # The interpreter would print a traceback if it was interrupted at its end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    main()
