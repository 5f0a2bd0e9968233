"""What a delivery function hands to the engine."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from jobs.delivery_functions import DeliverEvents
from jobs.settings import RecommendationsSettings, RegistrySettings
from schemas.codec import Encoder, RegisteredSchema
from schemas.dead_letter import SourceRecord
from schemas.model import Role, load_contracts

CONTRACTS = load_contracts()
ENRICHED = CONTRACTS.only(Role.ENRICHED)
ID = UUID(int=7)
MOMENT = 1_790_000_000_000


class Registry:
    """The newest version of the enriched interactions."""

    def by_id(self, version_id: bytes) -> RegisteredSchema:
        assert version_id == ID.bytes
        return RegisteredSchema(ENRICHED.subject, ENRICHED.newest.definition)


def decoded(published_at: int, imported_until: int | None) -> Any:
    """What DeliverEvents makes of an event."""
    settings = RecommendationsSettings("t", "u", "i", "eu-west-1", imported_until=imported_until)
    function = DeliverEvents(Role.ENRICHED, settings, RegistrySettings("eu-west-1"), ())
    function.prepare(CONTRACTS, Registry())  # type: ignore[arg-type]  # all that it asks
    record = next(iter(ENRICHED.examples("valid").values())) | {"published_at": published_at}
    value = Encoder(ENRICHED, ID).encode(record)
    # Enriched a moment after its publication: that moment does not count.
    return function.decode(SourceRecord("e", 0, 0, MOMENT + 1, b"k", value))


@pytest.mark.parametrize(
    ("published_at", "imported_until", "sent"),
    [
        (MOMENT - 1, MOMENT, False),
        (MOMENT, MOMENT, True),
        (MOMENT - 1, None, True),
        (0, None, True),
    ],
)
def test_what_an_import_has_brought_is_not_sent(
    published_at: int, imported_until: int | None, sent: bool
) -> None:
    """By the moment at which the interaction itself was published, to the millisecond."""
    found = decoded(published_at, imported_until)
    assert (found is not None) == sent
    if sent:
        assert found["published_at"] == published_at
