"""The recommender: interactions change recommendations, and results are reproducible."""

from __future__ import annotations

import random

import pytest

from emulators.personalize.model import (
    DAY_MS,
    HISTORY_ITEMS,
    KEPT_POPULAR,
    MAX_SIMILAR,
    Recommender,
    preference,
)

NOW = 1_763_000_000_000.0


def trained(*plays: tuple[str, str], at: float = NOW) -> Recommender:
    model = Recommender()
    for number, (listener, item) in enumerate(plays):
        model.observe(listener, item, 1.0, at + number)
    return model


def two_tastes() -> Recommender:
    """Return a model of ten listeners of rock (r0..r3) and ten of jazz (j0..j3)."""
    plays = [
        (f"{taste}-fan{fan}", f"{taste[0]}{item}")
        for taste in ("rock", "jazz")
        for fan in range(10)
        for item in range(4)
    ]
    return trained(*plays)


def ids(model: Recommender, listener: str, count: int = 25) -> list[str]:
    return [entry.item_id for entry in model.recommend(listener, count)]


def test_a_play_changes_the_recommendations() -> None:
    """After a rock song the other rock songs are first, after a jazz song the jazz songs."""
    model = two_tastes()
    model.observe("new", "r0", 1.0, NOW + 100)
    assert set(ids(model, "new", 3)) == {"r1", "r2", "r3"}
    model.observe("new", "j0", 1.0, NOW + 200)
    assert set(ids(model, "new", 3)) == {"j1", "j2", "j3"}


def test_an_unknown_listener_receives_the_popular_items() -> None:
    """Most played first, ties by id."""
    model = trained(("a", "x"), ("b", "x"), ("c", "z"), ("d", "y"), at=NOW)
    assert ids(model, "nobody")[0] == "x"
    tied = Recommender()
    for item in ("b", "c", "a"):
        tied.observe("u", item, 1.0, NOW)
    assert ids(tied, "nobody") == ["a", "b", "c"]


def test_popularity_decays() -> None:
    """Three plays a month ago weigh less than one of today."""
    model = trained(("a", "old"), ("b", "old"), ("c", "old"), at=NOW - 30 * DAY_MS)
    model.observe("d", "new", 1.0, NOW)
    assert ids(model, "nobody") == ["new", "old"]


def test_played_items_are_ranked_lower() -> None:
    """No item is excluded: played ones follow the similar ones."""
    model = two_tastes()
    model.observe("new", "r0", 1.0, NOW + 100)
    recommended = ids(model, "new")
    assert sorted(recommended) == sorted([f"{t}{n}" for t in "rj" for n in range(4)])
    assert recommended.index("r0") > 2


def test_a_skipped_item_is_last_and_lowers_similar_items() -> None:
    """A skip lowers the scores of the item and of items played with it."""
    model = two_tastes()
    for item in ("r0", "j0"):
        model.observe("new", item, 1.0, NOW + 100)
    model.observe("new", "r1", -1.0, NOW + 200)
    recommended = ids(model, "new")
    assert recommended[-1] == "r1"
    assert recommended[0].startswith("j")


def test_a_like_weighs_more_than_a_play() -> None:
    """like > complete > play > other > 0 > skip."""
    order = [preference(kind, None) for kind in ("like", "complete", "play", "pause", "skip")]
    assert order == sorted(order, reverse=True)
    assert order[-1] < 0 < order[-2]
    assert preference("PLAY", None) == preference("play", None)


def test_the_event_value_scales_positive_weights() -> None:
    """It is the fraction that was played; above 1 its scale is unknown; below 0 it is a skip."""
    assert preference("play", 0.1) < preference("play", 0.9) < preference("play", 1.0)
    assert preference("play", 208.0) == preference("play", 1.0)
    assert preference("play", -1.0) == preference("skip", None)
    assert preference("skip", 0.9) == preference("skip", None)


def test_scores_sum_to_at_most_one() -> None:
    """Over all items, as in the service."""
    model = two_tastes()
    model.observe("new", "r0", 1.0, NOW)
    for listener in ("new", "nobody", "rock-fan1"):
        scores = [entry.score for entry in model.recommend(listener, 500)]
        assert 0.99 < sum(scores) <= 1.0
        assert scores == sorted(scores, reverse=True)


