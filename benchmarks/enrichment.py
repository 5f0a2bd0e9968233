"""``python -m benchmarks.enrichment``: the enrichment beside other systems, on the same topics.

All systems read the same four topics and write the same enriched records to a topic of their own,
stamped by the broker when it appends them (LogAppendTime): the clock is the broker's for all of
them, and a run ends when all records are there. The method is in docs/benchmarks/method.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import fastavro

from benchmarks.dataset import Shape, event_number
from benchmarks.errors import BenchmarkError, SystemUnavailable
from benchmarks.expected import Newest
from benchmarks.measure import Rates, Run, rates, ratio_to_best, ratios_to_neighbours
from benchmarks.output import Checked, check, sampled
from benchmarks.parts import Parts, running
from benchmarks.processes import CpuAccount, Started
from benchmarks.publish import DIMENSION_TOPICS, kept, made_up_version_ids, publish, write_note
from benchmarks.systems import System, Task
from benchmarks.systems.catalog import FULL_RUN, OURS, QUICK_RUN, catalog, chosen
from benchmarks.topics import Topics, wait_until
from connectors.clock import now_ms
from deploy.local.settings import LocalSettings
from schemas import wire
from schemas.codec import parse_plain
from schemas.errors import TunemeshError
from schemas.model import Contracts, load_contracts

SAMPLE = 20_000
WARM_SECONDS = 900
# Below that, a share of the events is too short a run to measure.
FEWEST_EVENTS = 20_000
# A run whose output has not grown for that long is stuck.
SILENT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one system: measured and checked, or why it could not run."""

    system: str
    pair: str
    what: str
    rates: Rates | None = None
    events: int = 0
    checked: Checked | None = None
    warm_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_seconds_from_ready: float = 0.0
    broker_cpu_seconds_from_ready: float = 0.0
    peak_memory_bytes: int = 0
    load_before: float = 0.0
    cpu_seconds_by_thread: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether its rate may be compared: everything is there, once, and as expected."""
        return self.rates is not None and self.checked is not None and self.checked.complete

    def as_json(self) -> dict[str, Any]:
        """The run for the report."""
        text = asdict(self) | {"usable": self.usable}
        if self.checked is not None:
            del text["checked"]["appended"]
        return text


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share."""

    topics: Topics
    contracts: Contracts
    parts: Parts
    shape: Shape
    work: Path
    dimensions: int
    sample: Mapping[int, dict[str, Any]]


def run_system(system: System, bench: Bench) -> Outcome:
    """Run one system once, from the start of its processes to the check of its output."""
    folder = bench.work / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    out = _output_topic(system)
    group = f"bench-{system.name}"
    bench.topics.delete_group(group)
    bench.topics.remake(out, append_time=True)
    task = Task(
        bootstrap=bench.parts.bootstrap,
        out=out,
        gate=folder / "gate",
        folder=folder,
        log=bench.work / "logs" / f"{system.name}.log",
        schemas=_schemas_folder(bench),
        header=wire.header(bench.parts.version_ids["interactions-enriched"]),
        group=group,
        dimensions=bench.dimensions,
        endpoints=bench.parts.endpoints,
    )
    system.prepare()
    share = int(bench.shape.events * system.events_share)
    wanted = min(bench.shape.events, max(share, FEWEST_EVENTS))
    load = os.getloadavg()[0]
    started_ms = now_ms()
    started = system.start(task)
    own, broker = CpuAccount(started.pids), CpuAccount(bench.parts.broker_pids)
    try:
        ready_ms = _until_ready(system, task, bench, started)
        own_before, broker_before = own.sample(), broker.sample()
        threads_before = own.threads()
        _until_written(system, task, bench, started, wanted)
        threads = own.threads()
        broker_used, used = broker.stop(), own.stop()
    finally:
        own.stop()
        broker.stop()
        started.stop()
    _progress(f"{system.name}: checking its output")
    checked = check(
        bench.topics.read(out),
        bench.contracts["interactions-enriched"],
        bench.shape.events,
        bench.sample,
        origins=system.writes_origins,
    )
    if checked.distinct < wanted:
        raise BenchmarkError(f"{system.name}: {checked.distinct} of {wanted} events came out")
    return Outcome(
        system=system.name,
        pair=system.pair,
        what=system.what,
        rates=rates(checked.appended, started_ms, ready_ms),
        events=wanted,
        checked=checked,
        warm_seconds=(ready_ms - started_ms) / 1000,
        cpu_seconds=used.seconds,
        cpu_seconds_from_ready=used.seconds - own_before.seconds,
        broker_cpu_seconds_from_ready=broker_used.seconds - broker_before.seconds,
        peak_memory_bytes=used.peak_bytes,
        load_before=load,
        cpu_seconds_by_thread=_most_used(threads_before, threads),
    )


