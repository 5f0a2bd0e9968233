"""What answers of OpenSearch mean, for a call and for each document of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.aws.classification import CredentialsRefused, Kind
from connectors.delivery import Delivered, Fatal, Rejected, Retry
from connectors.http import Answer, NoAnswer
from connectors.opensearch.classification import (
    ERROR_TYPES,
    FAULTS_OF_THE_CLUSTER,
    VERSION_CONFLICT,
    bulk_outcomes,
    classify,
)


def item(status: int, code: str | None = None, reason: str = "why") -> dict[str, Any]:
    error = {"error": {"type": code, "reason": reason}} if code else {}
    return {"index": {"status": status} | error}


def outcomes(*items: dict[str, Any], versioned: bool = False) -> list[Any]:
    failed = any(one["index"]["status"] >= 300 for one in items)
    body = json.dumps({"errors": failed, "items": items}).encode()
    return list(bulk_outcomes(body, [versioned] * len(items)))


class TestDocuments:
    def test_all_are_delivered(self) -> None:
        """Made or replaced."""
        assert outcomes(item(201), item(200)) == [Delivered(), Delivered()]

    def test_each_has_its_own_outcome_by_index(self) -> None:
        """In the order of the call."""
        assert outcomes(
            item(201),
            item(429, "rejected_execution_exception"),
            item(400, "mapper_parsing_exception", "failed to parse field [plays]"),
            item(503, "unavailable_shards_exception"),
            item(200),
        ) == [
            Delivered(),
            Retry(throttled=True, reason="rejected_execution_exception: why"),
            Rejected("mapper_parsing_exception", "failed to parse field [plays]"),
            Retry(reason="unavailable_shards_exception: why"),
            Delivered(),
        ]

    def test_a_newer_version_that_is_there_already_is_as_good_as_delivered(self) -> None:
        """For documents with a version; one without has nothing to be in conflict with."""
        conflict = item(409, VERSION_CONFLICT)
        assert outcomes(conflict, versioned=True) == [Delivered()]
        assert outcomes(conflict) == [Rejected(VERSION_CONFLICT, "why")]

    @pytest.mark.parametrize("code", ERROR_TYPES)
    @pytest.mark.parametrize("status", [400, 503])
    def test_every_type_means_what_the_table_says(self, code: str, status: int) -> None:
        """Whatever the status; and what stops says what to do."""
        (outcome,) = outcomes(item(status, code, "It says so."))
        kind = ERROR_TYPES[code].kind
        if kind is Kind.REJECTED:
            assert outcome == Rejected(code, "It says so.")
        elif kind is Kind.FATAL:
            assert ERROR_TYPES[code].advice
            assert outcome == Fatal(code, f"It says so. {ERROR_TYPES[code].advice}")
        else:
            throttled = kind is Kind.THROTTLED
            assert outcome == Retry(throttled=throttled, reason=f"{code}: It says so.")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("es_rejected_execution_exception", Kind.THROTTLED),
            ("rejected_execution_exception", Kind.THROTTLED),
            ("circuit_breaking_exception", Kind.THROTTLED),
            ("unavailable_shards_exception", Kind.RETRY),
            ("mapper_parsing_exception", Kind.REJECTED),
            ("strict_dynamic_mapping_exception", Kind.REJECTED),
            ("index_not_found_exception", Kind.FATAL),
            ("index_closed_exception", Kind.FATAL),
            ("security_exception", Kind.FATAL),
        ],
    )
    def test_the_table(self, code: str, kind: Kind) -> None:
        """The types on which most depends."""
        assert ERROR_TYPES[code].kind is kind

    @pytest.mark.parametrize(
        "block",
        [
            "index [events] blocked by: [FORBIDDEN/8/index write (api)];",
            "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];",
        ],
    )
    def test_a_write_block_is_waited_for(self, block: str) -> None:
        """Amazon OpenSearch Service sets it while storage or memory are short, and removes it."""
        (outcome,) = outcomes(item(403, "cluster_block_exception", block))
        assert isinstance(outcome, Retry)
        assert outcome.throttled
        assert block in outcome.reason
        assert "free storage" in outcome.reason
        assert "index.blocks" in outcome.reason

    def test_a_type_that_is_not_in_the_table_goes_by_its_status(self) -> None:
        """Codes are added by new versions of OpenSearch."""
        code, reason = "brand_new_exception", "brand_new_exception: why"
        found = outcomes(*(item(status, code) for status in (429, 503, 500, 408, 403, 401, 400)))
        assert found[:4] == [Retry(throttled=True, reason=reason), *[Retry(reason=reason)] * 3]
        assert [type(one) for one in found[4:]] == [Fatal, Fatal, Rejected]
        assert "index.blocks" in found[4].message

    @pytest.mark.parametrize("text", [text for text, _ in FAULTS_OF_THE_CLUSTER])
    def test_a_fault_of_the_cluster_is_fatal_even_as_a_bad_document(self, text: str) -> None:
        """It concerns every document: the stream must not go to the dead letters."""
        (outcome,) = outcomes(item(400, "illegal_argument_exception", f"xx {text} yy"))
        assert isinstance(outcome, Fatal)
        assert outcome.message.endswith((".", ")"))

    def test_a_status_without_an_error(self) -> None:
        """It is named after the status."""
        assert outcomes(item(429), item(400)) == [
            Retry(throttled=True, reason="HTTP429"),
            Rejected("HTTP400", "status 400"),
        ]

    def test_a_reason_holds_no_value(self) -> None:
        """OpenSearch names the field, then shows what is in it; only the first is kept."""
        said = "failed to parse field [plays] of type [long]. Preview of field's value: 'secret'"
        assert outcomes(item(400, "mapper_parsing_exception", said)) == [
            Rejected("mapper_parsing_exception", "failed to parse field [plays] of type [long].")
        ]

    def test_a_long_reason_is_cut(self) -> None:
        """Dead letters keep the start of it."""
        (outcome,) = outcomes(item(400, "mapper_parsing_exception", "x" * 9_000))
        assert len(outcome.message) == 2_000

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b"{}",
            b'{"errors":false,"items":[{"index":{"status":201}}]}',
            b'{"errors":true,"items":[{},{}]}',
            b'{"errors":true,"items":[{"index":{}},{"index":{}}]}',
        ],
    )
    def test_an_answer_of_something_else_is_fatal(self, body: bytes) -> None:
        """Nothing may count as delivered because a proxy said 200."""
        found = bulk_outcomes(body, [False, True])
        assert len(found) == 2
        for outcome in found:
            assert isinstance(outcome, Fatal)
            assert outcome.code == "NotOpenSearch"


EXPIRED = "The security token included in the request is expired"


class TestCalls:
    @pytest.mark.parametrize(
        ("answer", "verdict"),
        [
            (Answer(200, body=b"{}"), Delivered()),
            (NoAnswer("refused"), Retry(reason="refused")),
            (
                Answer(429, "rejected_execution_exception", "full", 2.0),
                Retry(2.0, throttled=True, reason="rejected_execution_exception: full"),
            ),
            (Answer(429), Retry(throttled=True, reason="HTTP429")),
            (Answer(503), Retry(reason="HTTP503")),
            (Answer(502, None, "Bad Gateway"), Retry(reason="HTTP502: Bad Gateway")),
            (Answer(413), Rejected("RequestTooLarge", "HTTP status 413", whole_call=True)),
            (
                Answer(413, None, "Request size exceeded 10485760 bytes"),
                Rejected(
                    "RequestTooLarge", "Request size exceeded 10485760 bytes", whole_call=True
                ),
            ),
            (
                Answer(400, "illegal_argument_exception", "Malformed action"),
                Rejected("illegal_argument_exception", "Malformed action", whole_call=True),
            ),
        ],
    )
    @pytest.mark.parametrize("signed", [False, True])
    def test_answers_and_their_meaning(
        self, answer: Answer | NoAnswer, verdict: object, signed: bool
    ) -> None:
        """One line for each kind of answer; without a word on whose fault it is, bisected."""
        assert classify(answer, signed=signed) == verdict

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(401, None, "Unauthorized"),
            Answer(403, "security_exception", "no permissions for [indices:data/write/bulk]"),
            Answer(403, None, "User: anonymous is not authorized to perform: es:ESHttpPost"),
            Answer(403, "AccessDeniedException", "no"),
        ],
    )
    @pytest.mark.parametrize("signed", [False, True])
    def test_no_permission_is_fatal(self, answer: Answer, signed: bool) -> None:
        """A person has to give it."""
        verdict = classify(answer, signed=signed)
        assert isinstance(verdict, Fatal)
        assert "may write to" in verdict.message

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(403, None, EXPIRED),
            Answer(403, "ExpiredTokenException", EXPIRED),
            Answer(403, "InvalidSignatureException", "Signature expired"),
            Answer(403, None, "Signature expired: 20260101T000000Z is now earlier than ..."),
        ],
    )
    def test_refused_credentials_are_worth_another_try(self, answer: Answer) -> None:
        """With keys that the credential chain may have newer ones of, and only then."""
        verdict = classify(answer, signed=True)
        assert isinstance(verdict, CredentialsRefused)
        assert "Check which credentials" in verdict.fatal.message
        assert isinstance(classify(answer, signed=False), Fatal)

    @pytest.mark.parametrize("status", [301, 400, 404, 405, 406])
    def test_an_answer_without_a_type_is_not_from_opensearch(self, status: int) -> None:
        """A wrong endpoint URL must not send the stream to the dead letters."""
        verdict = classify(Answer(status, None, "no handler found for uri"), signed=False)
        assert isinstance(verdict, Fatal)
        assert verdict.code == "NotOpenSearch"
        assert "endpoint URL" in verdict.message
