"""Invokes a handler with DynamoDB Streams, as Lambda's event source mapping does.

A shard is read in order, one batch at a time, and a child shard after its parent. Progress is kept
in a file; a batch that failed in part is repeated from the first failed change. So every change is
handled at least once, also when this process is killed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from connectors.files import write_whole

BATCH_RECORDS = 500
IDLE_SECONDS = 0.1
RETRY_SECONDS = 1.0
SHARDS_SECONDS = 5.0
"""How often the list of a stream's shards is read."""

FINISHED = "finished"
"""Instead of a sequence number: a closed shard has been handled completely."""

MAX_FINISHED_SHARDS = 1_000
"""Finished shards that are remembered, of all streams; a stream lists some ten of the last day."""

TRIMMED = "TrimmedDataAccessException"
OUTDATED = (TRIMMED, "ExpiredIteratorException")
"""Errors of an iterator that is older than what the stream keeps, or than its 15 minutes: usual
where a table does not change for some time."""

Invoke = Callable[[dict[str, Any]], Mapping[str, Any]]

_log = logging.getLogger(__name__)


class Checkpoints:
    """The progress of each shard, in a file that is written atomically. Thread safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, shard: str) -> str | None:
        """Return the last sequence number handled; None for a shard that was never read."""
        with self._lock:
            return self._kept.get(shard)

    def put(self, shard: str, number: str) -> None:
        """Record the progress of a shard."""
        with self._lock:
            self._kept[shard] = number
            finished = [name for name, number in self._kept.items() if number == FINISHED]
            for name in finished[:-MAX_FINISHED_SHARDS]:
                del self._kept[name]
            write_whole(self._path, json.dumps(self._kept, indent=1))


class StreamMapping:
    """Invokes a handler with one table's changes until ``stop`` is set."""

    def __init__(
        self,
        client: Any,
        table: str,
        invoke: Invoke,
        checkpoints: Checkpoints,
        stop: threading.Event,
    ) -> None:
        """``client`` is one of ``dynamodbstreams``."""
        self._client = client
        self._table = table
        self._invoke = invoke
        self._checkpoints = checkpoints
        self._stop = stop
        self._iterators: dict[str, str] = {}

    def run(self) -> None:
        """Read until ``stop`` is set; errors are logged and retried."""
        stream: str | None = None
        shards: list[dict[str, Any]] = []
        listed_at = 0.0
        while not self._stop.is_set():
            try:
                if stream is None or time.monotonic() - listed_at >= SHARDS_SECONDS:
                    stream, shards = self._list_shards()
                    listed_at = time.monotonic()
                read = [
                    self._read(stream, shard) for shard in shards if self._is_next(shard, shards)
                ]
                if not any(read):
                    self._stop.wait(IDLE_SECONDS)
            except (BotoCoreError, ClientError) as error:
                _log.warning("the stream of %s: %s", self._table, error)
                self._iterators.clear()
                stream = None
                self._stop.wait(RETRY_SECONDS)

    def _list_shards(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the table's stream and its shards."""
        streams = self._client.list_streams(TableName=self._table)["Streams"]
        if not streams:
            raise BotoCoreError()
        stream = max(streams, key=lambda entry: entry["StreamLabel"])["StreamArn"]
        shards: list[dict[str, Any]] = []
        arguments = {"StreamArn": stream}
        while True:
            answer = self._client.describe_stream(**arguments)["StreamDescription"]
            shards += answer["Shards"]
            if "LastEvaluatedShardId" not in answer:
                return stream, shards
            arguments["ExclusiveStartShardId"] = answer["LastEvaluatedShardId"]

    def _is_next(self, shard: dict[str, Any], shards: list[dict[str, Any]]) -> bool:
        """Whether a shard can be read: it is unfinished, and its parent is finished or gone."""
        if self._checkpoints.get(shard["ShardId"]) == FINISHED:
            return False
        parent = shard.get("ParentShardId")
        known = any(parent == other["ShardId"] for other in shards)
        return not known or self._checkpoints.get(parent or "") == FINISHED

    def _read(self, stream: str, shard: dict[str, Any]) -> bool:
        """Handle the next batch of a shard; returns False if it was empty."""
        name = shard["ShardId"]
        iterator = self._iterators.pop(name, None) or self._find_iterator(stream, shard)
        try:
            answer = self._client.get_records(ShardIterator=iterator, Limit=BATCH_RECORDS)
        except ClientError as error:
            if _code(error) not in OUTDATED:
                raise
            return False  # The next iterator begins after the last handled change.
        records = answer["Records"]
        if records and not self._handle(stream, name, records):
            self._stop.wait(RETRY_SECONDS)
            return True
        following = answer.get("NextShardIterator")
        if following is None:
            self._checkpoints.put(name, FINISHED)
            return True
        self._iterators[name] = following
        return bool(records)

    def _find_iterator(self, stream: str, shard: dict[str, Any]) -> str:
        """Return the iterator after the last handled change of a shard, or at its start."""
        name = shard["ShardId"]
        handled = self._checkpoints.get(name)
        if handled is not None:
            try:
                return self._request_iterator(stream, name, handled)
            except ClientError as error:
                if _code(error) != TRIMMED:
                    raise
                last = shard.get("SequenceNumberRange", {}).get("EndingSequenceNumber")
                if last is None or int(handled) < int(last):
                    _log.error(
                        "%s: changes after %s are older than the stream keeps and were never"
                        " published; publish the table anew", self._table, handled
                    )  # fmt: skip
        return self._request_iterator(stream, name, None)

    def _request_iterator(self, stream: str, shard: str, after: str | None) -> str:
        where = (
            {"ShardIteratorType": "TRIM_HORIZON"}
            if after is None
            else {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        )
        answer = self._client.get_shard_iterator(StreamArn=stream, ShardId=shard, **where)
        return str(answer["ShardIterator"])

    def _handle(self, stream: str, shard: str, records: list[dict[str, Any]]) -> bool:
        """Invoke the handler with a batch and record its progress; returns whether it did all."""
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        try:
            answer = self._invoke({"Records": [_as_lambda(stream, r) for r in records]})
        except Exception:  # noqa: BLE001  # as in Lambda: an error fails the whole batch
            _log.exception("the stream of %s: the handler failed", self._table)
            return False
        failed = [entry["itemIdentifier"] for entry in answer.get("batchItemFailures", ())]
        done = min((numbers.index(number) for number in failed), default=len(numbers))
        if done:
            self._checkpoints.put(shard, numbers[done - 1])
        return done == len(numbers)


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _as_lambda(stream: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a record of GetRecords to one of an event: with its stream, and times as numbers."""
    content = dict(record["dynamodb"])
    created = content.get("ApproximateCreationDateTime")
    if created is not None:
        content["ApproximateCreationDateTime"] = created.timestamp()
    return {**record, "dynamodb": content, "eventSourceARN": stream}
