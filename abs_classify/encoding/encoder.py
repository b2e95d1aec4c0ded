"""Images and views in, unit features out: one decode, one attention map and one pass over the tokens per image.

What is known of an image already, its attention map and the first of its views, is not computed again.

This is where the pure parts (views) meet the models. Images are taken from an iterator in small groups, so memory does
not grow with their number; the crops of a group are encoded together, whatever image they come from. On a CPU every
thread takes groups and crops as it gets free, and none waits for another; an accelerator takes one group at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.encoding.accelerator import Accelerator, Cut, Network, Preprocess, guarded
from abs_classify.encoding.adaptive_views import ImageViews, ViewDecisions
from abs_classify.encoding.rounds import RoundImage, finish_rounds, pooled_rounds
from abs_classify.images import LoadedImage
from abs_classify.methods.similarity import unit
from abs_classify.methods.views import FeatureWindows, FullImage, Geometry, RandomResizedCrops, ViewSource, place_views
from abs_classify.models.base import input_size
from abs_classify.models.copies import to_host
from abs_classify.threads import Cores, even_parts, in_threads
from abs_core.errors import ModelError

if TYPE_CHECKING:
    from abs_classify.models.base import AttentionBackend, Model

__all__ = ["EncodedImage", "EncodedImages", "EncodingRequest", "encode_images", "encode_texts", "stream_images"]

# Decoded images are large and features small: a group bounds the pixels that are in memory at once.
_IMAGES_AT_ONCE = 32
_PIXELS_AT_ONCE = 16_000_000
_TEXTS_AT_ONCE = 1024

# On a CPU the activations of a few crops stay in the caches, and larger batches are slower (ViT-B/16: a tenth).
_CPU_BATCH = 4


@dataclass(frozen=True, eq=False)
class EncodingRequest:
    """An image, and what is known of it.

    Args:
        image: decoded.
        known: how many of the first views of a source are known; those are not encoded.
        attention: its map [g, g], if that is known.
        features: the known features of the view sources that decisions depend on.
        wanted: how many views of a source to encode in any case, whatever the decisions are.
    """

    image: LoadedImage
    known: Mapping[ViewSource, int] = field(default_factory=dict)
    attention: Tensor | None = None
    features: Mapping[ViewSource, Tensor] = field(default_factory=dict)
    wanted: Mapping[ViewSource, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """What was computed of one image.

    Args:
        features: for each view source unit features [n, d] of the views after the known ones, float32, on the CPU.
        attention: its map [g, g], float32, on the CPU; None where no view to be encoded asked for it.
    """

    features: Mapping[ViewSource, Tensor]
    attention: Tensor | None


@dataclass(frozen=True)
class EncodedImages:
    """Features of some images, in the order in which they were given.

    Args:
        features: for each view source unit features [B, count, d], float32, on the CPU.
        attention: attention maps [B, g, g], float32, on the CPU; None where no view asked for them.
    """

    features: Mapping[ViewSource, Tensor]
    attention: Tensor | None


def encode_texts(model: Model, texts: Sequence[str]) -> Tensor:
    """Unit features [n, d] of texts, float32, on the CPU.

    Raises:
        ModelError: a text whose feature has no direction or is not finite.
    """
    batches = (texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE))
    parts = [model.encode_text(batch).float().cpu() for batch in batches]
    features = torch.cat(parts) if parts else torch.empty(0, model.embed_dim)
    norms = features.norm(dim=-1)
    wrong = (~norms.isfinite() | (norms == 0)).nonzero().flatten().tolist()
    if wrong:
        raise ModelError(
            f"{model.name} gives the text {texts[wrong[0]]!r} a feature that is zero or not finite",
            remedy="Check the weights with `abs models verify`",
        )
    return unit(features)


def encode_images(
    model: Model,
    backend: AttentionBackend | None,
    images: Iterable[LoadedImage],
    views: Sequence[ViewSource],
    *,
    seed: int = 0,
    batch_size: int = 64,
    attention: Tensor | None = None,
) -> EncodedImages:
    """Encode the views of images.

    Args:
        model: the image encoder.
        backend: where attention maps come from; may be None when no view is guided or ``attention`` is given.
        images: decoded images; taken one group at a time.
        views: which views; each appears in the result.
        seed: with an image's id and the kind and number of a view it determines every random draw.
        batch_size: most crops that are encoded together. Changes speed and memory, and scores only by rounding. On a
            CPU a few are, in as many threads as torch may use.
        attention: maps [B, g, g] that were computed before.

    Raises:
        ModelError: the model has no feature windows but ``views`` asks for them; or the device is out of memory (the
            remedy names a batch size that fits).
        ImageError: from the iterator, for an image that cannot be read.
    """
    maps = iter(attention) if attention is not None else None
    requests = (EncodingRequest(image, attention=next(maps) if maps is not None else None) for image in images)
    encoded = list(stream_images(model, backend, requests, views, seed=seed, batch_size=batch_size))
    if not encoded:
        return EncodedImages({view: torch.empty(0, view.count, model.embed_dim) for view in views}, None)
    known = [image.attention for image in encoded if image.attention is not None]
    features = {view: torch.stack([image.features[view] for image in encoded]) for view in views}
    return EncodedImages(features, torch.stack(known) if known else None)


def stream_images(
    model: Model,
    backend: AttentionBackend | None,
    requests: Iterable[EncodingRequest],
    views: Sequence[ViewSource],
    *,
    seed: int = 0,
    batch_size: int = 64,
    decisions: ViewDecisions | None = None,
) -> Generator[EncodedImage, None, None]:
    """Encode views of images, and give the images one by one, in order, while later ones are encoded.

    Of the view sources of ``decisions`` only as many views are encoded as these want, in rounds. Other arguments and
    errors are those of ``encode_images``, which joins them.
    """
    _check_windows(model, views)
    encoder = _Encoder(model, Geometry.of(model, input_size(model)), backend, views, seed, batch_size, decisions)
    if model.device.type == "cpu":
        groups = _on_cpu(encoder, requests)
    else:
        groups = _on_accelerator(encoder, requests, Accelerator.of(model, batch_size))
    # not left to the finalizer, which waits for threads and where Ctrl-C would have no effect
    with closing(groups):
        for group in groups:
            yield from group


def _check_windows(model: Model, views: Iterable[ViewSource]) -> None:
    if model.grid == 0 and any(isinstance(view, FeatureWindows) for view in views):
        raise ModelError(
            f"{model.name} has no token grid, so it gives no feature windows",
            remedy="Use a method without them, such as abs-pixels, or a transformer model",
        )


@dataclass(frozen=True)
class _Group:
    """Some images of which the same is known.

    Args:
        images: decoded.
        attention: their maps [B, g, g], if they are known.
        views: of each, what decisions know of it.
        missing: the view sources of which views are to be encoded, with the number of the first of these.
    """

    images: list[LoadedImage]
    attention: Tensor | None
    views: list[ImageViews]
    missing: Mapping[ViewSource, int]

    @classmethod
    def of(cls, requests: Sequence[EncodingRequest], sources: Sequence[ViewSource]) -> _Group:
        """The group of requests that know the same."""
        maps = [request.attention for request in requests if request.attention is not None]
        missing = {
            view: first
            for view, first in zip(sources, _signature(requests[0], sources)[1], strict=True)
            if first < view.count
        }
        images = [request.image for request in requests]
        views = [ImageViews(request.features, request.wanted, request.image.id) for request in requests]
        return cls(images, torch.stack(maps) if maps else None, views, missing)


def _signature(request: EncodingRequest, views: Sequence[ViewSource]) -> tuple[bool, tuple[int, ...]]:
    """What must be the same for all images of a group."""
    return request.attention is None, tuple(min(request.known.get(view, 0), view.count) for view in views)


def _groups(requests: Iterable[EncodingRequest], views: Sequence[ViewSource], size: int) -> Iterator[_Group]:
    """Cut images into groups of ``size``, smaller where the images are large or less is known of the next one."""
    group: list[EncodingRequest] = []
    pixels = 0
    for request in chain(requests, [None]):
        if group and (request is None or _signature(request, views) != _signature(group[0], views)):
            yield _Group.of(group, views)
            group, pixels = [], 0
        if request is not None:
            group.append(request)
            pixels += request.image.pixels.width * request.image.pixels.height
        if group and (len(group) == size or pixels >= _PIXELS_AT_ONCE):
            yield _Group.of(group, views)
            group, pixels = [], 0


# puts cuts through a network: [cuts, ...], on the model's device
_Run: TypeAlias = Callable[[Sequence[Cut], Preprocess, Network], Tensor]
# the same, begun now or later: the result comes to the CPU when it is asked for
_RunLater: TypeAlias = Callable[[Sequence[Cut], Preprocess, Network], Callable[[], Tensor]]


@dataclass(frozen=True)
class _Encoder:
    """What is done to every group."""

    model: Model
    geometry: Geometry
    backend: AttentionBackend | None
    views: Sequence[ViewSource]
    seed: int
    batch_size: int
    decisions: ViewDecisions | None = None

    def begin(self, group: _Group, run: _Run, later: _RunLater) -> Callable[[], list[EncodedImage]]:
        """Everything but the crops, which ``later`` is asked for; the result waits for them."""
        whole, attention = self.look(group, run)
        return self.encode(self.place(group, whole, attention()), later)

    def look(self, group: _Group, run: _Run) -> tuple[_WholeImages, Callable[[], Tensor | None]]:
        """The pass over the full images, and their attention maps [B, g, g], on the CPU when they are asked for."""
        whole = _WholeImages(self.model, group.images, run)
        if group.attention is not None or not any(view.needs_attention for view in group.missing):
            return whole, lambda: group.attention
        if self.backend is None:
            raise ModelError("an attention-guided view needs an attention backend", remedy="Name one, such as 'auto'")
        return whole, to_host(self.backend.attend(whole).float())

    def place(self, group: _Group, whole: _WholeImages, attention: Tensor | None) -> _PlacedGroup:
        """The views of a group, placed by the attention maps [B, g, g]."""
        maps = attention.numpy() if attention is not None else [None] * len(group.images)
        views = list(group.missing)
        boxes = [
            place_views(self.geometry, attention_map, image.id, image.pixels.size, views, seed=self.seed)
            for image, attention_map in zip(group.images, maps, strict=True)
        ]
        return _PlacedGroup(group, whole, attention, boxes)

    def encode(self, placed: _PlacedGroup, later: _RunLater) -> Callable[[], list[EncodedImage]]:
        """Begin to encode the views of a group; the result waits for them."""
        whole, raw = placed.whole, dict[ViewSource, Callable[[], Tensor]]()
        for view, first in placed.group.missing.items():
            boxes = [places[view][first:] for places in placed.boxes]
            if isinstance(view, FullImage):
                raw[view] = to_host(whole.features[:, None].float())
            elif isinstance(view, FeatureWindows):
                raw[view] = to_host(self._pool_windows(whole.tokens, torch.from_numpy(np.stack(boxes))).float())
            else:
                wait = self._crop(view, [image.pixels for image in placed.group.images], boxes, later)
                raw[view] = partial(_per_image, wait, len(boxes))
        return lambda: self._encoded({view: unit(wait()) for view, wait in raw.items()}, placed)

    def _encoded(self, features: Mapping[ViewSource, Tensor], placed: _PlacedGroup) -> list[EncodedImage]:
        none, attention = torch.empty(0, self.model.embed_dim), placed.attention
        return [
            EncodedImage(
                {view: features[view][position] if view in features else none for view in self.views},
                attention[position] if attention is not None else None,
            )
            for position in range(len(placed.group.images))
        ]

    def _pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Features [B, N, d] of the windows int64 [B, N, 4] of the tokens [B, P + g*g, w] of a group."""
        if tokens.device.type != "cpu":
            return guarded(partial(self.model.pool_windows, tokens, windows), self.model, self.batch_size)
        # what belongs to one image stays in the caches
        pairs = zip(torch.split(tokens, 1), torch.split(windows, 1), strict=True)
        return torch.cat([self.model.pool_windows(*pair) for pair in pairs])

    def _crop(
        self, view: ViewSource, images: list[Image.Image], boxes: list[np.ndarray], later: _RunLater
    ) -> Callable[[], Tensor]:
        """Features [crops, d] of the crops of all images, one image after the other, encoded together."""
        side = self.geometry.input_size if isinstance(view, RandomResizedCrops) else None
        cuts = [
            Cut(pixels, tuple(box[:4]), side, mirrored=box[4:] == [1])
            for pixels, rows in zip(images, boxes, strict=True)
            for box in rows.tolist()
        ]
        return later(cuts, self.model.preprocess_crop, self.model.encode_image)

    def begin_rounds(self, group: _Group, run: _Run) -> list[RoundImage]:
        """Everything but the views that decisions want, which come in rounds."""
        assert self.decisions is not None  # or there are no rounds
        whole, attention = self.look(group, run)
        placed = self.place(group, whole, attention())
        fixed = {view: first for view, first in group.missing.items() if view not in self.decisions.sources}
        encoded = self.encode(replace(placed, group=replace(group, missing=fixed)), _now(run))()
        in_rounds = any(isinstance(view, FeatureWindows) for view in group.missing if view not in fixed)
        images = []
        for position, image in enumerate(encoded):
            tokens = whole.tokens[position : position + 1] if in_rounds else None
            pixels, boxes, views = group.images[position].pixels, placed.boxes[position], group.views[position]
            for view, rows in image.features.items():
                views.add(view, rows)
            images.append(RoundImage(pixels, boxes, tokens, views, image))
        self.decisions.advance([image.views for image in images])
        return images

    def begin_round(self, run: _Run, images: Sequence[RoundImage]) -> Callable[[], None]:
        """Begin with the views that decisions want of images; the result waits for them and makes the decisions."""
        decisions = self.decisions
        assert decisions is not None  # or there are no rounds
        missing = [image.missing(decisions) for image in images]
        begun: list[tuple[ViewSource, list[RoundImage], list[int], Callable[[], Tensor]]] = []
        for view in decisions.sources:
            members = [(image, spans[view]) for image, spans in zip(images, missing, strict=True) if view in spans]
            if members:
                of_view = [image for image, _ in members]
                boxes = [image.boxes[view][first:stop] for image, (first, stop) in members]
                begun.append((view, of_view, [len(rows) for rows in boxes], self._round_of(view, of_view, boxes, run)))

        def finish() -> None:
            for view, of_view, counts, wait in begun:
                for image, rows in zip(of_view, torch.split(unit(wait()), counts), strict=True):
                    image.add(view, rows)
            decisions.advance([image.views for image in images])

        return finish

    def _round_of(
        self, view: ViewSource, images: list[RoundImage], boxes: list[np.ndarray], run: _Run
    ) -> Callable[[], Tensor]:
        """Features [views, d] of the next views of one source."""
        if not isinstance(view, FeatureWindows):
            return self._crop(view, [image.pixels for image in images], boxes, _now(run))
        features = [
            self._pool_windows(image.tokens, torch.from_numpy(rows[None]))[0]
            for image, rows in zip(images, boxes, strict=True)
            if image.tokens is not None
        ]
        return to_host(torch.cat(features).float())


