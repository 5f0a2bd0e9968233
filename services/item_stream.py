"""Publishes the changes of the item tables from DynamoDB Streams, in order per key.

Invoked by an event source mapping with ReportBatchItemFailures: the answer names the first change
that was not published, and the mapping continues there. A shard has one invocation at a time and
holds every change of its keys, which makes the order ("Using AWS Lambda with Amazon DynamoDB", AWS
Lambda developer guide). An item that is removed, by hand or by its time to live, becomes a
tombstone; a change that does not fit the contract becomes a dead letter.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.clock import now_ms
from connectors.stores.dynamodb import ItemReader, table_name
from schemas.invalid import InvalidRecord
from schemas.model import Contract, Role, load_contracts
from services.dead_letters import refused_change
from services.http import Event
from services.publishing import Message, Publisher
from services.records import InvalidInput, Rules
from services.settings import ServiceSettings

PUBLISH_SECONDS = 20.0

_log = logging.getLogger(__name__)


class UnknownTable(Exception):
    """A stream of a table of no item domain, or of one that is not as the domain's."""


def handler(event: Event, context: Any) -> dict[str, list[dict[str, str]]]:
    """Publish a batch of changes; the answer has the first that was not published, if any."""
    return publish(event["Records"], ServiceSettings.from_environment().publisher())


def publish(
    records: Sequence[Mapping[str, Any]], publisher: Publisher
) -> dict[str, list[dict[str, str]]]:
    """Publish the changes; see :func:`handler`. Blocks up to 20 s."""
    numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
    messages = [_message(record) for record in records]
    problems = publisher.publish(messages, PUBLISH_SECONDS)
    for number, message, problem in zip(numbers, messages, problems, strict=True):
        if problem is not None:
            _log.warning(
                "change %s of %s is not published: %s", number, message.contract.name, problem
            )
            return {"batchItemFailures": [{"itemIdentifier": number}]}
    return {"batchItemFailures": []}


def _message(change: Mapping[str, Any]) -> Message:
    """The message of a change, or its dead letter.

    The handlers write no item that does not fit; one that another program writes must not stop the
    others.
    """
    contract = _contract_of(change["eventSourceARN"])
    content = change["dynamodb"]
    key, image = _key(contract, content), None
    rules, read = _rules(contract.name)
    try:
        if change["eventName"] == "REMOVE":
            return Message(contract, rules.check_id(key), None)
        image = _new_image(contract, content)
        given = read(image)
        record = rules.completed({k: v for k, v in given.items() if v is not None})
        rules.check(record, now_ms())
    except (InvalidInput, InvalidRecord) as error:
        number = content["SequenceNumber"]
        _log.error(
            "change %s of %s does not fit its contract and becomes a dead letter: %s %s",
            number,
            contract.name,
            error.reason,
            error.field or "",
        )
        changed_ms = int(1000 * content.get("ApproximateCreationDateTime", 0))
        return refused_change(
            contract, key, image, error, number=_offset(number), changed_ms=changed_ms
        )
    return Message(contract, key, record)


def _key(contract: Contract, content: Mapping[str, Any]) -> str:
    try:
        return str(content["Keys"][contract.key]["S"])
    except KeyError:
        raise UnknownTable(
            f"the key of the table {table_name(contract)} is not {contract.key}, a string, as the"
            f" contract {contract.name} has it"
        ) from None


def _new_image(contract: Contract, content: Mapping[str, Any]) -> Mapping[str, Any]:
    if "NewImage" not in content:
        raise UnknownTable(
            f"the stream of {table_name(contract)} has no new images: set its StreamViewType to"
            " NEW_AND_OLD_IMAGES"
        )
    image: Mapping[str, Any] = content["NewImage"]
    return image


def _offset(number: str) -> int:
    """A number of 63 bits for a sequence number, which may have 40 digits."""
    return int.from_bytes(hashlib.sha256(number.encode()).digest()[:8]) >> 1


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
