"""The limit on dead letters: when a pipeline stops, and that it stays stopped over restarts."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.dead_letter_limit import DeadLetterLimit, DeadLetterLimitReached
from jobs.settings import EnrichmentSettings

OFF = EnrichmentSettings(max_consecutive=0, max_percent=0)
FIVE = replace(OFF, max_consecutive=5)
HALF = replace(OFF, max_percent=50, window=10)


def passed(limit: DeadLetterLimit, records: Iterable[str]) -> int:
    """Read records, "." a good one and any other a dead letter; the number until it stops."""
    number = 0
    for number, record in enumerate(records, 1):
        try:
            if record == ".":
                if limit.is_resumed:
                    limit.note_accepted(number)
            else:
                limit.note_refused(number, record)
        except DeadLetterLimitReached:
            return number - 1
    return number


def limit_of(settings: EnrichmentSettings, folder: Path) -> DeadLetterLimit:
    return DeadLetterLimit("decode_user", settings, folder / "kept")


@pytest.mark.parametrize(
    ("settings", "records", "count"),
    [
        (FIVE, "xxxxx", 4),
        (FIVE, "...xxxxx", 7),
        (FIVE, "xxxx.xxxx.xxxx", 14),
        (HALF, "xxxxxx", 5),
        (HALF, "x.x.x.x.x.x.x.x.x.x.", 20),
        (HALF, "xxxxx.....xxxxx.....", 20),
        (HALF, "xxxxx....x", 9),
        (HALF, "xxxxx.....x....xx.....xxx.xx.x", 29),
        (OFF, "x" * 50_000, 50_000),
    ],
)
def test_it_stops_at_so_many_in_succession_or_among_the_last(
    settings: EnrichmentSettings, records: str, count: int, tmp_path: Path
) -> None:
    assert passed(limit_of(settings, tmp_path), records) == count


@given(st.lists(st.sampled_from(".x"), max_size=60), st.integers(1, 8), st.integers(10, 90))
def test_it_stops_where_a_window_has_more_than_its_share(
    records: list[str], consecutive: int, percent: int
) -> None:
    """Compared with counting each window anew."""
    settings = replace(OFF, max_consecutive=consecutive, max_percent=percent, window=12)

    def is_over(until: int) -> bool:
        last = records[max(0, until - 12) : until]
        run = records[max(0, until - consecutive) : until]
        return (
            records[until - 1] == "x"
            and (run.count("x") == consecutive or 100 * last.count("x") > 12 * percent)
        )  # fmt: skip

    expected = next((n - 1 for n in range(1, len(records) + 1) if is_over(n)), len(records))
    assert passed(limit_of(settings, Path("/nonexistent")), records) == expected


def test_the_defaults_stop_a_deployment_that_reads_nothing(tmp_path: Path) -> None:
    """But not a pipeline with one malformed record among three."""
    defaults = EnrichmentSettings()
    assert passed(limit_of(defaults, tmp_path), "x" * 100_000) == 999
    mixed = random.Random(7).choices(".x", weights=(2, 1), k=100_000)
    assert passed(limit_of(defaults, tmp_path / "another"), mixed) == 100_000


@pytest.mark.parametrize(
    ("folder", "end"), [(".", r"become dead letters$"), ("no folder", r"not kept: .*No such file")]
)
def test_the_message_names_pipeline_reason_and_property(
    folder: str, end: str, tmp_path: Path
) -> None:
    limit = limit_of(replace(OFF, max_percent=60, window=5), tmp_path / folder)
    limit.note_refused(1, "wrong_type")
    limit.note_refused(3, "wrong_schema")
    limit.note_refused(4, "wrong_schema")
    with pytest.raises(
        DeadLetterLimitReached,
        match=r"pipeline enrichment .* 4 of 5 records .* decode_user .* 3 of them wrong_schema"
        rf".*'dead.letters.max.percent' of the group 'tunemesh.enrichment'.*{end}",
    ):
        limit.note_refused(5, "wrong_schema")


def test_restarts_pass_no_further_dead_letters(tmp_path: Path) -> None:
    """Else each of them would move the position by as many as the limit allows."""
    assert passed(limit_of(FIVE, tmp_path), "xxxxx") == 4
    for _ in range(10):
        limit = limit_of(FIVE, tmp_path)
        assert limit.is_resumed
        assert passed(limit, "xxxxx") == 0
    other = tmp_path / "other"
    other.mkdir()
    assert passed(limit_of(HALF, other), "x.x.x.xx.x") == 9
    for _ in range(10):
        assert passed(limit_of(HALF, other), "x") == 0
    assert passed(limit_of(HALF, other), "..x") == 3


def test_a_window_of_good_records_ends_it(tmp_path: Path) -> None:
    """The cause is gone: single malformed records pass again, also after a later restart."""
    assert passed(limit_of(FIVE, tmp_path), "xxxxx") == 4
    limit = limit_of(FIVE, tmp_path)
    assert passed(limit, ".xxxx") == 5
    assert limit.is_resumed
    limit = limit_of(FIVE, tmp_path)
    assert passed(limit, "....." + "xxxx") == 9
    assert not limit.is_resumed
    assert passed(limit_of(FIVE, tmp_path), "xxxx.") == 5
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_without_a_limit_ignores_what_was_kept(tmp_path: Path) -> None:
    assert passed(limit_of(FIVE, tmp_path), "xxxxx") == 4
    limit = limit_of(OFF, tmp_path)
    assert not limit.is_resumed
    assert passed(limit, "xxxxx") == 5
