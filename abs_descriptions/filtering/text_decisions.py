"""Which descriptions to keep by their characters alone: copies and near duplicates. Needs nothing but the core.

Two texts are compared by the Jaccard index of their sets of trigrams, |a & b| / |a | b|, where a trigram is three
consecutive characters of the normalised text (case, width, punctuation and spacing ignored) between two spaces. It is
exact: every pair of a class whose sizes allow the limit is compared, as integers of one bit for each trigram of the
class, so a class of m texts costs at most m * m / 2 operations on a few hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from unicodedata import normalize

from abs_descriptions.filtering.criteria import Decision, Decisions, TextCriteria
from abs_descriptions.generation.cleaning import RejectionReason
from abs_descriptions.generation.sentences import words

__all__ = ["decide_by_text", "jaccard", "normalized_text", "trigrams"]

# More than the rounding of a product or quotient of two counts.
_ROUNDING = 1e-9


def normalized_text(text: str) -> str:
    """The words of a text, folded, with single spaces; a text without a word is only folded."""
    return " ".join(words(text)) or normalize("NFKC", text).casefold().strip()


def trigrams(text: str) -> frozenset[str]:
    """The set of three consecutive characters of a text, which is normalised and stands between two spaces."""
    return _trigrams(normalized_text(text))


def jaccard(some: frozenset[str], others: frozenset[str]) -> float:
    """The share of the elements of two sets that both have; 0 for two empty sets."""
    shared = len(some & others)
    return shared / max(len(some) + len(others) - shared, 1)


def decide_by_text(texts: Sequence[str], class_indices: Sequence[int], criteria: TextCriteria) -> Decisions:
    """Judge every text: of the copies in a class the first by code point stays, of the near duplicates the longest.

    Within a class, texts are visited from the one with the most trigrams down, ties in the order of code points. A text
    stays unless it is too similar to one that stays. No result depends on the order of the input.

    Args:
        texts: n texts.
        class_indices: n class positions.
        criteria: what to apply.
    """
    decisions = [Decision(None, {})] * len(texts)
    members: dict[int, list[int]] = {}
    for position in sorted(range(len(texts)), key=lambda position: texts[position]):
        members.setdefault(class_indices[position], []).append(position)
    for positions in members.values():
        originals: dict[str, int] = {}
        for position in positions:
            original = originals.setdefault(normalized_text(texts[position]), position)
            if original != position:
                decisions[position] = Decision(RejectionReason.DUPLICATE, {}, neighbour=original)
        if criteria.near_duplicate is None:
            continue
        limit = criteria.near_duplicate
        for position, (neighbour, similarity) in _near_duplicates(originals, limit):
            measured = {"jaccard": round(similarity, 4), "limit": limit}
            decisions[position] = Decision(RejectionReason.NEAR_DUPLICATE, measured, neighbour=neighbour)
    return Decisions(tuple(decisions), protected=0)


def _near_duplicates(positions: dict[str, int], limit: float) -> Iterable[tuple[int, tuple[int, float]]]:
    """The position of each text that goes, the position of the kept one nearest to it, and their similarity."""
    bits: dict[str, int] = {}
    sets = []
    for text, position in positions.items():
        parts = _trigrams(text)
        sets.append((len(parts), sum(1 << bits.setdefault(part, len(bits)) for part in parts), position))
    sets.sort(key=lambda entry: -entry[0])
    kept: list[tuple[int, int, int]] = []
    first = 0
    # s / (a + b - s) >= limit, solved for s; spares most divisions
    least = limit / (1 + limit) - _ROUNDING
    for size, mask, position in sets:
        # |a & b| <= |b| and |a | b| >= |a|: a set that is larger than this cannot reach the limit, nor can it later,
        # since sizes only fall
        largest = size / limit + _ROUNDING
        while first < len(kept) and kept[first][0] > largest:
            first += 1
        best, nearest = 0.0, -1
        for other_size, other_mask, other in kept[first:]:
            shared = (mask & other_mask).bit_count()
            if shared >= least * (size + other_size):
                similarity = shared / (size + other_size - shared)
                if similarity > best:
                    best, nearest = similarity, other
        if best >= limit:
            yield position, (nearest, best)
        else:
            kept.append((size, mask, position))


def _trigrams(normalized: str) -> frozenset[str]:
    padded = f" {normalized} "
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))