def test_a_catalogue_without_plays_is_recommended_in_its_order() -> None:
    """Items without plays fill the list, after those with a score."""
    model = Recommender()
    for item in ("z", "a", "m"):
        model.add_item(item)
    model.observe("u", "m", 1.0, NOW)
    assert ids(model, "nobody") == ["m", "z", "a"]
    assert ids(model, "nobody", 2) == ["m", "z"]
    assert ids(model, "nobody", 0) == []


def test_a_ranking_keeps_every_item_and_puts_unknown_ones_last() -> None:
    """In their order, with a score of 0."""
    model = two_tastes()
    model.observe("new", "j0", 1.0, NOW + 100)
    ranked = model.rank("new", ["?2", "r1", "?1", "j1"])
    assert [entry.item_id for entry in ranked] == ["j1", "r1", "?2", "?1"]
    assert [entry.score for entry in ranked][2:] == [0.0, 0.0]
    assert sum(entry.score for entry in ranked) <= 1.0


def test_the_same_interactions_give_the_same_recommendations() -> None:
    """So a model can be rebuilt from the stored interactions."""

    def build() -> list[str]:
        draw = random.Random(3)
        model = Recommender()
        for number in range(3000):
            item = f"i{int(draw.paretovariate(0.7)) % 400}"
            weight = draw.choice([1.0, 2.0, 3.0, -1.0])
            model.observe(f"u{draw.randrange(80)}", item, weight, NOW + number)
        return [str(model.recommend(f"u{n}", 100)) for n in range(80)]

    assert build() == build()


def test_recommendations_do_not_change_the_model() -> None:
    """Only interactions do."""
    model = two_tastes()
    before = model.recommend("rock-fan1", 10)
    for _ in range(3):
        model.recommend("nobody", 10)
        model.rank("rock-fan1", ["j1", "r1"])
    assert model.recommend("rock-fan1", 10) == before
    assert model.sizes()["listeners"] == 20


def test_a_long_history_is_bounded() -> None:
    """So are the similar items of a popular song, and the popular items."""
    model = Recommender()
    for number in range(2000):
        model.observe("u", f"i{number}", 1.0, NOW + number)
        model.observe(f"v{number}", "hit", 1.0, NOW + number)
        model.observe(f"v{number}", f"i{number}", 1.0, NOW + number)
    assert len(model._histories["u"]) == HISTORY_ITEMS
    assert max(len(similar) for similar in model._similar.values()) <= MAX_SIMILAR
    assert len(model._popular) <= 2 * KEPT_POPULAR


def test_the_most_popular_are_exact_among_thousands() -> None:
    """The bounded list has the most popular items."""
    draw = random.Random(5)
    model, counts = Recommender(), dict.fromkeys((f"i{n}" for n in range(3000)), 0)
    plays = [f"i{int(3000 * draw.random() ** 2)}" for _ in range(20_000)]
    for number, item in enumerate(plays):
        counts[item] += 1
        model.observe(f"u{number}", item, 1.0, NOW)
    expected = sorted(counts, key=lambda item: (-counts[item], item))[:500]
    assert ids(model, "nobody", 500) == expected


@pytest.mark.parametrize("at", [0.0, 4e15])
def test_extreme_times(at: float) -> None:
    """1970 and a time far in the future."""
    model = trained(("a", "x"), ("a", "y"))
    model.observe("a", "z", 1.0, at)
    assert sorted(ids(model, "a")) == ["x", "y", "z"]


def test_an_item_that_is_in_no_catalogue_is_not_recommended() -> None:
    """However often it is played, once there is a catalogue."""
    model = Recommender()
    for listener in ("a", "b", "c"):
        model.observe(listener, "unknown", 3.0, 1.0)
        model.observe(listener, "known", 1.0, 2.0)
    assert [entry.item_id for entry in model.recommend("d", 5)] == ["unknown", "known"]
    model.add_item("known")
    model.add_item("new")
    assert [entry.item_id for entry in model.recommend("d", 5)] == ["known", "new"]
    assert [entry.item_id for entry in model.recommend("a", 5)] == ["known", "new"]
