"""kill -9 at ten random moments of export, bootstrap and import: it ends as without kills."""

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
from tests.faults.figures import write_figures
from tests.faults.stage import HOUR_START_MS
from verification.entries import Kind
from verification.fill import fill
from verification.generator import GeneratedHour, Hour
from verification.personalize_events import PersonalizeReader

KILLS = 10
SEED = 505
PARTS = ("kafka", "aws", "personalize", "postgresql", "dynamodb", "services")
CONTRACTS = load_contracts()
DOMAINS = ("users", "songs", "podcasts", "interactions")
UNTIL = HOUR_START_MS + 1_800_000
LIMIT_SECONDS = 600
"""Of one run of all commands, on a machine that has much else to do."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A platform whose stores and archive are filled; nothing has been exported."""

    settings: LocalSettings
    environ: Mapping[str, str]

    def s3(self) -> Any:
        return sdk_client("s3", "us-east-1", self.settings.aws.url)

    def begin(self, log: Path) -> subprocess.Popen[bytes]:
        """All commands one after the other, in a process group of their own."""
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
        """Everything that counts in the end: products, what Personalize holds, its resources."""
        s3 = self.s3()
        reader = PersonalizeReader(self.settings.personalize.url)
        found: dict[str, Any] = {}
        for domain in DOMAINS:
            location = Location.of(CONTRACTS[domain])
            manifest = read_manifest(s3, location)
            # The version is the moment at which the back end stored the record.
            found[f"product {domain}"] = Counter(
                json.dumps({**row, "updated_at": None}, default=str)
                for row in ProductReader(s3, location, manifest).rows()
            )
        for dataset in ("users", "items", "interactions"):
            rows = reader.rows(f"imported/{dataset}")
            found[f"imported {dataset}"] = Counter(
                json.dumps({key: value for key, value in row.items() if key != "rowid"})
                for row in rows
            )
        personalize = sdk_client("personalize", "us-east-1", self.settings.personalize.url)
        for kind in ("dataset_groups", "datasets", "solutions", "campaigns", "filters"):
            answer = getattr(personalize, f"list_{kind}")()
            (listed,) = [value for value in answer.values() if isinstance(value, list)]
            found[kind] = sorted((one.get("name"), one["status"]) for one in listed)
        report = json.loads((self.settings.reports / "imports.json").read_text())
        counts = ("users", "items", "interactions", "rejected", "trainable")
        found["report"] = {name: report["bootstrap"][name] for name in counts}
        return found


@pytest.mark.timeout(3600)
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    """The same products, imports and resources as a run that nobody killed has made."""
    with filled() as mesh:
        began = time.monotonic()
        process = mesh.begin(tmp_path / "full_stage.log")
        assert process.wait(LIMIT_SECONDS) == 0, (tmp_path / "full_stage.log").read_text()[-3000:]
        seconds = time.monotonic() - began
        uninterrupted = mesh.state()
    assert uninterrupted["imported interactions"].total() > 1_000
    assert uninterrupted["report"]["trainable"]

    chance = random.Random(SEED)
    log = tmp_path / "killed.log"
    killed, lasts = 0, seconds
    with filled() as mesh:
        for _ in range(3 * KILLS):
            began = time.monotonic()
            process = mesh.begin(log)
            try:
                # In each tenth once. One that ends before its moment says how long they last now.
                process.wait(lasts * (killed + chance.random()) / KILLS)
                assert process.returncode == 0, log.read_text()[-3000:]
                lasts = time.monotonic() - began
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
            if killed == KILLS:
                break
        assert killed == KILLS
        process = mesh.begin(log)
        assert process.wait(LIMIT_SECONDS) == 0, log.read_text()[-3000:]
        again = mesh.state()
    write_figures(f"{KILLS} kills of export, bootstrap and import", {"seconds": round(seconds, 1)})
    for what, expected in uninterrupted.items():
        assert again[what] == expected, what


@contextmanager
def filled() -> Iterator[Mesh]:
    """A platform with the same content each time."""
    with temporary_home() as (settings, environ):
        platform.up(settings, PARTS, environ=environ)
        mesh = Mesh(settings, environ)
        _fill(mesh)
        yield mesh


def _fill(mesh: Mesh) -> None:
    """Users and items by the back ends, interactions as Firehose would have written them."""
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
