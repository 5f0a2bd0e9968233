"""DynamoDB Streams to a handler, as Lambda's event source mapping does it.

A shard is read in order, one batch at a time, and a child after its parent. What the handler has
done is kept in a file; a batch that it could not finish comes again from the first change that it
names. So every change comes at least once, also when this process is killed.
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

BATCH = 500
IDLE_SECONDS = 0.1
RETRY_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often it is asked whether a stream has new shards."""

FINISHED = "finished"
"""In the place of a sequence number: all of a closed shard has been handled."""

Invoke = Callable[[dict[str, Any]], Mapping[str, Any]]

_log = logging.getLogger(__name__)


class Checkpoints:
    """How far each shard has been handled, in a file that is whole at any moment. Thread safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, shard: str) -> str | None:
        """The last sequence number handled; None for a shard that was never read."""
        with self._lock:
            return self._kept.get(shard)

    def put(self, shard: str, number: str) -> None:
        """Keep how far a shard has been handled."""
        with self._lock:
            self._kept[shard] = number
            write_whole(self._path, json.dumps(self._kept, indent=1))


class StreamMapping:
    """Hands one table's changes to a handler until told to stop."""

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
        """Read until told to stop; what goes wrong is logged and tried again."""
        stream: str | None = None
        shards: list[dict[str, Any]] = []
        looked = 0.0
        while not self._stop.is_set():
            try:
                if stream is None or time.monotonic() - looked >= LOOK_SECONDS:
                    stream, shards = self._look()
                    looked = time.monotonic()
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

    def _look(self) -> tuple[str, list[dict[str, Any]]]:
        """The table's stream and its shards, as they are now."""
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
        """Whether a shard is to be read now: not finished, and its parent is, or is long gone."""
        if self._checkpoints.get(shard["ShardId"]) == FINISHED:
            return False
        parent = shard.get("ParentShardId")
        known = any(parent == other["ShardId"] for other in shards)
        return not known or self._checkpoints.get(parent or "") == FINISHED

    def _read(self, stream: str, shard: dict[str, Any]) -> bool:
        """Hand on what a shard has next; whether there was anything."""
        name = shard["ShardId"]
        iterator = self._iterators.pop(name, None) or self._iterator(stream, name)
        answer = self._client.get_records(ShardIterator=iterator, Limit=BATCH)
        records = answer["Records"]
        if records and not self._hand_on(stream, name, records):
            self._stop.wait(RETRY_SECONDS)
            return True
        following = answer.get("NextShardIterator")
        if following is None:
            self._checkpoints.put(name, FINISHED)
            return True
        self._iterators[name] = following
        return bool(records)

    def _iterator(self, stream: str, shard: str) -> str:
        """Where to go on in a shard: behind what has been handled, or at its start."""
        handled = self._checkpoints.get(shard)
        if handled is not None:
            try:
                return self._ask_iterator(stream, shard, handled)
            except ClientError as error:
                if error.response["Error"]["Code"] != "TrimmedDataAccessException":
                    raise
                _log.error(
                    "%s: changes after %s are older than the stream keeps and were never"
                    " published; publish the table anew", self._table, handled
                )  # fmt: skip
        return self._ask_iterator(stream, shard, None)

    def _ask_iterator(self, stream: str, shard: str, after: str | None) -> str:
        where = (
            {"ShardIteratorType": "TRIM_HORIZON"}
            if after is None
            else {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        )
        answer = self._client.get_shard_iterator(StreamArn=stream, ShardId=shard, **where)
        return str(answer["ShardIterator"])

    def _hand_on(self, stream: str, shard: str, records: list[dict[str, Any]]) -> bool:
        """Invoke the handler with a batch and keep what it has done; whether that is all."""
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        try:
            answer = self._invoke({"Records": [_as_lambda(stream, r) for r in records]})
        except Exception:  # noqa: BLE001  # as Lambda: a handler that raises has done nothing
            _log.exception("the stream of %s: the handler failed", self._table)
            return False
        failed = [entry["itemIdentifier"] for entry in answer.get("batchItemFailures", ())]
        done = min((numbers.index(number) for number in failed), default=len(numbers))
        if done:
            self._checkpoints.put(shard, numbers[done - 1])
        return done == len(numbers)


def _as_lambda(stream: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of GetRecords as an event has it: with its stream, and moments as numbers."""
    content = dict(record["dynamodb"])
    created = content.get("ApproximateCreationDateTime")
    if created is not None:
        content["ApproximateCreationDateTime"] = created.timestamp()
    return {**record, "dynamodb": content, "eventSourceARN": stream}
