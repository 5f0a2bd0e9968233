"""The `tunemesh` command itself: help, version, errors, and the log of libraries."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from cli import connections, main
from connectors.aws.endpoint import service_endpoint
from deploy.local.settings import PROJECT, LocalSettings
from tests.support.commands import LEAVES
from tests.support.ports import free_port

EXAMPLE = re.compile(r"^ +(?:Example: )?(tunemesh .*)$", re.MULTILINE)


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr("sys.argv", ["tunemesh", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    return end.value.code


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_has_help(path: str) -> None:
    """A sentence, and a text for each option."""
    command = LEAVES[path]
    assert "Usage:" in command.get_help(click.Context(command, info_name=path))
    assert (command.help or "").split("\n\n")[0].rstrip().endswith("."), path
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{path} {option.name}"


@pytest.mark.parametrize("path", [p for p, c in LEAVES.items() if len(c.params) > 1])
def test_every_command_with_options_has_an_example_that_parses(path: str) -> None:
    """Of that very command, with options that it has."""
    text = (LEAVES[path].help or "").replace("\\\n", " ")
    examples = EXAMPLE.findall(text)
    assert examples, path
    for example in examples:
        assert example.startswith(path), example
        arguments = shlex.split(example.removeprefix(path), comments=True)
        parser = LEAVES[path].make_parser(click.Context(LEAVES[path]))
        parser.parse_args(arguments)


@pytest.mark.parametrize("path", sorted({p.split()[1] for p in LEAVES if len(p.split()) > 2}))
def test_the_list_of_a_group_has_whole_sentences(path: str) -> None:
    """None is cut at 80 columns."""
    group = main.tunemesh.get_command(click.Context(main.tunemesh), path)
    assert group is not None
    context = click.Context(group, info_name=f"tunemesh {path}", terminal_width=80)
    _, commands = group.get_help(context).split("Commands:")
    assert [line for line in commands.splitlines() if line.endswith("...")] == []


def test_what_a_command_writes_is_the_user_s_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledgers and reports have personal data; the umask is set before anything is written."""
    before = os.umask(0o022)
    monkeypatch.setattr(main, "log_to_file", lambda file: None)
    try:
        assert exit_code(monkeypatch, "--version") == 0
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    """As pyproject.toml has it."""
    pyproject = (Path(main.__file__).parents[1] / "pyproject.toml").read_text()
    expected = re.search(r'^version = "(.*)"$', pyproject, re.MULTILINE)
    assert expected
    assert main.run(main.tunemesh, ["--version"]) == 0
    assert capsys.readouterr().out == f"tunemesh {expected[1]}\n"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The log of the commands; the root logger is as before afterwards."""
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path / "home"))
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield main.log_path()
    logging.captureWarnings(False)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


@pytest.mark.filterwarnings("always:old")
def test_libraries_write_to_the_log(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing reaches the terminal; without a record there is no file."""
    main.log_to_file(log)
    assert not log.exists()
    logging.getLogger("botocore.retries").warning("connection lost")
    logging.getLogger("librdkafka").info("connecting")
    warnings.warn("old", UserWarning, stacklevel=1)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    text = log.read_text()
    assert "botocore.retries: connection lost" in text
    assert "UserWarning: old" in text
    assert "connecting" not in text


def test_an_unexpected_error_is_a_sentence_and_a_traceback_in_the_log(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the log."""

    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main, "tunemesh", broken)
    assert exit_code(monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(log) in line
    assert "ZeroDivisionError: a bug" in log.read_text()


def test_a_home_that_is_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log: Path
) -> None:
    """With the reason; no log is named, since none can be written."""
    home = tmp_path / "file"
    home.write_text("")
    monkeypatch.setenv("TUNEMESH_HOME", str(home))
    assert exit_code(monkeypatch, "status") == 1
    error = capsys.readouterr().err
    assert "Not a directory" in error
    assert str(home) in error
    assert "cli.log" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        "replay --generate 10 --rate 0",
        "replay --generate 10 --settle -1",
        "replay --generate 10 --malformed 2",
        "logs cli -n -1",
    ],
)
def test_a_number_out_of_range_is_wrong_usage(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a connection is made."""
    assert main.run(main.tunemesh, arguments.split()) == 2
    assert "is not in the range" in capsys.readouterr().err


@pytest.mark.parametrize("pipelines", ["", "enrichmnt", "enrichment,enrichment", "../enrichment"])
def test_pipelines_that_do_not_exist_are_wrong_usage(
    pipelines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a topic is created or a property file is written."""
    assert main.run(main.tunemesh, ["submit", "--prepare-only", "--pipelines", pipelines]) == 2
    assert f"--pipelines {pipelines}: expected one or more of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ("flink", r"service flink does not answer at 127\.0\.0\.1:{port} \(Connection refused\)\."),
        ("services", "service of the back ends does not answer at .*"),
    ],
)
def test_a_service_that_does_not_run_is_named(service: str, message: str) -> None:
    """With its address, the reason and the command that starts it."""
    port = str(free_port())
    settings = LocalSettings.from_environment({f"TUNEMESH_{service.upper()}_PORT": port})
    expected = f"the {message.format(port=port)} Start it: tunemesh up {service}"
    with pytest.raises(connections.ServiceUnreachable, match=expected):
        connections.require_services(settings, service)


INTERRUPT_AN_IMPORT = """
import builtins, os, signal
import cli.entry

import_module = builtins.__import__

def interrupt(name, *rest):
    if name == "click":
        os.kill(os.getpid(), signal.SIGINT)
    return import_module(name, *rest)

builtins.__import__ = interrupt
cli.entry.main()
"""


def test_ctrl_c_while_modules_are_imported_prints_no_traceback() -> None:
    """As a shell reports it: 130."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT_AN_IMPORT],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_one_of_several_brokers_is_enough() -> None:
    """The bootstrap servers of a cluster, of which one is down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        connections.require_reachable("kafka", f"127.0.0.1:{free_port()},{there}", "")


def test_the_limit_of_a_connection_is_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for the endpoints of AWS, unless a proxy is in between."""
    limits: dict[Any, float] = {}

    def refuse(address: Any, timeout: float) -> None:
        limits[address] = timeout
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(connections, "getproxies", dict)
    endpoint = service_endpoint("sts", "eu-west-1")
    with pytest.raises(connections.ServiceUnreachable, match="Check the network"):
        connections.require_endpoint("aws", endpoint)
    assert limits == {("sts.eu-west-1.amazonaws.com", 443): 5.0}
    monkeypatch.setattr(connections, "getproxies", lambda: {"https": "http://proxy"})
    connections.require_endpoint("aws", endpoint)
