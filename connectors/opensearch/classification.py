"""The outcome of the documents of a call by OpenSearch's answer.

By the *type* of the error, which is the name of OpenSearch's exception in snake case
(`OpenSearchException.getExceptionName`: without the prefix "OpenSearch"; the prefix "es_" is from
its ancestor). A type that is not in the table, or that means different things, goes by the status
that OpenSearch derives from it:

    429                 throttled; cluster_block_exception: the disk is nearly full
    408, 5xx            retry
    401, 403            fatal; cluster_block_exception: throttled, since Amazon OpenSearch Service
                        blocks writes while storage or memory are short
    any other           the document is bad

A bulk call answers 200 with a status for each document. An error of the whole call is classified by
the same table; when it is the documents' fault, it does not name the document, and the call is
bisected. So is a call that is too large (413).
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
    "access policy of the domain), and that the index is not blocked (index.blocks)."
)
_CHECK_ENDPOINT: Final = "Check the endpoint URL and any proxy on the way to it."

_BAD_DOCUMENT: Final = ErrorCode(Kind.REJECTED)
_TEMPORARY: Final = ErrorCode(Kind.RETRY)
_OVERLOADED: Final = ErrorCode(Kind.THROTTLED)

VERSION_CONFLICT: Final = "version_conflict_engine_exception"

ERROR_TYPES: Final[dict[str, ErrorCode]] = {
    # Too much at once: queues, indexing pressure, memory.
    "rejected_execution_exception": _OVERLOADED,
    "es_rejected_execution_exception": _OVERLOADED,
    "circuit_breaking_exception": _OVERLOADED,
    # Nodes come and go, shards move.
    "unavailable_shards_exception": _TEMPORARY,
    "no_shard_available_action_exception": _TEMPORARY,
    "shard_not_in_primary_mode_exception": _TEMPORARY,
    "retry_on_primary_exception": _TEMPORARY,
    "process_cluster_event_timeout_exception": _TEMPORARY,
    "cluster_manager_not_discovered_exception": _TEMPORARY,
    "master_not_discovered_exception": _TEMPORARY,
    "not_cluster_manager_exception": _TEMPORARY,
    "not_master_exception": _TEMPORARY,
    "node_closed_exception": _TEMPORARY,
    "node_disconnected_exception": _TEMPORARY,
    "node_not_connected_exception": _TEMPORARY,
    "no_node_available_exception": _TEMPORARY,
    "receive_timeout_transport_exception": _TEMPORARY,
    "timeout_exception": _TEMPORARY,
    # Two writers create the same index at the same time: it exists now.
    "resource_already_exists_exception": _TEMPORARY,
    # The document does not fit the mapping, or is malformed.
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
    # A person has to change something.
    "index_not_found_exception": ErrorCode(Kind.FATAL, _CHECK_INDEX),
    "index_closed_exception": ErrorCode(Kind.FATAL, _CHECK_INDEX),
    "invalid_index_name_exception": ErrorCode(Kind.FATAL, "Choose another name for the index."),
    "security_exception": ErrorCode(Kind.FATAL, _CHECK_ACCESS),
}

WRITE_BLOCK: Final = "cluster_block_exception"
_CHECK_CAPACITY: Final = (
    "Writes are blocked: check the domain's free storage and its memory pressure, and, if a person"
    " has set the block, index.blocks."
)

FAULTS_OF_THE_CLUSTER: Final = (
    (
        "shards open",  # "... this cluster currently has [1000]/[1000] maximum shards open"
        (
            "The cluster has as many shards as it may have: delete old indexes, or raise "
            "cluster.max_shards_per_node."
        ),
    ),
    ("pipeline with id", "Create the ingest pipeline, or remove it from the index's settings."),
    ("no write index is defined", "The name is an alias: give it a write index."),
    (
        "explicit index in bulk is not allowed",
        "Set rest.action.multi.allow_explicit_index to true.",
    ),
)
"""Texts in messages of the types of a bad document, where the fault is the cluster's, with advice.
It concerns every document, and would otherwise send the whole stream to the dead letters."""

_PREVIEW: Final = " Preview of field's value"
"""The value itself follows in a message; it must not be logged."""

# Codes of what AWS has in front of a domain: credentials and throttling.
_IN_FRONT: Final = common_error_codes(
    service="Amazon OpenSearch Service",
    operation="_bulk",
    target="domain",
    permission="es:ESHttpPost on the domain",
)
_CREDENTIALS: Final = ("security token", "signature")


def classify(answer: Answer | NoAnswer, *, signed: bool) -> Verdict:
    """The verdict on an answer to a whole bulk call; after Delivered, each document has an outcome
    of its own.

    `signed`: by keys that may have expired, and that the credential chain may have renewed. AWS
    rejects those with 403 and "The security token included in the request is expired", with or
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
        is_named = any(text in message.lower() for text in _CREDENTIALS)
        if (in_front and in_front.kind is Kind.CREDENTIALS) or (
            code is None and status in (401, 403) and is_named
        ):
            advice = in_front.advice if in_front else _IN_FRONT["ExpiredToken"].advice
            return CredentialsRefused(Fatal(code or f"HTTP{status}", with_advice(message, advice)))
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

    `versioned`: whether each has a version of its own; then a conflict means that the index has the
    same version or a newer one, which counts as delivered.
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
    if code == WRITE_BLOCK and kind is Kind.FATAL:
        kind, message = Kind.THROTTLED, with_advice(message, _CHECK_CAPACITY)
    name = code or f"HTTP{status}"
    if kind is Kind.REJECTED:
        for text, what_to_do in FAULTS_OF_THE_CLUSTER:
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
