"""Enriched events as PutEvents wants them, and the limits of PutEvents."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.delivery import Rejected
from connectors.personalize import requests
from connectors.personalize.requests import (
    DEFAULT_PROPERTIES,
    EventProperty,
    EventRequests,
    PutEventsEvent,
    put_events_body,
)
from schemas.rules import MAX_ID_LENGTH


def enriched(**changed: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event_id": "e-1",
        "user_id": "u-1",
        "session_id": "s-1",
        "item_id": "song-1",
        "item_type": "song",
        "event_type": "play",
        "played_ms": 90_000,
        "device": "phone",
        "occurred_at": 1_764_000_000_123,
        "recommendation_id": "RID-1",
        "impression": ["song-1", "song-2"],
        "origin": "interactions/0/17",
        "user": {"country": "IS", "age_band": "25-34", "subscription": "premium"},
        "item": {
            "item_id": "song-1",
            "item_type": "song",
            "title": "Jóga",
            "creator": "Björk",
            "genres": ["art pop", "electronic"],
            "duration_ms": 305_000,
            "language": "en",
            "created_at": 875_000_000_000,
        },
    }
    return record | changed


def convert(**changed: Any) -> PutEventsEvent:
    event = EventRequests().convert(enriched(**changed))
    assert isinstance(event, PutEventsEvent), event
    return event


def sent(**changed: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(convert(**changed).text)
    return event


class TestMapping:
    def test_an_event_with_everything(self) -> None:
        """Every field of the enriched event has its place; milliseconds become seconds."""
        event = convert()
        assert (event.user_id, event.session_id) == ("u-1", "s-1")
        assert json.loads(event.text) == {
            "eventId": "e-1",
            "eventType": "play",
            "itemId": "song-1",
            "sentAt": 1_764_000_000.123,
            "eventValue": 0.2951,
            "recommendationId": "RID-1",
            "impression": ["song-1", "song-2"],
            "properties": '{"itemType":"song","device":"phone","country":"IS",'
            '"subscription":"premium","genre":"art pop|electronic"}',
        }
        assert event.size == len(event.text.encode())

    def test_an_event_of_which_little_is_known(self) -> None:
        """What is unknown is absent: no nulls, no empty texts, no empty properties."""
        event = convert(
            user_id=None,
            item_type=None,
            played_ms=None,
            device=None,
            recommendation_id=None,
            impression=[],
            user=None,
            item=None,
        )
        assert event.user_id is None
        assert json.loads(event.text) == {
            "eventId": "e-1",
            "eventType": "play",
            "itemId": "song-1",
            "sentAt": 1_764_000_000.123,
        }

    def test_text_is_sent_as_it_is(self) -> None:
        """Letters of every script count as one character each, and arrive."""
        item = enriched()["item"] | {"genres": ["ラップ", "", "🎧"]}
        assert json.loads(sent(item=item)["properties"])["genre"] == "ラップ|🎧"

    def test_own_properties(self) -> None:
        """A pipeline with other metadata fields says which, and from where."""
        own = EventRequests([EventProperty("ageBand", "user", "age_band")])
        event = own.convert(enriched())
        assert isinstance(event, PutEventsEvent)
        assert json.loads(json.loads(event.text)["properties"]) == {"ageBand": "25-34"}


class TestLimits:
    def test_the_constants_are_those_of_the_service_model(self) -> None:
        """botocore's model, which it does not enforce itself, has the same limits."""
        session = botocore.session.Session()
        shape = session.get_service_model("personalize-events").shape_for
        assert shape("EventList").metadata["max"] == requests.MAX_EVENTS_PER_CALL
        for name in ("StringType", "UserId", "ItemId"):
            assert shape(name).metadata["max"] == MAX_ID_LENGTH
            assert shape(name).metadata["min"] == 1
        assert shape("EventPropertiesJSON").metadata["max"] == requests.MAX_PROPERTIES_LENGTH
        assert shape("Impression").metadata["max"] == requests.MAX_IMPRESSION_ITEMS
        assert shape("RecommendationId").metadata["max"] == requests.MAX_RECOMMENDATION_ID_LENGTH
        event = shape("Event")
        assert set(event.required_members) == {"eventType", "sentAt"}
        assert set(json.loads(convert().text)) < set(event.members)

    @pytest.mark.parametrize(
        ("field", "most"),
        [
            ("event_id", 256),
            ("session_id", 256),
            ("user_id", 256),
            ("item_id", 256),
            ("event_type", 256),
            ("recommendation_id", 40),
        ],
    )
    def test_ids_have_a_longest_and_a_shortest(self, field: str, most: int) -> None:
        """The longest id is sent; a longer, an empty and a non-text one are rejected, by name."""
        convert(**{field: "é" * most})
        for bad, said in [("x" * (most + 1), f"at most {most}"), ("", "empty"), (17, "not a text")]:
            outcome = EventRequests().convert(enriched(**{field: bad}))
            assert isinstance(outcome, Rejected)
            assert outcome.code == "InvalidEvent"
            assert field in outcome.message
            assert said in outcome.message

    @pytest.mark.parametrize("field", ["event_id", "session_id", "item_id", "event_type"])
    def test_required_ids_are_required(self, field: str) -> None:
        """Without one of them the event is rejected, whether it is null or absent."""
        record = enriched(**{field: None})
        assert EventRequests().convert(record) == Rejected("InvalidEvent", f"{field} is missing")
        del record[field]
        assert EventRequests().convert(record) == Rejected("InvalidEvent", f"{field} is missing")

    @pytest.mark.parametrize(
        ("changed", "code", "said"),
        [
            # Personalize would answer 200 and ignore the event; here it becomes a dead letter.
            ({"session_id": "null"}, "InvalidEvent", "ignores"),
            # occurred_at is a whole number of milliseconds.
            *(
                ({"occurred_at": time}, "InvalidEvent", "occurred_at")
                for time in (None, "1764000000123", 1.5, -1, True)
            ),
            # At most 25 items, each of them an id.
            ({"impression": ["x"] * 26}, "InvalidEvent", "26 items, at most 25"),
            ({"impression": ["x", ""]}, "InvalidEvent", "impression[1] is empty"),
            ({"impression": ["x" * 257]}, "InvalidEvent", "impression[0] has 257 characters"),
            ({"impression": [None]}, "InvalidEvent", "impression[0] is missing"),
            ({"impression": "song-1"}, "InvalidEvent", "not a list"),
            # 25 long ids with four bytes a character are too much, though each is allowed.
            ({"impression": ["🎧" * 256] * 25}, "EventTooLarge", str(requests.MAX_EVENT_BYTES)),
            # Half of a surrogate pair cannot be written as UTF-8.
            ({"item_id": "\ud800"}, "InvalidEvent", "Unicode"),
        ],
    )
    def test_what_personalize_does_not_take_is_rejected(
        self, changed: dict[str, Any], code: str, said: str
    ) -> None:
        """With the field and what is wrong with it."""
        outcome = EventRequests().convert(enriched(**changed))
        assert isinstance(outcome, Rejected)
        assert outcome.code == code
        assert said in outcome.message

    def test_an_impression_of_25_long_ids_is_sent(self) -> None:
        """The limit itself is allowed."""
        assert len(sent(impression=["x" * 256] * 25)["impression"]) == 25

    def test_messages_hold_no_ids(self) -> None:
        """Ids and properties are sensitive in the service model: they stay out of messages."""
        outcome = EventRequests().convert(enriched(user_id="secret" * 100))
        assert isinstance(outcome, Rejected)
        assert "secret" not in outcome.message


