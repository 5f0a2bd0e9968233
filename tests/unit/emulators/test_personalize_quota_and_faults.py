"""Quotas and fault plans."""

from __future__ import annotations

from typing import Any

import pytest

from emulators.faults import Faults, InvalidPlan, count_stored, parse_plan
from emulators.personalize.quota import Quotas, TokenBucket, parse_quota

OPERATIONS = ("PutEvents", "PutUsers")


def faults(*rules: dict[str, Any], seed: int = 7) -> Faults:
    return Faults(parse_plan({"seed": seed, "rules": list(rules)}, OPERATIONS))


def fired(subject: Faults, calls: int, operation: str = "PutEvents", now: float = 0.0) -> list[int]:
    return [n for n in range(calls) if subject.decide(operation, now) is not None]


def test_a_bucket_allows_its_rate() -> None:
    """Within ten seconds: the initial burst, and the rate."""
    bucket = TokenBucket(10.0)
    passed = sum(bucket.take(now / 100) for now in range(1001))
    assert passed == pytest.approx(110, abs=1)


def test_a_burst_is_limited_to_a_second_of_the_rate() -> None:
    """After an hour without calls it is as large as at the start."""
    bucket = TokenBucket(5.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(3600.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_clock_that_is_set_back_adds_no_tokens() -> None:
    """Nor does it remove any."""
    bucket = TokenBucket(1.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


def test_operations_have_their_own_quotas() -> None:
    """They are independent; without a rate there is no limit."""
    quotas = Quotas({"PutUsers": 1.0, "PutItems": 1.0, "PutEvents": None})
    assert quotas.allow("PutUsers", 0.0)
    assert not quotas.allow("PutUsers", 0.0)
    assert quotas.allow("PutItems", 0.0)
    assert all(quotas.allow("PutEvents", 0.0) for _ in range(10_000))


def test_a_quota_option_names_an_operation() -> None:
    """`put_events=5`, `put_events=off`."""
    assert parse_quota("put_events=5") == ("PutEvents", 5.0)
    assert parse_quota("get_personalized_ranking=0.5") == ("GetPersonalizedRanking", 0.5)
    assert parse_quota("put_users=off") == ("PutUsers", None)


@pytest.mark.parametrize("text", ["put_events", "puts=1", "put_events=0", "put_events=x", "=1"])
def test_an_invalid_quota_option_is_refused(text: str) -> None:
    """The message has the option."""
    with pytest.raises(ValueError, match=f"^'{text}'"):
        parse_quota(text)


def test_the_seed_determines_which_calls_fail() -> None:
    """Another seed selects other calls; their number matches the rate."""
    rule = {"operation": "PutEvents", "kind": "throttle", "rate": 0.3}
    first = fired(faults(rule), 1000)
    assert first == fired(faults(rule), 1000)
    assert first != fired(faults(rule, seed=8), 1000)
    assert len(first) == pytest.approx(300, abs=60)


def test_other_operations_do_not_change_the_sequence() -> None:
    """Which PutEvents calls fail depends only on PutEvents calls."""
    rule = {"operation": "PutEvents", "kind": "throttle", "rate": 0.3}
    subject = faults(rule)
    mixed = []
    for number in range(200):
        subject.decide("PutUsers", 0.0)
        if subject.decide("PutEvents", 0.0):
            mixed.append(number)
    assert mixed == fired(faults(rule), 200)


def test_skip_and_first_select_calls_by_number() -> None:
    """Two calls pass, three fail, the others pass."""
    rule = {"operation": "PutEvents", "kind": "error500", "skip": 2, "first": 3}
    assert fired(faults(rule), 10) == [2, 3, 4]


def test_until_ends_a_rule() -> None:
    """After that second no call fails."""
    subject = faults({"operation": "*", "kind": "error503", "until": 100})
    assert fired(subject, 2, now=99.9) == [0, 1]
    assert fired(subject, 2, now=100.0) == []


def test_the_first_rule_that_fires_is_applied_and_counted() -> None:
    """The report has the matched and the failed calls."""
    subject = faults(
        {"operation": "PutUsers", "kind": "slow"},
        {"operation": "*", "kind": "throttle", "first": 1},
        {"operation": "PutEvents", "kind": "timeout", "seconds": 2, "after_write": True},
    )
    decided = [subject.decide("PutEvents", 0.0) for _ in range(2)]
    assert [rule and rule.kind for rule in decided] == ["throttle", "timeout"]
    counts = [(rule["matched"], rule["fired"]) for rule in subject.report()["rules"]]
    assert counts == [(0, 0), (2, 1), (2, 1)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "a fault plan is a JSON object"),
        ({"rules": {}}, "'rules' must be a list"),
        ({"seed": "7"}, "'seed' must be a whole number"),
        ({"rule": []}, "unknown rule"),
        ({"rules": [{"operation": "Put", "kind": "slow"}]}, "rule 1: 'operation' is 'Put'"),
        ({"rules": [{"operation": "*", "kind": "fast"}]}, "rule 1: 'kind' is 'fast'"),
        ({"rules": [{"operation": "*", "kind": "slow", "rate": 2}]}, "'rate' is 2"),
        ({"rules": [{"operation": "*", "kind": "slow", "seconds": 301}]}, "'seconds' is 301"),
        ({"rules": [{"operation": "*", "kind": "slow", "first": 0.5}]}, "'first' is 0.5"),
        ({"rules": [{"operation": "*", "kind": "slow", "after_write": 1}]}, "true or false"),
        ({"rules": [{"operation": "*", "kind": "slow", "after_write": True}]}, "not for slow"),
        ({"rules": [{"operation": "*", "kind": "slow", "sedconds": 1}]}, "unknown sedconds"),
    ],
)
def test_an_invalid_plan_is_refused(document: object, message: str) -> None:
    """A misspelt plan does not result in a test without faults."""
    with pytest.raises(InvalidPlan, match=message):
        parse_plan(document, OPERATIONS)


def test_the_share_determines_the_number_of_failed_records() -> None:
    """By default half of them, rounded up; the seed determines which ones."""
    half = parse_plan({"rules": [{"operation": "*", "kind": "partial"}]}, OPERATIONS).rules[0]
    assert [count_stored(half, count) for count in (1, 2, 5)] == [0, 1, 2]

    def draw(seed: int) -> list[frozenset[int]]:
        subject = faults({"operation": "*", "kind": "partial", "share": 0.1}, seed=seed)
        rule = subject.decide("PutEvents", 0.0)
        assert rule is not None
        return [subject.draw_failed(rule, 50) for _ in range(5)]

    assert draw(1) == draw(1) != draw(2)
    assert {len(positions) for positions in draw(1)} == {5}
    assert len(set(draw(1))) > 1


def test_a_share_is_for_partial_and_a_kind_for_its_service() -> None:
    """The messages have what was expected."""
    with pytest.raises(InvalidPlan, match="'share' is for partial, not for slow"):
        faults({"operation": "*", "kind": "slow", "share": 0.1})
    with pytest.raises(InvalidPlan, match=r"'kind' is 'slow', expected one of throttle$"):
        parse_plan({"rules": [{"operation": "*", "kind": "slow"}]}, OPERATIONS, ("throttle",))
