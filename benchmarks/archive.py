"""Delivery to Firehose beside bare boto3 loops, against the platform's own Firehose and S3."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import boto3

from benchmarks.backlog import deliver, demand, out_of_sight_of_the_garbage_collector, say
from benchmarks.dataset import Record
from connectors.delivery import Delivered
from connectors.firehose import FirehoseSettings, firehose_destination
from deploy.local.settings import ACCOUNT, REGION

BUCKET = "bench-delivery"
BEFORE = 16
MICRO_BATCH = 500
"""What a bucket brings in the job's window of a second, at some 8,000 events a second."""

NO_QUOTA = 2**40
"""Bytes a second: the local Firehose has no such quota, and neither do the loops keep one."""

RECORDS_A_CALL = 500


class Archive:
    """Firehose and S3 at one address; each run has a delivery stream of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.firehose = boto3.client("firehose", endpoint_url=url, region_name=REGION)
        self._s3 = boto3.client("s3", endpoint_url=url, region_name=REGION)
        self._s3.create_bucket(Bucket=BUCKET)

    def make_stream(self, name: str) -> None:
        """A stream whose objects are below its name."""
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
        """Demands each record in the stream's objects exactly as often as it was acknowledged."""
        found: Counter[str] = Counter()
        contents: dict[str, Record] = {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/")
        for page in pages:
            for entry in page.get("Contents", ()):
                body = self._s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
                for line in body.splitlines():
                    document = json.loads(line)
                    found[document["event_id"]] += 1
                    contents[document["event_id"]] = document
        demand(
            found == Counter(record["event_id"] for record in acknowledged),
            f"{name}: S3 does not hold each record as often as it was acknowledged",
        )
        demand(
            all(contents[record["event_id"]] == record for record in acknowledged),
            f"{name}: S3 does not hold the records as they were handed over",
        )


def measure(url: str, records: Sequence[Record], seconds: float) -> dict[str, Any]:
    """All figures; the loops run for so many seconds. Raises BenchmarkError when S3 does not hold
    what was acknowledged."""
    archive = Archive(url)
    loop = _loop(archive, "loop", records, seconds, 1)
    ours = _ours(archive, "ours", records)
    full = _loop(archive, "full", records, seconds, RECORDS_A_CALL)
    rate = "records_per_second"
    return {
        "firehose_ratio": round(ours[rate] / loop[rate], 2),
        "firehose_batch_loop_ratio": round(ours[rate] / full[rate], 2),
        "ours": ours,
        "put_record_loop": loop,
        "put_record_batch_loop": full,
    }


def _ours(archive: Archive, name: str, records: Sequence[Record]) -> dict[str, Any]:
    """The sink engine with the product's destination and settings."""
    archive.make_stream(name)
    destination = firehose_destination(
        FirehoseSettings(name, REGION, archive.url, bytes_per_second=NO_QUOTA)
    )
    outcomes, seconds, metrics = deliver(
        destination, records[BEFORE:], before=records[:BEFORE], micro_batch=MICRO_BATCH
    )
    demand(outcomes == [Delivered()] * len(outcomes), "Firehose: not everything was delivered")
    archive.check(name, records)
    figures = {
        "records": len(outcomes),
        "seconds": round(seconds, 3),
        "records_per_second": round(len(outcomes) / seconds),
        "calls": int(metrics["calls"]),
        "records_a_call": round(metrics["batch_size_mean"]),
        "call_ms_mean": round(metrics["call_latency_mean"] * 1_000, 1),
        "cpu_seconds": metrics["cpu_seconds"],
    }
    say("Firehose, the sink engine", figures)
    return figures


def _loop(
    archive: Archive, name: str, records: Sequence[Record], seconds: float, a_call: int
) -> dict[str, Any]:
    """boto3, a call after the other, as in the AWS samples: one record each, or full calls."""
    archive.make_stream(name)
    acknowledged: list[Record] = []
    with out_of_sight_of_the_garbage_collector():
        begun, cpu, calls = time.monotonic(), time.process_time(), 0
        while (passed := time.monotonic() - begun) < seconds and len(acknowledged) < len(records):
            some = records[len(acknowledged) : len(acknowledged) + a_call]
            entries = [{"Data": json.dumps(record).encode() + b"\n"} for record in some]
            if a_call == 1:
                archive.firehose.put_record(DeliveryStreamName=name, Record=entries[0])
            else:
                answer = archive.firehose.put_record_batch(DeliveryStreamName=name, Records=entries)
                demand(answer["FailedPutCount"] == 0, f"{name}: records were refused")
            acknowledged += some
            calls += 1
        cpu = time.process_time() - cpu
    archive.check(name, acknowledged)
    figures = {
        "records": len(acknowledged),
        "seconds": round(passed, 3),
        "records_per_second": round(len(acknowledged) / passed),
        "calls": calls,
        "cpu_seconds": round(cpu, 2),
    }
    say(f"Firehose, boto3, {a_call} a call", figures)
    return figures
