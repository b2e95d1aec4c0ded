"""Random numbers that depend on what they are for and on nothing else.

A number is read from the sha256 of (seed, image id, kind of view, view number), so it is the same on every platform, in
every batch, order, worker and shard, and the first n of N views are a prefix of any larger N.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_core.canonical import canonical_json

__all__ = [
    "RANDOM_SCHEME",
    "FloatArray",
    "IntArray",
    "inverse_cdf",
    "random_cycle",
    "random_permutation",
    "scale_to_integers",
    "shuffled_order",
    "uniform_numbers",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

#: Enters every hash and every cache key; a change of the scheme changes all random numbers and must change this name.
RANDOM_SCHEME = "sha256-53bit-1"
_WORDS_PER_DIGEST = 4


def uniform_numbers(seed: int, image_id: str, kind: str, count: int, n: int) -> FloatArray:
    """Uniform random numbers for ``count`` views, ``n`` for each.

    View v takes its numbers from the sha256 of the canonical JSON ``[scheme, seed, image id, kind, v, block]``: every
    digest gives four 64-bit big-endian words, of which the upper 53 bits become a double; further blocks follow when
    ``n`` is above four.

    Args:
        seed: the seed of the run, any integer.
        image_id: the image's content id; empty where there is no image.
        kind: the kind of view, so that two kinds get independent numbers; without an image the name of the purpose.
        count: number of views N.
        n: numbers for each view.

    Returns:
        Array [count, n] of doubles in [0, 1).
    """
    blocks = -(-n // _WORDS_PER_DIGEST)
    prefix = canonical_json([RANDOM_SCHEME, int(seed), image_id, kind])[:-1]
    digests = b"".join(
        hashlib.sha256(f"{prefix},{view},{block}]".encode()).digest()
        for view in range(count)
        for block in range(blocks)
    )
    words = np.frombuffer(digests, dtype=">u8").reshape(count, blocks * _WORDS_PER_DIGEST)[:, :n]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def scale_to_integers(uniform: FloatArray, low: int | IntArray, high: int | IntArray) -> IntArray:
    """Uniform numbers scaled to integers from ``low`` to ``high``, both included.

    Args:
        uniform: [N] doubles in [0, 1).
        low: smallest value, a number or [N].
        high: largest value, a number or [N]; not below ``low``.

    Returns:
        int64 [N]. A double below 1 times a positive x rounds to less than x, so ``high + 1`` never occurs.
    """
    span = np.asarray(high, dtype=np.int64) - np.asarray(low, dtype=np.int64) + 1
    return np.asarray(low + np.floor(uniform * span).astype(np.int64), dtype=np.int64)


def inverse_cdf(uniform: FloatArray, probability: FloatArray) -> IntArray:
    """Positions sampled with replacement from a discrete distribution, by inverting its cumulative sum.

    Args:
        uniform: [N] doubles in [0, 1).
        probability: [k] doubles, not negative, with a positive sum.

    Returns:
        int64 [N], positions 0 .. k-1; a position of probability zero never occurs.
    """
    cumulative = np.cumsum(probability, dtype=np.float64)
    position: IntArray = np.searchsorted(cumulative, uniform * cumulative[-1], side="right").astype(np.int64)
    return position


def random_permutation(seed: int, purpose: str, n: int) -> IntArray:
    """A uniformly random permutation of 0 .. n-1, fixed by the seed and the name of its purpose.

    Returns:
        int64 [n].
    """
    return np.argsort(uniform_numbers(seed, "", purpose, n, 1)[:, 0], kind="stable").astype(np.int64)


def shuffled_order(seed: int, image_ids: Sequence[str], purpose: str = "stream") -> IntArray:
    """Positions of images in an order that follows from the seed and their contents alone.

    So renaming images or listing them otherwise changes nothing, and one more image leaves the order of the others. Of
    images with equal bytes, each has a place of its own.

    Args:
        seed: of the order.
        image_ids: n content ids.
        purpose: what the order is for; two purposes get independent orders.

    Returns:
        int64 [n], a permutation.
    """
    numbers = {
        image_id: iter(uniform_numbers(seed, image_id, purpose, copies, 1)[:, 0])
        for image_id, copies in Counter(image_ids).items()
    }
    keys = np.array([next(numbers[image_id]) for image_id in image_ids])
    return np.argsort(keys, kind="stable").astype(np.int64)


def random_cycle(seed: int, purpose: str, n: int) -> IntArray:
    """A random permutation of 0 .. n-1 that is one single cycle, so that nothing keeps its place.

    Sattolo's algorithm: uniform over the (n-1)! cyclic permutations.

    Returns:
        int64 [n]; for n = 1 the only permutation there is, which moves nothing.
    """
    order = np.arange(n, dtype=np.int64)
    uniform = uniform_numbers(seed, "", purpose, n, 1)[:, 0]
    for last in range(n - 1, 0, -1):
        other = int(uniform[last] * last)
        order[last], order[other] = order[other], order[last]
    return order
