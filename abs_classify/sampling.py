"""A part of a data set that stands for the whole: of each class as many images as its share of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError

__all__ = ["quotas", "stratified"]


def stratified(labels: Sequence[str], limit: int, seed: int) -> list[int]:
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
    places: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        places.setdefault(label, []).append(at)
    if limit < len(places):
        raise UsageError(
            f"a stratified sample of {limit} images cannot hold one of each of the {len(places)} classes",
            remedy=f"Take at least {len(places)}, or leave out --stratified",
        )
    wanted = quotas({label: len(own) for label, own in places.items()}, limit)
    chosen = []
    for label, own in places.items():
        order = sorted((sha256_bytes(f"{seed}\0{nth}\0{label}".encode()), at) for nth, at in enumerate(own))
        chosen += [at for _, at in order[: wanted[label]]]
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
    given = {label: max(1, int(share)) for label, share in shares.items()}
    # what the minimum of one took too much is taken back where most was given beyond the share, and the rest goes the
    # other way; equal remainders are told apart by the label
    while (left := limit - sum(given.values())) != 0:
        step = 1 if left > 0 else -1
        open_ = [label for label in sizes if (given[label] < sizes[label] if step > 0 else given[label] > 1)]
        best = max(open_, key=lambda label: (step * (shares[label] - given[label]), label))
        given[best] += step
    return given
