"""What an answer of OpenSearch means for the documents of the call. Data, and two small functions.

By the *type* of the error, which is the name of OpenSearch's exception in snake case
(`OpenSearchException.getExceptionName`: without the prefix "OpenSearch"; the prefix "es_" is from
its ancestor). A type that is not in the table, or that means different things, goes by the status
that OpenSearch derives from it:

    429                 throttled; cluster_block_exception: the disk is nearly full
    408, 5xx            retry
    401, 403            fatal; cluster_block_exception: a person has blocked the index
    any other           the document is bad

A bulk call answers 200 with a status for each document. An error of the whole call is read by the
same table; when it is the documents' fault, it does not say whose, and the call is bisected. So is
a call that is too large (413).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from connectors.aws.classification import (
    CredentialsRefused,
    ErrorCode,
    Kind,
    Verdict,
    common_error_codes,
    with_advice,
)
from connectors.delivery import Fatal, Outcome, Rejected, Retry
from connectors.delivery.outcomes import DELIVERED
from connectors.http import MAX_MESSAGE_CHARS, Answer, NoAnswer

_CHECK_INDEX: Final = (
    "Check that the index exists and is open, or that indexes may be made by writing to them "
    "(action.auto_create_index)."
)
_CHECK_ACCESS: Final = (
    "Check the authentication that is set, what its user or role may write to (index permissions, "
    "access policy of the domain), and that nobody has blocked the index (index.blocks)."
)
_CHECK_ENDPOINT: Final = "Check the endpoint URL and any proxy on the way to it."

_BAD_DOCUMENT: Final = ErrorCode(Kind.REJECTED)
_FOR_A_WHILE: Final = ErrorCode(Kind.RETRY)
_TOO_MUCH: Final = ErrorCode(Kind.THROTTLED)

VERSION_CONFLICT: Final = "version_conflict_engine_exception"

ERROR_TYPES: Final[dict[str, ErrorCode]] = {
    # Too much at once: queues, indexing pressure, memory.
    "rejected_execution_exception": _TOO_MUCH,
    "es_rejected_execution_exception": _TOO_MUCH,
    "circuit_breaking_exception": _TOO_MUCH,
    # Nodes come and go, shards move.
    "unavailable_shards_exception": _FOR_A_WHILE,
    "no_shard_available_action_exception": _FOR_A_WHILE,
    "shard_not_in_primary_mode_exception": _FOR_A_WHILE,
    "retry_on_primary_exception": _FOR_A_WHILE,
    "process_cluster_event_timeout_exception": _FOR_A_WHILE,
    "cluster_manager_not_discovered_exception": _FOR_A_WHILE,
    "master_not_discovered_exception": _FOR_A_WHILE,
    "not_cluster_manager_exception": _FOR_A_WHILE,
    "not_master_exception": _FOR_A_WHILE,
    "node_closed_exception": _FOR_A_WHILE,
    "node_disconnected_exception": _FOR_A_WHILE,
    "node_not_connected_exception": _FOR_A_WHILE,
    "no_node_available_exception": _FOR_A_WHILE,
    "receive_timeout_transport_exception": _FOR_A_WHILE,
    "timeout_exception": _FOR_A_WHILE,
    # Two writers make the same index at the same time: it is there now.
    "resource_already_exists_exception": _FOR_A_WHILE,
    # The document does not fit the mapping, or is none.
    "mapper_parsing_exception": _BAD_DOCUMENT,
    "document_parsing_exception": _BAD_DOCUMENT,
    "strict_dynamic_mapping_exception": _BAD_DOCUMENT,
    "illegal_argument_exception": _BAD_DOCUMENT,
    "parse_exception": _BAD_DOCUMENT,
    "parsing_exception": _BAD_DOCUMENT,
    "json_parse_exception": _BAD_DOCUMENT,
    "x_content_parse_exception": _BAD_DOCUMENT,
    "action_request_validation_exception": _BAD_DOCUMENT,
    "validation_exception": _BAD_DOCUMENT,
    # Somebody has to change something.
    "index_not_found_exception": ErrorCode(Kind.FATAL, _CHECK_INDEX),
    "index_closed_exception": ErrorCode(Kind.FATAL, _CHECK_INDEX),
    "invalid_index_name_exception": ErrorCode(Kind.FATAL, "Choose another name for the index."),
    "security_exception": ErrorCode(Kind.FATAL, _CHECK_ACCESS),
}

NOT_THE_DOCUMENT: Final = (
    (
        "shards open",  # "... this cluster currently has [1000]/[1000] maximum shards open"
        (
            "The cluster has as many shards as it may have: delete old indexes, or raise "
            "cluster.max_shards_per_node."
        ),
    ),
    ("pipeline with id", "Make the ingest pipeline, or take it out of the index's settings."),
    ("no write index is defined", "The name is an alias: give it a write index."),
    (
        "explicit index in bulk is not allowed",
        "Set rest.action.multi.allow_explicit_index to true.",
    ),
)
"""Texts in messages of the types that mean a bad document, where the fault is in the cluster. It
concerns every document, and would otherwise send the whole stream to the dead letters."""

_PREVIEW: Final = " Preview of field's value"
"""What follows in a message is the value itself, which belongs in no log."""

# What AWS has in front of a domain: who we are, and how many we are.
_IN_FRONT: Final = common_error_codes(
    service="Amazon OpenSearch Service",
    operation="_bulk",
    target="domain",
    permission="es:ESHttpPost on the domain",
)
_CREDENTIALS: Final = ("security token", "signature")


def classify(answer: Answer | NoAnswer, *, signed: bool) -> Verdict:
    """The meaning of an answer to a whole bulk call; Delivered says nothing of a single document
    yet.

    `signed`: by keys that may have ended, and that the credential chain may have newer ones of. AWS
    refuses those with 403 and "The security token included in the request is expired", with or
    without a code (fluent/fluent-plugin-opensearch issue 24).
    """
    if isinstance(answer, NoAnswer):
        return Retry(reason=answer.reason)
    status, code, message = answer.status, answer.code, answer.message
    if status < 300:
        return DELIVERED
    if status == 413:
        return Rejected("RequestTooLarge", message or "HTTP status 413", whole_call=True)
    if signed:
        in_front = _IN_FRONT.get(code) if code else None
        told = any(text in message.lower() for text in _CREDENTIALS)
        if (in_front and in_front.kind is Kind.CREDENTIALS) or (
            code is None and status in (401, 403) and told
        ):
            advice = in_front.advice if in_front else _IN_FRONT["ExpiredToken"].advice
            refused = Fatal(code or f"HTTP{status}", with_advice(message, advice))
            return CredentialsRefused(refused)
    if code is None and not (status in (401, 403, 408, 429) or status >= 500):
        return Fatal(
            "NotOpenSearch",
            with_advice(message, f"HTTP status {status} without an error type. {_CHECK_ENDPOINT}"),
        )
    outcome = _outcome(status, code, message, answer.retry_after)
    if isinstance(outcome, Rejected):
        return Rejected(outcome.code, outcome.message, whole_call=True)
    return outcome


def bulk_outcomes(body: bytes, versioned: Sequence[bool]) -> Sequence[Outcome]:
    """The outcome of each document of a bulk call that was answered with 200.

    `versioned` says of each whether it has a version of its own: then a conflict means that the
    same or a newer one is there already, which is as good as delivered.
    """
    try:
        answer = json.loads(body)
        items = answer["items"]
        if len(items) == len(versioned):
            if not answer["errors"]:
                return [DELIVERED] * len(items)
            return [
                _item_outcome(next(iter(item.values())), has_version)
                for item, has_version in zip(items, versioned, strict=True)
            ]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        pass
    stop = Fatal(
        "NotOpenSearch",
        "The answer does not have a status for each document, which is not how OpenSearch answers "
        f"a bulk call. {_CHECK_ENDPOINT}",
    )
    return [stop] * len(versioned)


def _item_outcome(item: Mapping[str, Any], versioned: bool) -> Outcome:
    status: int = item["status"]
    if status < 300:
        return DELIVERED
    error = item.get("error") or {}
    code = error.get("type")
    if versioned and code == VERSION_CONFLICT:
        return DELIVERED
    reason, _, _ = str(error.get("reason") or "").partition(_PREVIEW)
    return _outcome(status, code, reason[:MAX_MESSAGE_CHARS], None)


def _outcome(status: int, code: str | None, message: str, after: float | None) -> Outcome:
    known = ERROR_TYPES.get(code) if code else None
    kind, advice = (known.kind, known.advice) if known else _by_status(status)
    name = code or f"HTTP{status}"
    if kind is Kind.REJECTED:
        for text, what_to_do in NOT_THE_DOCUMENT:
            if text in message:
                return Fatal(name, with_advice(message, what_to_do))
        return Rejected(name, message or f"status {status}")
    if kind is Kind.FATAL:
        return Fatal(name, with_advice(message, advice))
    reason = f"{name}: {message}" if message else name
    return Retry(after, throttled=kind is Kind.THROTTLED, reason=reason)


def _by_status(status: int) -> tuple[Kind, str]:
    if status == 429:
        return Kind.THROTTLED, ""
    if status == 408 or status >= 500:
        return Kind.RETRY, ""
    if status in (401, 403):
        return Kind.FATAL, _CHECK_ACCESS
    return Kind.REJECTED, ""
