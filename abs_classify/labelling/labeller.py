"""From the views of images to what one model, one set of classes and one method say of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from abs_classify.encoding.last_run import write_last_run
from abs_classify.encoding.samples import IdentifiedSample, SkippedImage, UnreadableSample
from abs_classify.encoding.spaces import PersistentStore
from abs_classify.methods.views import FullImage
from abs_core.errors import AbsError, UsageError
from abs_core.labels import compact, shipped_label_set
from abs_core.remarks import Remark, RemarkCounter

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.classifier import Classifier
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.digest_cache import DigestCache
    from abs_classify.encoding.ranking import ScoredShard
    from abs_classify.encoding.work import WorkCounts
    from abs_classify.engines.base import Engine
    from abs_classify.images import Truncated
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.confidence import CommonNames
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_core.descriptions import LabelSpace

__all__ = ["Evidence", "Labeller", "common_names", "negative_texts"]


G = TypeVar("G")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of the images of one shard.

    Attributes:
        images: those that could be read, in order.
        skipped: the others, in order, with their reasons.
        chosen: int64 [B], the position of the class that the method ranks first.
        probabilities: float32 [B, C], see ``class_probabilities``; each row sums to 1.
        known: float32 [B], see ``known_scores``; None where it was not asked for.
        features: float32 [B, d], unit, the weighted mean of the views that enter the probabilities.
        looked: int64 [B], how many views of each kind an adaptive method looked at; None where it was a fixed number.
    """

    images: Sequence[IdentifiedSample]
    skipped: Sequence[SkippedImage]
    chosen: np.ndarray
    probabilities: np.ndarray
    known: np.ndarray | None
    features: np.ndarray
    looked: np.ndarray | None


class Labeller:
    """Looks at images.

    Args:
        classifier: model, classes and method.
        none: whether to ask of each image if it shows one of the classes.
        negatives: names of what the images may show besides the classes; only with ``none``.

    Attributes:
        work: what was asked for, and what was computed.

    Raises:
        UsageError: the labels of the method depend on the order of the images, or every negative is the name of a
            class.
    """

    def __init__(self, classifier: Classifier, *, none: bool = False, negatives: Sequence[str] = ()) -> None:
        method = classifier.method
        if method.stream:
            raise UsageError(
                f"the method {method.name!r} gives labels that depend on the images before, so a run could not resume",
                remedy="Use another method, or `abs classify` or `abs eval`",
            )
        self._classifier, self._none, self._negatives = classifier, none, tuple(negatives)
        # before any image: names of classes alone are refused
        self._negative_texts = negative_texts(negatives, classifier.label_space) if negatives else None
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
        self._others()
        _ = self._classifier.model

    def again(self) -> Labeller:
        """The same labeller, which has looked at nothing yet."""
        return Labeller(self._classifier, none=self._none, negatives=self._negatives)

    def cheaper(self) -> Labeller | None:
        """A labeller of the same classes by the full image alone, which keeps nothing; None if this one is as cheap."""
        from abs_classify.classifier import Classifier

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
        from abs_classify.methods.confidence import NEEDED_VIEWS

        classifier, stages = self._classifier, self._stages
        others = self._others()  # before any image: here with all cores, and where Ctrl-C reaches it
        methods = {classifier.method: classifier.class_texts}
        scorer = ShardScorer(stages, methods, "skip", also=NEEDED_VIEWS, adaptive=classifier.adaptive, keep_views=True)
        try:
            with closing(scorer.score(shards, ahead=ahead)) as scored_shards:
                for scored in scored_shards:
                    self._remarks.extend(scored.remarks)
                    yield self._seen(scored, others)
                    scorer.skipped.clear()  # or memory would grow with the images that cannot be read
        finally:
            if self.work.spaces and isinstance(stages.store, PersistentStore):
                write_last_run(stages.store.root, self.work.space_uses())
            stages.store.flush()

    def encode(
        self,
        engine: Engine,
        groups: Iterable[G],
        samples_of: Callable[[G], Sequence[Sample | None]],
        truncated: Truncated,
    ) -> Iterator[tuple[G, Mapping[int, AbsError]]]:
        """Have an engine encode what ``evidence`` will ask for, see ``Engine.encode``."""
        from abs_classify.engines.base import EncodingTask, require_no_budget
        from abs_classify.methods.confidence import NEEDED_VIEWS

        classifier, stages = self._classifier, self._stages
        require_no_budget(classifier.adaptive)
        cheap_windows = stages.models.facts.cheap_windows
        methods = {classifier.method: classifier.class_texts}
        task = EncodingTask.of(methods, NEEDED_VIEWS, classifier.adaptive, truncated, cheap_windows=cheap_windows)
        return engine.encode(groups, samples_of, stages, task)

    def _others(self) -> CommonNames | None:
        """What images may show besides the classes, if that is asked; and the class texts are encoded."""
        from abs_classify.methods.confidence import CommonNames

        classes = self._class_texts().means
        if not self._none:
            return None
        common = self._stages.text_features(negative_texts(common_names(), self._classifier.label_space)).means
        negatives = None
        if self._negative_texts is not None:
            negatives = self._stages.text_features(self._negative_texts).means
        return CommonNames.of(classes, common, negatives)

    def _class_texts(self) -> ClassTextFeatures:
        return self._stages.text_features(self._classifier.class_texts)

    def class_vectors(self) -> np.ndarray:
        """float32 [C, d], unit: the mean text of each class."""
        means: np.ndarray = self._class_texts().means.float().cpu().numpy()
        return means

    def _seen(self, scored: ScoredShard, others: CommonNames | None) -> Evidence:
        import numpy as np
        import torch

        from abs_classify.encoding.ranking import image_probabilities
        from abs_classify.methods.confidence import known_scores

        texts = self._class_texts()
        if not scored.images:
            nothing, none = np.empty((0, texts.classes), np.float32), np.empty(0, np.int64)
            features = np.empty((0, texts.features.shape[1]), np.float32)
            return Evidence([], scored.skipped, none, nothing, None, features, None)
        name = self._classifier.method.name
        images = scored.confidence_views(name)
        return Evidence(
            images=scored.images,
            skipped=scored.skipped,
            chosen=scored.scores[name].argmax(axis=1),
            probabilities=image_probabilities(self._stages, self._classifier.class_texts, images),
            known=None if others is None else known_scores(images, texts.means, others).numpy(),
            features=torch.stack([image.mean for image in images]).numpy(),
            looked=scored.looked.get(name),
        )


@cache
def common_names() -> tuple[str, ...]:
    """Names of common objects and places, of which an image that shows none of the classes may show one."""
    names = (label.name for name in ("imagenet", "places365") for label in shipped_label_set(name).classes)
    return tuple(dict.fromkeys(names))


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
