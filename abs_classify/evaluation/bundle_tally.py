"""What leaving out sentences changes, counted over images for ``BundleScores``. Memory does not grow with them.

Per sentence: images won and lost, margins, usage, whose images it pulls in, and a few images to show. Per class: images
that are right and, over its name alone, won and lost; and with what it is confused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from abs_classify.evaluation.significance import newcombe_paired
from abs_core.bundle_scores import ClassScore, Interval, NetGain, PulledImages, SentenceScore

if TYPE_CHECKING:
    from abs_classify.methods.sentence_effects import Effects

__all__ = ["BundleTally", "Sentence"]

T = TypeVar("T")

# images that are remembered of each sentence and kind: lost, won or changed, most used
_KEPT = 2

# images of which truth and label are remembered before those that are not to be shown are dropped
_LIMIT = 4096


@dataclass(frozen=True)
class Sentence:
    """A sentence of a bundle.

    Args:
        class_index: the position of its class.
        text: as the bundle has it.
        is_only: whether its class has no other.
    """

    class_index: int
    text: str
    is_only: bool


class BundleTally(Generic[T]):
    """Counts over images.

    Args:
        classes: id and name of each class, in class order.
        sentences: in the order of their classes.
        has_truth: whether true classes are known.

    Attributes:
        images: how many were counted.
        right: how many of them have their true class as the label.
    """

    def __init__(self, classes: Sequence[tuple[str, str]], sentences: Sequence[Sentence], *, has_truth: bool) -> None:
        self._classes, self._sentences, self._has_truth = classes, sentences, has_truth
        self.images = self.right = 0
        count = len(sentences)
        self._usage, self._margins = np.zeros(count), np.zeros(count)
        self._won, self._lost, self._changed = (np.zeros(count, np.int64) for _ in range(3))
        self._pulled: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._name_won, self._name_lost, self._of_class, self._right_of_class = (
            np.zeros(len(classes), np.int64) for _ in range(4)
        )
        self._confused: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._most_used = np.full((_KEPT, count), -1, np.int64)
        self._most_usage = np.full((_KEPT, count), -1.0, np.float32)
        # by sentence, and whether the image is lost
        self._decided: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
        # images to show with truth and label, by their number; others are dropped now and then
        self._known: dict[int, tuple[T, int | None, int]] = {}
        self._limit = _LIMIT

    def add(self, images: Sequence[T], effects: Effects, truth: Sequence[int] | None) -> None:
        """Count images.

        Args:
            images: B images, of which those to show are kept.
            effects: what leaving out sentences changes for them.
            truth: the positions of their B true classes; None if they are not known.
        """
        labels = effects.labels.tolist()
        numbers = range(self.images, self.images + len(labels))
        self.images += len(labels)
        for position, (label, second) in enumerate(zip(labels, effects.seconds.tolist(), strict=True)):
            true = None if truth is None else truth[position]
            self._known[numbers[position]] = images[position], true, label
            of = label if true is None else true
            self._of_class[of] += 1
            if true is None:
                self._confused[label][second] += 1
            elif true == label:
                self.right += 1
                self._right_of_class[true] += 1
            else:
                self._confused[true][label] += 1
        usage = effects.usage.numpy()
        self._usage += usage.sum(0, dtype=np.float64)
        self._margins += effects.margins.numpy()
        self._keep_most_used(usage, numbers)
        for position, sentence, label in effects.changes.tolist():
            self._add_change(numbers[position], sentence, label)
        for position, class_index, label in effects.names.tolist():
            _, true, before = self._known[numbers[position]]
            self._name_won[class_index] += before == true
            self._name_lost[class_index] += label == true
        self._forget()

    def _add_change(self, number: int, sentence: int, without: int) -> None:
        _, true, label = self._known[number]
        self._changed[sentence] += 1
        self._won[sentence] += true == label
        self._lost[sentence] += true == without
        of = self._sentences[sentence].class_index
        if true is not None and label == of != true:
            self._pulled[sentence][true] += 1
        if true is None or true in (label, without):
            shown = self._decided[sentence, true == without]
            if len(shown) < _KEPT:
                shown.append(number)

    def _keep_most_used(self, usage: np.ndarray, numbers: Sequence[int]) -> None:
        for values, number in zip(usage, numbers, strict=True):
            images = np.full(values.shape, number)
            for place in range(_KEPT):
                is_more = values > self._most_usage[place]
                below = np.where(is_more, self._most_usage[place], values)
                self._most_usage[place] = np.where(is_more, values, self._most_usage[place])
                pushed = np.where(is_more, self._most_used[place], images)
                self._most_used[place] = np.where(is_more, images, self._most_used[place])
                values, images = below, pushed

    def _forget(self) -> None:
        """Drop what is known of images that are not among those to show."""
        if len(self._known) > self._limit:
            shown = {number for place in range(3 * _KEPT) for number in self._candidates(place).values()}
            self._known = {number: known for number, known in self._known.items() if number in shown}
            self._limit = max(_LIMIT, 2 * len(self._known))

    # --- what was counted --------------------------------------------------------------------------------------------

    def _candidates(self, place: int) -> dict[int, int]:
        """The image to show in a place beside each sentence that has one there: lost, won or changed, most used."""
        nth, kind = divmod(place, 3)
        if kind == 2:
            return {sentence: int(number) for sentence, number in enumerate(self._most_used[nth]) if number >= 0}
        wanted = kind == 0
        return {
            sentence: numbers[nth]
            for (sentence, is_lost), numbers in self._decided.items()
            if is_lost == wanted and nth < len(numbers)
        }

    def examples(self, most: int) -> tuple[list[tuple[T, int | None, int]], list[tuple[int, ...]], int]:
        """The images to show, up to ``most``: those of sentences that decide most come first.

        Returns:
            Each image with truth and label; of every sentence the positions in this list; and how many images there
            would be to show without the limit.
        """
        order = np.lexsort((-self._usage, -self._changed, -(self._won + self._lost)))
        position_of: dict[int, int] = {}
        positions: list[list[int]] = [[] for _ in self._sentences]
        wanted: set[int] = set()
        for place in range(3 * _KEPT):
            candidates = self._candidates(place)
            wanted.update(candidates.values())
            for sentence in order.tolist():
                number = candidates.get(sentence)
                if number is None or (number not in position_of and len(position_of) >= most):
                    continue
                position = position_of.setdefault(number, len(position_of))
                if position not in positions[sentence]:
                    positions[sentence].append(position)
        shown = [self._known[number] for number in position_of]
        return shown, [tuple(numbers) for numbers in positions], len(wanted)

    def sentences(self, examples: Sequence[tuple[int, ...]]) -> Iterator[SentenceScore]:
        """The score of each sentence, with the positions of the images to show beside it."""
        images_of = self._of_class if self._has_truth else np.zeros(len(self._classes), np.int64)
        for position, sentence in enumerate(self._sentences):
            images = int(images_of[sentence.class_index])
            gain = None
            if self._has_truth and not sentence.is_only:
                gain = self._gain(int(self._won[position]), int(self._lost[position]))
            yield SentenceScore(
                class_id=self._classes[sentence.class_index][0],
                text=sentence.text,
                is_only=sentence.is_only,
                gain=gain,
                margin=float(self._margins[position]) / images if images and not sentence.is_only else None,
                changed=int(self._changed[position]),
                usage=min(1.0, float(self._usage[position]) / self.images),
                pulled=self._most_first(self._pulled.get(position)),
                examples=examples[position],
            )

    def classes(self) -> Iterator[ClassScore]:
        """The score of each class."""
        for position, (class_id, name) in enumerate(self._classes):
            gain = None
            if self._has_truth:
                gain = self._gain(int(self._name_won[position]), int(self._name_lost[position]))
            yield ClassScore(
                class_id=class_id,
                name=name,
                images=int(self._of_class[position]),
                right=int(self._right_of_class[position]) if self._has_truth else None,
                over_name=gain,
                confused=self._most_first(self._confused.get(position)),
            )

    def _gain(self, won: int, lost: int) -> NetGain:
        low, high = _interval(self.right - won, won, lost, self.images - self.right - lost)
        return NetGain(won=won, lost=lost, images=self.images, interval=Interval(low=low, high=high))

    def _most_first(self, counts: Counter[int] | None) -> tuple[PulledImages, ...]:
        ordered = sorted((counts or {}).items(), key=lambda pair: (-pair[1], pair[0]))
        return tuple(PulledImages(class_id=self._classes[index][0], images=images) for index, images in ordered)


@lru_cache(maxsize=4096)
def _interval(both: int, won: int, lost: int, neither: int) -> tuple[float, float]:
    """In points of top-1; most sentences share theirs."""
    low, high = newcombe_paired(both, won, lost, neither)
    return 100.0 * low, 100.0 * high
