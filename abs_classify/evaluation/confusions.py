"""The classes that images confuse, and what new sentences win on them, for ``abs_descriptions.rewrite_bundle``.

from abs_classify import ImageJudge

judge = ImageJudge.open(bundle.label_space(), dataset="imagefolder:./val")
for confusion in judge.confusions():
    print(confusion.first, confusion.second, confusion.images)

Images with true classes are in two halves of every class, by a hash of seed and image id: copies of an image are in
one half, and neither the order of the images nor their names matter. Images are encoded once, or come from the cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from pydantic import JsonValue

from abs_classify.classifier import Classifier, as_label_space
from abs_classify.datasets.base import Dataset, class_positions
from abs_classify.encoding.samples import IdentifiedSample, OnError, SkippedImage, batched, identify_readable
from abs_classify.encoding.stages import SHARD
from abs_classify.evaluation.job import EvaluationSplit, open_split
from abs_classify.evaluation.significance import newcombe_paired
from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts, Descriptors, Sentences
from abs_classify.methods.table import METHODS, Method, get_method
from abs_classify.plugins import plugin_record
from abs_classify.usage import open_images
from abs_core.bundle_scores import Interval, NetGain
from abs_core.canonical import digest, sha256_bytes
from abs_core.confusions import Confusion, ImageHalf
from abs_core.descriptions import Description, Descriptions, LabelSpace
from abs_core.errors import ImageError, UsageError
from abs_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.encoding.work import WorkCounts
    from abs_classify.images import Truncated
    from abs_classify.methods.replaced_texts import Replacement
    from abs_classify.methods.scoring import Scorer
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.deferred import DeferredModel

__all__ = ["ImageJudge", "split_in_halves"]

# An image without a true class wavers if its second class is at least this much as likely as its first.
_CLOSE = 0.5


def split_in_halves(ids: Sequence[str], labels: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """The positions of the images of two halves, each with half of every class's images.

    Args:
        ids: of the images; copies have the same one.
        labels: of the true classes; of copies with different ones the first counts.
        seed: another one gives other halves.
    """
    label_of: dict[str, int] = {}
    for image_id, label in zip(ids, labels, strict=True):
        label_of.setdefault(image_id, label)
    by_label: dict[int, list[str]] = {}
    for image_id, label in label_of.items():
        by_label.setdefault(label, []).append(image_id)
    first = set[str]()
    ahead = 0  # odd classes give their image more to each half in turn
    for label in sorted(by_label):
        ranked = sorted(by_label[label], key=lambda image_id: sha256_bytes(f"{seed}\0{image_id}".encode()))
        size = (len(ranked) + (ahead <= 0)) // 2
        ahead += 2 * size - len(ranked)
        first.update(ranked[:size])
    halves: tuple[list[int], list[int]] = ([], [])
    for position, image_id in enumerate(ids):
        halves[image_id not in first].append(position)
    return halves


class ImageJudge:
    """Images that tell which classes they confuse, and which sentences help: a ``SentenceJudge``. See ``open``.

    Attributes:
        skipped: the images that could not be read, by name.
        work: what was asked for and computed.
        notes: what must be said of the images.
    """

    def __init__(
        self,
        classifier: Classifier,
        split: EvaluationSplit,
        positions: Mapping[str, int] | None,
        *,
        on_error: OnError,
        progress: Progress,
    ) -> None:
        dataset = split.dataset
        self._classifier, self._samples, self._positions = classifier, split.samples, positions
        self._on_error, self._truncated, self._progress = on_error, split.truncated, progress
        self._stages = classifier.stages_of_run()
        self.work: WorkCounts = self._stages.work
        self.skipped: dict[str, SkippedImage] = {}
        self.notes = [
            *dataset.notes,
            *([split.sampling] if split.sampling else []),
            *map(str, dataset.remarks),
            *classifier.notes,
        ]
        self._ids = list(classifier.names)
        known = {class_id: place for place, class_id in enumerate(self._ids)} | dict(positions or {})
        self._selected = [known[class_id] for class_id in dataset.selected if class_id in known]
        self._halves: dict[ImageHalf, list[IdentifiedSample]] | None = None

    @classmethod
    def open(
        cls,
        label_space: LabelSpace | Mapping[str, Sequence[str | Description]],
        *,
        dataset: str | Dataset | None = None,
        images: str | Path | None = None,
        method: str | Method = "abs",
        model: Model | DeferredModel | str = "embedded",
        views: int | None = None,
        attention: str | AttentionBackend = "auto",
        seed: int = 0,
        batch_size: int = 64,
        cache: PersistentStore | Path | str | None = None,
        limit: int | None = None,
        stratified: bool = False,
        on_error: OnError = "stop",
        truncated: Truncated = "refuse",
        progress: Progress = no_progress,
    ) -> ImageJudge:
        """The judge of a bundle by a data set, or by images whose classes are not known.

        Everything that is named is checked; no image is read, and no model loaded.

        Args:
            label_space: classes and descriptions, such as a bundle's.
            dataset: labelled images, see ``open_dataset``; or
            images: a folder, or what else ``open_images`` takes.
            method: a row of the table, or its name, that looks at descriptions and at one image alone.
            model, attention, batch_size, cache: as in ``Classifier``.
            seed: of the views, and of the halves.
            views: replaces the method's number of views of each kind; every image is looked at in all of them.
            limit, stratified: as in ``open_split``.
            on_error: whether an image that cannot be read stops the run.
            truncated: as in ``Classifier.classify``.
            progress: shows how many images are done.

        Raises:
            UsageError: not exactly one of ``dataset`` and ``images``, or a method, views or classes without
                descriptions for which the question has no answer.
            DatasetError: no images, or classes of the data set that the bundle lacks.
        """
        source = _image_source(dataset, images)
        row, space = _checked(method, views), _described(as_label_space(label_space, {}))
        split = open_split(source, limit, stratified=stratified, seed=seed, truncated=truncated)
        positions = None if dataset is None else class_positions(split.dataset, space)
        classifier = Classifier(
            model, space, method=row, attention=attention, views=views, seed=seed, batch_size=batch_size, cache=cache
        )
        return cls(classifier, split, positions, on_error=on_error, progress=progress)

    @property
    def has_truth(self) -> bool:
        """Whether true classes are known."""
        return self._positions is not None

    def confusions(self) -> list[Confusion]:
        """See ``SentenceJudge``.

        Without true classes, an image confuses its first two classes if the second one is at least half as likely
        (``Prediction.confidence``). With true classes the images of the test half are encoded as well, so that one that
        cannot be read shows before anything is paid for; nothing is made of their features here.
        """
        counts: Counter[tuple[str, str]] = Counter()
        if self._positions is None:
            counts.update(self._wavering())
        else:
            for _ in self._encoded("test", "encoding"):
                pass
            for labels, truth in self._labels("choice", self._texts(self._descriptions), []):
                wrong = labels[0] != truth
                misses = zip(truth[wrong].tolist(), labels[0][wrong].tolist(), strict=True)
                counts.update((self._ids[true], self._ids[label]) for true, label in misses)
        order = {class_id: place for place, class_id in enumerate(self._ids)}
        confusions = []
        for first, second in counts:
            there, back = counts[first, second], counts[second, first]
            if there > back or (there == back and order[first] < order[second]):
                confusions.append(Confusion(first, second, there, back))
        return sorted(confusions, key=lambda entry: (-entry.images, order[entry.first], order[entry.second]))

    def gains(self, old: Descriptions, new: Sequence[Descriptions], half: ImageHalf) -> list[NetGain]:
        """See ``SentenceJudge``. On the test half every text is scored each time, as in an evaluation."""
        texts = self._texts(old)
        replacements = [self._replacement(old, entry) for entry in new]
        tables = np.zeros((len(new), 2, 2), dtype=np.int64)  # right with new, right with old
        for labels, truth in self._labels(half, texts, replacements):
            right = labels == truth
            for number, others in enumerate(right[1:]):
                np.add.at(tables[number], (others.astype(int), right[0].astype(int)), 1)
        return [_net_gain(table) for table in tables]

    def image_ids(self, half: ImageHalf) -> list[str]:
        """See ``SentenceJudge``."""
        return [image.id for image in self._images[half]]

    def facts(self) -> dict[str, JsonValue]:
        """See ``SentenceJudge``; of images only those whose bytes can be read."""
        facts, method = self._stages.models.facts, self._classifier.method
        images = self._images
        groups = {f"{half}_images": images[half] for half in images} if self.has_truth else {"images": images["choice"]}
        about: dict[str, JsonValue] = {name: len(group) for name, group in groups.items()}
        about |= {f"{name}_digest": digest(sorted(image.id for image in group)) for name, group in groups.items()}
        return {
            **about,
            "method": method.key(),
            "model": self._stages.models.label,
            "seed": self._stages.seed,
            "tower_digest": facts.model,
            "attention_digest": facts.attention,
            **plugin_record(),
        }

    @property
    def _descriptions(self) -> Descriptions:
        descriptions = self._classifier.label_space.descriptions
        assert descriptions is not None  # see ``open``
        return descriptions

    @property
    def _images(self) -> dict[ImageHalf, list[IdentifiedSample]]:
        """The images of each half; without true classes all in the first."""
        if self._halves is None:
            digests = self._stages.models.digests
            images, skipped = identify_readable(self._samples, digests, self._on_error, truncated=self._truncated)
            self._skip(skipped)
            if self._positions is None:
                self._halves = {"choice": images, "test": []}
            else:
                labels = [self._positions[image.sample.label] for image in images]
                halves = split_in_halves([image.id for image in images], labels, self._stages.seed)
                chosen, tested = ([images[position] for position in half] for half in halves)
                self._halves = {"choice": chosen, "test": tested}
                if not chosen or not tested:
                    raise UsageError(
                        "sentences are chosen on one half of the images and tested on the other, so there must be two "
                        f"different images at least, got {len(images)}",
                        remedy="Give more images",
                    )
            if not images:
                raise ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")
        return self._halves

    def _texts(self, descriptions: Descriptions) -> ClassTexts:
        return self._class_texts(self._ids, descriptions)

    def _class_texts(self, class_ids: Sequence[str], descriptions: Descriptions) -> ClassTexts:
        names = self._classifier.names
        return self._classifier.method.texts.build(
            ClassTextInputs({class_id: names[class_id] for class_id in class_ids}, descriptions)
        )

    def _replacement(self, old: Descriptions, new: Descriptions) -> Replacement:
        import torch

        from abs_classify.methods.replaced_texts import Replacement

        changed = [place for place, class_id in enumerate(self._ids) if list(old[class_id]) != list(new[class_id])]
        texts = self._stages.text_features(self._class_texts([self._ids[place] for place in changed], new))
        return Replacement(torch.tensor(changed), texts.features, texts.class_index)

    def _labels(
        self, half: ImageHalf, class_texts: ClassTexts, replacements: Sequence[Replacement]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Labels int64 [1 + K, B] with the texts and with each of K replacements, and true classes [B], by shard."""
        from abs_classify.methods.replaced_texts import reference_scores, replaced_scores

        if self._positions is None:
            raise UsageError("no gain can be measured without true classes", remedy="Give labelled images")
        texts = self._stages.text_features(class_texts)
        score = reference_scores if half == "test" else replaced_scores
        for images, views in self._encoded(half, "testing" if half == "test" else "comparing"):
            scores = score(cast("Scorer", self._classifier.method.scorer), views, texts, replacements)
            labels = np.stack([self._best(rows.numpy()) for rows in scores])
            yield labels, np.array([self._positions[image.sample.label] for image in images])

    def _encoded(
        self, half: ImageHalf, title: str
    ) -> Iterator[tuple[Sequence[IdentifiedSample], Mapping[str, Tensor]]]:
        """The images of a half that can be read, with their features by kind of view, by shard."""
        from abs_classify.encoding.ranking import ShardScorer

        images, method = self._images[half], self._classifier.method
        scorer = ShardScorer(self._stages, {}, self._on_error, also=method.views)
        shards, readable = scorer.score(batched(images, SHARD)), 0
        with self._progress(title, len(images), "images") as advance, closing(shards):
            for shard in shards:
                self._skip(shard.skipped)
                readable += len(shard.images)
                if shard.images:
                    yield shard.images, method.views_by_kind(self._stages.views(shard.images, method.views))
                advance(shard.size)
        if not readable:
            raise ImageError(
                f"none of the {len(images)} images of one half could be read",
                remedy="See the reasons with --on-error stop",
            )

    def _best(self, scores: np.ndarray) -> np.ndarray:
        """The best class of each image; of equal scores in float32 the first, as in evaluations."""
        rows = scores.astype(np.float32)
        if not self._selected:
            return np.asarray(rows.argmax(axis=1))
        selected = np.array(sorted(self._selected))
        return np.asarray(selected[rows[:, selected].argmax(axis=1)])

    def _wavering(self) -> Iterator[tuple[str, str]]:
        """The first and the second class of each image whose second one is close."""
        predictions = self._classifier.classify(
            self._samples, top=2, on_error=self._on_error, truncated=self._truncated, progress=self._progress
        )
        with closing(predictions):
            for prediction in predictions:
                first, second = prediction.ranking
                if (second.confidence or 0.0) >= _CLOSE * (first.confidence or 0.0):
                    yield first.class_id, second.class_id
        self._skip(predictions.skipped)
        self.work.add(predictions.work)

    def _skip(self, images: Sequence[SkippedImage]) -> None:
        self.skipped |= {image.name: image for image in images}


