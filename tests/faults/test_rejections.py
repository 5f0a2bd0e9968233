"""Destinations that are unavailable, refuse calls, or lack a resource: no event is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import boto3
import pytest

from deploy.local import application, process
from deploy.local.python_servers import AWS
from deploy.local.settings import ACCESS_KEY, DELIVERY_STREAM, REGION, SECRET_KEY
from tests.faults.full_stage import (
    FIREHOSE,
    OPENSEARCH,
    PERSONALIZE,
    FullStage,
    Rejection,
    pass_time,
    scenario,
)
from tests.faults.opensearch_proxy import OPERATION as BULK
from tests.faults.plans import call_json
from tests.faults.stage import START_SECONDS
from verification.entries import Entry, Kind
from verification.generator import GeneratedHour, Hour

OUTAGE_SECONDS, OUTAGE_RATE = 60, 50

Failure = Callable[[FullStage], AbstractContextManager[None]]


# Unavailable


@contextmanager
def without_aws(stage: FullStage) -> Iterator[None]:
    """Kill Firehose, S3 and the schema registry; start them again at the end."""
    process.kill(stage.settings, AWS)
    try:
        yield
    finally:
        stage.start_missing(AWS)


@contextmanager
def without_opensearch(stage: FullStage) -> Iterator[None]:
    """Refuse connections to OpenSearch."""
    stage.proxy.stop()
    try:
        yield
    finally:
        stage.proxy.open()


OUTAGES: dict[str, Failure] = {
    "Personalize": FullStage.without_personalize,
    "Firehose": without_aws,
    "OpenSearch": without_opensearch,
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", OUTAGES)
def test_a_minute_of_refused_connections_loses_no_event(full_stage: FullStage, name: str) -> None:
    """Waiting records are delivered after the outage, without a restart."""
    seed = 300 + list(OUTAGES).index(name)
    with scenario(
        full_stage,
        f"{name} refuses connections for 60 s",
        seed=seed,
        seconds=OUTAGE_SECONDS,
        rate=OUTAGE_RATE,
        datasets=name == "Personalize",
    ) as flow:
        with OUTAGES[name](full_stage):
            pass_time(OUTAGE_SECONDS)
        flow.lift()
    assert flow.restarts == 0


# Refused until an operator corrects it


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failure that needs an operator, and the expected texts of the job's exception."""

    name: str
    failure: Failure
    texts: tuple[str, ...]
    datasets: bool = False
    days_ago: int = 0


@contextmanager
def restarted_personalize(stage: FullStage, *arguments: str) -> Iterator[None]:
    """Restart Personalize with additional arguments; at the end signatures are verified."""
    stage.restart_personalize(*arguments)
    try:
        yield
    finally:
        stage.restart_personalize("--credentials", f"{ACCESS_KEY}:{SECRET_KEY}")


def personalize(*arguments: str) -> Failure:
    """Return the failure of a Personalize with these arguments."""
    return lambda stage: restarted_personalize(stage, *arguments)


@contextmanager
def planned(stage: FullStage, service: str, operation: str, kind: str) -> Iterator[None]:
    """Let every call of an operation fail."""
    plans = stage.faults[service]
    plans.put({"rules": [{"operation": operation, "kind": kind}]})
    try:
        yield
    finally:
        plans.clear()


@contextmanager
def no_delivery_stream(stage: FullStage) -> Iterator[None]:
    """Delete the delivery stream."""
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    firehose = session.client("firehose", endpoint_url=stage.settings.aws.url)
    firehose.delete_delivery_stream(DeliveryStreamName=DELIVERY_STREAM)
    try:
        yield
    finally:
        application.create_delivery(stage.settings)


@contextmanager
def no_index(stage: FullStage) -> Iterator[None]:
    """Disable the creation of indices by documents."""
    set_auto_create_index(stage, "false")
    try:
        yield
    finally:
        set_auto_create_index(stage, None)


def set_auto_create_index(stage: FullStage, value: str | None) -> None:
    """Set which indices documents can create; None restores the configuration."""
    url = f"{stage.settings.opensearch.url}/_cluster/settings"
    call_json("PUT", url, {"persistent": {"action.auto_create_index": value}})