def _per_image(crops: Callable[[], Tensor], images: int) -> Tensor:
    return torch.unflatten(crops(), 0, (images, -1))


def _now(run: _Run) -> _RunLater:
    """Begun at once, on the device."""
    return lambda *job: to_host(run(*job))


class _WholeImages:
    """The whole-image pass of a group, run when first asked for and shared by all that need it."""

    def __init__(self, model: Model, images: list[LoadedImage], run: _Run) -> None:
        self._cuts = [Cut(image.pixels) for image in images]
        self._model, self._run = model, run
        # not cached_property: before Python 3.12 one lock of it serves all instances, and only one thread would encode
        self._tokens: Tensor | None = None
        self._features: Tensor | None = None

    def __len__(self) -> int:
        return len(self._cuts)

    def run(self, preprocess: Callable[[Image.Image], Tensor], network: Callable[[Tensor], Tensor]) -> Tensor:
        """Every image through a network: [B, ...], on the device."""
        return self._run(self._cuts, preprocess, network)

    @property
    def tokens(self) -> Tensor:
        """[B, P + g*g, w], on the device."""
        if self._tokens is None:
            self._tokens = self.run(self._model.preprocess, self._model.tokens)
        return self._tokens

    @property
    def features(self) -> Tensor:
        """[B, d], on the device, not normalised."""
        if self._features is None and self._model.grid:
            self._features = self._model.pool(self.tokens)
        elif self._features is None:
            self._features = self.run(self._model.preprocess, self._model.encode_image)
        return self._features


