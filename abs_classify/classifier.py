"""Images in, predictions out, and why: a model, descriptions and a method.

from abs_classify import Classifier, load_model

model = load_model("ViT-B-16-quickgelu/openai")
classifier = Classifier(model, {"cat": ["A cat has whiskers."], "dog": ["A dog wags its tail."]})
for prediction in classifier.classify(["photo.jpg"], explain=True):
    print(prediction.name, prediction.explanation.sentences[0].text)
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.datasets.base import Sample
from abs_classify.encoding.cache import DERIVED
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.feature_store import open_store
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.samples import (
    IdentifiedSample,
    ImageInput,
    OnError,
    SkippedImage,
    UnreadableSample,
    as_sample,
    batched,
    identify,
)
from abs_classify.encoding.spaces import PersistentStore
from abs_classify.encoding.stages import SHARD, Stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.explanation import Explanation, RankedClass, explain, seen_views
from abs_classify.image_arrays import is_array
from abs_classify.methods.phrases import readable
from abs_classify.methods.table import ViewNumber, plan_methods
from abs_classify.models.deferred import DeferredModel, LoadedModel, model_notes
from abs_classify.plugins import plugin_notes
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import ImageError, UnknownNameError, UsageError
from abs_core.labels import ClassLabel, LabelSet
from abs_core.progress import Advance, Progress, no_progress
from abs_core.remarks import Remark, RemarkCounter
from abs_core.result_tables import data_frame, html_table

if TYPE_CHECKING:
    from abs_classify.encoding.ranking import MethodRanking, ScoredShard
    from abs_classify.images import Truncated
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method
    from abs_classify.models.base import AttentionBackend, Model

__all__ = ["Classifier", "PredictedShard", "Prediction", "Predictions", "as_label_space", "deferred_model"]

# Without a cache: images for each thread that are encoded together, and those whose features the next step finds.
_IMAGES_PER_THREAD = 4
_LATEST_ITEMS = 4 * SHARD

# what a page or picture shows of a ranking, however few classes were asked for
_SHOWN_CLASSES = 5
_SHOWN_SENTENCES = 5


@dataclass(frozen=True)
class PredictedShard:
    """Images that were encoded together, whose features are found together.

    Attributes:
        images: in order.
        ranking: of these images.
    """

    images: Sequence[IdentifiedSample]
    ranking: MethodRanking


@dataclass(frozen=True)
class Prediction:
    """What an image shows.

    Attributes:
        image_name: its path, or what else there is to call it by.
        image_id: the sha256 of the image's bytes, of a PIL image without a file that of its pixels; it seeds the
            random numbers, so a photo and a copy with other bytes get other views.
        ranking: the best classes, best first.
        explanation: why, if it was asked for.
        remarks: what was guessed, scaled or left out to make the image's pixels.
        views: how many views of each kind an adaptive run looked at; None where it was a fixed number.
        shard: the images with which this one was encoded; None where they came from an iterator, so that predictions
            that are kept do not keep images in memory.
        position: of this image in its shard.
        path: of the image's file; None where it is none of its own, as bytes and members of archives.
    """

    image_name: str
    image_id: str
    ranking: tuple[RankedClass, ...]
    explanation: Explanation | None = None
    remarks: tuple[str, ...] = ()
    views: int | None = None
    shard: PredictedShard | None = field(default=None, repr=False, compare=False)
    position: int = field(default=0, repr=False, compare=False)
    path: Path | None = None

    def __repr__(self) -> str:
        return f"<Prediction: {self.image_name!r} is {self.name!r}, confidence {_rounded(self.ranking[0].confidence)}>"

    def _repr_html_(self) -> str:
        rows = [(ranked.name, _rounded(ranked.confidence), f"{ranked.score:.4g}") for ranked in self.ranking]
        shown = html_table(self.image_name, ("class", "confidence", "score"), rows)
        why = self.explanation
        if why is None or not why.sentences or why.runner_up is None:
            return shown
        reasons = [(f"{share.contribution:+.4g}", share.text) for share in why.sentences[:_SHOWN_SENTENCES]]
        caption = f"why {why.winner.name}, not {why.runner_up.name}"
        return shown + html_table(caption, ("share of the margin", "sentence"), reasons)

    @property
    def class_id(self) -> str:
        """The id of the best class."""
        return self.ranking[0].class_id

    @property
    def name(self) -> str:
        """The name of the best class."""
        return self.ranking[0].name

    @property
    def score(self) -> float:
        """The score of the best class."""
        return self.ranking[0].score

    @property
    def confidence(self) -> float:
        """How surely the best class is right, 0 to 1: comparable between images, and no probability.

        It is what ``label`` gives the same image before anything was learned, see docs/confidence.md.
        """
        confidence = self.ranking[0].confidence
        assert confidence is not None  # a classifier gives every class one
        return confidence

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON values, as ``abs classify --json`` prints them; of an explanation ``top`` views and sentences or all."""
        return {
            "path": self.image_name,
            "image": self.image_id,
            "confidence": _rounded(self.confidence),
            "ranking": [
                {
                    "class": ranked.class_id,
                    "name": ranked.name,
                    "score": ranked.score,
                    "confidence": _rounded(ranked.confidence),
                }
                for ranked in self.ranking
            ],
            "views": self.views,
            "remarks": list(self.remarks),
            "explanation": None if self.explanation is None else self.explanation.to_dict(top=top),
        }


