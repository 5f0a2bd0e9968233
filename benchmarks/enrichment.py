"""Compares the enrichment with other systems, on the same Kafka topics.

All systems read the same four topics and write the same enriched records to a topic of their own.
Times are those of the broker (LogAppendTime), and a run ends when all records are written. The
output is compared with a plain-Python join. The report is bench-enrichment.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import describe_machine, run
from benchmarks.dataset import Shape, event_number
from benchmarks.errors import BenchmarkError
from benchmarks.expected import NewestVersions
from benchmarks.measure import Rates, Run, rates, ratio_to_best, ratios_to_neighbours
from benchmarks.output import Checked, check, sample_numbers
from benchmarks.processes import Processes, UsageMeter
from benchmarks.publish import (
    DIMENSION_TOPICS,
    find_dataset,
    generate_version_ids,
    publish,
    record_dataset,
)
from benchmarks.services import Broker, run_broker
from benchmarks.systems import TASK_FOLDER, System, Task
from benchmarks.systems.catalog import FULL_RUN, OURS, QUICK_RUN, catalog, select
from benchmarks.topics import Topics, wait_until
from connectors.clock import now_ms
from connectors.files import write_report
from deploy.local.settings import LocalSettings
from schemas import wire
from schemas.codec import decode_body, parse_plain
from schemas.errors import TunemeshError
from schemas.model import Contracts, load_contracts

SAMPLE_SIZE = 20_000
WARM_UP_TIMEOUT_SECONDS = 900
MIN_EVENTS = 20_000
"""Of a run with a fraction of the events; a shorter run is not measurable."""

STALL_SECONDS = 120
"""A run whose output has not grown for this time has stalled."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: its measurements and the check of its output, or its problem."""

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
    def is_usable(self) -> bool:
        """Whether the rate can be compared: the output is complete and correct."""
        return self.rates is not None and self.checked is not None and self.checked.is_correct

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the report."""
        entry = asdict(self) | {"usable": self.is_usable}
        if self.checked is not None:
            del entry["checked"]["appended"]
        return entry


@dataclass(frozen=True, slots=True)
class Bench:
    """The environment of all runs."""

    topics: Topics
    contracts: Contracts
    broker: Broker
    shape: Shape
    work: Path
    dimensions: int
    sample: Mapping[int, dict[str, Any]]


def run_system(system: System, bench: Bench) -> RunResult:
    """Run a system once, from the start of its processes to the check of its output."""
    folder = bench.work / TASK_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    out = _output_topic(system)
    group = f"bench-{system.name}"
    bench.topics.delete_group(group)
    bench.topics.recreate(out)
    task = Task(
        bootstrap=bench.broker.bootstrap,
        out=out,
        gate=folder / "gate",
        folder=folder,
        log=bench.work / "logs" / f"{system.name}.log",
        schemas=_write_schemas(bench),
        header=wire.header(bench.broker.version_ids["interactions-enriched"]),
        group=group,
        dimensions=bench.dimensions,
        has_registry=bench.broker.has_registry,
    )
    system.prepare()
    share = int(bench.shape.events * system.events_share)
    events = min(bench.shape.events, max(share, MIN_EVENTS))
    load = os.getloadavg()[0]
    started_ms = now_ms()
    processes = system.start(task)
    own, broker = UsageMeter(processes.pids), UsageMeter(bench.broker.pids)
    try:
        ready_ms = _wait_until_ready(system, task, bench, processes)
        own_before, broker_before = own.sample(), broker.sample()
        threads_before = own.threads()
        _wait_until_written(system, task, bench, processes, events)
        threads = own.threads()
        broker_usage, usage = broker.stop(), own.stop()
    finally:
        own.stop()
        broker.stop()
        processes.stop()
    _show_progress(f"{system.name}: checking its output")
    checked = check(
        bench.topics.read(out),
        bench.contracts["interactions-enriched"],
        bench.shape.events,
        bench.sample,
        has_origins=system.has_origins,
    )
    if checked.distinct < events:
        raise BenchmarkError(f"{system.name}: the output has {checked.distinct} of {events} events")
    return RunResult(
        system=system.name,
        pair=system.pair,
        what=system.description,
        rates=rates(checked.appended, started_ms, ready_ms),
        events=events,
        checked=checked,
        warm_seconds=(ready_ms - started_ms) / 1000,
        cpu_seconds=usage.seconds,
        cpu_seconds_from_ready=usage.seconds - own_before.seconds,
        broker_cpu_seconds_from_ready=broker_usage.seconds - broker_before.seconds,
        peak_memory_bytes=usage.peak_bytes,
        load_before=load,
        cpu_seconds_by_thread=_thread_seconds(threads_before, threads),
    )


def _thread_seconds(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds by thread name, in descending order, without those below 0.1 s."""
    used = {name: round(seconds - before.get(name, 0.0), 2) for name, seconds in after.items()}
    return {name: used[name] for name in sorted(used, key=lambda n: -used[n]) if used[name] >= 0.1}


