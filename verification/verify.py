"""Reconcile a run's ledger with what came out: enriched topic, dead letters, Personalize."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.files import write_report
from schemas.codec import Decoder, SchemaLookup
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord
from schemas.model import Contracts, Role, load_contracts
from verification.destinations import DestinationReport, verify_destinations
from verification.destinations import summary_lines as destination_lines
from verification.endpoints import Endpoints
from verification.entries import Kind
from verification.ledger import Ledger, LedgerError, LedgerRow, ledger_path, runs
from verification.personalize_events import PersonalizeReader
from verification.positions import KafkaUnavailable, TopicReader, cluster_id, topic_ends
from verification.progress import Progress, Step, silent
from verification.reconcile import INVENTED, LOST, Accepted, Fault, Finding, Reconciliation
from verification.replay import connect_registry

SHOWN_IDS = 20
"""Ids of each kind of finding that are printed; the report file has all."""

_LOOK_SECONDS = 0.5


class NothingToVerify(TunemeshError):
    """There is no ledger to verify."""


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """How to verify.

    ``wait`` is the longest time that the pipeline gets to finish, ``quiet`` how long nothing new
    may come before it counts as finished with something missing. Seconds. ``destinations``: which
    others to reconcile, see :mod:`verification.destinations`.
    """

    wait: float = 60.0
    quiet: float = 15.0
    stale_tolerance_ms: int = 0
    personalize: bool = True
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of a verification; counts are of distinct events unless they say records."""

    run: str
    produced: int
    unacknowledged: int
    valid: int
    enriched: int
    enriched_records: int
    accepted: int
    dead_letters: Mapping[str, int]
    rejected: Mapping[str, int]
    duplicates_ignored: int
    identical_ignored: int
    reemitted: int
    without_user: int
    without_item: int
    unchecked: int
    others: int
    findings: tuple[Finding, ...]
    emission_p50_ms: int | None
    emission_p99_ms: int | None
    acceptance_p50_ms: int | None
    acceptance_p99_ms: int | None
    seconds: float
    destinations: tuple[DestinationReport, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is off."""
        return not self.findings and all(one.ok for one in self.destinations)

    def by_fault(self) -> dict[Fault, list[Finding]]:
        """Findings by kind, in the order of the kinds."""
        return {
            fault: found
            for fault in Fault
            if (found := [finding for finding in self.findings if finding.fault is fault])
        }

    def count(self, *faults: Fault) -> int:
        """Number of findings of these kinds."""
        return sum(1 for finding in self.findings if finding.fault in faults)

    @property
    def lost(self) -> int:
        """Acknowledged valid events that did not come through."""
        return self.count(*LOST)

    @property
    def invented(self) -> int:
        """Records that came out and were never sent."""
        return self.count(*INVENTED)

    @property
    def misenriched(self) -> int:
        """Events with a wrong user or item attached, or without one that was there."""
        return self.count(Fault.MISENRICHED)

    def document(self) -> dict[str, Any]:
        """The report as JSON, with all ids."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("findings", "dead_letters", "rejected", "destinations")
        }
        return {
            **plain,
            "ok": self.ok,
            "lost": self.lost,
            "invented": self.invented,
            "misenriched": self.misenriched,
            "dead_letters": dict(self.dead_letters),
            "rejected": dict(self.rejected),
            "destinations": {one.name: one.document() for one in self.destinations},
            "findings": {
                fault.value: [{"id": f.id, "detail": f.detail} for f in found]
                for fault, found in self.by_fault().items()
            },
        }