def _most_used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds by thread name, the most first; names below a tenth of a second are left out."""
    used = {name: round(seconds - before.get(name, 0.0), 2) for name, seconds in after.items()}
    return {name: used[name] for name in sorted(used, key=lambda n: -used[n]) if used[name] >= 0.1}


def _until_ready(system: System, task: Task, bench: Bench, started: Started) -> int:
    """When it could begin with the interactions: gate opened, or its first record is out."""
    if system.gated:
        wait_until(
            lambda: system.is_warm(task, bench.topics),
            f"{system.name} has not taken in all dimensions",
            WARM_SECONDS,
            check=started.check,
        )
        task.gate.touch()
    else:
        wait_until(
            lambda: bench.topics.count(task.out) > 0,
            f"{system.name} has written nothing",
            WARM_SECONDS,
            check=started.check,
        )
    return now_ms()


def _until_written(system: System, task: Task, bench: Bench, started: Started, wanted: int) -> None:
    """Wait until that many records are out, with a line of progress."""
    begun = grown = time.monotonic()
    before = 0
    while True:
        written = bench.topics.count(task.out)
        now = time.monotonic()
        share = min(1.0, written / wanted)
        _progress(f"{system.name}: {written:,} of {wanted:,} ({share:.0%}), {now - begun:.0f} s")
        if written >= wanted:
            return
        if written > before:
            before, grown = written, now
        if now - grown > SILENT_SECONDS:
            raise BenchmarkError(
                f"{system.name}: {written} of {wanted} records, and none more for"
                f" {SILENT_SECONDS} s; its log is {task.log}"
            )
        started.check()
        time.sleep(0.5)


def _output_topic(system: System) -> str:
    return system.output or f"bench-out-{system.name}"


def _schemas_folder(bench: Bench) -> Path:
    folder = bench.work / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    for contract in bench.contracts:
        (folder / f"{contract.name}.avsc").write_text(contract.newest.definition)
    return folder


def expected_sample(topics: Topics, contracts: Contracts, shape: Shape) -> dict[int, Any]:
    """Expected records by event number, by a plain-Python join over the topics themselves."""
    newest = Newest(contracts)
    schemas = {c.topic: parse_plain(c.newest.definition) for c in contracts.sources}

    def decoded(message: Any) -> Any:
        body = io.BytesIO(message.value()[wire.HEADER_SIZE :])
        return fastavro.schemaless_reader(body, schemas[message.topic()], None)

    for message in topics.read(*DIMENSION_TOPICS):
        newest.add(message.topic(), decoded(message), message.timestamp()[1], _origin(message))
    wanted = frozenset(sampled(shape.events, SAMPLE))
    sample = {}
    start = wire.HEADER_SIZE + 1
    for message in topics.read("interactions"):
        number = event_number(message.value()[start : start + 36])
        if number in wanted:
            sample[number] = newest.enrich(
                decoded(message), message.timestamp()[1], _origin(message)
            )
    return sample


def _origin(message: Any) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The report's figures: every run, the median rate a system, the ratios of ours."""
    usable = [outcome for outcome in outcomes if outcome.usable and outcome.rates is not None]
    runs = [Run(o.system, o.pair, o.rates.steady) for o in usable if o.rates is not None]
    systems = {}
    for name in dict.fromkeys(outcome.system for outcome in outcomes):
        found = [run.rate for run in runs if run.system == name]
        systems[name] = {
            "events_per_second": round(median(found)) if found else None,
            "runs": len(found),
            "problem": next((o.problem for o in outcomes if o.system == name and o.problem), None),
        }
    names = {run.system for run in runs}
    pairs = {}
    for ours in sorted(name for name in names if name.startswith("ours-")):
        found_ratios = ratios_to_neighbours(runs, ours, f"java-{ours.split('-')[1]}")
        if found_ratios:
            pairs[ours] = {"min": min(found_ratios), "median": median(found_ratios)}
    return {
        "systems": systems,
        "ratio_java": pairs.get(OURS, {}).get("median"),
        "ratio_naive": ratio_to_best(runs, OURS, ("naive-thread", "naive-process")),
        "ratio_bytewax": ratio_to_best(runs, OURS, ("bytewax",)),
        "ratio_java_details": pairs,
        "runs": [outcome.as_json() for outcome in outcomes],
    }


def table(outcomes: Sequence[Outcome], report: Mapping[str, Any]) -> str:
    """The runs for the terminal."""
    head = (
        f"{'system':<22}{'events/s':>10}{'first-last':>12}{'from ready':>12}{'from start':>12}"
        f"{'CPU s/M':>9}{'broker':>8}{'memory':>9}  output"
    )
    lines = [head, "-" * len(head)]
    for outcome in outcomes:
        if outcome.rates is None:
            lines.append(f"{outcome.system:<22}{'-':>10}  {outcome.problem}")
            continue
        found = outcome.rates
        millions = found.records / 1e6
        lines.append(
            f"{outcome.system:<22}{found.steady:>10,.0f}{found.output:>12,.0f}"
            f"{found.seconds_from_ready:>10.1f} s{found.seconds_from_start:>10.1f} s"
            f"{outcome.cpu_seconds_from_ready / millions:>9.1f}"
            f"{outcome.broker_cpu_seconds_from_ready / millions:>8.1f}"
            f"{outcome.peak_memory_bytes / 2**20:>6.0f} MB  {_verdict(outcome)}"
        )
    for name in ("ratio_java", "ratio_naive", "ratio_bytewax"):
        value = report[name]
        lines.append(f"{name:<14} {'-' if value is None else f'{value:.2f}'}")
    return "\n".join(lines)


