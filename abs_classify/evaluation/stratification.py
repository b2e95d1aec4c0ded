"""Stratified samples: which images of each class a smaller evaluation takes."""

from __future__ import annotations

from collections.abc import Sequence

from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError

__all__ = ["quotas", "stratified_positions"]


def stratified_positions(labels: Sequence[str], limit: int, seed: int) -> list[int]:
    """Positions of a stratified sample, in ascending order.

    Which images of a class are taken follows from the seed, the label and the place of an image among those of its
    class, so the sample is the same on every machine, and a class's larger share holds its smaller one.

    Args:
        labels: the class of each image, in the order of the data set.
        limit: how many images to take, at least one for each class that has any.
        seed: of the choice.

    Raises:
        UsageError: ``limit`` is below the number of classes that have images, so the sample would leave some out.
    """
    by_label: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        by_label.setdefault(label, []).append(position)
    if limit < len(by_label):
        raise UsageError(
            f"a stratified sample must have an image of each of the {len(by_label)} classes, got a limit of {limit}",
            remedy=f"Raise --limit to {len(by_label)} or more, or leave out --stratified",
        )
    counts = quotas({label: len(positions) for label, positions in by_label.items()}, limit)
    chosen = []
    for label, positions in by_label.items():
        order = sorted(
            (sha256_bytes(f"{seed}\0{nth}\0{label}".encode()), position) for nth, position in enumerate(positions)
        )
        chosen += [position for _, position in order[: counts[label]]]
    return sorted(chosen)


def quotas(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """How many images of each class: its share of ``limit`` by largest remainder, at least one, at most all it has.

    Args:
        sizes: images of each class, each at least one.
        limit: how many in all; at least the number of classes.

    Returns:
        Class to count; the counts sum to ``limit``, or to all images where those are fewer.
    """
    total = sum(sizes.values())
    if limit >= total:
        return dict(sizes)
    shares = {label: limit * size / total for label, size in sizes.items()}
    counts = {label: max(1, int(share)) for label, share in shares.items()}
    # images that the minimum of one took too many are taken back where most were taken beyond the share, and missing
    # ones are added where most are lacking; the label decides between equal remainders
    while (left := limit - sum(counts.values())) != 0:
        step = 1 if left > 0 else -1
        candidates = [label for label in sizes if (counts[label] < sizes[label] if step > 0 else counts[label] > 1)]
        best = max(candidates, key=lambda label: (step * (shares[label] - counts[label]), label))
        counts[best] += step
    return counts