def verify(
    endpoints: Endpoints,
    run: str | None = None,
    settings: VerifySettings | None = None,
    progress: Progress = silent,
    *,
    registry: SchemaLookup | None = None,
    contracts: Contracts | None = None,
) -> VerifyReport:
    """Reconcile a run (None: the newest) and write ``reports/verify.json``.

    Waits until everything is accounted for, nothing new has come for ``quiet`` seconds, or the wait
    is over. Raises LedgerError, KafkaUnavailable, PersonalizeUnavailable.
    """
    settings = settings or VerifySettings()
    contracts = contracts or load_contracts()
    registry = registry or connect_registry(endpoints)
    run = run or newest_run(endpoints.home)
    began = time.monotonic()
    with_personalize = settings.personalize and endpoints.personalize is not None
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(ledger_path(endpoints.home, run)))
        about = ledger.about()
        _check_cluster(endpoints, about, run)
        start = positions(about["start"])
        others = _Others(endpoints.home, run, about, start)
        reconciliation = Reconciliation(
            contracts,
            ledger.rows(),
            start,
            ledger.ends(),
            earlier_versions=others.earlier_versions(),
            stale_tolerance_ms=settings.stale_tolerance_ms,
        )
        looking = _Looking(endpoints, reconciliation, contracts, registry, start, others, stack)
        personalize = (
            PersonalizeReader(endpoints.personalize)
            if with_personalize and endpoints.personalize
            else None
        )
        _wait(looking, personalize, settings, progress, began)
        if personalize is not None:
            for event_id, duplicates in personalize.duplicates():
                reconciliation.set_duplicates(event_id, duplicates)
        bounds = topic_ends(endpoints.bootstrap_servers, [c.topic for c in contracts])
    findings = reconciliation.findings(bounds, accepted=with_personalize)
    destinations = verify_destinations(
        endpoints,
        settings.destinations,
        contracts,
        registry,
        settings.wait,
        lambda note: progress(Step("accounting", 0, 0, note)),
    )
    report = _report(run, reconciliation, findings, destinations, time.monotonic() - began)
    write_report(endpoints.home / "reports" / "verify.json", report.document())
    return report


def newest_run(home: Path) -> str:
    """The run that started last; raises NothingToVerify when there is none."""
    if not (names := runs(home)):
        raise NothingToVerify(
            f"{home / 'ledger'} has no ledger; `tunemesh replay` sends something and keeps one"
        )
    return names[-1]


def _check_cluster(endpoints: Endpoints, about: Mapping[str, Any], run: str) -> None:
    found = cluster_id(endpoints.bootstrap_servers)
    if found != about["cluster_id"]:
        raise KafkaUnavailable(
            f"the run {run} went to another Kafka cluster ({about['cluster_id']}) than the one at"
            f" {endpoints.bootstrap_servers} ({found}): its records are not there"
        )


def positions(text: Mapping[str, Mapping[str, int]]) -> dict[str, dict[int, int]]:
    """Offsets by topic and partition, from the ledger's JSON, whose keys are text."""
    return {topic: {int(p): o for p, o in ends.items()} for topic, ends in text.items()}


class _Others:
    """The other runs of the same project: their versions and events are not inventions."""

    def __init__(
        self,
        home: Path,
        run: str,
        about: Mapping[str, Any],
        start: Mapping[str, Mapping[int, int]],
    ) -> None:
        self._home = home
        self._run = run
        self._cluster_id = about["cluster_id"]
        self._started_ms = int(about["started_ms"])
        self._start = start
        self._event_ids: set[str] | None = None

    def earlier_versions(self) -> Iterator[LedgerRow]:
        """Dimension versions on the same topics, published by runs before this one."""
        for ledger in self._ledgers():
            about = ledger.about()
            # Offsets that reach into this run's belong to data that was wiped in between.
            before = all(
                end <= self._start.get(topic, {}).get(partition, 0)
                for topic, ends in ledger.ends().items()
                for partition, end in ends.items()
            )
            same = about.get("cluster_id") == self._cluster_id
            if same and before and int(about.get("started_ms", 0)) <= self._started_ms:
                yield from ledger.rows(Kind.VERSION)

    def know(self, accepted: Accepted) -> bool:
        """Whether an event that Personalize holds is from another run or from before this one."""
        if accepted.accepted_ms < self._started_ms:
            return True
        if self._event_ids is None:
            self._event_ids = set()
            for ledger in self._ledgers():
                self._event_ids |= ledger.event_ids()
        return accepted.event_id in self._event_ids

    def _ledgers(self) -> Iterator[Ledger]:
        for name in runs(self._home):
            if name == self._run:
                continue
            try:
                with Ledger.open(ledger_path(self._home, name)) as ledger:
                    yield ledger
            except LedgerError:
                continue


