"""Requests of pages of other origins, and of host names that resolve to this machine."""

from __future__ import annotations

import pytest

from emulators.browsers import refusal


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("127.0.0.1:25000", None, None),
        ("localhost:25000", None, "none"),
        ("LOCALHOST", "http://localhost", "same-origin"),
        ("[::1]:25000", "http://[::1]:25000", None),
        ("bucket.localhost:25000", None, None),
        ("localhost.:25000", None, None),
        (None, None, None),
    ],
)
def test_programs_and_own_pages_are_answered(
    host: str | None, origin: str | None, site: str | None
) -> None:
    """Programs send no origin; a page of the server has the server's own."""
    assert refusal(host, origin, site) is None


@pytest.mark.parametrize(
    ("host", "origin", "site", "named"),
    [
        ("evil.example", None, None, "evil.example"),
        ("evil.example:25000", "http://evil.example:25000", "same-origin", "evil.example"),
        ("127.0.0.1.evil.example", None, None, "evil.example"),
        ("notlocalhost", None, None, "notlocalhost"),
        ("192.168.0.7:25000", None, None, "192.168.0.7"),
        ("127.0.0.1:25000", "http://evil.example", None, "evil.example"),
        ("127.0.0.1:25000", "null", None, "null"),
        ("127.0.0.1:25000", "http://127.0.0.1:3000", "same-site", "3000"),
        ("127.0.0.1:25000", "https://127.0.0.1:25000", None, "https"),
        ("127.0.0.1:25000", None, "cross-site", "another origin"),
        ("127.0.0.1:25000", None, "same-site", "another origin"),
    ],
)
def test_other_pages_are_refused(
    host: str, origin: str | None, site: str | None, named: str
) -> None:
    """By any of the three headers; the message names what was refused."""
    assert named in (refusal(host, origin, site) or "")
