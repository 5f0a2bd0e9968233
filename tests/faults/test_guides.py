"""Runs the commands of a guide literally, with a shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import platform
from deploy.local.settings import PROJECT, LocalSettings
from tests.support import ports
from tests.support.waiting import wait_until
from verification.personalize_events import PersonalizeReader

pytestmark = pytest.mark.timeout(1_800)

GUIDES = PROJECT / "docs" / "how-to"


def commands(guide: str) -> str:
    """Return the first block of commands of a guide."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (GUIDES / guide).read_text(), re.MULTILINE | re.DOTALL
    )
    return str(blocks[0])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A platform of its own, with the script `tunemesh` on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"TUNEMESH_HOME": str(tmp_path / "home"), "PATH": path}
    environ = {**os.environ, **ports.variables(), **own}
    yield environ
    platform.down(LocalSettings.from_environment(environ))


def test_the_bootstrap_guide_trains_a_campaign_that_the_stream_continues(
    environment: dict[str, str],
) -> None:
    """Every interaction is imported or streamed, each once."""
    settings = LocalSettings.from_environment(environment)
    block = commands("bootstrap-a-campaign.md")
    assert "127.0.0.1:29092" in block
    block = block.replace("127.0.0.1:29092", settings.kafka.address)
    subprocess.run(["bash", "-euxc", block], env=environment, check=True)
    imports = json.loads((settings.reports / "imports.json").read_text())
    imported = imports["bootstrap"]["interactions"]
    assert imported["written"] > 4_500
    assert imported["written"] + imported["rejected"] == 5_000
    reader = PersonalizeReader(settings.personalize.url)
    assert sum(1 for _ in reader.rows("imported/interactions")) == imported["written"]
    subprocess.run(["tunemesh", "fill", "--generate", "300"], env=environment, check=True)
    wait_until(lambda: sum(1 for _ in reader.rows("events")) >= 300, "the stream continues", 300)
    assert sum(1 for _ in reader.rows("events")) == 300
