"""The public door: a model, descriptions and a method in, predictions out, and why.

from abs_classify import Classifier, load_model

model = load_model("ViT-B-16-quickgelu/openai")
classifier = Classifier(model, {"cat": ["A cat has whiskers."], "dog": ["A dog wags its tail."]})
for prediction in classifier.classify(["photo.jpg"], explain=True):
    print(prediction.name, prediction.explanation.sentences[0].text)
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from abs_classify.encoding.encoder import encode_texts, stream_images
from abs_classify.explanation import Explanation, RankedClass, explain
from abs_classify.images import LoadedImage, load_image, upright_rgb
from abs_classify.methods.class_texts import ClassTextInputs, ClassTexts, as_descriptions, read_template_set
from abs_classify.methods.phrases import readable
from abs_classify.methods.scoring import ClassTextFeatures, StreamScorer
from abs_classify.methods.table import Method, get_method
from abs_classify.models.attention import load_attention
from abs_classify.models.base import AttentionBackend
from abs_classify.threads import in_threads
from abs_core.canonical import sha256_bytes
from abs_core.descriptions import Description
from abs_core.errors import ImageError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from abs_classify.models.base import Model

__all__ = ["Classifier", "Prediction"]


# Decoded photos are large: this many wait at most, whatever the number of images.
_WAITING = 8


@dataclass(frozen=True)
class Prediction:
    """What an image shows.

    Attributes:
        image_id: the sha256 of the image's bytes, of a PIL image that of its pixels; it seeds the image's random draws.
        ranking: the best classes, best first.
        explanation: why, if it was asked for.
    """

    image_id: str
    ranking: tuple[RankedClass, ...]
    explanation: Explanation | None = None

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


class Classifier:
    """Classifies images by class descriptions, without training.

    Args:
        model: the image-text model, see ``load_model``.
        descriptions: class id to sentences or ``Description``s, in class order; or class names alone, which then serve
            as ids. A bundle enters as such a mapping.
        method: a row of the table, or its name, see ``METHODS``.
        names: class id to class name; an id without one is its own name, with spaces for underscores.
        templates: the template set for methods that use one: a shipped id or a file.
        attention: where attention maps come from, see ``load_attention``, or a source.
        seed: with an image's id and a view's kind and number it determines every random draw.
        batch_size: crops that are encoded together; changes speed and memory, and scores by rounding only.

    Raises:
        UnknownNameError: no such method, template set or attention backend, or a name for a class that is not there.
        UsageError: a class without descriptions or that stands twice, or a method that cannot do without descriptions.
        ModelError: a model that cannot give the method's views.
    """

    def __init__(
        self,
        model: Model,
        descriptions: Mapping[str, Sequence[str | Description]] | Sequence[str],
        *,
        method: str | Method = "abs",
        names: Mapping[str, str] | None = None,
        templates: str = "plain",
        attention: str | AttentionBackend = "auto",
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        self.model = model
        self.method = get_method(method) if isinstance(method, str) else method
        self.names = _names(descriptions, names or {})
        self.table = self._build_table(descriptions, templates)
        self.seed, self.batch_size = seed, batch_size
        self._attention = attention

    @cached_property
    def texts(self) -> ClassTextFeatures:
        """The encoded texts."""
        encode = self.model, self.table.texts
        return ClassTextFeatures(
            encode_texts(*encode),
            torch.tensor(self.table.class_index),
            encode_texts(self.model, self.table.label_texts),
        )

    @cached_property
    def source(self) -> AttentionBackend | None:
        """Where attention maps come from; None for a method that looks at none."""
        if not any(view.needs_attention for view in self.method.views):
            return None
        return load_attention(self._attention, self.model) if isinstance(self._attention, str) else self._attention

    def classify(
        self, images: Iterable[str | Path | bytes | Image.Image], *, top: int = 5, explain: bool = False
    ) -> Iterator[Prediction]:
        """Classify images, in their order, as they come.

        Args:
            images: paths, the bytes of files, or PIL images, which are turned upright and made RGB as files are.
                Taken in small groups, so they may be many.
            top: classes in each ranking, 1 or more.
            explain: whether to say which views and sentences carried each prediction.

        Yields:
            One prediction per image.

        Raises:
            ImageError: an image that cannot be read; the predictions of the images before it come first.
            UsageError: a stream method when there are no images yet to count; one image where a list is wanted; or a
                ``top`` below 1.
        """
        if top < 1:
            raise UsageError(f"top is {top}", remedy="Ask for 1 class or more")
        if isinstance(images, str | Path | bytes | Image.Image):
            raise UsageError("images is one image", remedy="Pass a list: classify([image])")
        if self.method.stream and not isinstance(images, Sequence):
            raise UsageError(
                f"the method {self.method.name!r} must know how many images there are", remedy="Pass a list of images"
            )
        # before any image: what a model makes of texts once, it makes here with all cores and where Ctrl-C reaches it
        texts = self.texts
        reader = _Reader(images)
        state = None
        for encoded in stream_images(
            self.model, self.source, reader, self.method.views, seed=self.seed, batch_size=self.batch_size
        ):
            views = self.method.views_by_kind(encoded.features)
            count = len(next(iter(views.values())))
            scorer = self.method.scorer
            if isinstance(scorer, StreamScorer):
                assert isinstance(images, Sequence)  # refused above
                state = scorer.start(texts, len(images)) if state is None else state
                rows = [{kind: features[at] for kind, features in views.items()} for at in range(count)]
                scores = torch.stack([scorer.step(state, row) for row in rows])
            else:
                scores = scorer.scores(views, texts)
            for at in range(count):
                one = {kind: features[at] for kind, features in views.items()}
                yield self._predict(reader.loaded.popleft(), scores[at], one if explain else None, top)
        if reader.failure is not None:
            raise reader.failure

    def _predict(
        self, image: LoadedImage, scores: torch.Tensor, views: Mapping[str, torch.Tensor] | None, top: int
    ) -> Prediction:
        order = torch.argsort(scores, descending=True, stable=True)[:top].tolist()
        ids = self.table.class_ids
        ranking = tuple(RankedClass(ids[at], self.names[ids[at]], float(scores[at])) for at in order)
        why = None if views is None else explain(self.method, views, self.texts, self.table, scores)
        return Prediction(image.id, ranking, why)

    def _build_table(
        self, descriptions: Mapping[str, Sequence[str | Description]] | Sequence[str], templates: str
    ) -> ClassTexts:
        described = None
        if isinstance(descriptions, Mapping):
            described = {
                key: tuple(one if isinstance(one, Description) else Description(one) for one in _listed(key, own))
                for key, own in descriptions.items()
            }
        return self.method.texts.build(ClassTextInputs(self.names, described, read_template_set(templates).templates))


def _names(ids: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    if isinstance(ids, str):
        raise UsageError(f"the class names are one string, {ids!r}", remedy="Give a list of names")
    counts = Counter(list(ids))  # a Counter of a mapping would take its values for counts
    twice = [one for one, count in counts.items() if count > 1]
    if twice:
        raise UsageError(f"the class {twice[0]!r} stands twice", remedy="Give every class once")
    for one in given:
        if one not in counts:
            raise UnknownNameError("class in names", one, counts, remedy="Give names to these ids only")
    return {one: given.get(one, readable(one)) for one in counts}


def _listed(key: str, own: Sequence[str | Description]) -> Sequence[str | Description]:
    if isinstance(own, str):
        as_descriptions({key: own})  # raises the error that says so
    return own


class _Reader:
    """Images that threads read, those of a list a few ahead; another iterable may be slow, so it is not run ahead.

    Attributes:
        loaded: those that were given to the encoder and whose predictions have not come.
        failure: of the image that ended it; it waits until the images before have their predictions.
    """

    def __init__(self, images: Iterable[str | Path | bytes | Image.Image]) -> None:
        self._images = images
        self.loaded: deque[LoadedImage] = deque()
        self.failure: ImageError | None = None

    def __iter__(self) -> Iterator[LoadedImage]:
        images = self._images
        ahead = in_threads(_load, images, ahead=_WAITING) if isinstance(images, Sequence) else map(_load, images)
        try:
            for image in ahead:
                self.loaded.append(image)
                yield image
        except ImageError as error:
            self.failure = error


# An image is decoded when it is first looked at, and not safely by two threads: one may stand in a list twice.
_DECODING = threading.Lock()


def _load(image: str | Path | bytes | Image.Image) -> LoadedImage:
    if isinstance(image, Image.Image):
        with _DECODING:
            pixels = upright_rgb(image, repr(os.fsdecode(getattr(image, "filename", "")) or "PIL image"))
        # no file, so the id is that of the pixels
        return LoadedImage(sha256_bytes(repr(pixels.size).encode() + pixels.tobytes()), pixels)
    return load_image(Path(image) if isinstance(image, str) else image)