@dataclass(frozen=True, eq=False)
class _PlacedGroup:
    """A group whose views are placed.

    Args:
        group: the images.
        whole: the pass over the full images.
        attention: their maps [B, g, g], on the CPU; None where no view asked for them.
        boxes: for each image the views of each source, int64 [N, 4].
    """

    group: _Group
    whole: _WholeImages
    attention: Tensor | None
    boxes: list[dict[ViewSource, np.ndarray]]


def _on_cpu(encoder: _Encoder, requests: Iterable[EncodingRequest]) -> Generator[list[EncodedImage], None, None]:
    """Encode in as many threads as torch may use, each with images and crops of its own."""
    threads, most = torch.get_num_threads(), min(encoder.batch_size, _CPU_BATCH)
    iterator = iter(requests)
    first, size = _first(iterator, threads, most)
    if len(first) < threads:
        yield from _few_on_cpu(encoder, list(_groups(first, encoder.views, 1)), most)
        return
    # handed over one by one, so that the first pixels are not held while the last are encoded
    handed = (first.popleft() for _ in range(len(first)))
    with Cores(threads) as cores:

        def later(cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Callable[[], Tensor]:
            parts = [cuts[start : start + most] for start in range(0, len(cuts), most)]
            begun = [cores.submit(partial(_directly, part, preprocess, network)) for part in parts]
            return lambda: torch.cat([part.result() for part in begun])

        # one more than can be worked on, so that no thread waits until a result is taken
        groups = _groups(chain(handed, iterator), encoder.views, size)
        under_way: deque[Future[Callable[[], list[EncodedImage]]]] = deque()
        for group in groups:
            if encoder.decisions is None:
                under_way.append(cores.submit(partial(encoder.begin, group, _directly, later)))
            else:
                under_way.append(cores.submit(partial(_all_rounds, encoder, group, most)))
            if len(under_way) > cores.workers:
                yield under_way.popleft().result()()
        while under_way:
            yield under_way.popleft().result()()


def _first(requests: Iterator[EncodingRequest], threads: int, most: int) -> tuple[deque[EncodingRequest], int]:
    """Images enough to keep every thread busy, and the size of groups, at most ``most``, that gives each thread one."""
    first: deque[EncodingRequest] = deque()
    pixels = 0
    for request in islice(requests, most * threads):
        first.append(request)
        pixels += request.image.pixels.width * request.image.pixels.height
        if pixels >= threads * _PIXELS_AT_ONCE and len(first) >= threads:
            # large ones: their pixels end a group
            return first, most
    return first, min(most, len(first) // threads)


def _few_on_cpu(encoder: _Encoder, groups: Sequence[_Group], most: int) -> Iterator[list[EncodedImage]]:
    """Encode fewer images than there are threads: side by side, then the crops of each in all threads."""

    def later(cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Callable[[], Tensor]:
        # cut by the caller, who has all threads; the thread that begins a group has its share of them
        return lambda: torch.cat(
            list(in_threads(lambda part: _directly(part, preprocess, network), even_parts(cuts, most)))
        )

    if encoder.decisions is None:
        begun = in_threads(lambda group: encoder.begin(group, _directly, later), groups)
        yield from (wait() for wait in list(begun))
        return
    begin = partial(encoder.begin_round, lambda *job: later(*job)())
    images = list(in_threads(lambda group: encoder.begin_rounds(group, _directly), groups))
    yield from (finish_rounds(group, encoder.decisions, begin) for group in images)


def _all_rounds(encoder: _Encoder, group: _Group, most: int) -> Callable[[], list[EncodedImage]]:
    """The views that decisions want of a group, in the thread that has it, ``most`` at once."""

    def run(cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Tensor:
        parts = (cuts[start : start + most] for start in range(0, len(cuts), most))
        return torch.cat([_directly(part, preprocess, network) for part in parts])

    assert encoder.decisions is not None  # the caller asked
    images = encoder.begin_rounds(group, run)
    encoded = finish_rounds(images, encoder.decisions, partial(encoder.begin_round, run))
    return lambda: encoded


def _directly(cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Tensor:
    return network(torch.stack([preprocess(cut.pixels()) for cut in cuts]))


def _on_accelerator(
    encoder: _Encoder, requests: Iterable[EncodingRequest], device: Accelerator
) -> Generator[list[EncodedImage], None, None]:
    """Encode a group at a time; while a device encodes the crops of one, the views of the next are placed."""

    def later(cuts: Sequence[Cut], preprocess: Preprocess, network: Network) -> Callable[[], Tensor]:
        return to_host(device.run(cuts, preprocess, network))

    if encoder.decisions is not None:
        groups = _groups(requests, encoder.views, min(_IMAGES_AT_ONCE, encoder.batch_size))
        begun_groups = (encoder.begin_rounds(group, device.run) for group in groups)
        begin = partial(encoder.begin_round, device.run)
        yield from pooled_rounds(begun_groups, encoder.decisions, begin, encoder.batch_size)
        return
    placed: _PlacedGroup | None = None
    under_way: Callable[[], list[EncodedImage]] | None = None
    for group in _groups(requests, encoder.views, min(_IMAGES_AT_ONCE, encoder.batch_size)):
        whole, attention = encoder.look(group, device.run)
        # begun before the attention is waited for, so that the device has work while the next views are placed
        begun = encoder.encode(placed, later) if placed is not None else None
        placed = encoder.place(group, whole, attention())
        if under_way is not None:
            yield under_way()
        under_way = begun
    if under_way is not None:
        yield under_way()
    if placed is not None:
        yield encoder.encode(placed, later)()
