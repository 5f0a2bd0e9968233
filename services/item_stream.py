"""Publishes the changes of the item tables from DynamoDB Streams, in order per key.

Invoked by an event source mapping with ReportBatchItemFailures: the answer names the first change
that was not published, and the mapping continues there. A shard has one invocation at a time and
holds every change of its keys, which makes the order ("Using AWS Lambda with Amazon DynamoDB", AWS
Lambda developer guide). An item that is removed, by hand or by its time to live, becomes a
tombstone.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import now_ms
from connectors.stores.dynamodb import ItemReader, table_name
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Role, load_contracts
from services.http import Event
from services.publishing import Message, Publisher
from services.records import InvalidInput, Rules
from services.settings import ServiceSettings

PUBLISH_SECONDS = 20.0

_log = logging.getLogger(__name__)


class UnknownTable(Exception):
    """A stream of a table of no item domain."""


def handler(event: Event, context: Any) -> dict[str, list[dict[str, str]]]:
    """Publish a batch of changes; the answer has the first that was not published, if any."""
    return publish(event["Records"], ServiceSettings.from_environment().publisher())


def publish(
    records: Sequence[Mapping[str, Any]], publisher: Publisher
) -> dict[str, list[dict[str, str]]]:
    """Publish the changes; see :func:`handler`. Blocks up to 20 s."""
    numbers: list[str] = []
    messages: list[Message] = []
    for record in records:
        message = _message(record)
        if message is not None:
            numbers.append(record["dynamodb"]["SequenceNumber"])
            messages.append(message)
    problems = publisher.publish(messages, PUBLISH_SECONDS)
    for number, message, problem in zip(numbers, messages, problems, strict=True):
        if problem is not None:
            _log.warning(
                "change %s of %s is not published: %s", number, message.contract.name, problem
            )
            return {"batchItemFailures": [{"itemIdentifier": number}]}
    return {"batchItemFailures": []}


def _message(change: Mapping[str, Any]) -> Message | None:
    """The message of a change; None for an item that does not fit the contract.

    The handlers write no such item; one that another program writes must not stop the others.
    """
    contract = _contract_of(change["eventSourceARN"])
    content = change["dynamodb"]
    key = content["Keys"][contract.key]["S"]
    if change["eventName"] == "REMOVE":
        return Message(contract, key, None)
    rules, read = _rules(contract.name)
    try:
        given = read(content["NewImage"])
        record = rules.completed({k: v for k, v in given.items() if v is not None})
        rules.check(record, now_ms())
    except (InvalidInput, InvalidRecord) as error:
        _log.error(
            "change %s of %s does not fit its contract and is passed over: %s %s",
            content["SequenceNumber"],
            contract.name,
            error.reason,
            error.field or "",
        )
        return None
    return Message(contract, key, record)


@functools.cache
def _rules(name: str) -> tuple[Rules, ItemReader]:
    contract = load_contracts()[name]
    return Rules(contract), ItemReader(contract)


def _contract_of(arn: str) -> Contract:
    # arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL
    name = arn.split(":", 5)[-1].split("/")[1]
    for contract in load_contracts().with_role(Role.ITEM):
        if table_name(contract) == name:
            return contract
    raise UnknownTable(arn)
