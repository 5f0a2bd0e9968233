"""Delivery to Firehose compared with loops of boto3 calls, on the platform's Firehose and S3."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import boto3

from benchmarks.backlog import deliver, exclude_from_gc, require, show
from benchmarks.expected import Record
from connectors.delivery import Delivered
from connectors.firehose import FirehoseSettings, firehose_destination
from deploy.local.settings import ACCOUNT, REGION

BUCKET = "bench-delivery"
WARM_UP_RECORDS = 16
MICRO_BATCH = 500
"""The records of a bucket in the job's window of a second, at about 8,000 events per second."""

NO_QUOTA = 2**40
"""Bytes per second: the emulator of Firehose has no such quota, and the loops ignore it."""

RECORDS_PER_CALL = 500


class Archive:
    """Firehose and S3 at one address; each run has a delivery stream of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.firehose = boto3.client("firehose", endpoint_url=url, region_name=REGION)
        self._s3 = boto3.client("s3", endpoint_url=url, region_name=REGION)
        self._s3.create_bucket(Bucket=BUCKET)

    def create_stream(self, name: str) -> None:
        """Create a delivery stream whose objects have the prefix ``name/``."""
        self.firehose.create_delivery_stream(
            DeliveryStreamName=name,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={
                "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/tunemesh-delivery",
                "BucketARN": f"arn:aws:s3:::{BUCKET}",
                "Prefix": f"{name}/",
            },
        )

    def check(self, name: str, acknowledged: Sequence[Record]) -> None:
        """Raise BenchmarkError unless the stream's objects have exactly these records."""
        counts: Counter[str] = Counter()
        contents: dict[str, Record] = {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/")
        for page in pages:
            for entry in page.get("Contents", ()):
                body = self._s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
                for line in body.splitlines():
                    document = json.loads(line)
                    counts[document["event_id"]] += 1
                    contents[document["event_id"]] = document
        require(
            counts == Counter(record["event_id"] for record in acknowledged),
            f"{name}: S3 does not hold each record as often as it was acknowledged",
        )
        require(
            all(contents[record["event_id"]] == record for record in acknowledged),
            f"{name}: records in S3 differ from the delivered ones",
        )


def measure(url: str, records: Sequence[Record], seconds: float) -> dict[str, Any]:
    """Measure the engine and both loops, which run for ``seconds``.

    Raises BenchmarkError when S3 does not hold the acknowledged records.
    """
    archive = Archive(url)
    loop = _measure_loop(archive, "loop", records, seconds, 1)
    ours = _measure_engine(archive, "ours", records)
    full = _measure_loop(archive, "full", records, seconds, RECORDS_PER_CALL)
    rate = "records_per_second"
    return {
        "firehose_ratio": round(ours[rate] / loop[rate], 2),
        "firehose_batch_loop_ratio": round(ours[rate] / full[rate], 2),
        "ours": ours,
        "put_record_loop": loop,
        "put_record_batch_loop": full,
    }


def _measure_engine(archive: Archive, name: str, records: Sequence[Record]) -> dict[str, Any]:
    """Deliver the records with the product's destination and settings."""
    archive.create_stream(name)
    destination = firehose_destination(
        FirehoseSettings(name, REGION, archive.url, bytes_per_second=NO_QUOTA)
    )
    outcomes, seconds, metrics = deliver(
        destination,
        records[WARM_UP_RECORDS:],
        warm_up=records[:WARM_UP_RECORDS],
        micro_batch=MICRO_BATCH,
    )
    require(outcomes == [Delivered()] * len(outcomes), "Firehose: not every record was delivered")
    archive.check(name, records)
    result = {
        "records": len(outcomes),
        "seconds": round(seconds, 3),
        "records_per_second": round(len(outcomes) / seconds),
        "calls": int(metrics["calls"]),
        "records_a_call": round(metrics["batch_size_mean"]),
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
    }
    show("Firehose, sink engine", result)
    return result


def _measure_loop(
    archive: Archive, name: str, records: Sequence[Record], seconds: float, records_per_call: int
) -> dict[str, Any]:
    """Put records by boto3 in one thread, as in the AWS samples: one per call, or full calls."""
    archive.create_stream(name)
    acknowledged: list[Record] = []
    with exclude_from_gc():
        started, cpu, calls = time.monotonic(), time.process_time(), 0
        while (passed := time.monotonic() - started) < seconds and len(acknowledged) < len(records):
            batch = records[len(acknowledged) : len(acknowledged) + records_per_call]
            entries = [{"Data": json.dumps(record).encode() + b"\n"} for record in batch]
            if records_per_call == 1:
                archive.firehose.put_record(DeliveryStreamName=name, Record=entries[0])
            else:
                response = archive.firehose.put_record_batch(
                    DeliveryStreamName=name, Records=entries
                )
                require(response["FailedPutCount"] == 0, f"{name}: records were refused")
            acknowledged += batch
            calls += 1
        cpu = time.process_time() - cpu
    archive.check(name, acknowledged)
    result = {
        "records": len(acknowledged),
        "seconds": round(passed, 3),
        "records_per_second": round(len(acknowledged) / passed),
        "calls": calls,
        "cpu_seconds": round(cpu, 2),
    }
    show(f"Firehose, boto3, records per call: {records_per_call}", result)
    return result
