"""What `tunemesh export` says of a product without rows, and before it waits for the archive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batch.exports.publication import ExportReport
from cli import main
from cli.products import empty_reason
from connectors.clock import now_ms
from connectors.products.location import Location
from connectors.products.manifest import Manifest
from schemas.model import load_contracts
from tests.support.ports import free_port
from tests.support.servers import Received, http_server

CONTRACTS = load_contracts()
MANIFEST = Manifest("songs", 1, "v1", 0, None, 0, (), ())
EMPTY = ExportReport(MANIFEST, Location("b", "songs/"), read=0)


@pytest.mark.parametrize(
    ("domain", "read", "reason"),
    [
        ("songs", 0, "the product songs is empty: its store has no records"),
        ("songs", 1, "the product songs is empty: none of 1 record is in it"),
        ("interactions", 0, "nothing is archived.*submit --pipelines enrichment,analytics"),
        ("interactions", 2_000, "interactions is empty: none of 2,000 records is in it"),
    ],
)
def test_an_empty_product_has_a_reason(domain: str, read: int, reason: str) -> None:
    """Nothing in the source, or nothing of it is left."""
    report = replace(EMPTY, read=read)
    assert re.search(reason, empty_reason(CONTRACTS[domain], report))


class JobManager:
    """Flink with jobs of these pipelines."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, request: Received) -> tuple[int, bytes]:
        assert request.path == "/jobs/overview"
        jobs = [
            {"jid": name, "name": name, "state": "RUNNING", "start-time": 0} for name in self.names
        ]
        return 200, json.dumps({"jobs": jobs}).encode()


@pytest.fixture
def kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that listens where the local Kafka would; no AWS."""
    monkeypatch.setenv("TUNEMESH_HOME", str(tmp_path))
    monkeypatch.setenv("TUNEMESH_AWS_PORT", str(free_port()))
    with http_server(lambda request: (404, b"")) as url:
        monkeypatch.setenv("TUNEMESH_KAFKA_PORT", url.rpartition(":")[2])
        yield url.removeprefix("http://")


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ((), "no job runs the pipeline enrichment and analytics"),
        (("tunemesh enrichment+recommendations",), "no job runs the pipeline analytics, so"),
        (("tunemesh enrichment", "tunemesh analytics"), "the service aws does not answer"),
        (("tunemesh enrichment+analytics",), "the service aws does not answer"),
        # Without Flink an application may run elsewhere, in a process of its own.
        (None, "the service aws does not answer"),
    ],
)
def test_a_wait_for_an_archive_that_nothing_fills_is_refused(
    kafka: str,
    jobs: tuple[str, ...] | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the pipeline that is missing, before anything is exported."""
    with http_server(JobManager(*jobs or ())) as url:
        port = str(free_port()) if jobs is None else url.rpartition(":")[2]
        monkeypatch.setenv("TUNEMESH_FLINK_PORT", port)
        arguments = ["export", "songs", "interactions", "--until", str(now_ms()), "--kafka", kafka]
        assert main.run(main.tunemesh, arguments) != 0
    assert message in capsys.readouterr().err