def _verdict(outcome: Outcome) -> str:
    checked = outcome.checked
    assert checked is not None, outcome.system
    if checked.complete:
        return f"{checked.distinct:,} events, {checked.compared:,} compared: equal"
    return (
        f"WRONG: {checked.duplicates} twice, {checked.invented} invented,"
        f" {checked.different} of {checked.compared} differ in {', '.join(checked.fields)}"
    )


def _progress(text: str) -> None:
    """Print a line over the last one on a terminal; elsewhere nothing but what ends a line."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


def _say(text: str) -> None:
    _progress("")
    print(text, flush=True)


@contextmanager
def _parts(bootstrap: str | None, work: Path, contracts: Contracts) -> Iterator[Parts]:
    if bootstrap is None:
        with running(work, contracts) as parts:
            yield parts
    else:
        yield Parts(bootstrap, (), made_up_version_ids(contracts), {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 when every system that could run wrote what it should."""
    options = _options(arguments)
    home = LocalSettings.from_environment(os.environ).home
    work = home / "bench"
    contracts = load_contracts()
    default = QUICK_RUN if options.quick else FULL_RUN
    names = options.systems.split(",") if options.systems else list(default) * options.repeat
    order = chosen(names, catalog(work))
    outcomes: list[Outcome] = []
    with _parts(options.bootstrap, work, contracts) as parts:
        topics = Topics(parts.bootstrap)
        shape = _dataset(options, topics, contracts, parts, work)
        bench = Bench(
            topics=topics,
            contracts=contracts,
            parts=parts,
            shape=shape,
            work=work,
            dimensions=topics.count(*DIMENSION_TOPICS),
            sample=expected_sample(topics, contracts, shape),
        )
        for system in order:
            try:
                outcome = run_system(system, bench)
            except (SystemUnavailable, BenchmarkError, ValueError) as error:
                outcome = Outcome(system.name, system.pair, system.what, problem=str(error))
            outcomes.append(outcome)
            _say(_one_line(outcome))
            with suppress(BenchmarkError):
                topics.delete(_output_topic(system))
        topics.close()
    report = summary(outcomes) | _circumstances(shape)
    path = home / "reports" / "bench-enrichment.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{table(outcomes, report)}\n{path}")
    shutil.rmtree(work / "run", ignore_errors=True)
    if not options.keep and options.bootstrap is None:
        shutil.rmtree(work / "data", ignore_errors=True)
    return 0 if all(o.usable for o in outcomes if o.rates is not None) else 1


def _dataset(
    options: argparse.Namespace, topics: Topics, contracts: Contracts, parts: Parts, work: Path
) -> Shape:
    # Dimensions two hours ago, interactions from one hour ago on: nothing is in the future.
    shape = Shape.of(options.events, options.users, options.items, now_ms() - 2 * 3_600_000)
    note = work / "dataset.json"
    there = kept(note, topics, shape, parts.version_ids)
    if there is not None:
        _say(f"dataset: {there.events:,} events, kept from an earlier run")
        return there
    begun = time.monotonic()
    publish(
        topics,
        contracts,
        parts.version_ids,
        shape,
        lambda sent: _progress(f"dataset: {sent:,} records published"),
    )
    write_note(note, topics, shape, parts.version_ids)
    _say(
        f"dataset: {shape.events:,} events, {shape.users:,} users,"
        f" {shape.songs + shape.podcasts:,} items, {time.monotonic() - begun:.0f} s"
    )
    return shape


def _one_line(outcome: Outcome) -> str:
    if outcome.rates is None:
        return f"{outcome.system}: {outcome.problem}"
    return f"{outcome.system}: {outcome.rates.steady:,.0f} events/s, {_verdict(outcome)}"


def _circumstances(shape: Shape) -> dict[str, Any]:
    return {
        "dataset": shape.as_json(),
        "sample": SAMPLE,
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "finished_ms": now_ms(),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.enrichment",
        description="The enrichment beside other systems, on the same Kafka topics.",
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=110_000, help="songs and podcasts, 10 to 1")
    parser.add_argument(
        "--systems", help=f"comma-separated, in order; default: {','.join(FULL_RUN)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"by default only {','.join(QUICK_RUN)}"
    )
    parser.add_argument("--repeat", type=int, default=1, help="how often the default order is run")
    parser.add_argument("--keep", action="store_true", help="keep the topics for the next run")
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help="use this broker and no registry (all systems but ours); its topics users, songs,"
        " podcasts and interactions are replaced",
    )
    return parser.parse_args(arguments)


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit("bench-enrichment: ended by a signal")


if __name__ == "__main__":
    # As any other end: what was started is stopped.
    signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(main())
    except TunemeshError as failure:
        sys.exit(f"bench-enrichment: {failure}")
    except KeyboardInterrupt:
        sys.exit("bench-enrichment: stopped")
