"""A dead letter holds the whole record, or says what it does not hold."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Decoder, Encoder
from schemas.dead_letter import (
    MAX_MESSAGE_CHARS,
    MAX_VALUE_BYTES,
    DeadLetters,
    SourceRecord,
    Step,
    dead_letter,
    payload_is_whole,
    without_values,
)
from schemas.model import Role, load_contracts
from tests.unit.schemas.test_flat_reader import Registry

CONTRACT = load_contracts().only(Role.DEAD_LETTER)
ENCODER = Encoder(CONTRACT, UUID(int=1))
SOURCE = SourceRecord("interactions", 1, 12, 1763000000400, b"u828", b"\x00")


def test_it_says_where_the_record_is_and_why_it_was_refused() -> None:
    """Every field of the format, literally: it is frozen API."""
    letter = dead_letter(SOURCE, "decode", "bad_magic_byte", "0x00", 1763000000500, "e-1")
    assert letter == {
        "topic": "interactions",
        "partition": 1,
        "offset": 12,
        "timestamp": 1763000000400,
        "key": b"u828",
        "payload": b"\x00",
        "step": "decode",
        "error_code": "bad_magic_byte",
        "message": "0x00",
        "event_id": "e-1",
        "first_seen": 1763000000500,
    }
    assert payload_is_whole(letter)
    assert Decoder(CONTRACT, Registry(CONTRACT)).decode(ENCODER.encode(letter)) == letter


def test_dead_letters_are_values_of_their_topic_and_counted_by_code() -> None:
    """With the step and the clock of whoever creates them."""
    letters = DeadLetters(ENCODER, Step.DELIVER, lambda: 1763000000500)
    value = letters.encode(SOURCE, "personalize.InvalidEvent", "too long", "e-1")
    assert Decoder(CONTRACT, Registry(CONTRACT)).decode(value) == dead_letter(
        SOURCE, Step.DELIVER, "personalize.InvalidEvent", "too long", 1763000000500, "e-1"
    )
    letters.encode(SOURCE, "other", "m")
    letters.encode(SOURCE, "other", "m")
    assert letters.counts == {"personalize.InvalidEvent": 1, "other": 2}


def test_its_limit_is_the_contracts() -> None:
    """MAX_VALUE_BYTES follows the contract's maxBytes."""
    assert CONTRACT.max_bytes == MAX_VALUE_BYTES


def test_an_unknown_step_is_a_mistake_of_the_caller() -> None:
    """The steps are part of the format."""
    assert {str(step) for step in Step} == {"decode", "deliver", "publish"}
    with pytest.raises(ValueError, match="elsewhere"):
        dead_letter(SOURCE, "elsewhere", "c", "m", 0)


def test_a_long_message_is_shortened_visibly() -> None:
    """At 1,000 characters, with an ellipsis."""
    letter = dead_letter(SOURCE, Step.DELIVER, "c", "x" * 5_000, 0)
    assert len(letter["message"]) == MAX_MESSAGE_CHARS
    assert letter["message"].endswith("x…")
    assert payload_is_whole(letter)


def test_a_payload_beyond_the_topics_limit_keeps_its_head_and_says_so() -> None:
    """With both sizes and a checksum, also when the message itself is too long."""
    payload = bytes(range(256)) * 20_000
    source = SourceRecord("songs", 0, 7, 1, b"s1", payload)
    letter = dead_letter(source, "decode", "oversize", "too large" * 500, 0)
    kept = letter["payload"] or b""
    assert payload.startswith(kept)
    assert len(kept) > MAX_VALUE_BYTES - 10_000
    assert f"[cut: payload {len(kept)} of 5120000 bytes, sha256 " in letter["message"]
    assert len(letter["message"]) == MAX_MESSAGE_CHARS
    assert not payload_is_whole(letter)
    assert len(ENCODER.encode(letter)) <= MAX_VALUE_BYTES


