"""What is cached, in which order, and under which key: texts, attention, views, scores, facts on images.

Image stages go in shards of a fixed number of images. A shard's entry appears only when it is whole, so a run that was
killed resumes at its last shard. An error is never stored. ``ReadAhead`` reads images in threads while others are
encoded, and begins the next shard before the last result of this one is there.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from abs_classify.encoding.cache import DERIVED, CacheKey, ResultCache, StageCache
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import IdentifiedSample, ImageFacts, UnreadableImage
from abs_classify.models.deferred import DeferredModel
from abs_classify.models.embedded_files import EMBEDDED
from abs_core.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from abs_classify.images import LoadedImage
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.store import WeightsStore

__all__ = ["SHARD", "ModelSettings", "ReadAhead", "Stages", "open_stages"]

Item = TypeVar("Item", bound=Hashable)

Read = TypeVar("Read")

Result = TypeVar("Result")

# Decoded images are large: this many wait at most, whatever the number of images, and fewer where they are very large.
_WAITING = 8
_PIXELS_WAITING = 64_000_000


class ReadAhead(Generic[Item, Read, Result]):
    """Reads and encodes items, in order, a little ahead of whoever takes the results.

    Args:
        read: safe to call from several threads at once.
        encode: turns what was read into as many results, in order; it may take some ahead.
        workers: how many threads read.
        weigh: the size of what was read; no more is begun while what waits weighs ``_PIXELS_WAITING`` or more.
    """

    def __init__(
        self,
        read: Callable[[Item], Read],
        encode: Callable[[Iterator[Read]], Generator[Result, None, None]],
        workers: int,
        weigh: Callable[[Read], int] = lambda _: 0,
    ) -> None:
        self._read, self._encode, self._weigh = read, encode, weigh
        self._workers = min(workers, _WAITING)
        # of the announced items: those whose reading has not begun, and those whose results were not taken
        self._unread: deque[Item] = deque()
        self._untaken: deque[Item] = deque()
        self._results: Generator[Result, None, None] | None = None
        self._failure: Exception | None = None
        self._kept: dict[Item, Result] = {}

    def take(self, items: Sequence[Item], then: Sequence[Item] = ()) -> list[Result]:
        """The results of ``items``, in order.

        Args:
            items: what comes twice is worked on once.
            then: items of the next call, which are begun as soon as there is nothing else to do.

        Raises:
            Whatever ``read`` raises, for the first item that fails, and whatever ``encode`` raises. The results of the
            items before it are kept for the next call.
        """
        missing = [item for item in dict.fromkeys(items) if item not in self._kept]
        if list(self._untaken) != missing:
            self.close()
            self._announce(missing)
        self._announce(then)
        try:
            for item in missing:
                self._kept[item] = self._next()
                self._untaken.popleft()
        except BaseException:
            self.close()
            raise
        if not self._untaken:
            self.close()
        results = [self._kept[item] for item in items]
        self._kept.clear()
        return results

    def close(self) -> None:
        """Drop what was begun for items that nobody has taken."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self._unread.clear()
        self._untaken.clear()

    def _announce(self, items: Sequence[Item]) -> None:
        unique = dict.fromkeys(items)
        self._unread.extend(unique)
        self._untaken.extend(unique)

    def _next(self) -> Result:
        for _ in range(2):
            if self._results is None:
                self._failure = None
                self._results = self._encode(self._read_ahead())
            for result in self._results:
                return result
            if self._failure is not None:
                raise self._failure
            # it came to the end of what was announced before the last call
            self._results = None
        raise AssertionError("the encoder gave fewer results than it was given items")

    def _read_ahead(self) -> Iterator[Read]:
        """What was read, in order, to the first item that fails: its error waits until its result is asked for."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="abs-read")
        begun: deque[Future[Read]] = deque()
        try:
            while self._unread or begun:
                while self._unread and (not begun or self._has_room(begun)):
                    begun.append(pool.submit(self._read, self._unread.popleft()))
                try:
                    read = begun.popleft().result()
                except Exception as error:
                    self._failure = error
                    return
                yield read
        finally:
            pool.shutdown(cancel_futures=True)

    def _has_room(self, begun: deque[Future[Read]]) -> bool:
        finished = [entry for entry in begun if entry.done() and entry.exception() is None]
        return len(begun) < _WAITING and sum(self._weigh(entry.result()) for entry in finished) < _PIXELS_WAITING


#: images in one cache entry
SHARD = 32

# Raised when the code of a stage changes its result.
_VERSIONS = {"text-features": 1, "images": 1, "attention": 3, "view-features": 4, "scores": 4}


@dataclass(frozen=True)
class _EncodedImage:
    """One image: unit features [count, d] of its views, and its attention map [g, g] if it was computed."""

    features: Mapping[ViewSource, torch.Tensor]
    attention: torch.Tensor | None


if TYPE_CHECKING:
    _Pipeline = ReadAhead[IdentifiedSample, LoadedImage, _EncodedImage]


@dataclass
class Stages:
    """Every stage of a classification, each computed once for its key.

    One run at a time; ``for_run`` gives the stages of another one.

    Args:
        cache: where results are kept.
        models: the model and the attention backend; loaded at the first miss.
        seed: of all random numbers.
        batch_size: crops that are encoded together; not part of any key.
        seconds: wall time by what it went into: load (models), texts, read (images), encode, match. What came from the
            cache counts nowhere.
    """

    cache: ResultCache
    models: DeferredModel
    seed: int
    batch_size: int
    seconds: dict[str, float] = field(default_factory=dict)
    _texts: dict[str, ClassTextFeatures] = field(default_factory=dict, init=False, repr=False)
    _ahead: tuple[tuple[ViewSource, ...], _Pipeline] | None = field(default=None, init=False, repr=False)
    # of images that were read and whose shard is not done
    _facts: dict[str, ImageFacts] = field(default_factory=dict, init=False, repr=False)

    def for_run(self, cache: ResultCache) -> Stages:
        """Stages that share the models and the text features with these, and nothing that a run changes."""
        stages = replace(self, cache=cache, seconds={})
        stages._texts = self._texts
        return stages

    def text_features(self, class_texts: ClassTexts) -> ClassTextFeatures:
        """The unit features of class texts and of their label texts; kept, since every shard asks for them."""
        if class_texts.digest not in self._texts:
            self._texts[class_texts.digest] = self._load_texts(class_texts)
        return self._texts[class_texts.digest]

    def _load_texts(self, class_texts: ClassTexts) -> ClassTextFeatures:
        from abs_classify.methods.scoring import ClassTextFeatures

        unique = list(dict.fromkeys((*class_texts.texts, *class_texts.label_texts)))
        key = self._key("text-features", {"tower": self.models.facts.model, "texts": unique})
        arrays = self.cache.load(key)
        if arrays is None:
            from abs_classify.encoding.encoder import encode_texts

            self.cache.require_writable()
            model = self._load()
            with self.timed("texts"):
                arrays = {"features": encode_texts(model, unique).numpy()}
            self.cache.store(key, arrays)
        import torch

        position = {text: row for row, text in enumerate(unique)}
        features = torch.from_numpy(arrays["features"])
        return ClassTextFeatures(
            features=features[[position[text] for text in class_texts.texts]],
            class_index=torch.tensor(class_texts.class_index),
            labels=features[[position[text] for text in class_texts.label_texts]],
        )

    def scores(
        self,
        images: Sequence[IdentifiedSample],
        methods: Mapping[Method, ClassTexts],
        also: Sequence[ViewSource] = (),
        then: Sequence[IdentifiedSample] = (),
    ) -> dict[str, np.ndarray]:
        """Class scores [B, C] of one shard for each method that looks at an image alone, by the method's name.

        Each image is read at most once, whatever the number of methods. The views ``also`` are encoded with the rest.
        The images of ``then``, the next shard, are begun meanwhile; ``close`` drops them.

        Raises:
            UnreadableImage: an image cannot be read; nothing of its shard was stored.
        """
        from abs_classify.methods.scoring import StreamScorer

        keys = {method: self._scores_key(images, method, class_texts) for method, class_texts in methods.items()}
        known = {method: self.cache.load(key) for method, key in keys.items()}
        missing = [method for method, arrays in known.items() if arrays is None]
        # before any image: what a model makes of texts once, it makes here with all cores and where Ctrl-C reaches it
        texts = {method: self.text_features(methods[method]) for method in missing}
        needed = dict.fromkeys([view for method in missing for view in method.views] + list(also))
        views = self.views(images, list(needed), then)
        scores = {method.name: arrays["scores"] for method, arrays in known.items() if arrays is not None}
        for method in missing:
            assert not isinstance(method.scorer, StreamScorer)  # those go through stream_scores
            with self.timed("match"):
                scores[method.name] = method.scorer.scores(method.views_by_kind(views), texts[method]).numpy()
            self.cache.store(keys[method], {"scores": scores[method.name]})
        return {method.name: scores[method.name] for method in methods}

    def stream_scores(
        self, shards: Sequence[Sequence[IdentifiedSample]], method: Method, class_texts: ClassTexts
    ) -> np.ndarray:
        """Class scores [n, C] of a method whose state is carried from image to image, through the shards in order.

        Raises:
            UnreadableImage: an image cannot be read.
        """
        import numpy as np

        from abs_classify.methods.scoring import StreamScorer

        assert isinstance(method.scorer, StreamScorer)  # the caller asked method.stream
        images = [image for shard in shards for image in shard]
        key = self._scores_key(images, method, class_texts)
        arrays = self.cache.load(key)
        if arrays is None:
            state = method.scorer.start(self.text_features(class_texts), len(images))
            rows = []
            for shard in shards:
                views = method.views_by_kind(self.views(shard, method.views))
                for position in range(len(shard)):
                    with self.timed("match"):
                        features = {kind: rows_of_kind[position] for kind, rows_of_kind in views.items()}
                        rows.append(method.scorer.step(state, features).numpy())
            arrays = {"scores": np.stack(rows)}
            self.cache.store(key, arrays)
        return arrays["scores"]

    def views(
        self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource], then: Sequence[IdentifiedSample] = ()
    ) -> dict[ViewSource, torch.Tensor]:
        """Unit features [B, count, d] of the views of one shard; ``then`` as in ``scores``.

        Raises:
            UnreadableImage: an image cannot be read; nothing of its shard was stored.
        """
        import torch

        keys = {view: self._views_key(images, view) for view in views}
        known = {view: self.cache.load(key) for view, key in keys.items()}
        missing = [view for view, arrays in known.items() if arrays is None]
        features = {view: torch.from_numpy(arrays["features"]) for view, arrays in known.items() if arrays is not None}
        if missing:
            features |= self._encode(images, missing, then)
            for view in missing:
                self.cache.store(keys[view], {"features": features[view].numpy()})
        return {view: features[view] for view in views}

    def attention(self, images: Sequence[IdentifiedSample]) -> np.ndarray | None:
        """The attention maps [B, g, g] of a shard if they were computed before, else None."""
        arrays = self.cache.load(self._attention_key(images))
        return None if arrays is None else arrays["attention"]

    def known_facts(self, images: Sequence[IdentifiedSample]) -> list[ImageFacts] | None:
        """What is known of the images of a shard, if they were decoded in an earlier run.

        Raises:
            UnreadableImage: that run accepted a file that ends early, and this one does not.
        """
        from abs_classify.images import TRUNCATED

        arrays = self.cache.load(self._facts_key(images))
        if arrays is None:
            return None
        rows = json.loads(arrays["facts"].tobytes())
        facts = [ImageFacts(width, height, tuple(remarks)) for width, height, remarks in rows]
        for image, known in zip(images, facts, strict=True):
            if image.truncated == "refuse" and TRUNCATED in known.remarks:
                _read(image)  # which raises, with the reason
        return facts

    def new_facts(self, images: Sequence[IdentifiedSample]) -> list[ImageFacts]:
        """What is known of the images of a shard, most of which were just encoded; it is kept for further runs.

        Raises:
            UnreadableImage: an image that must be read again cannot be.
        """
        import numpy as np

        facts = [self._facts.get(image.id) or ImageFacts.of(_read(image)) for image in images]
        for image in images:
            self._facts.pop(image.id, None)
        rows = [[known.width, known.height, list(known.remarks)] for known in facts]
        text = json.dumps(rows).encode("utf-8")
        self.cache.store(self._facts_key(images), {"facts": np.frombuffer(text, dtype=np.uint8)})
        return facts

    def _encode(
        self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource], then: Sequence[IdentifiedSample]
    ) -> dict[ViewSource, torch.Tensor]:
        import torch

        self.cache.require_writable()
        guided = any(view.needs_attention for view in views)
        known = self.attention(images) if guided else None
        read = self.seconds.get("read", 0.0)
        if known is None:
            pipeline, following = self._going_on(tuple(views), guided), self._like(then, views, guided)
        else:
            # one map for each image that is encoded: one that comes twice is encoded once
            unique = dict(zip(images, torch.from_numpy(known), strict=True))
            pipeline, following = self._pipeline(tuple(views), guided, torch.stack(list(unique.values()))), ()
        try:
            with self.timed("encode"):
                rows = pipeline.take(images, following)
        finally:
            # images are read inside the encoding; that time is counted once
            self.seconds["encode"] -= self.seconds.get("read", 0.0) - read
        maps = [row.attention for row in rows if row.attention is not None]
        if known is None and maps:
            self.cache.store(self._attention_key(images), {"attention": torch.stack(maps).numpy()})
        return {view: torch.stack([row.features[view] for row in rows]) for view in views}

    def _going_on(self, views: tuple[ViewSource, ...], guided: bool) -> _Pipeline:
        """The pipeline that may have begun already, with the shard before."""
        if self._ahead is None or self._ahead[0] != views:
            self.close()
            self._ahead = views, self._pipeline(views, guided)
        return self._ahead[1]

    def _pipeline(
        self, views: tuple[ViewSource, ...], guided: bool, attention: torch.Tensor | None = None
    ) -> _Pipeline:
        import torch

        from abs_classify.encoding.encoder import stream_images

        model = self._load()
        backend = self._load_attention_backend() if guided else None
        encode_groups = partial(
            stream_images, model, backend, seed=self.seed, batch_size=self.batch_size, attention=attention
        )

        def encode(images: Iterator[LoadedImage]) -> Generator[_EncodedImage, None, None]:
            for group in encode_groups(self._timed_reads(images), views):
                count = len(group.features[views[0]])
                maps = group.attention if group.attention is not None else [None] * count
                for position in range(count):
                    yield _EncodedImage({view: group.features[view][position] for view in views}, maps[position])

        return ReadAhead(_read, encode, torch.get_num_threads(), _pixels)

    def _like(
        self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource], guided: bool
    ) -> Sequence[IdentifiedSample]:
        """Images that need just what was asked for, so that they can be begun with it; else none."""
        if any(self.cache.holds(self._views_key(images, view)) for view in views):
            return ()
        return () if guided and self.cache.holds(self._attention_key(images)) else images

    def close(self) -> None:
        """Drop what was begun for shards that nobody has asked for; the stages can be used again."""
        if self._ahead is not None:
            self._ahead[1].close()
        self._ahead = None
        self._facts.clear()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the wall time of the block to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def _timed_reads(self, images: Iterator[LoadedImage]) -> Iterator[LoadedImage]:
        while True:
            with self.timed("read"):
                image = next(images, None)
            if image is None:
                return
            self._facts[image.id] = ImageFacts.of(image)
            yield image

    def _load(self) -> Model:
        with self.timed("load"):
            return self.models.model

    def _load_attention_backend(self) -> AttentionBackend:
        with self.timed("load"):
            return self.models.attention_backend

    def _facts_key(self, images: Sequence[IdentifiedSample]) -> CacheKey:
        return self._key("images", {"pillow": self.models.pillow, "images": _ids(images)})

    def _attention_key(self, images: Sequence[IdentifiedSample]) -> CacheKey:
        inputs = {"source": self.models.facts.attention, "pillow": self.models.pillow, "images": _ids(images)}
        return self._key("attention", inputs)

    def _views_key(self, images: Sequence[IdentifiedSample], view: ViewSource) -> CacheKey:
        return self._key("view-features", {**self._view_inputs(view), "images": _ids(images)})

    def _scores_key(self, images: Sequence[IdentifiedSample], method: Method, class_texts: ClassTexts) -> CacheKey:
        inputs = {
            "matcher": method.scorer.key(),
            "views": [self._view_inputs(view) for view in method.views],
            "texts": class_texts.digest,
            "images": _ids(images),
        }
        return self._key("scores", inputs)

    def _view_inputs(self, view: ViewSource) -> dict[str, Any]:
        # what decodes and resizes: a release of Pillow changed how it rounds
        inputs: dict[str, Any] = {"tower": self.models.facts.model, "view": view.key(), "pillow": self.models.pillow}
        if view.kind != "whole":
            inputs["seed"] = self.seed
        if view.needs_attention:
            inputs["attention"] = self.models.facts.attention
        return inputs

    def _key(self, stage: str, inputs: Mapping[str, Any]) -> CacheKey:
        return CacheKey(stage, _VERSIONS[stage], inputs)


@dataclass(frozen=True)
class ModelSettings:
    """How models see images.

    Args:
        attention: where attention maps come from, see ``load_attention``.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: of the weights: "float32", "bfloat16", "float16".
        seed: of all random numbers.
        batch_size: crops that are encoded together.
    """

    attention: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    batch_size: int = 64


def open_stages(cache: StageCache, model: str, settings: ModelSettings, weights: WeightsStore | None = None) -> Stages:
    """The stages of a model by name, which is loaded when something must be computed.

    Args:
        cache: where results are kept; digests of files and what models compute from their weights go beside it.
        model: as ``load_model`` takes it, or the name under which it was imported.
        settings: how the model sees images.
        weights: models that were imported, if there are any.

    Raises:
        WeightsError: a record of an imported model is damaged.
    """
    name, attention = model, settings.attention
    if weights is not None and (model != EMBEDDED or attention not in ("auto", "self", "norm", "none")):
        from abs_classify.models.registry import local_names

        name, attention = local_names(weights, model, attention)
    digests = DigestCache(cache.root)
    models = DeferredModel(name, attention, settings.device, settings.dtype, digests, cache.root / DERIVED)
    return Stages(cache, models, settings.seed, settings.batch_size)


def _ids(images: Iterable[IdentifiedSample]) -> list[str]:
    return [image.id for image in images]


def _pixels(image: LoadedImage) -> int:
    return image.pixels.width * image.pixels.height


def _read(image: IdentifiedSample) -> LoadedImage:
    try:
        loaded = image.load()
    except ImageError as error:
        raise UnreadableImage(image, error) from error
    if loaded.id != image.id:
        changed = ImageError(f"{image.name!r} changed while it was read", remedy="Run the command again")
        raise UnreadableImage(image, changed)
    return loaded