def _wait_until_ready(system: System, task: Task, bench: Bench, processes: Processes) -> int:
    """Return the time from which it can process interactions, in milliseconds.

    That is when the gate is opened or, for a system without a gate, its first record is written.
    """
    is_warm = system.is_warm
    if is_warm is not None:
        wait_until(
            lambda: is_warm(task, bench.topics),
            f"{system.name} has not read all dimension records",
            WARM_UP_TIMEOUT_SECONDS,
            check=processes.check,
        )
        task.gate.touch()
    else:
        wait_until(
            lambda: bench.topics.count(task.out) > 0,
            f"{system.name} has written no record",
            WARM_UP_TIMEOUT_SECONDS,
            check=processes.check,
        )
    return now_ms()


def _wait_until_written(
    system: System, task: Task, bench: Bench, processes: Processes, events: int
) -> None:
    """Return when this number of records is written; shows the progress."""
    started = grown = time.monotonic()
    before = 0
    while True:
        written = bench.topics.count(task.out)
        now = time.monotonic()
        share = min(1.0, written / events)
        _show_progress(
            f"{system.name}: {written:,} of {events:,} ({share:.0%}), {now - started:.0f} s"
        )
        if written >= events:
            return
        if written > before:
            before, grown = written, now
        if now - grown > STALL_SECONDS:
            raise BenchmarkError(
                f"{system.name}: {written} of {events} records, and no further one for"
                f" {STALL_SECONDS} s; its log is {task.log}"
            )
        processes.check()
        time.sleep(0.5)


def _output_topic(system: System) -> str:
    return system.output or f"bench-out-{system.name}"


def _write_schemas(bench: Bench) -> Path:
    folder = bench.work / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    for contract in bench.contracts:
        (folder / f"{contract.name}.avsc").write_text(contract.newest.definition)
    return folder


def expected_sample(topics: Topics, contracts: Contracts, shape: Shape) -> dict[int, Any]:
    """Return the expected records by event number, by a plain-Python join of the topics."""
    newest = NewestVersions(contracts)
    schemas = {c.topic: parse_plain(c.newest.definition) for c in contracts.sources}

    def decode(message: Any) -> Any:
        return decode_body(schemas[message.topic()], message.value()[wire.HEADER_SIZE :])

    for message in topics.read(*DIMENSION_TOPICS):
        newest.add(message.topic(), decode(message), message.timestamp()[1], _origin(message))
    numbers = sample_numbers(shape.events, SAMPLE_SIZE)
    sample = {}
    start = wire.HEADER_SIZE + 1
    for message in topics.read("interactions"):
        number = event_number(message.value()[start : start + 36])
        if number in numbers:
            sample[number] = newest.enrich(
                decode(message), message.timestamp()[1], _origin(message)
            )
    return sample


def _origin(message: Any) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def summarize(results: Sequence[RunResult]) -> dict[str, Any]:
    """Return the report: all runs, the median rate of each system, and the ratios of ours."""
    usable = [result for result in results if result.is_usable]
    runs = [Run(r.system, r.pair, r.rates.steady) for r in usable if r.rates is not None]
    systems = {}
    for name in dict.fromkeys(result.system for result in results):
        system_rates = [run.rate for run in runs if run.system == name]
        systems[name] = {
            "events_per_second": round(median(system_rates)) if system_rates else None,
            "runs": len(system_rates),
            "problem": next((r.problem for r in results if r.system == name and r.problem), None),
        }
    names = {run.system for run in runs}
    pairs = {}
    for ours in sorted(name for name in names if name.startswith("ours-")):
        ratios = ratios_to_neighbours(runs, ours, f"java-{ours.split('-')[1]}")
        if ratios:
            pairs[ours] = {"min": min(ratios), "median": median(ratios)}
    return {
        "systems": systems,
        "ratio_java": pairs.get(OURS, {}).get("median"),
        "ratio_naive": ratio_to_best(runs, OURS, ("naive-thread", "naive-process")),
        "ratio_bytewax": ratio_to_best(runs, OURS, ("bytewax",)),
        "ratio_java_details": pairs,
        "runs": [result.as_json() for result in results],
    }


def table(results: Sequence[RunResult], report: Mapping[str, Any]) -> str:
    """Return a table of the runs for the terminal."""
    head = (
        f"{'system':<22}{'events/s':>10}{'first-last':>12}{'from ready':>12}{'from start':>12}"
        f"{'CPU s/M':>9}{'broker':>8}{'memory':>9}  output"
    )
    lines = [head, "-" * len(head)]
    for result in results:
        if result.rates is None:
            lines.append(f"{result.system:<22}{'-':>10}  {result.problem}")
            continue
        measured = result.rates
        millions = measured.records / 1e6
        lines.append(
            f"{result.system:<22}{measured.steady:>10,.0f}{measured.output:>12,.0f}"
            f"{measured.seconds_from_ready:>10.1f} s{measured.seconds_from_start:>10.1f} s"
            f"{result.cpu_seconds_from_ready / millions:>9.1f}"
            f"{result.broker_cpu_seconds_from_ready / millions:>8.1f}"
            f"{result.peak_memory_bytes / 2**20:>6.0f} MB  {_describe_output(result)}"
        )
    for name in ("ratio_java", "ratio_naive", "ratio_bytewax"):
        value = report[name]
        lines.append(f"{name:<14} {'-' if value is None else f'{value:.2f}'}")
    return "\n".join(lines)


