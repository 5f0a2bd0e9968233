"""Writes the generated pages of the documentation; `--check` compares them with the files instead.

Each page follows from declarations in the code or from committed reports, so it cannot disagree
with them. Run by `make docs`.
"""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from batch.bootstrap.settings import BootstrapSettings
from benchmarks.services import BenchmarkPorts
from cli.main import tunemesh
from connectors.aws.classification import ErrorCode, Kind
from connectors.firehose import classification as firehose
from connectors.flink.properties import ProcessSettings, RunOptions
from connectors.opensearch import classification as opensearch
from connectors.personalize import classification as personalize
from deploy.local.settings import CacheSettings, HomeSettings, LocalSettings
from jobs import metrics
from jobs import settings as jobs_settings
from schemas.invalid import Reason
from schemas.model import ContractSettings
from schemas.settings import TEXT, Setting, declared
from services.records import MISSING_FIELD, UNKNOWN_FIELD
from services.settings import ServiceSettings

DOCS = Path(__file__).resolve().parent
NOTICE = "<!-- Written by docs/generate.py from {source}. Do not edit. -->"

SETTINGS = """\
An application reads its settings from property groups, as Managed Flink provides them
([the property file](../getting-started/one-process.md#the-property-file)). An unknown group or
property of `tunemesh.*` stops the start, and so does an invalid value; the message has the group,
the property, the value and what was expected. The groups `tunemesh.recommendations` and
`tunemesh.analytics` are required only where those pipelines run."""

DECLARATION = ("default", "values", "meaning")
ENVIRONMENT = (
    HomeSettings,
    LocalSettings,
    CacheSettings,
    ContractSettings,
    ProcessSettings,
    ServiceSettings,
    BenchmarkPorts,
)


def pages() -> dict[str, str]:
    """The text of every generated page, by its path below docs/."""
    return {
        "reference/cli.md": page("Command line", "the click commands of cli/", cli()),
        "reference/settings.md": page(
            "Settings", "the settings of jobs/ and batch/bootstrap/", settings()
        ),
        "reference/environment-variables.md": page(
            "Environment variables", "the settings with ENVIRONMENT", environment()
        ),
        "reference/metrics.md": page("Metrics", "jobs/metrics.py", metric_tables()),
        "reference/dead-letter-codes.md": page(
            "Dead-letter codes", "schemas/invalid.py and the connectors", dead_letter_codes()
        ),
        "benchmarks/results.md": page("Results", "docs/benchmarks/reports", results()),
    }


def page(title: str, source: str, lines: Iterable[str]) -> str:
    """A page with its heading and the notice that it is generated."""
    return "\n".join([NOTICE.format(source=source), "", f"# {title}", "", *lines]).rstrip() + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, with an empty line behind it."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]


def cli() -> list[str]:
    """Every command with its arguments and options."""
    lines = ["Every command has `--help`.", ""]
    for context in commands(click.Context(tunemesh, info_name="tunemesh", show_default=True)):
        command = context.command
        usage = [context.command_path, *command.collect_usage_pieces(context)]
        text, _, examples = inspect.cleandoc(command.help or "").partition("Example")
        lines += [f"## {context.command_path}", "", text.removesuffix("\b\n").rstrip(), ""]
        if examples:
            example_lines = textwrap.dedent(examples.partition(":")[2].strip("\n")).splitlines()
            lines += ["```bash", *example_lines, "```", ""]
        lines += ["```text", " ".join(usage), "```", ""]
        records = [p.get_help_record(context) for p in command.params]
        rows = [(f"`{option}`", meaning) for option, meaning in filter(None, records) if meaning]
        lines += table(["option", "meaning"], rows) if rows else []
    return lines