def _rounded(confidence: float | None) -> float | None:
    """As tables of labels have it."""
    return None if confidence is None else round(confidence, 6)


class Predictions(Iterator[Prediction]):
    """Predictions, each as soon as it is computed.

    Attributes:
        skipped: the images so far that could not be read, where they do not stop the run.
        work: how many images and views so far were asked for, and how many of them were computed.
    """

    def __init__(
        self,
        predictions: Generator[Prediction, None, None],
        skipped: list[SkippedImage],
        remarks: RemarkCounter,
        work: WorkCounts,
    ) -> None:
        self._predictions = predictions
        self._remarks = remarks
        self._given = 0
        self.skipped: Sequence[SkippedImage] = skipped
        self.work = work

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was guessed, scaled or left out to make the pixels of the images so far, counted."""
        return self._remarks.remarks

    def __next__(self) -> Prediction:
        prediction = next(self._predictions)
        self._given += 1
        return prediction

    def __repr__(self) -> str:
        return f"<Predictions: {self._given} given so far, {len(self.skipped)} images skipped>"

    def _repr_html_(self) -> str:
        # the predictions themselves can be given only once
        return html_table("Predictions", ("given so far", "images skipped"), [(self._given, len(self.skipped))])

    def to_dict(self) -> dict[str, Any]:
        """JSON values of the predictions that were not given yet, which this computes, and of the skipped images."""
        rest = [prediction.to_dict() for prediction in self]
        return {
            "predictions": rest,
            "skipped": [dataclasses.asdict(image) for image in self.skipped],
            "remarks": [remark.as_json() for remark in self.remarks],
        }

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame`` of the predictions that were not given yet, which this computes: a row each.

        Raises:
            UsageError: pandas is not installed; nothing was computed.
        """
        return data_frame(
            (
                {
                    "path": prediction.image_name,
                    "image": prediction.image_id,
                    "class": prediction.class_id,
                    "name": prediction.name,
                    "confidence": prediction.confidence,
                    "score": prediction.score,
                    "views": prediction.views,
                }
                for prediction in self
            ),
            ("path", "image", "class", "name", "confidence", "score", "views"),
        )

    def close(self) -> None:
        """End the run: what was begun for further images is dropped."""
        self._predictions.close()


@dataclass(frozen=True)
class _Request:
    """What is wanted of each image, as in ``Classifier.classify``."""

    top: int
    explain: bool
    on_error: OnError
    truncated: Truncated
    progress: Progress
    keep_images: bool


