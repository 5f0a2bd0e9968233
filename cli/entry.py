"""The `tunemesh` script. Ctrl-C ends it without a traceback, also while modules are imported."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the script; until its modules are imported, Ctrl-C ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.main import main as run

    run()


if __name__ == "__main__":
    main()