class _Looking:
    """Reads what is new and adds it to the reconciliation."""

    def __init__(
        self,
        endpoints: Endpoints,
        reconciliation: Reconciliation,
        contracts: Contracts,
        registry: SchemaLookup,
        start: Mapping[str, Mapping[int, int]],
        others: _Others,
        stack: ExitStack,
    ) -> None:
        self._reconciliation = reconciliation
        self._others = others
        enriched, letters = contracts.only(Role.ENRICHED), contracts.only(Role.DEAD_LETTER)
        self._enriched = Decoder(enriched, registry)
        self._letters = Decoder(letters, registry)
        self._enriched_reader = stack.enter_context(
            TopicReader(endpoints.bootstrap_servers, enriched.topic, start[enriched.topic])
        )
        self._letter_reader = stack.enter_context(
            TopicReader(endpoints.bootstrap_servers, letters.topic, start[letters.topic])
        )

    def look(self, personalize: PersonalizeReader | None) -> int:
        """Read what has come since the last time; the number of records and rows."""
        reconciliation = self._reconciliation
        seen = 0
        # Personalize first: what it has by now was enriched before, so that is read after it.
        if personalize is not None:
            for accepted in personalize.accepted():
                reconciliation.add_accepted(accepted, self._others.know)
                seen += 1
            for ignored in personalize.ignored():
                reconciliation.add_ignored(ignored)
                seen += 1
        for message in self._enriched_reader.read():
            seen += 1
            position = f"{message.topic()}/{message.partition()}/{message.offset()}"
            try:
                record = self._enriched.decode(message.value())
            except InvalidRecord as error:
                reconciliation.add_unreadable(position, str(error))
                continue
            reconciliation.add_enriched(position, message.timestamp()[1], record)
        for message in self._letter_reader.read():
            seen += 1
            position = f"{message.topic()}/{message.partition()}/{message.offset()}"
            try:
                record = self._letters.decode(message.value())
            except InvalidRecord as error:
                reconciliation.add_unreadable(position, str(error))
                continue
            if _is_of_put_events(record):
                reconciliation.add_dead_letter(record)
        return seen

    def outstanding(self, personalize: PersonalizeReader | None) -> tuple[int, int, int]:
        """See Reconciliation.outstanding."""
        return self._reconciliation.outstanding(accepted=personalize is not None)


def _is_of_put_events(letter: Mapping[str, Any]) -> bool:
    """Not what another destination has refused: that is reconciled with that destination."""
    if letter["step"] == "decode":
        return True
    other = letter["event_id"] is None
    return bool(letter["error_code"].startswith("personalize.")) and not other


def _wait(
    looking: _Looking,
    personalize: PersonalizeReader | None,
    settings: VerifySettings,
    progress: Progress,
    began: float,
) -> None:
    last_news = time.monotonic()
    first: int | None = None
    while True:
        if looking.look(personalize):
            last_news = time.monotonic()
        waiting = looking.outstanding(personalize)
        left = sum(waiting)
        first = max(left, first or 0)
        note = f"waiting for {waiting[0]:,} enriched, {waiting[1]:,} dead letters"
        if personalize is not None:
            note += f", {waiting[2]:,} accepted"
        progress(Step("accounting", first - left, first, note if left else ""))
        now = time.monotonic()
        if left == 0:
            # What is surplus comes last: one more look after the last thing awaited.
            time.sleep(min(_LOOK_SECONDS, settings.wait))
            looking.look(personalize)
            return
        if now - began >= settings.wait or now - last_news >= settings.quiet:
            return
        time.sleep(_LOOK_SECONDS)


