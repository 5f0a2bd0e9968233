"""The arguments of `tunemesh bootstrap`; its runs are in the integration tests."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from batch.imports import ImportsError
from deploy.bootstrap import command, epoch_ms


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1795443900000", 1_795_443_900_000),
        ("2026-11-23T14:25:00Z", 1_795_443_900_000),
        ("2026-11-23T15:25:00+01:00", 1_795_443_900_000),
        ("2026-11-23T14:25:00", 1_795_443_900_000),
    ],
)
def test_a_moment_is_given_in_milliseconds_or_as_a_time(text: str, at: int) -> None:
    """UTC where no offset is given, wherever the machine is."""
    assert epoch_ms(text) == at


def test_a_moment_that_is_none_is_refused() -> None:
    """With an example."""
    with pytest.raises(ImportsError, match="2026-11-23T14:25:00Z"):
        epoch_ms("yesterday")


def test_aws_needs_a_role() -> None:
    """Before anything is asked of AWS."""
    with pytest.raises(ImportsError, match="--role"):
        CliRunner().invoke(command(None), ["--aws", "eu-west-1"], catch_exceptions=False)