def _image_source(dataset: str | Dataset | None, images: str | Path | None) -> str | Dataset:
    if (dataset is None) == (images is None):
        raise UsageError(
            "the images are not given" if dataset is None else "a data set and images are both given",
            remedy="Give labelled images as a data set (--dataset), or images without labels (--images)",
        )
    return open_images(str(images)) if dataset is None else dataset


def _described(space: LabelSpace) -> LabelSpace:
    """The label space, if it has classes that descriptions tell apart."""
    if not any((space.descriptions or {}).values()) or len(space.names) < 2:
        raise UsageError(
            f"{space.source} has {'one class' if len(space.names) < 2 else 'no descriptions'}, so nothing can be told "
            "apart",
            remedy="Name a bundle with descriptions of two classes or more",
        )
    return space


def _net_gain(table: np.ndarray) -> NetGain:
    """The gain of images counted by whether they are right with the new and with the old descriptions."""
    won, lost, total = int(table[1, 0]), int(table[0, 1]), int(table.sum())
    low, high = newcombe_paired(int(table[1, 1]), won, lost, int(table[0, 0]))
    return NetGain(won=won, lost=lost, images=total, interval=Interval(low=100 * low, high=100 * high))


def _checked(method: str | Method, views: object) -> Method:
    """The row, if new descriptions change what it makes of an image by itself, and ``views`` are a number."""
    if not (views is None or isinstance(views, int)):
        raise UsageError(
            f"views must be a number, got {views!r}: every image is looked at in all of them",
            remedy="Give a number of views, or leave it out",
        )
    row = get_method(method) if isinstance(method, str) else method
    if not _uses_new_descriptions(row):
        able = ", ".join(name for name, other in METHODS.items() if _uses_new_descriptions(other))
        raise UsageError(
            f"the method {row.name!r} does not tell what a new description wins on an image",
            remedy=f"Choose one of {able}",
        )
    return row


def _uses_new_descriptions(row: Method) -> bool:
    is_limited = isinstance(row.texts, Sentences) and row.texts.limit is not None
    return not row.stream and isinstance(row.texts, Sentences | Descriptors) and not is_limited
