"""Items of any domain on DynamoDB: each write conditional on the version that was read.

The table's stream publishes a change (:mod:`services.item_stream`).
"""

from __future__ import annotations

import contextlib
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from connectors.aws.sdk import error_code, sdk_client
from connectors.stores.dynamodb import (
    ItemReader,
    table_definition,
    table_name,
    to_attribute,
    to_item,
)
from schemas.codec import Record
from schemas.invalid import Reason
from schemas.model import Contract
from services.domain import Decide
from services.http import Unavailable
from services.records import InvalidInput, Rules

MAX_ATTEMPTS = 10
"""Attempts of a change that concurrent changes overtake."""

_LOST = "ConditionalCheckFailedException"
_DENIED = "AccessDeniedException"
_REJECTED = "ValidationException"


def connect(region: str) -> Any:
    """A DynamoDB client, for AWS_ENDPOINT_URL_DYNAMODB if it is set."""
    return sdk_client(
        "dynamodb", region, connect_timeout=3, read_timeout=10, retries={"mode": "standard"}
    )


def create_table(client: Any, contract: Contract) -> None:
    """Create the domain's table with its stream, and wait for it; an existing one is kept."""
    with contextlib.suppress(client.exceptions.ResourceInUseException):
        client.create_table(**table_definition(contract))
    client.get_waiter("table_exists").wait(TableName=table_name(contract))


class ItemStore:
    """A :class:`services.domain.RecordStore`."""

    def __init__(self, client: Any, rules: Rules) -> None:
        self._client = client
        self._table = table_name(rules.contract)
        self._key = rules.contract.key
        self._updated = rules.updated
        self._record = ItemReader(rules.contract)

    def read(self, key: str) -> Record | None:
        """See :class:`services.domain.RecordStore`."""
        answer = self._call(
            "get_item", Key={self._key: {"S": key}}, ConsistentRead=True, TableName=self._table
        )
        return self._record(answer["Item"]) if "Item" in answer else None

    def change(self, key: str, decide: Decide) -> None:
        """See :class:`services.domain.RecordStore`."""
        for _ in range(MAX_ATTEMPTS):
            current = self.read(key)
            change = decide(current)
            if change is None:
                return
            condition = self._unchanged(current)
            try:
                if change.record is None:
                    self._call(
                        "delete_item",
                        TableName=self._table,
                        Key={self._key: {"S": key}},
                        **condition,
                    )
                else:
                    self._call(
                        "put_item",
                        TableName=self._table,
                        Item=to_item(change.record),
                        **condition,
                    )
                return
            except _Overtaken:
                continue
        raise Unavailable(
            f"{self._table}: an item was changed by others in {MAX_ATTEMPTS} attempts"
        )

    def _unchanged(self, current: Record | None) -> dict[str, Any]:
        """The condition that the item was not written since it was read."""
        if current is None:
            return {
                "ConditionExpression": "attribute_not_exists(#key)",
                "ExpressionAttributeNames": {"#key": self._key},
            }
        if self._updated is None:
            return {
                "ConditionExpression": "attribute_exists(#key)",
                "ExpressionAttributeNames": {"#key": self._key},
            }
        if current[self._updated] is None:
            return {
                "ConditionExpression": "attribute_exists(#key) AND attribute_not_exists(#version)",
                "ExpressionAttributeNames": {"#key": self._key, "#version": self._updated},
            }
        return {
            "ConditionExpression": "#version = :read",
            "ExpressionAttributeNames": {"#version": self._updated},
            "ExpressionAttributeValues": {":read": to_attribute(current[self._updated])},
        }

    def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, operation)(**arguments)
        except ClientError as error:
            code = error_code(error)
            if code == _LOST:
                raise _Overtaken from error
            if code == _REJECTED:
                message = error.response["Error"]["Message"]
                raise InvalidInput(
                    Reason.INVALID_VALUE, f"the store rejects it: {message}"
                ) from None
            if code == _DENIED:
                raise  # no later attempt is allowed either
            raise Unavailable(f"{self._table}: {error}") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self._table}: {error}") from error


class _Overtaken(Exception):
    """Another change of the item was committed since it was read."""
