"""What is cached, in which order, and under which key: texts, attention, views, scores.

Image stages go in shards of a fixed number of images. A shard's entry appears only when it is whole, so a run that was
killed goes on from its last shard. An error is never stored.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from abs_cli.cache import Key, StageCache
from abs_cli.models import Models
from abs_cli.pipeline import Pipeline
from abs_core.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from abs_classify.attention import AttentionSource
    from abs_classify.datasets import Item
    from abs_classify.images import LoadedImage
    from abs_classify.matchers import TextFeatures
    from abs_classify.methods import Method
    from abs_classify.texts import TextTable
    from abs_classify.towers.base import Tower
    from abs_classify.views import ViewSource

__all__ = ["SHARD", "BadPhoto", "Photo", "Stages", "shards"]

#: images in one cache entry
SHARD = 32

# Raised when the code of a stage changes its result.
_VERSIONS = {"text-features": 1, "attention": 2, "view-features": 2, "scores": 2}


@dataclass(frozen=True)
class Photo:
    """An image and the sha256 of its bytes."""

    item: Item
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


class BadPhoto(Exception):  # noqa: N818 - not an error for the user until a run decides that it is one
    """A photo that could not be read, so that a run may drop it and go on."""

    def __init__(self, photo: Photo, error: ImageError) -> None:
        super().__init__(str(error))
        self.photo = photo
        self.error = error


@dataclass(frozen=True)
class _Encoded:
    """One image: unit features [count, d] of its views, and its attention map [g, g] if it was computed."""

    features: Mapping[ViewSource, torch.Tensor]
    attention: torch.Tensor | None


if TYPE_CHECKING:
    _Encoding = Pipeline[Photo, LoadedImage, _Encoded]


def shards(photos: Sequence[Photo]) -> Iterator[Sequence[Photo]]:
    """Cut photos into runs of ``SHARD``."""
    for start in range(0, len(photos), SHARD):
        yield photos[start : start + SHARD]


@dataclass
class Stages:
    """Every stage of a classification, each computed once for its key.

    Args:
        cache: where results are kept.
        models: the tower and the attention source; loaded at the first miss.
        seed: of all random draws.
        batch_size: crops that are encoded together; not part of any key.
        seconds: wall time by what it went into: load (models), texts, read (images), encode, match. What came from the
            cache counts nowhere.
    """

    cache: StageCache
    models: Models
    seed: int
    batch_size: int
    seconds: dict[str, float] = field(default_factory=dict)
    _texts: dict[str, TextFeatures] = field(default_factory=dict, init=False, repr=False)
    _ahead: tuple[tuple[ViewSource, ...], _Encoding] | None = field(default=None, init=False, repr=False)

    def texts(self, table: TextTable) -> TextFeatures:
        """The unit features of a table's texts and of its label texts; kept, since every shard asks for them."""
        if table.digest not in self._texts:
            self._texts[table.digest] = self._load_texts(table)
        return self._texts[table.digest]

    def _load_texts(self, table: TextTable) -> TextFeatures:
        from abs_classify.matchers import TextFeatures

        unique = list(dict.fromkeys((*table.texts, *table.label_texts)))
        key = self._key("text-features", {"tower": self.models.facts.tower, "texts": unique})
        found = self.cache.load(key)
        if found is None:
            from abs_classify.encoding import encode_texts

            self.cache.require_writable()
            tower = self._load()
            with self.timed("texts"):
                found = {"features": encode_texts(tower, unique).numpy()}
            self.cache.store(key, found)
        import torch

        position = {text: at for at, text in enumerate(unique)}
        features = torch.from_numpy(found["features"])
        return TextFeatures(
            features=features[[position[text] for text in table.texts]],
            owner=torch.tensor(table.owner),
            labels=features[[position[text] for text in table.label_texts]],
        )

    def scores(
        self,
        photos: Sequence[Photo],
        methods: Mapping[Method, TextTable],
        also: Sequence[ViewSource] = (),
        then: Sequence[Photo] = (),
    ) -> dict[str, np.ndarray]:
        """Class scores [B, C] of one shard for each method that looks at an image alone, by the method's name.

        Each photo is read at most once, whatever the number of methods. The views ``also`` are encoded with the rest.
        The photos of ``then``, the next shard, are begun meanwhile; ``close`` drops them.

        Raises:
            BadPhoto: a photo cannot be read; nothing of its shard was stored.
        """
        from abs_classify.matchers import StreamMatcher

        keys = {method: self._scores_key(photos, method, table) for method, table in methods.items()}
        found = {method: self.cache.load(key) for method, key in keys.items()}
        missing = [method for method, arrays in found.items() if arrays is None]
        # before any image: what a tower makes of texts once, it makes here with all cores and where Ctrl-C reaches it
        texts = {method: self.texts(methods[method]) for method in missing}
        needed = dict.fromkeys([view for method in missing for view in method.views] + list(also))
        views = self.views(photos, list(needed), then)
        for method in missing:
            features = {view.kind: views[view] for view in method.views}
            assert not isinstance(method.matcher, StreamMatcher)  # those go through stream_scores
            with self.timed("match"):
                found[method] = {"scores": method.matcher.scores(features, texts[method]).numpy()}
            self.cache.store(keys[method], found[method] or {})
        return {method.name: arrays["scores"] for method, arrays in found.items() if arrays is not None}

    def stream_scores(self, shards: Sequence[Sequence[Photo]], method: Method, table: TextTable) -> np.ndarray:
        """Class scores [n, C] of a method whose state is carried from image to image, through the shards in order.

        Raises:
            BadPhoto: a photo cannot be read.
        """
        import numpy as np

        from abs_classify.matchers import StreamMatcher

        assert isinstance(method.matcher, StreamMatcher)  # the caller asked method.stream
        photos = [photo for shard in shards for photo in shard]
        key = self._scores_key(photos, method, table)
        found = self.cache.load(key)
        if found is None:
            state = method.matcher.start(self.texts(table), len(photos))
            rows = []
            for shard in shards:
                views = self.views(shard, method.views)
                for at in range(len(shard)):
                    one = {view.kind: views[view][at] for view in method.views}
                    with self.timed("match"):
                        rows.append(method.matcher.step(state, one).numpy())
            found = {"scores": np.stack(rows)}
            self.cache.store(key, found)
        return found["scores"]

    def views(
        self, photos: Sequence[Photo], views: Sequence[ViewSource], then: Sequence[Photo] = ()
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

    def attention(self, photos: Sequence[Photo]) -> np.ndarray | None:
        """The attention maps [B, g, g] of a shard if they were computed before, else None."""
        found = self.cache.load(self._attention_key(photos))
        return None if found is None else found["attention"]

    def _encode(
        self, photos: Sequence[Photo], views: Sequence[ViewSource], then: Sequence[Photo]
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

        from abs_classify.encoding import stream_images

        tower = self._load()
        source = self._load_source() if guided else None
        encode_groups = partial(
            stream_images, tower, source, seed=self.seed, batch_size=self.batch_size, attention=attention
        )

        def encode(images: Iterator[LoadedImage]) -> Generator[_Encoded, None, None]:
            for group in encode_groups(self._timed_reads(images), views):
                count = len(group.features[views[0]])
                maps = group.attention if group.attention is not None else [None] * count
                for at in range(count):
                    yield _Encoded({view: group.features[view][at] for view in views}, maps[at])

        return Pipeline(_read, encode, torch.get_num_threads())

    def _like(self, photos: Sequence[Photo], views: Sequence[ViewSource], guided: bool) -> Sequence[Photo]:
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

    def _load(self) -> Tower:
        with self.timed("load"):
            return self.models.tower

    def _load_source(self) -> AttentionSource:
        with self.timed("load"):
            return self.models.source

    def _attention_key(self, photos: Sequence[Photo]) -> Key:
        inputs = {"source": self.models.facts.attention, "pillow": self.models.pillow, "images": _ids(photos)}
        return self._key("attention", inputs)

    def _views_key(self, photos: Sequence[Photo], view: ViewSource) -> Key:
        return self._key("view-features", {**self._view_inputs(view), "images": _ids(photos)})

    def _scores_key(self, photos: Sequence[Photo], method: Method, table: TextTable) -> Key:
        inputs = {
            "matcher": method.matcher.key(),
            "views": [self._view_inputs(view) for view in method.views],
            "texts": table.digest,
            "images": _ids(photos),
        }
        return self._key("scores", inputs)

    def _view_inputs(self, view: ViewSource) -> dict[str, Any]:
        # what decodes and resizes: a release of Pillow changed how it rounds
        inputs: dict[str, Any] = {"tower": self.models.facts.tower, "view": view.key(), "pillow": self.models.pillow}
        if view.kind != "whole":
            inputs["seed"] = self.seed
        if view.needs_attention:
            inputs["attention"] = self.models.facts.attention
        return inputs

    def _key(self, stage: str, inputs: Mapping[str, Any]) -> Key:
        return Key(stage, _VERSIONS[stage], inputs)


def _ids(photos: Iterable[Photo]) -> list[str]:
    return [photo.id for photo in photos]


def _read(photo: Photo) -> LoadedImage:
    try:
        image = photo.load()
    except ImageError as error:
        raise BadPhoto(photo, error) from error
    if image.id != photo.id:
        changed = ImageError(f"{photo.name!r} changed while it was read", remedy="Run the command again")
        raise BadPhoto(photo, changed)
    return image
