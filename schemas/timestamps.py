"""Timestamps as milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def epoch_ms(text: str) -> int:
    """Milliseconds in a text: a number of them, or ISO 8601 (UTC without an offset).

    Raises ValueError with what was expected.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return datetime_ms(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is no timestamp; expected epoch milliseconds, or a time such as"
            " 2026-11-23T14:25:00Z"
        ) from None


def datetime_ms(timestamp: datetime) -> int:
    """Milliseconds of a datetime, rounded down; UTC without a time zone."""
    aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    return (aware - EPOCH) // _MILLISECOND