def _describe_output(result: RunResult) -> str:
    checked = result.checked
    assert checked is not None, result.system
    if checked.is_correct:
        return f"{checked.distinct:,} events, {checked.compared:,} compared: equal"
    return (
        f"WRONG: {checked.duplicates} duplicated, {checked.invented} invented,"
        f" {checked.different} of {checked.compared} differ in {', '.join(checked.fields)}"
    )


def _show_progress(text: str) -> None:
    """Replace the last line of a terminal; prints nothing elsewhere."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


def _print_line(text: str) -> None:
    _show_progress("")
    print(text, flush=True)


@contextmanager
def _use_broker(bootstrap: str | None, work: Path, contracts: Contracts) -> Iterator[Broker]:
    if bootstrap is None:
        with run_broker(work, contracts) as broker:
            yield broker
    else:
        yield Broker(bootstrap, (), generate_version_ids(contracts), has_registry=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 if the output of every system that ran is correct."""
    options = _parse(arguments)
    settings = LocalSettings.from_environment(os.environ)
    work = settings.home / "bench"
    contracts = load_contracts()
    default = QUICK_RUN if options.quick else FULL_RUN
    names = options.systems.split(",") if options.systems else list(default) * options.repeat
    order = select(names, catalog(work))
    results: list[RunResult] = []
    with _use_broker(options.bootstrap, work, contracts) as broker:
        topics = Topics(broker.bootstrap)
        shape = _provide_dataset(options, topics, contracts, broker, work)
        bench = Bench(
            topics=topics,
            contracts=contracts,
            broker=broker,
            shape=shape,
            work=work,
            dimensions=topics.count(*DIMENSION_TOPICS),
            sample=expected_sample(topics, contracts, shape),
        )
        for system in order:
            try:
                result = run_system(system, bench)
            except (TunemeshError, ValueError) as error:
                result = RunResult(system.name, system.pair, system.description, problem=str(error))
            results.append(result)
            _print_line(_describe(result))
            with suppress(BenchmarkError):
                topics.delete(_output_topic(system))
    report = summarize(results) | {
        "dataset": shape.as_json(),
        "sample": SAMPLE_SIZE,
        "machine": describe_machine(),
        "finished_ms": now_ms(),
    }
    path = settings.reports / "bench-enrichment.json"
    write_report(path, report)
    print(f"\n{table(results, report)}\n{path}")
    shutil.rmtree(work / TASK_FOLDER, ignore_errors=True)
    if not options.keep and options.bootstrap is None:
        shutil.rmtree(work / "data", ignore_errors=True)
    return 0 if all(r.is_usable for r in results if r.rates is not None) else 1


def _provide_dataset(
    options: argparse.Namespace, topics: Topics, contracts: Contracts, broker: Broker, work: Path
) -> Shape:
    """Return the shape of the dataset in the topics, which is published unless it exists."""
    # Dimensions from two hours ago, interactions from one hour ago: no time is in the future.
    shape = Shape.of(options.events, options.users, options.items, now_ms() - 2 * 3_600_000)
    file = work / "dataset.json"
    published = find_dataset(file, topics, shape, broker.version_ids)
    if published is not None:
        _print_line(f"dataset: {published.events:,} events, from an earlier run")
        return published
    started = time.monotonic()
    publish(
        topics,
        contracts,
        broker.version_ids,
        shape,
        lambda count: _show_progress(f"dataset: {count:,} records published"),
    )
    record_dataset(file, topics, shape, broker.version_ids)
    _print_line(
        f"dataset: {shape.events:,} events, {shape.users:,} users,"
        f" {shape.songs + shape.podcasts:,} items, {time.monotonic() - started:.0f} s"
    )
    return shape


def _describe(result: RunResult) -> str:
    if result.rates is None:
        return f"{result.system}: {result.problem}"
    return f"{result.system}: {result.rates.steady:,.0f} events/s, {_describe_output(result)}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enrichment", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="default %(default)s")
    parser.add_argument("--users", type=int, default=50_000, help="default %(default)s")
    parser.add_argument(
        "--items",
        type=int,
        default=110_000,
        help="songs and podcasts, 10 to 1; default %(default)s",
    )
    parser.add_argument(
        "--systems",
        help=f"systems to run, in this order, separated by commas; default {','.join(FULL_RUN)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"shorter default order: {','.join(QUICK_RUN)}"
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        help="repetitions of the default order, default %(default)s",
    )
    parser.add_argument("--keep", action="store_true", help="keep the topics for the next run")
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help="use this broker and no registry (for all systems except ours); replaces its topics"
        " users, songs, podcasts and interactions",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run("bench-enrichment", main)
