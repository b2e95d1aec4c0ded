"""What is cached, in which order, and under which key: texts, attention, views, scores.

Image stages go in shards of a fixed number of images. A shard's entry appears only when it is whole, so a run that was
killed goes on from its last shard. An error is never stored.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from abs_classify.encoding.cache import DERIVED, CacheKey, StageCache
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.models.deferred import DeferredModel
from abs_classify.models.embedded_files import EMBEDDED
from abs_core.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from abs_classify.datasets import Sample
    from abs_classify.images import LoadedImage
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.store import WeightsStore

__all__ = [
    "SHARD",
    "IdentifiedSample",
    "ModelSettings",
    "ReadAhead",
    "Stages",
    "UnreadableImage",
    "open_stages",
    "shards",
]


T = TypeVar("T", bound=Hashable)


R = TypeVar("R")


F = TypeVar("F")


# Decoded photos are large: this many wait at most, whatever the number of images.
_WAITING = 8


class ReadAhead(Generic[T, R, F]):
    """Reads and encodes items, in order, a little ahead of whoever takes the results.

    Args:
        read: safe to call from several threads at once.
        encode: turns what was read into as many results, in order; it may take some ahead.
        workers: how many threads read.
    """

    def __init__(
        self, read: Callable[[T], R], encode: Callable[[Iterator[R]], Generator[F, None, None]], workers: int
    ) -> None:
        self._read, self._encode = read, encode
        self._workers = min(workers, _WAITING)
        # announced: those that nobody has begun to read, and all whose results were not taken
        self._unread: deque[T] = deque()
        self._untaken: deque[T] = deque()
        self._results: Generator[F, None, None] | None = None
        self._failure: Exception | None = None
        self._kept: dict[T, F] = {}

    def take(self, items: Sequence[T], then: Sequence[T] = ()) -> list[F]:
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
        found = [self._kept[item] for item in items]
        self._kept.clear()
        return found

    def close(self) -> None:
        """Drop what was begun for items that nobody has taken."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self._unread.clear()
        self._untaken.clear()

    def _announce(self, items: Sequence[T]) -> None:
        unique = dict.fromkeys(items)
        self._unread.extend(unique)
        self._untaken.extend(unique)

    def _next(self) -> F:
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

    def _read_ahead(self) -> Iterator[R]:
        """What was read, in order, to the first item that fails: its error waits until its result is asked for."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="abs-read")
        begun: deque[Future[R]] = deque()
        try:
            while self._unread or begun:
                while self._unread and len(begun) < _WAITING:
                    begun.append(pool.submit(self._read, self._unread.popleft()))
                try:
                    read = begun.popleft().result()
                except Exception as error:
                    self._failure = error
                    return
                yield read
        finally:
            pool.shutdown(cancel_futures=True)


#: images in one cache entry
SHARD = 32


# Raised when the code of a stage changes its result.
_VERSIONS = {"text-features": 1, "attention": 2, "view-features": 2, "scores": 2}


@dataclass(frozen=True)
class IdentifiedSample:
    """An image and the sha256 of its bytes."""

    item: Sample
    id: str

    @property
    def name(self) -> str:
        """What to call it: its path, or container and member."""
        return self.item.name

    def load(self) -> LoadedImage:
        """Read and decode it.

        Raises:
            ImageError: it cannot be read.
        """
        from abs_classify.images import load_image

        return load_image(self.item.read(), self.name)


class UnreadableImage(Exception):  # noqa: N818 - not an error for the user until a run decides that it is one
    """A photo that could not be read, so that a run may drop it and go on."""

    def __init__(self, photo: IdentifiedSample, error: ImageError) -> None:
        super().__init__(str(error))
        self.photo = photo
        self.error = error


@dataclass(frozen=True)
class _Encoded:
    """One image: unit features [count, d] of its views, and its attention map [g, g] if it was computed."""

    features: Mapping[ViewSource, torch.Tensor]
    attention: torch.Tensor | None


if TYPE_CHECKING:
    _Encoding = ReadAhead[IdentifiedSample, LoadedImage, _Encoded]


def shards(photos: Sequence[IdentifiedSample]) -> Iterator[Sequence[IdentifiedSample]]:
    """Cut photos into runs of ``SHARD``."""
    for start in range(0, len(photos), SHARD):
        yield photos[start : start + SHARD]


@dataclass
class Stages:
    """Every stage of a classification, each computed once for its key.

    Args:
        cache: where results are kept.
        models: the model and the attention backend; loaded at the first miss.
        seed: of all random draws.
        batch_size: crops that are encoded together; not part of any key.
        seconds: wall time by what it went into: load (models), texts, read (images), encode, match. What came from the
            cache counts nowhere.
    """

    cache: StageCache
    models: DeferredModel
    seed: int
    batch_size: int
    seconds: dict[str, float] = field(default_factory=dict)
    _texts: dict[str, ClassTextFeatures] = field(default_factory=dict, init=False, repr=False)
    _ahead: tuple[tuple[ViewSource, ...], _Encoding] | None = field(default=None, init=False, repr=False)

    def texts(self, table: ClassTexts) -> ClassTextFeatures:
        """The unit features of a table's texts and of its label texts; kept, since every shard asks for them."""
        if table.digest not in self._texts:
            self._texts[table.digest] = self._load_texts(table)
        return self._texts[table.digest]

    def _load_texts(self, table: ClassTexts) -> ClassTextFeatures:
        from abs_classify.methods.scoring import ClassTextFeatures

        unique = list(dict.fromkeys((*table.texts, *table.label_texts)))
        key = self._key("text-features", {"tower": self.models.facts.model, "texts": unique})
        found = self.cache.load(key)
        if found is None:
            from abs_classify.encoding.encoder import encode_texts

            self.cache.require_writable()
            model = self._load()
            with self.timed("texts"):
                found = {"features": encode_texts(model, unique).numpy()}
            self.cache.store(key, found)
        import torch

        position = {text: at for at, text in enumerate(unique)}
        features = torch.from_numpy(found["features"])
        return ClassTextFeatures(
            features=features[[position[text] for text in table.texts]],
            class_index=torch.tensor(table.class_index),
            labels=features[[position[text] for text in table.label_texts]],
        )

    def scores(
        self,
        photos: Sequence[IdentifiedSample],
        methods: Mapping[Method, ClassTexts],
        also: Sequence[ViewSource] = (),
        then: Sequence[IdentifiedSample] = (),
    ) -> dict[str, np.ndarray]:
        """Class scores [B, C] of one shard for each method that looks at an image alone, by the method's name.

        Each photo is read at most once, whatever the number of methods. The views ``also`` are encoded with the rest.
        The photos of ``then``, the next shard, are begun meanwhile; ``close`` drops them.

        Raises:
            BadPhoto: a photo cannot be read; nothing of its shard was stored.
        """
        from abs_classify.methods.scoring import StreamScorer

        keys = {method: self._scores_key(photos, method, table) for method, table in methods.items()}
        found = {method: self.cache.load(key) for method, key in keys.items()}
        missing = [method for method, arrays in found.items() if arrays is None]
        # before any image: what a model makes of texts once, it makes here with all cores and where Ctrl-C reaches it
        texts = {method: self.texts(methods[method]) for method in missing}
        needed = dict.fromkeys([view for method in missing for view in method.views] + list(also))
        views = self.views(photos, list(needed), then)
        for method in missing:
            features = {view.kind: views[view] for view in method.views}
            assert not isinstance(method.scorer, StreamScorer)  # those go through stream_scores
            with self.timed("match"):
                found[method] = {"scores": method.scorer.scores(features, texts[method]).numpy()}
            self.cache.store(keys[method], found[method] or {})
        return {method.name: arrays["scores"] for method, arrays in found.items() if arrays is not None}

    def stream_scores(
        self, shards: Sequence[Sequence[IdentifiedSample]], method: Method, table: ClassTexts
    ) -> np.ndarray:
        """Class scores [n, C] of a method whose state is carried from image to image, through the shards in order.

        Raises:
            BadPhoto: a photo cannot be read.
        """
        import numpy as np

        from abs_classify.methods.scoring import StreamScorer

        assert isinstance(method.scorer, StreamScorer)  # the caller asked method.stream
        photos = [photo for shard in shards for photo in shard]
        key = self._scores_key(photos, method, table)
        found = self.cache.load(key)
        if found is None:
            state = method.scorer.start(self.texts(table), len(photos))
            rows = []
            for shard in shards:
                views = self.views(shard, method.views)
                for at in range(len(shard)):
                    one = {view.kind: views[view][at] for view in method.views}
                    with self.timed("match"):
                        rows.append(method.scorer.step(state, one).numpy())
            found = {"scores": np.stack(rows)}
            self.cache.store(key, found)
        return found["scores"]

    def views(
        self, photos: Sequence[IdentifiedSample], views: Sequence[ViewSource], then: Sequence[IdentifiedSample] = ()
    ) -> dict[ViewSource, torch.Tensor]:
        """Unit features [B, count, d] of the views of one shard; ``then`` as in ``scores``.

        Raises:
            BadPhoto: a photo cannot be read; nothing of its shard was stored.
        """
        import torch

        keys = {view: self._views_key(photos, view) for view in views}
        found = {view: self.cache.load(key) for view, key in keys.items()}
        missing = [view for view, arrays in found.items() if arrays is None]
        if missing:
            computed = self._encode(photos, missing, then)
            for view in missing:
                found[view] = {"features": computed[view].numpy()}
                self.cache.store(keys[view], found[view] or {})
        return {view: torch.from_numpy(arrays["features"]) for view, arrays in found.items() if arrays is not None}

    def attention(self, photos: Sequence[IdentifiedSample]) -> np.ndarray | None:
        """The attention maps [B, g, g] of a shard if they were computed before, else None."""
        found = self.cache.load(self._attention_key(photos))
        return None if found is None else found["attention"]

    def _encode(
        self, photos: Sequence[IdentifiedSample], views: Sequence[ViewSource], then: Sequence[IdentifiedSample]
    ) -> dict[ViewSource, torch.Tensor]:
        import torch

        self.cache.require_writable()
        guided = any(view.needs_attention for view in views)
        known = self.attention(photos) if guided else None
        read = self.seconds.get("read", 0.0)
        if known is None:
            pipeline, following = self._going_on(tuple(views), guided), self._like(then, views, guided)
        else:
            # one map for each photo that is encoded: one that comes twice is encoded once
            unique = dict(zip(photos, torch.from_numpy(known), strict=True))
            pipeline, following = self._pipeline(tuple(views), guided, torch.stack(list(unique.values()))), ()
        try:
            with self.timed("encode"):
                rows = pipeline.take(photos, following)
        finally:
            # images are read inside the encoding; that time is counted once
            self.seconds["encode"] -= self.seconds.get("read", 0.0) - read
        maps = [row.attention for row in rows if row.attention is not None]
        if known is None and maps:
            self.cache.store(self._attention_key(photos), {"attention": torch.stack(maps).numpy()})
        return {view: torch.stack([row.features[view] for row in rows]) for view in views}

    def _going_on(self, views: tuple[ViewSource, ...], guided: bool) -> _Encoding:
        """The pipeline that may have begun already, with the shard before."""
        if self._ahead is None or self._ahead[0] != views:
            self.close()
            self._ahead = views, self._pipeline(views, guided)
        return self._ahead[1]

    def _pipeline(
        self, views: tuple[ViewSource, ...], guided: bool, attention: torch.Tensor | None = None
    ) -> _Encoding:
        import torch

        from abs_classify.encoding.encoder import stream_images

        model = self._load()
        source = self._load_source() if guided else None
        encode_groups = partial(
            stream_images, model, source, seed=self.seed, batch_size=self.batch_size, attention=attention
        )

        def encode(images: Iterator[LoadedImage]) -> Generator[_Encoded, None, None]:
            for group in encode_groups(self._timed_reads(images), views):
                count = len(group.features[views[0]])
                maps = group.attention if group.attention is not None else [None] * count
                for at in range(count):
                    yield _Encoded({view: group.features[view][at] for view in views}, maps[at])

        return ReadAhead(_read, encode, torch.get_num_threads())

    def _like(
        self, photos: Sequence[IdentifiedSample], views: Sequence[ViewSource], guided: bool
    ) -> Sequence[IdentifiedSample]:
        """Photos that need just what was asked for, so that they can be begun with it; else none."""
        if any(self.cache.holds(self._views_key(photos, view)) for view in views):
            return ()
        return () if guided and self.cache.holds(self._attention_key(photos)) else photos

    def close(self) -> None:
        """Drop what was begun for shards that nobody has asked for; the stages can be used again."""
        if self._ahead is not None:
            self._ahead[1].close()
        self._ahead = None

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the wall time of the block to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start

    def _timed_reads(self, images: Iterator[LoadedImage]) -> Iterator[LoadedImage]:
        while True:
            with self.timed("read"):
                image = next(images, None)
            if image is None:
                return
            yield image

    def _load(self) -> Model:
        with self.timed("load"):
            return self.models.model

    def _load_source(self) -> AttentionBackend:
        with self.timed("load"):
            return self.models.attention_backend

    def _attention_key(self, photos: Sequence[IdentifiedSample]) -> CacheKey:
        inputs = {"source": self.models.facts.attention, "pillow": self.models.pillow, "images": _ids(photos)}
        return self._key("attention", inputs)

    def _views_key(self, photos: Sequence[IdentifiedSample], view: ViewSource) -> CacheKey:
        return self._key("view-features", {**self._view_inputs(view), "images": _ids(photos)})

    def _scores_key(self, photos: Sequence[IdentifiedSample], method: Method, table: ClassTexts) -> CacheKey:
        inputs = {
            "matcher": method.scorer.key(),
            "views": [self._view_inputs(view) for view in method.views],
            "texts": table.digest,
            "images": _ids(photos),
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
        seed: of all random draws.
        batch_size: crops that are encoded together.
    """

    attention: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    batch_size: int = 64


def open_stages(cache: StageCache, settings: ModelSettings, weights: WeightsStore | None, model: str) -> Stages:
    """The stages of a model by name, which is loaded when something must be computed.

    Args:
        cache: where results are kept; digests of files and what models compute from their weights go beside it.
        settings: how the model sees images.
        weights: models that were imported, if there are any.
        model: as ``load_model`` takes it, or the name under which it was imported.

    Raises:
        WeightsError: a record of an imported model is damaged.
    """
    name, attention = model, settings.attention
    if weights is not None and (model != EMBEDDED or attention not in ("auto", "self", "norm", "none")):
        from abs_classify.models.registry import local_names

        name, attention = local_names(weights, model, attention)
    memo = DigestCache(cache.root)
    models = DeferredModel(name, attention, settings.device, settings.dtype, memo, cache.root / DERIVED)
    return Stages(cache, models, settings.seed, settings.batch_size)


def _ids(photos: Iterable[IdentifiedSample]) -> list[str]:
    return [photo.id for photo in photos]


def _read(photo: IdentifiedSample) -> LoadedImage:
    try:
        image = photo.load()
    except ImageError as error:
        raise UnreadableImage(photo, error) from error
    if image.id != photo.id:
        changed = ImageError(f"{photo.name!r} changed while it was read", remedy="Run the command again")
        raise UnreadableImage(photo, changed)
    return image
