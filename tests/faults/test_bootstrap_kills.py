"""kill -9 at ten random times of export, bootstrap and import: the result is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connectors.aws.sdk import sdk_client
from connectors.products.location import Location
from connectors.products.manifest import read_manifest
from connectors.products.reader import ProductReader
from deploy.local import application, platform
from deploy.local.settings import BUCKET, DELIVERY_PREFIX, LocalSettings
from schemas.model import load_contracts
from tests.faults.conftest import temporary_home
from tests.faults.results import write_result
from tests.faults.stage import HOUR_START_MS
from verification.entries import Kind
from verification.fill import fill
from verification.generator import GeneratedHour, Hour
from verification.personalize_events import PersonalizeReader

KILLS = 10
SEED = 505
SERVICES = ("kafka", "aws", "personalize", "postgresql", "dynamodb", "services")
CONTRACTS = load_contracts()
DOMAINS = ("users", "songs", "podcasts", "interactions")
UNTIL = HOUR_START_MS + 1_800_000
LIMIT_SECONDS = 600
"""Of a run of all commands on a busy machine."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A platform with filled stores and archive, without exports."""

    settings: LocalSettings
    environ: Mapping[str, str]

    def s3(self) -> Any:
        return sdk_client("s3", "us-east-1", self.settings.aws.url)

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start all commands, one after the other, in a process group."""
        tunemesh = f"{sys.executable} -m cli.main"
        commands = [
            f"{tunemesh} export {' '.join(DOMAINS)} --until {UNTIL}",
            f"{tunemesh} catalog register {' '.join(DOMAINS)}",
            *(
                f"{tunemesh} catalog grant {domain} recommender --pii pseudonymous --pii personal"
                for domain in DOMAINS
            ),
            f"{tunemesh} bootstrap --until {UNTIL}",
        ]
        with log.open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-ec", "\n".join(commands)],
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def state(self) -> dict[str, Any]:
        """Return the final state: data products, imported records and resources of Personalize."""
        s3 = self.s3()
        reader = PersonalizeReader(self.settings.personalize.url)
        state: dict[str, Any] = {}
        for domain in DOMAINS:
            location = Location.of(CONTRACTS[domain])
            manifest = read_manifest(s3, location)
            # The version is the time at which the back end stored the record.
            state[f"product {domain}"] = Counter(
                json.dumps({**row, "updated_at": None}, default=str)
                for row in ProductReader(s3, location, manifest).rows()
            )
        for dataset in ("users", "items", "interactions"):
            rows = reader.rows(f"imported/{dataset}")
            state[f"imported {dataset}"] = Counter(
                json.dumps({key: value for key, value in row.items() if key != "rowid"})
                for row in rows
            )
        personalize = sdk_client("personalize", "us-east-1", self.settings.personalize.url)
        for kind in ("dataset_groups", "datasets", "solutions", "campaigns", "filters"):
            answer = getattr(personalize, f"list_{kind}")()
            (listed,) = [value for value in answer.values() if isinstance(value, list)]
            state[kind] = sorted((entry.get("name"), entry["status"]) for entry in listed)
        report = json.loads((self.settings.reports / "imports.json").read_text())
        counts = ("users", "items", "interactions", "rejected", "trainable")
        state["report"] = {name: report["bootstrap"][name] for name in counts}
        return state


@pytest.mark.timeout(3600)
def test_killed_at_ten_random_times(tmp_path: Path) -> None:
    """The products, imports and resources are those of an uninterrupted run."""
    log = tmp_path / "commands.log"
    with running_mesh() as mesh:
        started = time.monotonic()
        process = mesh.start(log)
        assert process.wait(LIMIT_SECONDS) == 0, log.read_text()[-3000:]
        seconds = time.monotonic() - started
        uninterrupted = mesh.state()
    assert uninterrupted["imported interactions"].total() > 1_000
    assert uninterrupted["report"]["trainable"]

    generator = random.Random(SEED)
    killed, duration = 0, seconds
    with running_mesh() as mesh:
        for _ in range(3 * KILLS):
            started = time.monotonic()
            process = mesh.start(log)
            try:
                # Once in each tenth of the duration, which a run that ends before updates.
                process.wait(duration * (killed + generator.random()) / KILLS)
                assert process.returncode == 0, log.read_text()[-3000:]
                duration = time.monotonic() - started
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
            if killed == KILLS:
                break
        assert killed == KILLS
        process = mesh.start(log)
        assert process.wait(LIMIT_SECONDS) == 0, log.read_text()[-3000:]
        resumed = mesh.state()
    write_result(f"{KILLS} kills of export, bootstrap and import", {"seconds": round(seconds, 1)})
    for name, expected in uninterrupted.items():
        assert resumed[name] == expected, name


@contextmanager
def running_mesh() -> Iterator[Mesh]:
    """Run a platform, with the same content each time."""
    with temporary_home() as (settings, environ):
        platform.up(settings, SERVICES, environ=environ)
        mesh = Mesh(settings, environ)
        _fill(mesh)
        yield mesh


def _fill(mesh: Mesh) -> None:
    """Store users and items by the back ends, and interactions as Firehose writes them."""
    application.prepare(mesh.settings, CONTRACTS)
    source = GeneratedHour(Hour(interactions=6_000, start_ms=HOUR_START_MS, seed=SEED))
    fill(source, mesh.settings.services.url, CONTRACTS, interactions=False)
    lines = [
        json.dumps(
            {
                **dict.fromkeys(CONTRACTS["interactions"].newest.field_names),
                **entry.record,
                "origin": f"interactions/0/{number}",
                "published_at": entry.record["occurred_at"],
            }
        )
        for number, entry in enumerate(source.stream())
        if entry.domain == "interactions" and entry.kind is Kind.VALID and entry.record is not None
    ]
    s3 = mesh.s3()
    for number in range(0, len(lines), 500):
        body = "\n".join(lines[number : number + 500]) + "\n"
        s3.put_object(Bucket=BUCKET, Key=f"{DELIVERY_PREFIX}{number:06}", Body=body.encode())