def _report(
    run: str,
    reconciliation: Reconciliation,
    findings: list[Finding],
    destinations: tuple[DestinationReport, ...],
    seconds: float,
) -> VerifyReport:
    tally, events = reconciliation.tally, reconciliation.event_counts()
    emission, acceptance = reconciliation.delays_ms()
    return VerifyReport(
        run=run,
        produced=tally.produced,
        unacknowledged=tally.unacknowledged,
        valid=events["valid"],
        enriched=events["enriched"],
        enriched_records=tally.enriched_records,
        accepted=events["accepted"],
        dead_letters=dict(sorted(tally.dead_letters.items())),
        rejected=dict(sorted(tally.rejected.items())),
        duplicates_ignored=events["duplicates_ignored"],
        identical_ignored=tally.identical_ignored,
        reemitted=tally.reemitted,
        without_user=tally.without_user,
        without_item=tally.without_item,
        unchecked=tally.unchecked,
        others=tally.other_enriched + tally.other_dead_letters + tally.other_accepted,
        findings=tuple(findings),
        emission_p50_ms=percentile(emission, 50),
        emission_p99_ms=percentile(emission, 99),
        acceptance_p50_ms=percentile(acceptance, 50),
        acceptance_p99_ms=percentile(acceptance, 99),
        seconds=seconds,
        destinations=destinations,
    )


def percentile(ordered: list[int], percent: float) -> int | None:
    """The value that ``percent`` of the sorted values do not exceed; None of none."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def summary_lines(report: VerifyReport) -> list[str]:
    """The report as a table for the terminal, findings below it."""

    def number(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    def delay(value: int | None) -> str:
        return "-" if value is None else f"{value:,} ms"

    rows = [
        ("produced interactions", number(report.produced)),
        ("valid events", number(report.valid)),
        ("enriched", number(report.enriched)),
        ("  without user / without item", f"{report.without_user:,} / {report.without_item:,}"),
        ("  emitted again", number(report.reemitted)),
        ("accepted by Personalize", number(report.accepted)),
        ("  duplicates ignored", number(report.duplicates_ignored)),
        ("dead letters", number(sum(report.dead_letters.values()))),
        *((f"  {code}", number(count)) for code, count in report.dead_letters.items()),
        *((f"  at delivery: {code}", number(count)) for code, count in report.rejected.items()),
        ("lost", number(report.lost)),
        ("invented", number(report.invented)),
        ("misenriched", number(report.misenriched)),
        (
            "emission p50 / p99",
            f"{delay(report.emission_p50_ms)} / {delay(report.emission_p99_ms)}",
        ),
        (
            "acceptance p50 / p99",
            f"{delay(report.acceptance_p50_ms)} / {delay(report.acceptance_p99_ms)}",
        ),
    ]
    optional = (
        ("left out as identical", report.identical_ignored),
        ("sent, not acknowledged", report.unacknowledged),
        ("not checked (unsure versions)", report.unchecked),
        ("of other runs and producers", report.others),
    )
    rows += [(name, number(value)) for name, value in optional if value]
    lines = [f"run {report.run}, accounted for in {report.seconds:.1f} s"]
    lines += [f"  {name:<32}{value:>20}" for name, value in rows]
    lines += destination_lines(report.destinations)
    for fault, found in report.by_fault().items():
        lines.append(f"{fault.value}: {len(found):,}")
        lines += [f"  {finding.id}  {finding.detail}" for finding in found[:SHOWN_IDS]]
        if len(found) > SHOWN_IDS:
            lines.append(f"  ... and {len(found) - SHOWN_IDS:,} more in reports/verify.json")
    off = len(report.findings) + sum(not one.ok for one in report.destinations)
    lines.append("all accounted for" if report.ok else f"{off:,} findings")
    return lines


def fault_counts(report: VerifyReport) -> dict[str, int]:
    """Findings by kind, for machine-readable summaries."""
    return dict(Counter(finding.fault.value for finding in report.findings))