class Classifier:
    """Classifies images by class descriptions, without training.

    Args:
        model: the image-text model, see ``load_model``; or its name, or a ``DeferredModel``, which are loaded when
            there is something to compute.
        descriptions: class id to sentences or ``Description``s, in class order; or class names alone, which then serve
            as ids; or a label space, such as a bundle's.
        method: a row of the table, or its name, see ``METHODS``.
        names: class id to class name; an id without one is its own name, with spaces for underscores.
        templates: the template set for methods that use one: a shipped id or a file.
        attention: where attention maps come from, see ``load_attention``, or a backend. A ``DeferredModel`` has one.
        views: replaces the method's number of views of each kind; "adaptive" or ``AdaptiveViews`` looks at as many as
            the label of an image needs.
        seed: with an image's id and a view's kind and number it determines every random draw.
        batch_size: crops that are encoded together; changes speed and memory, and scores by rounding only.
        cache: a folder, or a cache, that keeps the results of every stage; None computes everything and stores nothing.

    Raises:
        UnknownNameError: no such model, method, template set or attention backend, or a name for a class that is not
            there.
        UsageError: a class without descriptions or that appears twice, a method that cannot do without descriptions, or
            ``views`` that the method has no use for.
        WeightsError: the weights of a model that was named are not on this machine.
    """

    def __init__(
        self,
        model: Model | DeferredModel | str,
        descriptions: LabelSpace | Mapping[str, Sequence[str | Description]] | Sequence[str],
        *,
        method: str | Method = "abs",
        names: Mapping[str, str] | None = None,
        templates: str = "plain",
        attention: str | AttentionBackend = "auto",
        views: ViewNumber = None,
        seed: int = 0,
        batch_size: int = 64,
        cache: PersistentStore | Path | str | None = None,
    ) -> None:
        self.label_space = as_label_space(descriptions, names or {})
        plan = plan_methods([method], self.label_space, views, templates, None, seed)
        ((self.method, self.class_texts),) = plan.methods.items()
        if plan.adaptive is not None:
            plan.adaptive.require_no_budget()
        self.adaptive = plan.adaptive
        self._store = open_store(cache)
        models = deferred_model(model, attention, self._store).for_methods(plan.methods)
        models.find_files()
        scratch = None if self._store is None else self._store.root
        self.stages = Stages(self._store or MemoryStore(_LATEST_ITEMS), models, seed, batch_size, scratch=scratch)
        self.notes: Sequence[str] = [*plan.notes, *model_notes(models.name), *plugin_notes()]

    @property
    def model(self) -> Model:
        """The image-text model, loaded if it was not."""
        return self.stages.models.model

    @property
    def names(self) -> Mapping[str, str]:
        """Class id to class name, in class order."""
        return self.label_space.names

    @cached_property
    def text_features(self) -> ClassTextFeatures:
        """The encoded class texts."""
        return self.stages.text_features(self.class_texts)

    def classify(
        self,
        images: Iterable[ImageInput],
        *,
        top: int = 5,
        explain: bool = False,
        on_error: OnError = "stop",
        truncated: Truncated = "refuse",
        progress: Progress = no_progress,
    ) -> Predictions:
        """Classify images, in their order, as they come.

        Args:
            images: paths, the bytes of files, PIL images, which are turned upright and made RGB as files are, arrays
                and tensors, see ``image_of_array``, or entries of a data set. Taken in small groups, so they may be
                many; of a list, a group ahead.
            top: classes in each ranking, 1 or more.
            explain: whether to say which views and sentences carried each prediction.
            on_error: "stop": an image that cannot be read raises ``ImageError``, after the predictions of the images
                before it. "skip": it gets no prediction, and ``skipped`` of the result names it.
            truncated: whether a file that ends early cannot be read, or what there is of it is the image, with a
                remark; see ``load_image``.
            progress: shows how many images of a list are done.

        Returns:
            An iterator of one prediction for each image. A stream method gives the first when all images are encoded.

        Raises:
            ImageError: from the iterator, see ``on_error``.
            ModelError: from the iterator: the model cannot give the method's views.
            UsageError: a stream method and no list of images, which cannot be counted; one image where a list is
                wanted; or a ``top`` below 1.
        """
        from PIL import Image

        if top < 1:
            raise UsageError(f"top must be 1 or more, got {top}", remedy="Ask for 1 class or more")
        is_image = is_array(images) and len(getattr(images, "shape", ())) < 4
        if is_image or isinstance(images, str | Path | bytes | Sample | Image.Image):
            raise UsageError("images must be a list of images, got one image", remedy="Pass a list: classify([image])")
        if self.method.stream and not isinstance(images, Sequence):
            raise UsageError(
                f"the method {self.method.name!r} needs the number of images in advance", remedy="Pass a list of images"
            )
        skipped: list[SkippedImage] = []
        remarks = RemarkCounter()
        request = _Request(top, explain, on_error, truncated, progress, keep_images=isinstance(images, Sequence))
        stages = self.stages_of_run()
        predictions = self._predict(images, stages, request, skipped, remarks)
        return Predictions(predictions, skipped, remarks, stages.work)

    def _predict(
        self,
        images: Iterable[ImageInput],
        stages: Stages,
        request: _Request,
        skipped: list[SkippedImage],
        remarks: RemarkCounter,
    ) -> Generator[Prediction, None, None]:
        stages.text_features(self.class_texts)  # before any image: here with all cores, and where Ctrl-C reaches it
        total = len(images) if isinstance(images, Sequence) else None
        progress = request.progress if total is not None else no_progress
        with progress("classifying", total or 0, "images") as advance:
            scored_shards = self._scored(stages, images, request, advance)
            with closing(_streamed(stages, self, scored_shards) if self.method.stream else scored_shards) as shards:
                for shard in shards:
                    skipped.extend(shard.skipped)
                    remarks.extend(shard.remarks)
                    yield from self._predictions(stages, shard, request)

    def stages_of_run(self) -> Stages:
        """Stages for one run over some images; without a cache they remember what the next step of the run needs."""
        return self.stages.for_run(self._store or MemoryStore(None if self.method.stream else _LATEST_ITEMS))

    def identified(
        self, images: Iterable[ImageInput], truncated: Truncated = "refuse"
    ) -> Iterator[Sequence[IdentifiedSample | UnreadableSample]]:
        """The images with their content ids, in the groups in which they are encoded; none is taken ahead of these."""
        for group in batched(images, self._group_size):
            yield identify([as_sample(image) for image in group], self.stages.models.digests, truncated=truncated)

    def _scored(
        self, stages: Stages, images: Iterable[ImageInput], request: _Request, advance: Advance
    ) -> Generator[ScoredShard, None, None]:
        from abs_classify.encoding.ranking import ShardScorer
        from abs_classify.methods.confidence import NEEDED_VIEWS

        methods = {self.method: self.class_texts}
        scorer = ShardScorer(
            stages,
            methods,
            request.on_error,
            NEEDED_VIEWS,
            partial_shards=True,
            adaptive=self.adaptive,
            keep_views=True,
        )
        identified = self.identified(images, request.truncated)
        with closing(scorer.score(identified, ahead=isinstance(images, Sequence))) as shards:
            for scored in shards:
                advance(scored.size)
                yield scored

    @property
    def _group_size(self) -> int:
        """Images that are encoded before their predictions are given: with a cache those of an entry."""
        import torch

        return SHARD if self._store is not None else min(SHARD, _IMAGES_PER_THREAD * torch.get_num_threads())

    def _predictions(self, stages: Stages, scored: ScoredShard, request: _Request) -> Iterator[Prediction]:
        from abs_classify.encoding.ranking import image_probabilities, rank_classes

        if not scored.images:
            return
        name, texts = self.method.name, stages.text_features(self.class_texts)
        ranking = rank_classes(scored.scores[name], None, name, max(request.top, _SHOWN_CLASSES))
        looked = scored.looked.get(name)
        if looked is not None:
            ranking = dataclasses.replace(ranking, looked=looked)
        shard = PredictedShard(scored.images, ranking) if request.keep_images else None
        # before anything was fitted, the class probabilities are the confidences
        confidences = image_probabilities(stages, self.class_texts, scored.confidence_views(name))
        classes = list(self.names.items())
        for position, image in enumerate(scored.images):
            best, scores = ranking.top[position].tolist(), ranking.scores[position].tolist()
            q = confidences[position].tolist()
            ranked = tuple(
                RankedClass(classes[index][0], classes[index][1], score, q[index])
                for index, score in zip(best, scores, strict=True)
            )
            why = self._explanation(scored, position, texts, ranked) if request.explain else None
            remarks = scored.facts[position].remarks
            views = None if looked is None else int(looked[position])
            yield Prediction(
                image.name, image.id, ranked[: request.top], why, remarks, views, shard, position, image.path
            )

    def _explanation(
        self, scored: ScoredShard, position: int, texts: ClassTextFeatures, ranked: Sequence[RankedClass]
    ) -> Explanation:
        """Why the image at a position of a shard is ranked as it is."""
        import torch

        name = self.method.name
        seen = scored.views[name][position]
        views = {view.kind: torch.from_numpy(seen[view.kind]) for view in self.method.views}
        totals = {view.kind: view.count for view in self.method.views} if name in scored.looked else None
        scores = torch.from_numpy(scored.scores[name][position])
        explanation = explain(self.method, views, texts, self.class_texts, scores, totals=totals)
        return dataclasses.replace(explanation, winner=ranked[0], runner_up=ranked[1] if len(ranked) > 1 else None)


