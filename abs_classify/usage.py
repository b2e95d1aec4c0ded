"""Which descriptions images use: the weight with which each enters the class scores of soft matching.

Labels are not needed. ``abs_descriptions.filtering.filter_by_weight`` makes a child version of a bundle from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.samples import ImageInput, OnError, SkippedImage
from abs_classify.encoding.work import WorkCounts
from abs_classify.methods.table import METHODS, Method
from abs_classify.plugins import plugin_record
from abs_core.canonical import digest
from abs_core.descriptions import Description, LabelSpace, top_by_weight
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.progress import Progress, no_progress
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import counted

if TYPE_CHECKING:
    import torch

    from abs_classify.classifier import Classifier
    from abs_classify.datasets import Dataset
    from abs_classify.images import Truncated
    from abs_classify.methods.scoring import SoftMatch

__all__ = ["DescriptionUsage", "filter_by_use", "measure_usage", "open_images"]


@dataclass(frozen=True)
class DescriptionUsage:
    """How much images use each description.

    Attributes:
        weights: one for each class text, class after class, in order: the soft matching weights that it gets, summed
            over the views of all images; none negative.
        image_ids: of the images that were looked at.
        skipped: the images that could not be read.
        model: the name of the model.
        parameters: how the weights were measured, as JSON values, to be stored with what is made of them.
        work: how many images, views and class texts were asked for, and how many of them were computed.
        remarks: what was guessed, scaled or left out to make the pixels of the images, counted.
    """

    weights: Sequence[float]
    image_ids: Sequence[str]
    skipped: Sequence[SkippedImage]
    model: str
    parameters: Mapping[str, Any]
    work: WorkCounts
    remarks: Sequence[Remark] = ()

    def __repr__(self) -> str:
        texts, images = counted(len(self.weights), "text", "texts"), counted(len(self.image_ids), "image", "images")
        return f"<DescriptionUsage: {texts}, {images}, {counted(len(self.skipped), 'image', 'images')} skipped>"


def measure_usage(
    classifier: Classifier,
    images: Sequence[ImageInput],
    *,
    on_error: OnError = "stop",
    truncated: Truncated = "refuse",
    progress: Progress = no_progress,
) -> DescriptionUsage:
    """Measure how much images use each description.

    Args:
        classifier: with a method of soft matching; with a cache, another run over the images encodes nothing anew.
        images: as in ``Classifier.classify``; labels are not read.
        on_error: whether an image that cannot be read stops the run.
        truncated: whether a file that ends early cannot be read, see ``load_image``.
        progress: shows how many images are done.

    Raises:
        UsageError: the method of the classifier has no soft matching.
        ImageError: an image cannot be read and ``on_error`` is "stop", or none could be.
    """
    import torch

    from abs_classify.encoding.ranking import ShardScorer

    method, class_texts = classifier.method, classifier.class_texts
    scorer = _soft_scorer(method)
    weights = torch.zeros(len(class_texts.texts), dtype=torch.float64)
    image_ids: list[str] = []
    skipped: list[SkippedImage] = []
    remarks = RemarkCounter()
    stages = classifier.stages_of_run()
    stages.text_features(class_texts)  # before any image: here with all cores, and where Ctrl-C reaches it
    shards = ShardScorer(stages, {}, on_error, also=method.views).score(classifier.identified(images, truncated))
    with progress("matching", len(images), "images") as advance, closing(shards):
        for shard in shards:
            skipped += shard.skipped
            remarks.extend(shard.remarks)
            if shard.images:
                features = method.views_by_kind(stages.views(shard.images, method.views))
                weights += _usage(scorer, features, classifier)
                image_ids += [image.id for image in shard.images]
            advance(shard.size)
    if not image_ids:
        raise ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")
    facts = stages.models.facts
    parameters = {
        "images": len(image_ids),
        "images_digest": digest(sorted(image_ids)),
        "views": sum(view.count for view in method.views),
        "method": method.key(),
        "seed": stages.seed,
        "tower_digest": facts.model,
        "attention_digest": facts.attention,
        "texts_digest": class_texts.digest,
        **plugin_record(),
    }
    return DescriptionUsage(
        weights.tolist(), image_ids, skipped, stages.models.label, parameters, stages.work, remarks.remarks
    )


def filter_by_use(
    classifier: Classifier,
    images: Sequence[ImageInput],
    *,
    keep: int | None = None,
    share: float | None = None,
    on_error: OnError = "stop",
    progress: Progress = no_progress,
) -> LabelSpace:
    """Keep the descriptions that images use most, for a classifier with fewer and better-suited ones.

    A child version of a bundle, which records what was measured, is made with ``measure_usage`` and
    ``abs_descriptions.filter_bundle``.

    Args:
        classifier: its label space is filtered.
        images: as in ``measure_usage``.
        keep: at most this many of each class; or
        share: as many of each class as together hold this share of its weight, in (0, 1].
        on_error, progress: as in ``measure_usage``.

    Raises:
        UsageError: not exactly one of ``keep`` and ``share``, one out of range, or no descriptions to choose from; and
            what ``measure_usage`` raises.
    """
    space = classifier.label_space
    if space.descriptions is None:
        raise UsageError("the classes have no descriptions to choose from", remedy="Give the classifier descriptions")
    described = [(class_id, item) for class_id in space.names for item in space.descriptions[class_id]]
    class_ids, texts = [class_id for class_id, _ in described], [item.text for _, item in described]
    top_by_weight([0.0] * len(texts), class_ids, texts, keep=keep, share=share)  # a wrong number costs no image
    usage = measure_usage(classifier, images, on_error=on_error, progress=progress)
    is_kept = top_by_weight(usage.weights, class_ids, texts, keep=keep, share=share)
    kept: dict[str, list[Description]] = {class_id: [] for class_id in space.names}
    for (class_id, item), stays in zip(described, is_kept, strict=True):
        if stays:
            kept[class_id].append(item)
    return LabelSpace(
        space.labels, {key: tuple(items) for key, items in kept.items()}, f"{space.source}, filtered by use"
    )


def open_images(place: str) -> Dataset:
    """All images of a folder, at any depth and without labels; an image; or a data set as ``open_dataset`` takes it.

    Raises:
        DatasetError: there are none, the path does not exist, or the data set cannot be read.
        UnknownNameError, UsageError: as in ``open_dataset``.
    """
    from abs_classify.datasets import Dataset, Sample, open_dataset
    from abs_classify.datasets.folders import ImageListing, is_image

    if is_image(place) and Path(place).is_file():
        return Dataset(place, (), [Sample(Path(place), "")])
    if not Path(place).is_dir():
        if ":" not in place and {"/", "\\"} & set(place):  # no data set is written like this
            raise DatasetError(f"there is no folder or image {place!r}", remedy="Check the path")
        return open_dataset(place)
    listing = ImageListing(Path(place))
    samples = [Sample(path, "") for path in listing.images(Path(place))]
    if not samples:
        left_out = "; ".join(map(str, listing.remarks.remarks[:5]))
        detail = f" ({left_out})" if left_out else ""
        raise DatasetError(f"there are no images in {place!r}{detail}", remedy="Check the folder")
    return Dataset(place, (), samples, remarks=listing.remarks.remarks)


def _soft_scorer(method: Method) -> SoftMatch:
    from abs_classify.methods.scoring import SoftMatch

    if not isinstance(method.scorer, SoftMatch):
        soft = ", ".join(name for name, row in METHODS.items() if isinstance(row.scorer, SoftMatch))
        raise UsageError(
            f"the method {method.name!r} has no soft matching, so it gives descriptions no weights",
            remedy=f"Choose one of {soft}",
        )
    return method.scorer


def _usage(scorer: SoftMatch, views: Mapping[str, torch.Tensor], classifier: Classifier) -> torch.Tensor:
    """The weight [M] of each class text over all views of some images."""
    from abs_classify.methods.scoring import all_views
    from abs_classify.methods.soft_matching import soft_usage

    texts = classifier.text_features
    return soft_usage(all_views(views), texts.features, texts.class_index, texts.classes, scorer.temperature)
