"""Which sentences of a bundle help, and which hurt: every image is classified with each sentence and without it.

from abs_classify import score_bundle

scores = score_bundle(bundle.label_space(), dataset="imagefolder:./val")
for sentence in sorted(scores.sentences, key=lambda sentence: sentence.gain.points if sentence.gain else 0):
    print(sentence.class_id, sentence.text, sentence.gain)

Images are encoded once, or come from the cache, and sentences once; what every sentence wins follows from the features
(``abs_classify.methods.leave_one_out``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.classifier import Classifier, as_label_space
from abs_classify.datasets.base import Dataset, class_positions
from abs_classify.encoding.last_run import write_last_run
from abs_classify.encoding.samples import (
    IdentifiedSample,
    ImageInMemory,
    ImageInput,
    OnError,
    UnreadableSample,
    as_sample,
    batched,
    identify,
)
from abs_classify.encoding.spaces import PersistentStore
from abs_classify.encoding.stages import SHARD
from abs_classify.evaluation.bundle_tally import BundleTally, Sentence
from abs_classify.evaluation.job import open_split
from abs_classify.images import load_image
from abs_classify.methods.class_texts import Descriptors, RandomWords, Sentences, Template, TemplateEnsemble
from abs_classify.methods.scoring import CosineToMean, HardMatch, MeanSimilarity, SoftMatch, WeightedCosine
from abs_classify.methods.table import METHODS, Method, get_method
from abs_classify.usage import open_images
from abs_core.bundle_scores import BundleScores, ExampleImage
from abs_core.canonical import digest
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.progress import Progress, no_progress
from abs_core.remarks import RemarkCounter
from abs_core.text import counted, valid_unicode

if TYPE_CHECKING:
    from abs_classify.encoding.ranking import ScoredShard
    from abs_classify.encoding.work import WorkCounts
    from abs_classify.images import Truncated
    from abs_classify.methods.sentence_effects import LeaveOneOut
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.deferred import DeferredModel
    from abs_core.descriptions import Description, LabelSpace

__all__ = ["score_bundle"]

_SCORERS = (SoftMatch, CosineToMean, MeanSimilarity, WeightedCosine, HardMatch)

# images whose ids are looked up in one step
_LOOK_UP = 512

# the longer side and the most bytes of the images to show
_SIDE, _QUALITY, _MAX_BYTES = 160, 75, 16_000

# characters of a path, the last ones
_MAX_PATH = 4000

# shares of usage that are held at once
_USAGE = 1 << 22


def score_bundle(
    label_space: LabelSpace | Mapping[str, Sequence[str | Description]],
    *,
    dataset: str | Dataset | None = None,
    images: str | Path | Sequence[ImageInput] | None = None,
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
    examples: int = 200,
    work: WorkCounts | None = None,
    progress: Progress = no_progress,
) -> BundleScores:
    """What each sentence and each class of a bundle wins and costs on given images.

    Args:
        label_space: classes and descriptions, such as a bundle's; every class with a description at least.
        dataset: labelled images, see ``open_dataset``; or
        images: images whose classes are not known: a folder or what else ``open_images`` takes, or a list. They give
            usage, confusion and changed labels, and no gains.
        method: a row of the table, or its name, that matches images with the descriptions one by one.
        model, attention, seed, batch_size, cache: as in ``Classifier``.
        views: replaces the method's number of views of each kind; every image is looked at in all of them.
        limit: how many images; None for all.
        stratified: whether these are drawn from every class of the data set; otherwise they are the first.
        on_error: whether an image that cannot be read stops the run, or is left out and named in the remarks.
        truncated: as in ``Classifier.classify``.
        examples: the most images to keep beside the sentences, small; 0 for none.
        work: what was asked for and computed is added, also where the run stops.
        progress: shows how many images are done.

    Raises:
        UsageError: not exactly one of ``dataset`` and ``images``, classes without descriptions, one class alone, or a
            method for which the question has no answer; and what ``Classifier`` refuses.
        DatasetError: no images, or classes of the data set that the bundle lacks.
        ImageError: an image cannot be read and ``on_error`` is "stop".
    """
    if examples < 0:
        raise UsageError(f"examples must be 0 or more, got {examples}", remedy="Give 0 to keep no images")
    row, space = _scorable(method, views), _described(as_label_space(label_space, {}))
    classifier = Classifier(
        model, space, method=row, attention=attention, views=views, seed=seed, batch_size=batch_size, cache=cache
    )
    pool = _open_pool(space, dataset, images, limit, stratified=stratified, seed=seed, truncated=truncated)
    run = _ScoringRun(classifier, pool, _sentences(classifier), on_error, truncated)
    try:
        run.score(progress)
    finally:
        if work is not None:
            work.add(run.work)
    return run.result(examples)


@dataclass(frozen=True)
class _ImagePool:
    """The images.

    Args:
        source: the data set, with all of its images.
        samples: those that count.
        positions: label to position of its class; None where labels are not known.
        sampling: how they were chosen; empty for all.
    """

    source: Dataset
    samples: Sequence[ImageInput]
    positions: Mapping[str, int] | None
    sampling: str


def _open_pool(
    space: LabelSpace,
    dataset: str | Dataset | None,
    images: str | Path | Sequence[ImageInput] | None,
    limit: int | None,
    *,
    stratified: bool,
    seed: int,
    truncated: Truncated,
) -> _ImagePool:
    if (dataset is None) == (images is None):
        raise UsageError(
            "the images are not given" if dataset is None else "a data set and images are both given",
            remedy="Give labelled images as a data set (--dataset), or images without labels (--images)",
        )
    if limit is not None and limit < 1:
        raise UsageError(f"the limit must be 1 image or more, got {limit}", remedy="Give a larger one, or none")
    if stratified and (limit is None or dataset is None):
        raise UsageError(
            "stratified needs a limit on the number of images, and their classes",
            remedy="Add --limit N and --dataset, or leave out --stratified",
        )
    if dataset is not None:
        split = open_split(dataset, limit, stratified=stratified, seed=seed, truncated=truncated)
        return _ImagePool(split.dataset, split.samples, class_positions(split.dataset, space), split.sampling)
    assert images is not None
    opened = open_images(str(images)) if isinstance(images, str | Path) else Dataset("images", (), ())
    samples: Sequence[ImageInput] = opened.samples if isinstance(images, str | Path) else images
    if not samples:
        raise DatasetError("there are no images", remedy="Name at least one")
    if limit is None or limit >= len(samples):
        return _ImagePool(opened, samples, None, "")
    sampling = f"the first {limit} of {len(samples)} images: no random sample"
    return _ImagePool(opened, samples[:limit], None, sampling)


class _ScoringRun:
    """Counts what sentences win and cost on all images.

    Args:
        classifier: with the method.
        pool: the images.
        sentences: those of the bundle, in the order of the class texts.
        on_error, truncated: as in ``score_bundle``.
    """

    def __init__(
        self,
        classifier: Classifier,
        pool: _ImagePool,
        sentences: Sequence[Sentence],
        on_error: OnError,
        truncated: Truncated,
    ) -> None:
        self._classifier, self._pool, self._on_error, self._truncated = classifier, pool, on_error, truncated
        classes = list(classifier.names.items())
        self._tally = BundleTally[IdentifiedSample](classes, sentences, has_truth=pool.positions is not None)
        self._stages = classifier.stages_of_run()
        self.work: WorkCounts = self._stages.work
        self._skipped = 0
        self._remarks = RemarkCounter(pool.source.remarks)

    def score(self, progress: Progress) -> None:
        """Go through the images, shard by shard."""
        from abs_classify.encoding.ranking import ShardScorer
        from abs_classify.methods.leave_one_out import prepare_effects

        stages, classifier = self._stages, self._classifier
        # before any image: here with all cores, and where Ctrl-C reaches it
        texts = stages.text_features(classifier.class_texts)
        scoring = prepare_effects(classifier.method.scorer, texts, self._candidates())
        scorer = ShardScorer(stages, {}, self._on_error, also=classifier.method.views)
        try:
            total, scored = len(self._pool.samples), scorer.score(self._shards())
            with progress("scoring", total, "images") as advance, closing(scored) as shards:
                for shard in shards:
                    self._add(shard, scoring)
                    advance(shard.size)
                    scorer.skipped.clear()  # or memory would grow with the images that cannot be read
        finally:
            if stages.work.spaces and isinstance(stages.store, PersistentStore):
                write_last_run(stages.store.root, stages.work.space_uses())
            stages.store.flush()
        if not self._tally.images:
            raise DatasetError(
                f"no image of {self._pool.source.name} could be used", remedy="See the reasons with --on-error stop"
            )

    def _shards(self) -> Iterator[Sequence[IdentifiedSample | UnreadableSample]]:
        digests = self._stages.models.digests
        for group in batched(self._pool.samples, _LOOK_UP):
            yield from batched(
                identify([as_sample(image) for image in group], digests, truncated=self._truncated), SHARD
            )

    def _candidates(self) -> Sequence[int]:
        """The positions of the classes that can win."""
        names, selected = self._classifier.names, self._pool.source.selected
        positions = {class_id: position for position, class_id in enumerate(names)} | dict(self._pool.positions or {})
        return [positions[class_id] for class_id in selected if class_id in positions] or range(len(names))

    def _add(self, shard: ScoredShard, scoring: LeaveOneOut) -> None:
        self._skipped += len(shard.skipped)
        self._remarks.extend(shard.remarks)
        if not shard.images:
            return
        method = self._classifier.method
        features = method.views_by_kind(self._stages.views(shard.images, method.views))
        truth = self._truth(shard.images)
        size = max(1, _USAGE // len(self._classifier.class_texts.texts))
        for start in range(0, len(shard.images), size):
            part = slice(start, start + size)
            views = {kind: rows[part] for kind, rows in features.items()}
            true = None if truth is None else truth[part]
            with self._stages.timed("match"):
                self._tally.add(shard.images[part], scoring.effects(views, true), true)

    def _truth(self, images: Sequence[IdentifiedSample]) -> list[int] | None:
        positions = self._pool.positions
        return None if positions is None else [positions[image.sample.label] for image in images]

    def result(self, most: int) -> BundleScores:
        """The scores, with up to ``most`` images to show."""
        tally, classifier = self._tally, self._classifier
        shown, examples, wanted = tally.examples(most)
        ids = list(classifier.names)
        facts = self._stages.models.facts
        return BundleScores(
            bundle=classifier.label_space.source,
            source=valid_unicode(self._pool.source.name),
            has_truth=self._pool.positions is not None,
            method=f"{classifier.method.name}#{digest(classifier.method.key())}",
            model=f"{self._stages.models.label}#{facts.model}",
            images=tally.images,
            right=tally.right if self._pool.positions is not None else None,
            classes=tuple(tally.classes()),
            sentences=tuple(tally.sentences(examples)),
            examples=tuple(_example(image, true, label, ids) for image, true, label in shown),
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            remarks=tuple(self._notes(len(shown), wanted)),
        )

    def _notes(self, shown: int, wanted: int) -> Iterator[str]:
        yield from self._pool.source.notes
        if self._pool.sampling:
            yield self._pool.sampling
        if self._skipped:
            yield f"left out: {counted(self._skipped, 'image', 'images')} that could not be read"
        yield from map(str, self._remarks.remarks)
        yield from self._classifier.notes
        if shown < wanted:
            yield f"{shown} of {wanted} images that sentences win, lose or use most are kept, the most decisive first"


def _example(image: IdentifiedSample, true: int | None, label: int, ids: Sequence[str]) -> ExampleImage:
    return ExampleImage(
        path=valid_unicode(image.name)[-_MAX_PATH:],
        true_class=None if true is None else ids[true],
        label=ids[label],
        thumbnail=_thumbnail(image),
    )


def _thumbnail(image: IdentifiedSample) -> str:
    """A small JPEG in base64; empty if the image cannot be read any more, or is too large all the same."""
    from PIL import Image

    try:
        if isinstance(image.sample, ImageInMemory):
            pixels = image.load().pixels.copy()
        else:
            pixels = load_image(image.sample.read(), image.name, truncated=image.truncated, side=2 * _SIDE).pixels
    except ImageError:
        return ""
    pixels.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=_QUALITY)
    data = stream.getvalue()
    return base64.b64encode(data).decode("ascii") if len(data) <= _MAX_BYTES else ""


def _scorable(method: str | Method, views: object) -> Method:
    """The row, if leaving out a description means something for it.

    Raises:
        UsageError: it does not; names those for which it does. Or ``views`` is no number.
    """
    if not (views is None or (isinstance(views, int) and not isinstance(views, bool))):
        raise UsageError(
            f"views must be a number, got {views!r}: every sentence is scored on all views of an image",
            remedy="Give a number of views, or leave it out",
        )
    row = get_method(method) if isinstance(method, str) else method
    if _refusal(row):
        able = ", ".join(name for name, other in METHODS.items() if not _refusal(other))
        raise UsageError(
            f"the method {row.name!r} cannot score the sentences of a bundle: {_refusal(row)}",
            remedy=f"Choose one of {able}",
        )
    return row


def _refusal(row: Method) -> str:
    """Why leaving out a description means nothing for a row; empty if it does mean something."""
    if row.stream:
        return "its scores depend on the images before"
    if isinstance(row.texts, Template | TemplateEnsemble | RandomWords):
        return "it does not look at descriptions"
    if not (isinstance(row.texts, Sentences | Descriptors) and isinstance(row.scorer, _SCORERS)):
        return "there is no formula for its scores without a sentence"
    if isinstance(row.texts, Sentences) and row.texts.limit is not None:
        return "it uses the first sentences alone, so that another one takes the place of one that is left out"
    return ""


def _described(space: LabelSpace) -> LabelSpace:
    """The label space, if there is something to leave out and something to choose.

    Raises:
        UsageError: there is not.
    """
    if not any((space.descriptions or {}).values()):
        raise UsageError(
            f"{space.source} has no descriptions, so there is nothing to score",
            remedy="Name a bundle with descriptions, or write one with `abs gen-descriptions`",
        )
    if len(space.labels.classes) < 2:
        raise UsageError("one class leaves nothing to choose", remedy="Use a bundle of several classes")
    return space


def _sentences(classifier: Classifier) -> list[Sentence]:
    """The sentences of the bundle, in the order of the class texts."""
    described = classifier.label_space.descriptions or {}
    by_class = [described[class_id] for class_id in classifier.names]
    sentences = [
        Sentence(position, item.text, len(items) == 1) for position, items in enumerate(by_class) for item in items
    ]
    assert len(sentences) == len(classifier.class_texts.texts)  # one text for each, see _refusal
    return sentences