def test_a_payload_that_just_fits_is_kept_whole() -> None:
    """The limit is not a byte lower than it needs to be told."""
    largest_source = max(contract.max_bytes for contract in load_contracts().sources)
    source = SourceRecord("songs", 0, 7, 1, b"k" * 1_000, b"p" * (largest_source + 1))
    letter = dead_letter(source, "decode", "oversize", "too large", 0)
    assert letter["payload"] == source.payload
    assert payload_is_whole(letter)


def test_a_key_beyond_all_measure_is_cut_and_told() -> None:
    """A key and a payload can both be too large."""
    source = SourceRecord("songs", 0, 7, 1, b"k" * 3_000_000, b"p" * 3_000_000)
    letter = dead_letter(source, "decode", "oversize", "too large", 0)
    assert "cut: key 65536 of 3000000 bytes" in letter["message"]
    assert "cut: payload" in letter["message"]
    assert not payload_is_whole(letter)
    assert len(ENCODER.encode(letter)) <= MAX_VALUE_BYTES


def test_a_message_that_quotes_a_cut_note_does_not_pass_for_one() -> None:
    """A record that cites another dead letter stays replayable."""
    quoted = "found ' [cut: payload 9 of 10 bytes, sha256 00]' in the title"
    assert payload_is_whole(dead_letter(SOURCE, "decode", "invalid_value", quoted, 0))


def test_text_that_avro_cannot_write_is_replaced() -> None:
    """Half a surrogate pair, as in the repr of broken JSON: else the dead letter is refused."""
    letter = dead_letter(SOURCE, "decode", "wrong_type", "title \ud800 is", 0, "e\udfff")
    assert letter["message"] == "title ? is"
    assert letter["event_id"] == "e?"
    assert ENCODER.encode(letter)


# Surrogates too: what Python makes of broken JSON.
_any_text = st.text(st.characters(exclude_categories=()), max_size=2_000)


@given(
    topic=_any_text,
    key=st.none() | st.binary(max_size=3_000),
    payload=st.none() | st.binary(max_size=12_000),
    code=_any_text,
    message=_any_text,
    event_id=st.none() | _any_text,
)
def test_whatever_the_record_held_its_dead_letter_encodes_within_the_limit(
    topic: str,
    key: bytes | None,
    payload: bytes | None,
    code: str,
    message: str,
    event_id: str | None,
) -> None:
    """Half surrogate pairs, nulls, empty and large: never an exception, never over the limit."""
    source = SourceRecord(topic, 2**31 - 1, 2**63 - 1, -1, key, payload)
    limit = 24_000
    letter = dead_letter(source, "decode", code, message, 0, event_id, max_value_bytes=limit)
    encoded = ENCODER.encode(letter)
    assert len(encoded) <= limit
    assert (letter["payload"] == payload and letter["key"] == key) is payload_is_whole(letter)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Value 'u1' at 'userId' failed", "Value '<user_id>' at 'userId' failed"),
        ("u1: u12 and au1 and U1", "<user_id>: u12 and au1 and U1"),
        ("id [maria@example.com+u1]", "id [<email>]"),
        ("document of 1984, FR: 'FR, 19840'", "document of <user>, <user>: '<user>, 19840'"),
        ("1 validation error detected", "1 validation error detected"),
        ("", ""),
    ],
)
def test_a_services_message_has_no_values_of_a_person(message: str, expected: str) -> None:
    values = {
        "user_id": "u1",
        "email": "maria@example.com+u1",
        "user": {"country": "FR", "born": 1984, "tags": [None, "", True]},
    }
    assert without_values(message, values) == expected
    assert without_values(message, {"a": None, "b": [], "c": False}) == message


def test_what_concerns_a_person_follows_from_the_contract() -> None:
    """The id of the user and what is known of them; not of the item."""
    enriched = load_contracts().only(Role.ENRICHED)
    record = enriched.examples("valid")["enriched"]
    assert {"user_id", "session_id", "user"} <= enriched.personal_values(record).keys()
    assert not {"item", "item_id"} & enriched.personal_values(record).keys()
