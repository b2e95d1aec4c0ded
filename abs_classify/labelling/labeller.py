"""From the views of images to what one model, one set of classes and one method say of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.last_run import write_last_run
from abs_classify.encoding.samples import IdentifiedSample, SkippedImage, UnreadableSample
from abs_core.errors import UsageError
from abs_core.labels import compact
from abs_core.remarks import Remark, RemarkCounter

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.classifier import Classifier
    from abs_classify.encoding.digest_cache import DigestCache
    from abs_classify.encoding.ranking import ScoredShard
    from abs_classify.encoding.work import WorkCounts
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_core.descriptions import LabelSpace

__all__ = ["Evidence", "Labeller", "negative_texts"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of the images of one shard.

    Attributes:
        images: those that could be read, in order.
        skipped: the others, in order, with their reasons.
        chosen: int64 [B], the position of the class that the method ranks first.
        probabilities: float32 [B, C + K], the mean over views of the class probability, see ``class_probabilities``,
            of the C classes and of the K negatives; each row sums to 1.
        features: float32 [B, d], unit, the mean of the views that enter the probabilities.
        looked: int64 [B], how many views of each kind an adaptive method looked at; None where it was a fixed number.
    """

    images: Sequence[IdentifiedSample]
    skipped: Sequence[SkippedImage]
    chosen: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    looked: np.ndarray | None


class Labeller:
    """Looks at images.

    Args:
        classifier: model, classes and method.
        negatives: class texts of what the images may show besides the classes.

    Attributes:
        work: what was asked for, and what was computed.

    Raises:
        UsageError: the labels of the method depend on the order of the images.
    """

    def __init__(self, classifier: Classifier, negatives: ClassTexts | None = None) -> None:
        method = classifier.method
        if method.stream:
            raise UsageError(
                f"the method {method.name!r} gives labels that depend on the images before, so a run could not resume",
                remedy="Use another method, or `abs classify` or `abs eval`",
            )
        self._classifier, self._negatives = classifier, negatives
        self._stages = classifier.stages_of_run()
        self._remarks = RemarkCounter()
        self.work: WorkCounts = self._stages.work

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was guessed, scaled or left out to make the pixels of the images so far, counted."""
        return self._remarks.remarks

    @property
    def digests(self) -> DigestCache:
        """Remembers the ids of images."""
        return self._stages.models.digests

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._classifier.method.name

    def prepare(self) -> None:
        """Load the model and encode the class texts, so that what follows is the time of images alone."""
        self._texts()
        _ = self._classifier.model

    def again(self) -> Labeller:
        """The same labeller, which has looked at nothing yet."""
        return Labeller(self._classifier, self._negatives)

    def cheaper(self) -> Labeller | None:
        """A labeller of the same classes by the full image alone, which keeps nothing; None if this one is as cheap."""
        from abs_classify.classifier import Classifier
        from abs_classify.methods.views import FullImage

        classifier = self._classifier
        if all(isinstance(view, FullImage) for view in classifier.method.views):
            return None
        space = classifier.label_space
        method = "clip" if space.descriptions is None else "cupl"
        return Labeller(Classifier(classifier.model, space, method=method))

    def evidence(
        self, shards: Iterable[Sequence[IdentifiedSample | UnreadableSample]], *, ahead: bool = True
    ) -> Generator[Evidence, None, None]:
        """What is seen of images, shard by shard.

        Args:
            shards: the images, in order.
            ahead: whether to begin with the next shard while this one is encoded.

        Raises:
            ModelError: the model cannot give the method's views.
        """
        from abs_classify.encoding.ranking import ShardScorer

        classifier, stages = self._classifier, self._stages
        texts = self._texts()  # before any image: here with all cores, and where Ctrl-C reaches it
        methods = {classifier.method: classifier.class_texts}
        scorer = ShardScorer(stages, methods, "skip", adaptive=classifier.adaptive, keep_views=True)
        try:
            with closing(scorer.score(shards, ahead=ahead)) as scored_shards:
                for scored in scored_shards:
                    self._remarks.extend(scored.remarks)
                    yield self._seen(scored, texts)
                    scorer.skipped.clear()  # or memory would grow with the images that cannot be read
        finally:
            if self.work.spaces and isinstance(stages.store, DiskStore):
                write_last_run(stages.store.root, self.work.space_uses())

    def _texts(self) -> ClassTextFeatures:
        """The class texts, and those of the negatives as further classes."""
        import torch

        from abs_classify.methods.scoring import ClassTextFeatures

        texts = self._stages.text_features(self._classifier.class_texts)
        if self._negatives is None:
            return texts
        negatives = self._stages.text_features(self._negatives)
        return ClassTextFeatures(
            torch.cat([texts.features, negatives.features]),
            torch.cat([texts.class_index, texts.classes + negatives.class_index]),
            torch.cat([texts.labels, negatives.labels]),
        )

    def _seen(self, scored: ScoredShard, texts: ClassTextFeatures) -> Evidence:
        import numpy as np
        import torch

        from abs_classify.methods.confidence import batch_class_probabilities, confidence_views

        if not scored.images:
            nothing, none = np.empty((0, texts.classes), np.float32), np.empty(0, np.int64)
            return Evidence([], scored.skipped, none, nothing, np.empty((0, texts.features.shape[1]), np.float32), None)
        name = self._classifier.method.name
        views = [
            torch.cat([torch.from_numpy(rows) for rows in confidence_views(image).values()])
            for image in scored.views[name]
        ]
        means = torch.stack([rows.mean(0) for rows in views])
        return Evidence(
            images=scored.images,
            skipped=scored.skipped,
            chosen=scored.scores[name].argmax(axis=1),
            probabilities=batch_class_probabilities(views, texts).numpy(),
            features=(means / means.norm(dim=1, keepdim=True)).numpy(),
            looked=scored.looked.get(name),
        )


def negative_texts(names: Sequence[str], space: LabelSpace) -> ClassTexts:
    """The class texts of negatives.

    Args:
        names: of what images may show besides the classes.
        space: the classes; a name of one of these is no negative.

    Raises:
        UsageError: none is left.
    """
    from abs_classify.methods.class_texts import ClassTextInputs, Template

    taken = {compact(label.name) for label in space.labels.classes}
    left = list(dict.fromkeys(name for name in names if compact(name) not in taken))
    if not left:
        raise UsageError(
            "every negative is the name of a class", remedy="Name what images may show besides the classes"
        )
    return Template().build(ClassTextInputs({name: name for name in left}, None, ()))
