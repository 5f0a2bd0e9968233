"""All commands of `tunemesh`, by their path."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli import main


def leaves(context: click.Context) -> Iterator[click.Context]:
    """The contexts of all commands that are no groups."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(click.Context(found, info_name=name, parent=context))


LEAVES = {
    leaf.command_path: leaf.command
    for leaf in leaves(click.Context(main.tunemesh, info_name="tunemesh"))
}
