"""A small finished bootstrap output in S3, and the S3 of the tests (moto, in this process)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from batch.imports.plan import DatasetSchemas

BUCKET = "bulk"
ROLE = "arn:aws:iam::000000000000:role/tunemesh-personalize"
_NAMESPACE = "com.amazonaws.personalize.schema"
_TEXT = {"type": ["null", "string"], "categorical": True}


def schema(name: str, *fields: dict[str, Any]) -> str:
    """An Avro schema for Personalize."""
    document = {"type": "record", "name": name, "namespace": _NAMESPACE, "version": "1.0"}
    return json.dumps({**document, "fields": list(fields)})


SCHEMAS = DatasetSchemas(
    users=schema("Users", {"name": "USER_ID", "type": "string"}, {"name": "COUNTRY", **_TEXT}),
    items=schema(
        "Items",
        {"name": "ITEM_ID", "type": "string"},
        {"name": "GENRES", **_TEXT},
        {"name": "DURATION_MS", "type": ["null", "long"]},
        {"name": "CREATION_TIMESTAMP", "type": ["null", "long"]},
    ),
    interactions=schema(
        "Interactions",
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
        {"name": "EVENT_VALUE", "type": ["float", "null"]},
        {"name": "DEVICE", **_TEXT},
    ),
)
USERS = [(f"u{number:03d}", "de" if number % 2 else "fr") for number in range(60)]
ITEMS = [
    (f"i{number:03d}", "rock|pop" if number < 20 else "jazz", 180_000, 1_700_000_000)
    for number in range(40)
]
"""The first twenty are rock and pop, the others jazz."""


def interactions(count: int = 1_200, start: int = 1_760_000_000) -> list[tuple[Any, ...]]:
    """Users with an even number listen to rock, the others to jazz: ten of the twenty items each,
    one of which they skip."""
    rows = []
    for number in range(count):
        user = number % len(USERS)
        item = ((number // len(USERS)) % 10 + user // 2) % 20 + (0 if user % 2 == 0 else 20)
        event = "skip" if number // len(USERS) == 3 else "play"
        rows.append((f"u{user:03d}", f"i{item:03d}", start + number, event, "", "web"))
    return rows


def csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """CSV text; the values need no quotation marks."""
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def columns(text: str) -> list[str]:
    """The header that a schema demands."""
    return [field["name"] for field in json.loads(text)["fields"]]


class S3:
    """The S3 of a test: its address, and what the tests put there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, body: bytes) -> str:
        """Puts an object; returns its s3:// address."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def put_output(
        self,
        run: str,
        *,
        users: Sequence[Sequence[object]] = USERS,
        items: Sequence[Sequence[object]] = ITEMS,
        plays: Sequence[Sequence[object]] | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> str:
        """A finished bootstrap output, in two files where there are rows for two; its location."""
        rows_of = {
            "users": (SCHEMAS.users, users),
            "items": (SCHEMAS.items, items),
            "interactions": (SCHEMAS.interactions, interactions() if plays is None else plays),
        }
        document: dict[str, Any] = {"run": run, "until": None, "trainable": True, "problems": []}
        for name, (text, rows) in rows_of.items():
            document[name] = {"read": len(rows), "written": len(rows), "rejected": 0}
            for number, part in enumerate((rows[::2], rows[1::2])):
                if part:
                    key = f"bootstrap/{run}/{name}/part-{number:05d}.csv"
                    self.put(key, csv(columns(text), part))
        self.put(
            f"bootstrap/{run}/report.json", json.dumps({**document, **(report or {})}).encode()
        )
        return f"s3://{BUCKET}/bootstrap/{run}/"


@contextmanager
def s3_running() -> Iterator[S3]:
    """An S3 for as long as the test needs one."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()
