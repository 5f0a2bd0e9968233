"""Records of a DynamoDB table by a scan in parallel segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from batch.exports.records import Partition
from connectors.aws.sdk import service_errors
from connectors.stores.dynamodb import from_item
from schemas.invalid import InvalidRecord


class DynamoDbScan:
    """A whole table by a parallel scan.

    Not a snapshot: an item that changes during the scan is read before or after its change. That is
    enough beside a stream, which carries the change; :mod:`batch.exports.point_in_time` reads a
    consistent state on AWS, without using the table's capacity.
    """

    def __init__(self, dynamodb: Any, table: str, segments: int = 8) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._segments = segments

    def partitions(self) -> Sequence[Partition]:
        """The segments; makes no request."""
        return [
            Partition(
                f"{self._table}, segment {segment + 1} of {self._segments}",
                partial(self._read, segment),
            )
            for segment in range(self._segments)
        ]

    def close(self) -> None:
        """Do nothing: there is no connection to close."""

    def _read(self, segment: int) -> Iterator[Mapping[str, Any] | InvalidRecord]:
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "Segment": segment,
            "TotalSegments": self._segments,
            "ConsistentRead": True,
        }
        while True:
            with service_errors(
                f"scan the DynamoDB table {self._table}", "Is its service up? See: tunemesh status"
            ):
                page = self._dynamodb.scan(**arguments)
            for item in page["Items"]:
                try:
                    yield from_item(item)
                except InvalidRecord as error:
                    yield error
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
