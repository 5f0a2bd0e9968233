"""Reconcile a run's ledger with the enriched topic, the dead letters and the destinations."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from connectors.files import write_report
from schemas.codec import Decoder, SchemaLookup, encode_body, parse_plain
from schemas.errors import TunemeshError
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Contracts, Role, load_contracts
from schemas.rules import check_id, check_version
from verification.destinations import DestinationReport, Topics, verify_destinations
from verification.endpoints import Endpoints
from verification.entries import Kind
from verification.ledger import Ledger, LedgerError, LedgerRow, Status, ledger_path, runs
from verification.personalize_events import PersonalizeReader
from verification.positions import (
    KafkaUnavailable,
    TopicReader,
    cluster_id,
    topic_ends,
)
from verification.progress import Progress, Step, silent
from verification.reconcile import INVENTED, LOST, Accepted, Fault, Finding, Reconciliation, Tally
from verification.replay import connect_registry

_POLL_SECONDS = 0.5


class NothingToVerify(TunemeshError):
    """There is no ledger to verify."""


class MissingContracts(TunemeshError):
    """A run was published with contracts that are not among the present ones."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class VerifySettings:
    """What to verify, and how long to wait for the pipelines, in seconds.

    Verification ends when everything is reconciled, after ``quiet`` without a new record, or after
    ``wait``. ``destinations``: the others to reconcile, see :mod:`verification.destinations`.
    """

    wait: float = 60.0
    quiet: float = 15.0
    stale_tolerance_ms: int = 0
    personalize: bool = True
    destinations: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class VerifyReport(Tally):
    """The reconciliation report; counts are of distinct events unless they say records."""

    run: str
    valid: int
    enriched: int
    accepted: int
    findings: tuple[Finding, ...]
    emission_p50_ms: int | None
    emission_p99_ms: int | None
    acceptance_p50_ms: int | None
    acceptance_p99_ms: int | None
    seconds: float
    destinations: tuple[DestinationReport, ...] = ()

    @property
    def others(self) -> int:
        """Records of other runs and producers."""
        return self.other_enriched + self.other_dead_letters + self.other_accepted

    @property
    def ok(self) -> bool:
        """Whether there is no finding."""
        return not self.findings and all(report.ok for report in self.destinations)

    def by_fault(self) -> dict[Fault, list[Finding]]:
        """Return the findings by kind, in the order of the kinds."""
        return {
            fault: findings
            for fault in Fault
            if (findings := [finding for finding in self.findings if finding.fault is fault])
        }

    def count(self, *faults: Fault) -> int:
        """Return the number of findings of these kinds."""
        return sum(1 for finding in self.findings if finding.fault in faults)

    @property
    def lost(self) -> int:
        """Acknowledged valid events that were not enriched or not accepted."""
        return self.count(*LOST)

    @property
    def invented(self) -> int:
        """Records at a destination that were never sent."""
        return self.count(*INVENTED)

    @property
    def misenriched(self) -> int:
        """Events with a wrong user or item, or without one that was published."""
        return self.count(Fault.MISENRICHED)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON, with all ids."""
        lists = ("findings", "destinations")
        names = [f.name for f in fields(self) if f.name not in lists and f.name[:6] != "other_"]
        return {
            **{name: getattr(self, name) for name in names},
            "others": self.others,
            "ok": self.ok,
            "lost": self.lost,
            "invented": self.invented,
            "misenriched": self.misenriched,
            "destinations": {report.name: report.document() for report in self.destinations},
            "findings": {
                fault.value: [{"id": f.id, "detail": f.detail} for f in findings]
                for fault, findings in self.by_fault().items()
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

    Raises LedgerError, KafkaUnavailable, PersonalizeUnavailable, DestinationUnavailable.
    """
    settings = settings or VerifySettings()
    contracts = contracts or load_contracts()
    registry = registry or connect_registry(endpoints)
    run = run or newest_run(endpoints.home)
    began = time.monotonic()
    personalize = None
    if settings.personalize and endpoints.personalize is not None:
        personalize = PersonalizeReader(endpoints.personalize)
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(ledger_path(endpoints.home, run)))
        about = ledger.about()
        _check_contracts(contracts, ledger, run)
        _check_cluster(endpoints, about, run)
        start = positions(about["start"])
        other_runs = _OtherRuns(endpoints.home, run, about, start, contracts)
        producers = _OtherProducers(endpoints, contracts, registry)
        reconciliation = Reconciliation(
            contracts,
            ledger.rows(),
            start,
            ledger.ends(),
            earlier_versions=other_runs.earlier_versions(),
            other_versions=producers.versions,
            stale_tolerance_ms=settings.stale_tolerance_ms,
        )

        def reader(role: Role) -> _DecodingReader:
            contract = contracts.only(role)
            topic = TopicReader(endpoints.bootstrap_servers, contract.topic, start[contract.topic])
            return _DecodingReader(stack.enter_context(topic), Decoder(contract, registry))

        outputs = _Outputs(
            reconciliation,
            reader(Role.ENRICHED),
            reader(Role.DEAD_LETTER),
            personalize,
            other_runs,
            producers,
        )
        _wait(outputs, settings, progress, began)
        if personalize is not None:
            for event_id, duplicates in personalize.duplicates():
                reconciliation.set_duplicates(event_id, duplicates)
        bounds = topic_ends(endpoints.bootstrap_servers, [c.topic for c in contracts])
    findings = reconciliation.findings(bounds, accepted=personalize is not None)
    destinations = verify_destinations(
        endpoints, settings.destinations, contracts, registry, settings.wait, progress
    )
    emission, acceptance = reconciliation.delays_ms()
    counts = asdict(reconciliation.tally) | reconciliation.event_counts()
    for name in ("dead_letters", "rejected"):
        counts[name] = dict(sorted(counts[name].items()))
    report = VerifyReport(
        run=run,
        findings=tuple(findings),
        emission_p50_ms=percentile(emission, 50),
        emission_p99_ms=percentile(emission, 99),
        acceptance_p50_ms=percentile(acceptance, 50),
        acceptance_p99_ms=percentile(acceptance, 99),
        seconds=time.monotonic() - began,
        destinations=destinations,
        **counts,
    )
    write_report(endpoints.home / "reports" / "verify.json", report.document())
    return report