def _streamed(
    stages: Stages, classifier: Classifier, encoded: Generator[ScoredShard, None, None]
) -> Generator[ScoredShard, None, None]:
    """The shards of a stream method with their scores, which follow from all images together.

    Raises:
        ImageError: as the encoded shards do, after those before it.
    """
    from abs_classify.methods.confidence import NEEDED_VIEWS

    shards: list[ScoredShard] = []
    failure: ImageError | None = None
    try:
        for shard in encoded:
            shards.append(shard)
    except ImageError as error:
        failure = error
    readable = [shard.images for shard in shards if shard.images]
    method = classifier.method
    rows = stages.stream_scores(readable, method, classifier.class_texts) if readable else None
    start = 0
    for shard in shards:
        stop = start + len(shard.images)
        if rows is None or not shard.images:
            yield shard
            continue
        views = [
            {kind: features.numpy() for kind, features in image.items()}
            for image in seen_views(stages, method, shard.images, also=NEEDED_VIEWS)
        ]
        yield dataclasses.replace(shard, scores={method.name: rows[start:stop]}, views={method.name: views})
        start = stop
    if failure is not None:
        raise failure


def deferred_model(
    model: Model | DeferredModel | str, attention: str | AttentionBackend, cache: PersistentStore | None
) -> DeferredModel:
    """The model of a run, however it is given.

    Args:
        model, attention: as ``Classifier`` takes them.
        cache: remembers digests, and what a model computes from its weights once; None to keep nothing.

    Raises:
        UsageError: an attention backend that does not go with how the model is given.
    """
    digests = DigestCache(None if cache is None else cache.root)
    if isinstance(model, DeferredModel):
        if attention != "auto":
            raise UsageError("a DeferredModel has an attention backend of its own", remedy="Leave out attention")
        return model
    if not isinstance(model, str):
        return LoadedModel(model, attention, digests)
    if not isinstance(attention, str):
        raise UsageError(
            "attention must be the name of a backend where the model is a name",
            remedy="Pass load_model(name) as the model, or the name of a backend",
        )
    return DeferredModel(model, attention, "auto", "float32", digests, None if cache is None else cache.root / DERIVED)