class TestProperties:
    def test_exactly_the_limit_is_sent(self) -> None:
        """1,024 characters are allowed; with one more the genre is dropped."""
        requests = EventRequests()
        only_genre = {"item_type": None, "device": None, "user": None}
        for length, dropped in [(1024, 0), (1025, 1)]:
            genre = "x" * (length - len('{"genre":""}'))
            event = requests.convert(enriched(**only_genre, item={"genres": [genre]}))
            assert isinstance(event, PutEventsEvent)
            assert ("properties" in json.loads(event.text)) == (dropped == 0)

    def test_the_least_important_go_first(self) -> None:
        """From the end of the list: genre, then subscription, then country ..."""
        order = [one.key for one in DEFAULT_PROPERTIES]
        assert order == ["itemType", "device", "country", "subscription", "genre"]
        user = {"country": "IS", "subscription": "x" * 1000}
        event = sent(user=user, item={"genres": ["pop"]})
        assert list(json.loads(event["properties"])) == ["itemType", "device", "country"]

    def test_a_category_never_becomes_two(self) -> None:
        """Personalize separates categories by |: the property has another character instead."""
        event = sent(
            device="car|bike", user={"country": "a|b"}, item={"genres": ["Drum|Bass", "", "pop"]}
        )
        text = json.loads(event["properties"])
        assert (text["device"], text["country"]) == ("car/bike", "a/b")
        assert text["genre"] == "Drum/Bass|pop"

    @settings(max_examples=100, derandomize=True, database=None)
    @given(st.lists(st.none() | st.text(max_size=700), min_size=4, max_size=4), st.data())
    def test_properties_are_always_whole_and_within_the_limit(
        self, texts: list[str | None], data: st.DataObject
    ) -> None:
        """Whatever the values: valid JSON, within the limit, a first part of those that exist."""
        genres = data.draw(st.lists(st.text(max_size=100), max_size=12))
        item_type, device, country, subscription = texts
        record = enriched(
            item_type=item_type,
            device=device,
            user={"country": country, "subscription": subscription},
            item={"genres": genres},
        )
        event = EventRequests().convert(record)
        if isinstance(event, Rejected):
            assert "Unicode" in event.message
            return
        text = json.loads(event.text).get("properties", "{}")
        assert len(text) <= 1024
        single = {
            "itemType": item_type,
            "device": device,
            "country": country,
            "subscription": subscription,
        }
        # A | separates categories, so no category can have one.
        wanted = {key: value and value.replace("|", "/") for key, value in single.items()}
        wanted["genre"] = "|".join(genre.replace("|", "/") for genre in genres if genre)
        present = [key for key, value in wanted.items() if value]
        got = json.loads(text)
        assert list(got) == present[: len(got)]
        assert all(wanted[key] == value for key, value in got.items())

    @pytest.mark.parametrize("key", ["item_type", "ItemType", "item-type", "", "type!"])
    def test_keys_are_in_camel_case(self, key: str) -> None:
        """Personalize would not find the schema field; the start of the job says so."""
        with pytest.raises(ValueError, match="camel case"):
            EventProperty(key, "event", "x")

    @pytest.mark.parametrize("key", ["userId", "sessionid", "eventTYPE", "timestamp", "impression"])
    def test_forbidden_keys_are_refused(self, key: str) -> None:
        """Whatever their case, the names that PutEvents forbids stop the start of the job."""
        with pytest.raises(ValueError, match="forbids"):
            EventProperty(key, "event", "x")

    def test_at_most_five_and_no_two_alike(self) -> None:
        """An Item interactions dataset has five metadata fields; names differ by more than case."""
        own = [EventProperty(f"field{n}", "event", "x") for n in range(6)]
        with pytest.raises(ValueError, match="at most 5"):
            EventRequests(own)
        with pytest.raises(ValueError, match="same key"):
            EventRequests([own[0], EventProperty("fielD0", "event", "y")])


class TestBody:
    def test_a_call_of_a_user(self) -> None:
        """Tracking id, user and session once, the events in their order."""
        events = [convert(event_id=f"e-{n}") for n in range(10)]
        body = json.loads(put_events_body('t"1', "ú", "s-1", events))
        assert [one.pop("eventId") for one in body["eventList"]] == [f"e-{n}" for n in range(10)]
        assert {key: body[key] for key in ("trackingId", "userId", "sessionId")} == {
            "trackingId": 't"1',
            "userId": "ú",
            "sessionId": "s-1",
        }

    def test_an_anonymous_call_has_no_user(self) -> None:
        """The field is absent, not null."""
        body = json.loads(put_events_body("t", None, "s-1", [convert()]))
        assert set(body) == {"trackingId", "sessionId", "eventList"}

    @pytest.mark.parametrize("count", [0, 11])
    def test_a_call_has_one_to_ten_events(self, count: int) -> None:
        """The engine's limits see to it; this is the last guard."""
        with pytest.raises(ValueError, match="1 to 10"):
            put_events_body("t", None, "s", [convert()] * count)