def newest_run(home: Path) -> str:
    """Return the run that started last; raises NothingToVerify if there is none."""
    if not (names := runs(home)):
        raise NothingToVerify(
            f"there is no ledger in {home / 'ledger'}. Publish records first: tunemesh replay"
        )
    return names[-1]


def _check_cluster(endpoints: Endpoints, about: Mapping[str, Any], run: str) -> None:
    present = cluster_id(endpoints.bootstrap_servers)
    if present != about["cluster_id"]:
        raise KafkaUnavailable(
            f"the run {run} was published to another Kafka cluster ({about['cluster_id']}) than the"
            f" one at {endpoints.bootstrap_servers} ({present}): its records are not there"
        )


def _check_contracts(contracts: Contracts, ledger: Ledger, run: str) -> None:
    """Raise MissingContracts unless there is a contract for each topic of a ledger."""
    missing = sorted(ledger.topics() - {contract.topic for contract in contracts})
    if not missing:
        return
    folders = ledger.about().get("contracts", {})
    parents = dict.fromkeys(str(Path(folders[t]).parent) for t in missing if t in folders)
    value = os.pathsep.join(parents) or "the folder of their contracts"
    raise MissingContracts(
        f"the run {run} has records of the topics {', '.join(missing)}, which no contract has here."
        f" Set TUNEMESH_CONTRACTS to {value}"
    )


def positions(text: Mapping[str, Mapping[str, int]]) -> dict[str, dict[int, int]]:
    """Return offsets by topic and partition from the ledger's JSON, whose keys are text."""
    return {topic: {int(p): o for p, o in ends.items()} for topic, ends in text.items()}


class _OtherRuns:
    """The other runs with a ledger: their versions and events were not invented."""

    def __init__(
        self,
        home: Path,
        run: str,
        about: Mapping[str, Any],
        start: Mapping[str, Mapping[int, int]],
        contracts: Contracts,
    ) -> None:
        self._home = home
        self._contracts = contracts
        self._run = run
        self._cluster_id = about["cluster_id"]
        self._started_ms = int(about["started_ms"])
        self._start = start
        self._event_ids: set[str] | None = None

    def earlier_versions(self) -> Iterator[LedgerRow]:
        """Yield the versions of users and items that earlier runs published on the same topics."""
        for ledger in self._ledgers():
            about = ledger.about()
            # Larger offsets than at the start of this run belong to topics that were deleted.
            is_earlier = all(
                end <= self._start.get(topic, {}).get(partition, 0)
                for topic, ends in ledger.ends().items()
                for partition, end in ends.items()
            )
            is_same = about.get("cluster_id") == self._cluster_id
            if is_same and is_earlier and int(about.get("started_ms", 0)) <= self._started_ms:
                _check_contracts(self._contracts, ledger, ledger.path.stem)
                yield from ledger.rows(Kind.VERSION)

    def is_theirs(self, accepted: Accepted) -> bool:
        """Whether an accepted event is from another run, or from before this one."""
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