def as_label_space(
    descriptions: LabelSpace | Mapping[str, Sequence[str | Description]] | Sequence[str],
    names: Mapping[str, str],
) -> LabelSpace:
    """The candidate classes, however they are given.

    Args:
        descriptions: a label space, class ids with descriptions, or class ids alone.
        names: class ids to the names that stand for them in prompts, where they differ.

    Raises:
        UsageError: a class that appears twice, or a string where a list is wanted.
        UnknownNameError: a name of a class that is not there.
    """
    if isinstance(descriptions, LabelSpace):
        classes = {label.id: label.name for label in descriptions.labels.classes}
        _check_named(names, classes)
        renamed = tuple(ClassLabel(class_id, names.get(class_id, name)) for class_id, name in classes.items())
        labels = LabelSet(descriptions.labels.name, renamed) if names else descriptions.labels
        return LabelSpace(labels, descriptions.descriptions, descriptions.source)
    if isinstance(descriptions, str):
        raise UsageError(
            f"the class names must be a list of strings, got the string {descriptions!r}", remedy="Give a list of names"
        )
    counts = Counter(list(descriptions))  # a Counter of a mapping would take its values for counts
    twice = [class_id for class_id, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f"the class {twice[0]!r} appears twice", remedy="Give every class once")
    _check_named(names, counts)
    labels = LabelSet("classes", tuple(ClassLabel(key, names.get(key, readable(key))) for key in counts))
    undescribed = LabelSpace.of_labels(labels)
    if not isinstance(descriptions, Mapping):
        return undescribed
    described = {class_id: _described(class_id, texts) for class_id, texts in descriptions.items()}
    return LabelSpace(labels, described, undescribed.source)


def _check_named(names: Mapping[str, str], classes: Iterable[str]) -> None:
    known = set(classes)
    for class_id in names:
        if class_id not in known:
            raise UnknownNameError("class id in names", class_id, classes, remedy="Give names to these ids only")


def _described(class_id: str, texts: Sequence[str | Description]) -> tuple[Description, ...]:
    if isinstance(texts, str):
        raise UsageError(
            f"the descriptions of class {class_id!r} must be a list of strings, got one string",
            remedy="Give a list of strings",
        )
    return tuple(text if isinstance(text, Description) else Description(text) for text in texts)