REFUSALS = (
    Refusal(
        "PutEvents, PutUsers, PutItems: wrong secret",
        personalize("--credentials", f"{ACCESS_KEY}:another-secret"),
        ("InvalidSignatureException", "Check which credentials the process finds"),
        datasets=True,
    ),
    Refusal(
        "PutUsers: access denied",
        lambda stage: planned(stage, PERSONALIZE, "PutUsers", "access_denied"),
        ("AccessDeniedException", "The role needs personalize:PutUsers"),
        datasets=True,
    ),
    Refusal(
        "Firehose: unknown credentials",
        lambda stage: planned(stage, FIREHOSE, "PutRecordBatch", "unrecognized_client"),
        ("UnrecognizedClientException", "Check which credentials the process finds"),
    ),
    Refusal(
        "OpenSearch: access denied",
        lambda stage: planned(stage, OPENSEARCH, BULK, "access_denied"),
        ("security_exception", "Check the authentication that is set"),
    ),
    Refusal(
        "PutEvents: no such event tracker",
        personalize("--tracking-id", "another-tracker"),
        ("No event tracker has the tracking id", "Check the tracking id and the region"),
    ),
    Refusal(
        "PutUsers and PutItems: no such dataset",
        personalize("--name", "another-group"),
        ("ResourceNotFoundException", "does not exist"),
        datasets=True,
    ),
    Refusal(
        "Firehose: no such delivery stream",
        no_delivery_stream,
        ("ResourceNotFoundException", "Check the stream's name and the region"),
    ),
    Refusal(
        "OpenSearch: no such index",
        no_index,
        ("index_not_found_exception", "Check that the index exists"),
        days_ago=3,
    ),
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_refusal_is_reported_and_loses_no_event(full_stage: FullStage, refusal: Refusal) -> None:
    """The job fails with advice, and continues from its state after the correction."""
    before = full_stage.attempts()
    with ExitStack() as stack:
        # Before the replay, because the first document would create the index.
        stack.enter_context(refusal.failure(full_stage))
        with scenario(
            full_stage,
            refusal.name,
            seed=400 + REFUSALS.index(refusal),
            datasets=refusal.datasets,
            days_ago=refusal.days_ago,
        ) as flow:
            flow.wait_failed(*refusal.texts)
            flow.wait_sent()
            stack.close()
            flow.lift()
            full_stage.rest.wait_running(full_stage.job, START_SECONDS)
            after = full_stage.attempts()
            restarted = sum(after[vertex] > before[vertex] for vertex in before)
            flow.notes["vertices_restarted"] = f"{restarted} of {len(before)}"
            assert restarted < len(before), "vertices of other destinations were restarted"
    assert flow.restarts > 0


# One invalid record

LONG_ID = "\u97f3" * 200
"""Of an event: 600 bytes in UTF-8. OpenSearch allows 512 bytes, PutEvents 256 characters."""

LONG_TEXT = "long " * 300
"""Longer than PutUsers and PutItems allow."""


def bad_records(hour: Hour) -> tuple[tuple[Entry, ...], frozenset[Rejection]]:
    """Return records that match their contracts but not a destination, and the rejections."""
    generated = GeneratedHour(hour)
    plays = (e.record for e in generated.stream() if e.kind is Kind.VALID and e.record)
    first, second = next(plays), next(plays)
    mark = f"bad-{hour.seed}"
    long_id, null_session = f"{mark}-{LONG_ID}", f"{mark}-null"
    user = {**generated.user(0, 0, hour.start_ms), "user_id": f"u-{mark}", "age_band": LONG_TEXT}
    song = {**generated.song(0, 0, hour.start_ms), "song_id": f"s-{mark}", "title": LONG_TEXT}
    entries = (
        Entry("interactions", {**first, "event_id": long_id}, Kind.VALID),
        Entry(
            "interactions", {**second, "event_id": null_session, "session_id": "null"}, Kind.VALID
        ),
        Entry("users", user, Kind.VERSION),
        Entry("songs", song, Kind.VERSION),
    )
    rejected = {
        (OPENSEARCH, long_id),
        (PERSONALIZE, null_session),
        (PERSONALIZE, f"u-{mark}"),
        (PERSONALIZE, f"s-{mark}"),
    }
    return entries, frozenset(rejected)


@pytest.mark.timeout(900)
def test_a_bad_record_in_a_batch_is_rejected_alone(full_stage: FullStage) -> None:
    """It becomes a dead letter of one destination; the rest of the batch is delivered."""
    seed = 500
    _, rejected = bad_records(Hour(interactions=100, start_ms=0, seed=seed))
    with scenario(
        full_stage,
        "one bad record in a batch",
        seed=seed,
        extra=lambda hour: bad_records(hour)[0],
        rejected=rejected,
        datasets=True,
    ) as flow:
        flow.wait_sent()
        flow.lift()
    assert flow.restarts == 0
