"""The images of a data set that are evaluated: all, the first, or a stratified sample; and what is said of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from abs_classify.datasets import BENCHMARKS, Benchmark, Dataset, Sample, open_dataset
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import (
    IdentifiedSample,
    OnError,
    SkippedImage,
    UnreadableSample,
    identify_readable,
)
from abs_core.canonical import sha256_bytes
from abs_core.errors import DatasetError, UsageError
from abs_core.labels import fold
from abs_core.text import counted

__all__ = ["EvaluationSplit", "benchmarks_by_name", "open_split", "quotas", "stratified_positions"]


@dataclass
class EvaluationSplit:
    """The images of a data set that are evaluated: identified once, whatever the number of models and label spaces.

    Args:
        dataset: with all of its images.
        samples: those that count, in order.
        sampling: how they were chosen; empty for all of them.
        bad: images that could not be decoded, found by any model.
        seconds: wall time of reading and identifying the images.
    """

    dataset: Dataset
    samples: Sequence[Sample]
    sampling: str = ""
    bad: dict[IdentifiedSample | UnreadableSample, SkippedImage] = field(default_factory=dict)
    seconds: float = 0.0
    _identified: tuple[list[IdentifiedSample], list[SkippedImage]] | None = None

    def identify(self, digests: DigestCache, on_error: OnError) -> tuple[list[IdentifiedSample], list[SkippedImage]]:
        """The images whose bytes could be read, and the others.

        Raises:
            ImageError: an image cannot be read and ``on_error`` is "stop".
        """
        if self._identified is None:
            start = time.perf_counter()
            self._identified = identify_readable(self.samples, digests, on_error)
            self.seconds = time.perf_counter() - start
        return self._identified

    @property
    def whole(self) -> bool:
        """Whether these are all images of a published split, so that published numbers are of the same ones."""
        benchmark = benchmarks_by_name().get(self.dataset.benchmark)
        sizes = {split.name: split.images for split in benchmark.splits} if benchmark else {}
        return len(self.samples) == sizes.get(self.dataset.split, -1) and not self.sampling

    def notes(self, images: Sequence[IdentifiedSample], names: Mapping[str, str]) -> list[str]:
        """What must be said of the images: how they were chosen, candidate classes without any, copies."""
        dataset = self.dataset
        notes = [*dataset.notes, *([self.sampling] if self.sampling else [])]
        used, folded = {image.sample.label for image in images}, set(map(fold, names.values()))
        empty = [
            entry.id
            for entry in dataset.classes
            if entry.id not in used
            and entry.id in (dataset.selected or [entry.id])
            and (entry.id in names or {fold(entry.id), fold(entry.name)} & folded)
        ]
        if empty:
            notes.append(
                f"{counted(len(empty), 'class has', 'classes have')} no image here, such as {empty[0]!r}: they "
                "compete, and the mean recall is over the others"
            )
        return notes + _copies(images)


def open_split(dataset: str | Dataset, limit: int | None, *, stratified: bool, seed: int) -> EvaluationSplit:
    """The images of a data set that are evaluated.

    Args:
        dataset: a data set, or its spec.
        limit: how many images; None for all.
        stratified: whether they are drawn from every class, instead of the first.
        seed: of a stratified sample.

    Raises:
        UnknownNameError, UsageError, DatasetError: the data set cannot be used, has no images, or more classes than
            ``limit`` where each needs an image.
    """
    if isinstance(dataset, str):
        dataset = open_dataset(dataset)
    if not dataset.samples:
        raise DatasetError(f"the data set {dataset.name} has no images", remedy="Check its folder")
    if limit is None or limit >= len(dataset.samples):
        return EvaluationSplit(dataset, dataset.samples)
    if stratified:
        return _stratified_split(dataset, limit, seed)
    classes = len(set(islice(dataset.labels, limit)))
    sampling = f"the first {limit} of {len(dataset.samples)} images, of {classes} classes: no random sample"
    return EvaluationSplit(dataset, dataset.samples[:limit], sampling)


def _stratified_split(dataset: Dataset, limit: int, seed: int) -> EvaluationSplit:
    samples = [dataset.samples[position] for position in stratified_positions(list(dataset.labels), limit, seed)]
    counts = Counter(sample.label for sample in samples).values()
    least, most = min(counts), max(counts)
    per_class = f"{least} to {most}" if least < most else str(least)
    size = f"{limit} of {len(dataset.samples)} images"
    return EvaluationSplit(dataset, samples, f"a stratified sample of {size}, {per_class} of each class, seed {seed}")


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
            f"a stratified sample of {limit} images cannot hold one of each of the {len(by_label)} classes",
            remedy=f"Take at least {len(by_label)}, or leave out --stratified",
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


def benchmarks_by_name() -> dict[str, Benchmark]:
    """The published data sets."""
    return {benchmark.name: benchmark for benchmark in BENCHMARKS}


def _copies(images: Sequence[IdentifiedSample]) -> list[str]:
    """Notes on images with the same bytes."""
    counts = Counter(image.id for image in images)
    labels: dict[str, dict[str, IdentifiedSample]] = {}
    for image in images:
        if counts[image.id] > 1:
            labels.setdefault(image.id, {}).setdefault(image.sample.label, image)
    if not labels:
        return []
    extra = sum(counts[image_id] - 1 for image_id in labels)
    notes = [f"{counted(extra, 'image is a copy', 'images are copies')} of another, byte for byte; each counts"]
    conflict = next((by_label for by_label in labels.values() if len(by_label) > 1), None)
    if conflict is not None:
        both = " and ".join(f"{image.name!r} is {label!r}" for label, image in list(conflict.items())[:2])
        notes.append(f"copies of one image have different labels, so one of them is always wrong: {both}")
    return notes