def commands(context: click.Context) -> Iterator[click.Context]:
    """The contexts of a group's commands, in the order in which the group lists them."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        child = click.Context(command, info_name=name, parent=context)
        yield child
        yield from commands(child)


def settings() -> list[str]:
    """The properties of the applications, by group."""
    bootstrap = (BootstrapSettings, RunOptions)
    lines = [*SETTINGS.splitlines(), ""]
    for title, classes in {"Streaming": jobs_settings.DECLARED, "Bootstrap": bootstrap}.items():
        lines += [f"## {title}", ""]
        for group, members in groupby(declared(*classes), lambda each: each.group):
            rows = declarations(members)
            lines += [f"### {group}", "", *table(["property", *DECLARATION], rows)]
    return lines


def environment() -> list[str]:
    """The environment variables: declared ones, and those of options."""
    options = [
        (f"`{option.envvar}`", "", "", f"option `{option.opts[0]}` of `{context.command_path}`")
        for context in commands(click.Context(tunemesh, info_name="tunemesh", show_default=True))
        for option in context.command.params
        if option.envvar
    ]
    return table(["variable", *DECLARATION], [*declarations(declared(*ENVIRONMENT)), *options])


def declarations(settings: Iterable[Setting]) -> Iterator[tuple[str, ...]]:
    """The rows of settings: name, then :data:`DECLARATION`."""
    for each in settings:
        name = each.name if each.rest else f"`{each.name}`"
        default = f"`{each.default}`" if each.default else ""
        if each.default is MISSING:
            default = "required"
        values = "" if each.kind is TEXT else each.kind.expected
        yield name, default, values, each.description


def metric_tables() -> list[str]:
    """The catalogue of metrics, by the functions that have them."""
    lines = ["[Monitor a job](../how-to/monitor.md) explains where they appear.", ""]
    for title, catalogue in metrics.SECTIONS:
        rows = [(f"`{m.name}`", m.kind, m.unit, m.meaning) for m in catalogue]
        lines += [f"## {title}", "", *table(["metric", "type", "unit", "meaning"], rows)]
    return lines


def dead_letter_codes() -> list[str]:
    """Reasons of the decode step, then what the destinations' error codes lead to."""
    rows = [(f"`{reason}`", reason.explanation) for reason in Reason]
    lines = ["## Decode step", "", *table(["code", "the record"], rows)]
    lines += [
        "## Delivery step",
        "",
        (
            "The destination precedes the code: `personalize.InvalidEvent`. `InvalidEvent`,"
            " `InvalidRecord`, `InvalidDocument` and `InvalidTrend` are checks of the destination's"
            " limits before the call; the message names the field. `RequestTooLarge` is"
            " OpenSearch's status 413 for a single document. Codes of the services:"
        ),
        "",
    ]
    services: dict[str, dict[str, ErrorCode]] = {
        "Personalize": personalize.ERROR_CODES,
        "Firehose": firehose.ERROR_CODES,
        "OpenSearch": opensearch.ERROR_TYPES,
    }
    for name, codes in services.items():
        lines += [f"### {name}", ""]
        by_kind = {kind: [c for c, e in codes.items() if e.kind is kind] for kind in Kind}
        named = [
            (kind.value, ", ".join(f"`{c}`" for c in sorted(cs)))
            for kind, cs in by_kind.items()
            if cs
        ]
        lines += table(["action", "codes"], named)
    lines += [
        "## Publish step",
        "",
        (
            "A back end refused a change of its store, so it is on no topic: partition -1. The"
            " payload is the item of DynamoDB or the record of the outbox as JSON. Codes: those of"
            f" the decode step, `{MISSING_FIELD}`, `{UNKNOWN_FIELD}`."
        ),
    ]
    return lines


def results() -> list[str]:
    """The measured figures, from docs/benchmarks/reports/*.json."""
    lines = [
        (
            "[Method](method.md) explains how each figure is measured. Date and commit are those at"
            " which it was recorded."
        ),
        "",
    ]
    for file in sorted((DOCS / "benchmarks" / "reports").glob("*.json")):
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        lines += [
            f"## {report['title']}",
            "",
            f"{report['about']} Machine: {report['machine']}.".strip(),
            "",
        ]
        for command, figures in groupby(report["figures"], key=lambda figure: figure["command"]):
            rows = [
                (
                    f["figure"],
                    f.get("target", ""),
                    f["measured"] + ("" if f.get("met", True) else " **(missed)**"),
                    f"{f['date']}, `{f['commit']}`",
                )
                for f in figures
            ]
            lines += [f"`{command}`", ""]
            lines += table(["figure", "target", "measured", "recorded"], rows)
        for t in report.get("tables", ()):
            lines += [f"### {t['title']}", "", *table(t["columns"], t["rows"])]
            lines += [f"{t.get('note', '')} {t['date']}, commit `{t['commit']}`.".strip(), ""]
    return lines


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with --check report those that are not current."""
    stale = {
        name: text
        for name, text in pages().items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != text
    }
    if arguments == ["--check"]:
        for name in stale:
            print(f"docs/{name} is not current: run `make docs` and commit it", file=sys.stderr)
        return int(bool(stale))
    for name, text in stale.items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
