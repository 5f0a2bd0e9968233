"""A small recommender: items played by the same listeners, recency and popularity.

It is not Amazon's model: its purpose is that an interaction changes the recommendations at once.
Pure and without a clock: the same interactions in the same order give the same recommendations. A
listener is a user, or the session of an anonymous one.

- Each interaction has a weight (`preference`): like 3, complete 2, play 1, anything else 0.5, skip
  and dislike -1. A listener's affinity to an item is the sum, between -1 and 4.
- The similarity of two items is the cosine of their listeners' positive affinities, updated
  incrementally: when an affinity changes, so do the pairs with the listener's 20 latest items.
- A listener's candidates are the items similar to those in the history, weighted by affinity, age
  (half-life of a day, relative to the listener's newest interaction) and position (a factor of 0.8
  per item).
- Popularity is the sum of positive weights with a half-life of a week. It is a quarter of the
  score, and the whole score for a listener without history.
- Items in the listener's history are included at a fifth of their score; items with an affinity of
  0 or below (skipped) come last. Items of the catalogue without interactions follow those with a
  score, in the order in which they were put. Candidates are the similar items, the 600 most popular
  ones, those in the history and those of the catalogue.
- Once the catalogue has an item, only its items are recommended: none that was only played.
- Ties are ordered by item id. Scores are fractions of the sum over all candidates, rounded down to
  7 digits, so a list sums to at most 1.

Memory is bounded: 50 items of history for each of the 50,000 latest listeners, 80 similar items for
each of the 50,000 latest items, and one number for every item.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

DAY_MS = 86_400_000.0
TASTE_HALF_LIFE_MS = DAY_MS
POPULARITY_HALF_LIFE_MS = 7 * DAY_MS
MIN_AFFINITY, MAX_AFFINITY = -1.0, 4.0
HISTORY_ITEMS = 50
PAIRED_ITEMS = 20
KEPT_SIMILAR, MAX_SIMILAR = 40, 80
MAX_LISTENERS = 50_000
MAX_ITEMS_WITH_SIMILAR = 50_000
POSITION_DECAY = 0.8
POPULARITY_SHARE = 0.25
REPEAT_FACTOR = 0.2
KEPT_POPULAR, MAX_POPULAR = 600, 1200  # more than a full response (500) and a full history

_WEIGHTS = {
    **dict.fromkeys(("like", "love", "favorite", "favourite", "save"), 3.0),
    **dict.fromkeys(("complete", "completed", "finish"), 2.0),
    **dict.fromkeys(("play", "listen", "watch", "stream", "click"), 1.0),
    **dict.fromkeys(("skip", "dislike"), -1.0),
}
_OTHER_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Scored:
    """An item and its fraction of the total score."""

    item_id: str
    score: float


def preference(event_type: str, event_value: float | None) -> float:
    """The weight of an interaction: above 0 for a preference, below 0 for an aversion.

    An `event_value` from 0 to 1 is the fraction that was played and scales a positive weight from a
    half to 1. A larger value has no effect, because its scale is unknown; a negative one makes the
    interaction a skip.
    """
    weight = _WEIGHTS.get(event_type.lower(), _OTHER_WEIGHT)
    if event_value is None or weight < 0:
        return weight
    if event_value < 0:
        return _WEIGHTS["skip"]
    return weight * (0.5 + 0.5 * min(event_value, 1.0))


class Recommender:
    """The model's state. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}  # every item id once, to share the string objects
        self._catalogue: dict[str, None] = {}  # items that were put, in their order
        # OrderedDict: finding the oldest key of a dict is slow after many removals.
        self._histories: OrderedDict[str, dict[str, tuple[float, float]]] = OrderedDict()
        self._similar: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._norms: dict[str, float] = {}
        self._popularity: dict[str, float] = {}  # log2 of a decaying sum
        self._popular: dict[str, float] = {}

    def sizes(self) -> dict[str, int]:
        """The number of listeners and items."""
        return {"listeners": len(self._histories), "items": len(self._known)}

    def add_item(self, item_id: str) -> None:
        """Add an item to the catalogue."""
        self._catalogue[self._intern(item_id)] = None

    def observe(self, listener: str, item_id: str, weight: float, at_ms: float) -> None:
        """Learn from an interaction; `weight` is a result of :func:`preference`."""
        item = self._intern(item_id)
        history = self._histories.pop(listener, None)
        if history is None:
            history = {}
        self._histories[listener] = history
        if len(self._histories) > MAX_LISTENERS:
            self._histories.popitem(last=False)
        before, seen_at = history.pop(item, (0.0, at_ms))
        after = min(MAX_AFFINITY, max(MIN_AFFINITY, before + weight))
        self._update_similarities(item, history, max(before, 0.0), max(after, 0.0))
        history[item] = (after, max(at_ms, seen_at))
        if len(history) > HISTORY_ITEMS:
            del history[next(iter(history))]
        self._count_popularity(item, weight, at_ms)

    def recommend(self, listener: str, count: int) -> list[Scored]:
        """Up to `count` items for `listener`, best first."""
        history = self._histories.get(listener, {})
        scores = self._score_items(history, self._popular)
        if self._catalogue:
            scores = {item: score for item, score in scores.items() if item in self._catalogue}
        ranked = heapq.nsmallest(count, scores.items(), key=_sort_key(history))
        total = sum(score for score in scores.values() if score > 0)
        result = [_scored(item, score, total) for item, score in ranked]
        return self._insert_unplayed(result, scores, history, count)

    def rank(self, listener: str, items: Sequence[str]) -> list[Scored]:
        """All of `items` for `listener`, best first; unknown items last, in the order given."""
        history = self._histories.get(listener, {})
        known = [item for item in items if item in self._known]
        everything = self._score_items(history, known)
        scores = {item: everything[item] for item in known}
        total = sum(score for score in scores.values() if score > 0)
        ranked = sorted(scores.items(), key=_sort_key(history))
        result = [_scored(item, score, total) for item, score in ranked]
        return result + [Scored(item, 0.0) for item in items if item not in self._known]

    def _intern(self, item_id: str) -> str:
        return self._known.setdefault(item_id, item_id)

    def _update_similarities(
        self, item: str, history: dict[str, tuple[float, float]], before: float, after: float
    ) -> None:
        gain = after - before
        if gain == 0.0:
            return
        self._norms[item] = self._norms.get(item, 0.0) + after * after - before * before
        for number, other in enumerate(reversed(history)):
            if number == PAIRED_ITEMS:
                break
            affinity = history[other][0]
            if affinity > 0.0:
                self._add_similarity(item, other, gain * affinity)
                self._add_similarity(other, item, gain * affinity)

    def _add_similarity(self, item: str, other: str, change: float) -> None:
        similar = self._similar.pop(item, None)
        if similar is None:
            similar = {}
        self._similar[item] = similar  # the most recently used item is last
        if len(self._similar) > MAX_ITEMS_WITH_SIMILAR:
            self._similar.popitem(last=False)
        strength = similar.get(other, 0.0) + change
        if strength > 1e-9:
            similar[other] = strength
        else:
            similar.pop(other, None)
        if len(similar) > MAX_SIMILAR:
            kept = heapq.nsmallest(KEPT_SIMILAR, similar.items(), key=lambda e: (-e[1], e[0]))
            self._similar[item] = dict(kept)

    def _count_popularity(self, item: str, weight: float, at_ms: float) -> None:
        # A weight of 2 ** (time / half-life) grows into the future instead of decaying into the
        # past: the order of two items never changes without an interaction. Its logarithm is kept.
        level = self._popularity.get(item, -math.inf)
        if weight > 0.0:
            level = _add_log2(level, math.log2(weight) + at_ms / POPULARITY_HALF_LIFE_MS)
        self._popularity[item] = level
        self._popular[item] = level
        if len(self._popular) > MAX_POPULAR:
            # Levels only grow: a dropped item was below all kept ones, and is added again when it
            # grows.
            kept = heapq.nsmallest(KEPT_POPULAR, self._popular.items(), key=lambda e: (-e[1], e[0]))
            self._popular = dict(kept)

    def _score_items(
        self, history: dict[str, tuple[float, float]], others: Iterable[str]
    ) -> dict[str, float]:
        """The scores of the items similar to the history, of the history and of `others`."""
        similar = self._score_similar(history)
        largest = max((abs(score) for score in similar.values()), default=0.0)
        top = max(self._popular.values(), default=-math.inf)
        share = POPULARITY_SHARE if largest > 0.0 else 1.0
        scores: dict[str, float] = {}
        for item in (*similar, *history, *others):
            if item in scores:
                continue
            level = self._popularity.get(item, -math.inf)
            score = share * 2.0 ** (level - top) if level > -math.inf else 0.0
            if largest > 0.0:
                score += (1.0 - share) * similar.get(item, 0.0) / largest
            if item in history and score > 0.0:
                score *= REPEAT_FACTOR
            scores[item] = score
        return scores

    def _score_similar(self, history: dict[str, tuple[float, float]]) -> dict[str, float]:
        newest = max((at for _, at in history.values()), default=0.0)
        scores: dict[str, float] = {}
        for position, item in enumerate(reversed(history)):
            affinity, at = history[item]
            age = 0.5 ** ((newest - at) / TASTE_HALF_LIFE_MS)
            weight = affinity * age * POSITION_DECAY**position
            norm = self._norms.get(item, 0.0)
            if weight == 0.0 or norm <= 0.0:
                continue
            for other, strength in self._similar.get(item, {}).items():
                product = norm * self._norms.get(other, 0.0)
                if product > 0.0:
                    cosine = min(1.0, strength / math.sqrt(product))
                    scores[other] = scores.get(other, 0.0) + weight * cosine
        return scores

    def _insert_unplayed(
        self,
        ranked: list[Scored],
        scores: dict[str, float],
        history: dict[str, tuple[float, float]],
        count: int,
    ) -> list[Scored]:
        """Insert items without interactions before the disliked ones."""
        disliked = [entry for entry in ranked if _is_disliked(entry.item_id, history)]
        liked = ranked[: len(ranked) - len(disliked)]
        for item in self._catalogue:
            if len(liked) >= count:
                break
            if item not in scores:
                liked.append(Scored(item, 0.0))
        return (liked + disliked)[:count]


def _is_disliked(item: str, history: dict[str, tuple[float, float]]) -> bool:
    return item in history and history[item][0] <= 0.0


def _sort_key(
    history: dict[str, tuple[float, float]],
) -> Callable[[tuple[str, float]], tuple[bool, float, str]]:
    """A sort key: disliked items last, then by score, then by id."""

    def key(entry: tuple[str, float]) -> tuple[bool, float, str]:
        item, score = entry
        return _is_disliked(item, history), -score, item

    return key


def _scored(item: str, score: float, total: float) -> Scored:
    if score <= 0.0 or total <= 0.0:
        return Scored(item, 0.0)
    return Scored(item, math.floor(score / total * 1e7) / 1e7)


def _add_log2(first: float, second: float) -> float:
    """log2(2**first + 2**second) without leaving the range of a float."""
    high, low = max(first, second), min(first, second)
    if low == -math.inf:
        return high
    return high + math.log2(1.0 + 2.0 ** (low - high))
