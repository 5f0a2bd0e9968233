"""The process that reads Kafka's offsets: one that ends or hangs is replaced."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from connectors.kafka.offsets import OffsetsUnavailable
from connectors.kafka.offsets_process import ANSWER_SECONDS, OffsetsProcess, interpreter

ANSWERS = """
import json, pathlib, sys, time
begun = pathlib.Path(sys.argv[1])
first = not begun.exists()
begun.touch()
settings = json.loads(sys.stdin.readline())
for line in sys.stdin:
    if first:
        {trouble}
    method, topics = json.loads(line)
    print(json.dumps({{"result": [[topic, 0] for topic in topics]}}), flush=True)
"""


ECHO = '[[settings["client"]["sasl.password"], 0]]'


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [("time.sleep(300)", 0.1), ("sys.exit(1)", ANSWER_SECONDS)],
    ids=["hangs", "dies"],
)
def test_a_process_in_trouble_is_replaced(tmp_path: Path, trouble: str, seconds: float) -> None:
    """One call fails, the next one is answered by another process."""
    script = ANSWERS.format(trouble=trouble)
    command = (sys.executable, "-c", script, str(tmp_path / "begun"))
    offsets = OffsetsProcess("127.0.0.1:1", {}, command=command)
    offsets.answer_seconds = seconds
    with pytest.raises(OffsetsUnavailable, match="does not answer"):
        offsets.partitions(["songs"])
    offsets.answer_seconds = ANSWER_SECONDS
    (tmp_path / "begun").touch()
    assert offsets.partitions(["songs", "users"]) == (("songs", 0), ("users", 0))


def test_a_closed_one_leaves_no_process(tmp_path: Path) -> None:
    """Also when it is closed twice, or was never started."""
    script = ANSWERS.format(trouble="pass").replace("[topic, 0]", "[topic, os.getpid()]")
    command = (sys.executable, "-c", "import os" + script, str(tmp_path / "begun"))
    offsets = OffsetsProcess("127.0.0.1:1", {}, command=command)
    offsets.close()
    ((_, process),) = offsets.partitions(["songs"])
    assert psutil.pid_exists(process)
    for _ in range(2):
        offsets.close()
    assert not psutil.pid_exists(process)


def test_no_setting_is_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine reads a process's arguments; keys go through its input."""
    (tmp_path / "begun").touch()
    arguments: list[str] = []
    popen = subprocess.Popen

    def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        arguments.extend(command)
        script = ANSWERS.format(trouble="pass").replace("[[topic, 0] for topic in topics]", ECHO)
        return popen((sys.executable, "-c", script, str(tmp_path / "begun")), **options)

    monkeypatch.setattr("connectors.kafka.offsets_process.subprocess.Popen", start)
    offsets = OffsetsProcess("127.0.0.1:1", {"sasl.password": "hunter2"})
    assert offsets.partitions([]) == (("hunter2", 0),)
    assert not any("hunter2" in argument for argument in arguments)


def test_the_process_has_the_callers_version_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a JVM ``sys.executable`` is whatever the PATH has, which may be another version."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    programs = [tmp_path / "own" / "bin" / version, tmp_path / "path" / "bin" / "python3"]
    for program in programs:
        program.parent.mkdir(parents=True)
        program.touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "own"))
    monkeypatch.setattr(sys, "executable", str(programs[1]))
    assert interpreter() == str(programs[0])
    programs[0].unlink()
    assert interpreter() == str(programs[1])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "own" / "bin" / "java"))
    assert interpreter() == version