class _OtherProducers:
    """The users and items on the topics: back ends and other producers publish them, too.

    They are read when a version seems wrong, once for each reading of the outputs.
    """

    def __init__(self, endpoints: Endpoints, contracts: Contracts, registry: SchemaLookup) -> None:
        self._topics = Topics(endpoints, contracts, registry)
        self.is_current = False

    def versions(self) -> Iterator[LedgerRow]:
        """Yield all versions on the topics; none while they were read already."""
        if self.is_current:
            return
        self.is_current = True
        for role in (Role.USER, Role.ITEM):
            for contract in self._topics.contracts.with_role(role):
                schema = parse_plain(contract.newest.definition)
                for message, record in self._topics.records(contract):
                    row = _version_row(contract, schema, message, record)
                    if _is_usable(row):
                        yield row


def _is_usable(row: LedgerRow) -> bool:
    """Whether a record that decodes is a version, and not a dead letter for its id or its time."""
    try:
        check_id("id", row.entity)
        check_version(row.updated_at or 0, row.timestamp or 0)
    except InvalidRecord:
        return False
    return True


def _version_row(
    contract: Contract, schema: Any, message: Any, record: Mapping[str, Any] | None
) -> LedgerRow:
    mapping = contract.item or contract.user
    assert mapping is not None
    is_deleted = record is None or bool(mapping.deleted and record[mapping.deleted])
    key = (message.key() or b"").decode(errors="replace")
    return LedgerRow(
        seq=0,
        topic=contract.topic,
        key=message.key(),
        event_id=None,
        kind=Kind.VERSION,
        reason=None,
        entity=key if record is None else record[contract.key],
        updated_at=record[mapping.updated] if record is not None and mapping.updated else None,
        deleted=is_deleted,
        body=None if record is None else encode_body(schema, record),
        status=Status.ACKNOWLEDGED,
        partition=message.partition(),
        offset=message.offset(),
        timestamp=message.timestamp()[1],
    )


@dataclass(frozen=True, slots=True)
class _DecodingReader:
    """A topic with its decoder."""

    topic: TopicReader
    decoder: Decoder

    def read(self, reconciliation: Reconciliation) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Yield position, timestamp and content of new records; add unreadable ones as such."""
        for message in self.topic.read():
            position = f"{message.topic()}/{message.partition()}/{message.offset()}"
            try:
                yield position, message.timestamp()[1], self.decoder.decode(message.value())
            except InvalidRecord as error:
                reconciliation.add_unreadable(position, str(error))


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Readers of the outputs of a run, and the reconciliation that they feed."""

    reconciliation: Reconciliation
    enriched: _DecodingReader
    dead_letters: _DecodingReader
    personalize: PersonalizeReader | None
    other_runs: _OtherRuns
    producers: _OtherProducers

    def read(self) -> bool:
        """Add what is new to the reconciliation; whether there was anything."""
        reconciliation, news = self.reconciliation, False
        self.producers.is_current = False
        # Accepted events were enriched before: the enriched topic is read after Personalize.
        if self.personalize is not None:
            for accepted in self.personalize.accepted():
                reconciliation.add_accepted(accepted, self.other_runs.is_theirs)
                news = True
            for ignored in self.personalize.ignored():
                reconciliation.add_ignored(ignored)
                news = True
        for position, emitted_ms, record in self.enriched.read(reconciliation):
            reconciliation.add_enriched(position, emitted_ms, record)
            news = True
        for _, _, letter in self.dead_letters.read(reconciliation):
            news = True
            if _concerns_put_events(letter):
                reconciliation.add_dead_letter(letter)
        return news

    def outstanding(self) -> tuple[int, int, int]:
        """See :meth:`verification.reconcile.Reconciliation.outstanding`."""
        return self.reconciliation.outstanding(accepted=self.personalize is not None)


def _concerns_put_events(letter: Mapping[str, Any]) -> bool:
    """Whether a dead letter is of decoding or PutEvents; others are reconciled elsewhere."""
    if letter["step"] == "decode":
        return True
    # Users and items, which PutUsers and PutItems reject, have no event_id.
    return letter["event_id"] is not None and letter["error_code"].startswith("personalize.")


def _wait(outputs: _Outputs, settings: VerifySettings, progress: Progress, began: float) -> None:
    last_news = time.monotonic()
    total = 0
    while True:
        if outputs.read():
            last_news = time.monotonic()
        enriched, dead_letters, accepted = outputs.outstanding()
        missing = enriched + dead_letters + accepted
        total = max(missing, total)
        note = f"waiting for {enriched:,} enriched, {dead_letters:,} dead letters"
        if outputs.personalize is not None:
            note += f", {accepted:,} accepted"
        progress(Step("verifying", total - missing, total, note if missing else ""))
        now = time.monotonic()
        if missing == 0:
            # Surplus records may follow the last expected one.
            time.sleep(min(_POLL_SECONDS, settings.wait))
            outputs.read()
            return
        if now - began >= settings.wait or now - last_news >= settings.quiet:
            return
        time.sleep(_POLL_SECONDS)


def percentile(ordered: list[int], percent: float) -> int | None:
    """Return the value that ``percent`` of the sorted values do not exceed; None without any."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
