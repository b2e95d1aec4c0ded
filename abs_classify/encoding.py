"""Images and views in, unit features out: one decode, one attention map and one pass over the tokens per image.

This is where the pure parts (views) meet the towers. Images are taken from an iterator in small groups, so memory does
not grow with their number; the crops of a group are encoded together, whatever image they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abs_classify.images import LoadedImage
from abs_classify.matching import unit
from abs_classify.threads import even_parts, in_threads
from abs_classify.views import AttentionBoxes, FeatureWindows, RandomCrops, ViewSource, WholeImage
from abs_core.errors import ModelError

if TYPE_CHECKING:
    from abs_classify.attention import AttentionSource
    from abs_classify.towers.base import Tower

__all__ = ["EncodedImages", "Geometry", "encode_images", "encode_texts", "place_views"]

# Decoded photos are large and features small: a group bounds the pixels that are in memory at once.
_IMAGES_AT_ONCE = 8
# On a CPU the activations of a few crops stay in the caches, and larger batches are slower (ViT-B/16: a tenth).
_CPU_BATCH = 4

Job = TypeVar("Job")


@dataclass(frozen=True)
class EncodedImages:
    """Features of some images, in the order in which they were given.

    Args:
        features: for each view source unit features [B, count, d], float32, on the CPU.
        attention: attention maps [B, g, g], float32, on the CPU; None where no view asked for them.
    """

    features: Mapping[ViewSource, Tensor]
    attention: Tensor | None


@dataclass(frozen=True)
class Geometry:
    """What a tower sees of an image.

    Args:
        grid: side of the tower's token grid; 0 where it has no feature views.
        crop_fraction: side of the square that the tower sees of the whole image, as a share of the short side; None
            for a tower that stretches the whole image.
    """

    grid: int
    crop_fraction: float | None

    @classmethod
    def of(cls, tower: Tower) -> Geometry:
        """The geometry of a tower."""
        return cls(tower.grid, tower.crop_fraction)


def encode_texts(tower: Tower, texts: Sequence[str], *, batch_size: int = 1024) -> Tensor:
    """Unit features [n, d] of texts, float32, on the CPU.

    Raises:
        ModelError: a text whose feature has no direction or is not finite.
    """
    parts = [tower.encode_text(texts[at : at + batch_size]).float().cpu() for at in range(0, len(texts), batch_size)]
    features = torch.cat(parts) if parts else torch.empty(0, tower.embed_dim)
    norms = features.norm(dim=-1)
    wrong = (~norms.isfinite() | (norms == 0)).nonzero().flatten().tolist()
    if wrong:
        raise ModelError(
            f"{tower.name} gives the text {texts[wrong[0]]!r} a feature that is zero or not finite",
            remedy="Check the weights with `abs models verify`",
        )
    return unit(features)


def encode_images(
    tower: Tower,
    source: AttentionSource | None,
    images: Iterable[LoadedImage],
    views: Sequence[ViewSource],
    *,
    seed: int = 0,
    batch_size: int = 64,
    attention: Tensor | None = None,
) -> EncodedImages:
    """Encode the views of images.

    Args:
        tower: the image tower.
        source: where attention maps come from; may be None when no view is guided or ``attention`` is given.
        images: decoded images; taken one group at a time.
        views: which views; each appears in the result.
        seed: with an image's id and the kind and number of a view it determines every random draw.
        batch_size: most crops that are encoded together. Changes speed and memory, and scores only by rounding. On a
            CPU a few are, in as many threads as torch may use.
        attention: maps [B, g, g] that were computed before.

    Raises:
        ModelError: the tower has no feature views but ``views`` asks for them; or the device is out of memory (the
            remedy names a batch size that fits).
        ImageError: from the iterator, for an image that cannot be read.
    """
    _check(tower, source, views, attention)
    parts: list[EncodedImages] = []
    done = 0
    for group in _groups(images, min(_IMAGES_AT_ONCE, batch_size)):
        known = attention[done : done + len(group)] if attention is not None else None
        parts.append(_encode_group(tower, source, group, views, seed, batch_size, known))
        done += len(group)
    if not parts:
        return EncodedImages({view: torch.empty(0, view.count, tower.embed_dim) for view in views}, None)
    maps = [part.attention for part in parts if part.attention is not None]
    features = {view: torch.cat([part.features[view] for part in parts]) for view in views}
    return EncodedImages(features, torch.cat(maps) if maps else None)


def place_views(
    geometry: Geometry,
    attention: np.ndarray | None,
    image_id: str,
    size: tuple[int, int],
    views: Sequence[ViewSource],
    *,
    seed: int = 0,
) -> dict[ViewSource, np.ndarray]:
    """Where the views of one image lie.

    Args:
        geometry: the token grid, and the part of the image that the tower sees.
        attention: the image's attention map [g, g], or None when no view is guided.
        image_id: the sha256 of the image's bytes.
        size: width and height in pixels.
        views: the view sources.
        seed: as in ``encode_images``.

    Returns:
        For crops int64 [N, 4]: left, upper, right, lower in pixels. For windows int64 [N, 4]: first row, end row, first
        column, end column on the token grid. For the whole image its own box.
    """
    placed: dict[ViewSource, np.ndarray] = {}
    for view in views:
        if isinstance(view, WholeImage):
            placed[view] = np.array([[0, 0, *size]], dtype=np.int64)
        elif isinstance(view, RandomCrops):
            placed[view] = view.boxes(size, seed, image_id)
        elif isinstance(view, AttentionBoxes):
            placed[view] = view.boxes(size, attention, seed, image_id)
        else:
            placed[view] = view.windows(
                geometry.grid, attention, seed, image_id, size, crop_fraction=geometry.crop_fraction
            )
    return placed


def _check(tower: Tower, source: AttentionSource | None, views: Sequence[ViewSource], attention: Tensor | None) -> None:
    if tower.grid == 0 and any(isinstance(view, FeatureWindows) for view in views):
        raise ModelError(
            f"{tower.name} has no token grid, so it gives no feature views",
            remedy="Use a method without them, such as abs-pixels, or a transformer tower",
        )
    if source is None and attention is None and any(view.needs_attention for view in views):
        raise ModelError("an attention-guided view needs an attention source", remedy="Name one, such as 'auto'")


def _groups(images: Iterable[LoadedImage], size: int) -> Iterator[list[LoadedImage]]:
    iterator = iter(images)
    while group := list(islice(iterator, size)):
        yield group


def _encode_group(
    tower: Tower,
    source: AttentionSource | None,
    group: list[LoadedImage],
    views: Sequence[ViewSource],
    seed: int,
    batch_size: int,
    known: Tensor | None,
) -> EncodedImages:
    whole = _WholeImages(tower, group, batch_size)
    attention = known
    if attention is None and source is not None and any(view.needs_attention for view in views):
        attention = _attend(source, whole, group, tower, batch_size)
    geometry = Geometry.of(tower)
    maps = attention.numpy() if attention is not None else [None] * len(group)
    placed = [
        place_views(geometry, attention_map, image.id, image.pixels.size, views, seed=seed)
        for image, attention_map in zip(group, maps, strict=True)
    ]
    features: dict[ViewSource, Tensor] = {}
    for view in views:
        if isinstance(view, WholeImage):
            raw = whole.features[:, None]
        elif isinstance(view, FeatureWindows):
            windows = torch.from_numpy(np.stack([places[view] for places in placed]))
            raw = _encode_windows(tower, whole.tokens, windows, batch_size)
        else:
            raw = _encode_crops(tower, group, [places[view] for places in placed], batch_size)
        features[view] = unit(raw.float().cpu())
    return EncodedImages(features, attention)


class _WholeImages:
    """The whole-image pass of a group, run when first asked for and shared by all that need it."""

    def __init__(self, tower: Tower, group: list[LoadedImage], batch_size: int) -> None:
        self._tower, self._group, self._batch_size = tower, group, batch_size
        self._tokens: Tensor | None = None
        self._features: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """[B, P + g*g, w], on the device."""
        if self._tokens is None:
            self._tokens = self._run(self._tower.tokens)
        return self._tokens

    @property
    def features(self) -> Tensor:
        """[B, d], on the device, not normalised."""
        if self._features is None:
            self._features = self._tower.pool(self.tokens) if self._tower.grid else self._run(self._tower.encode_image)
        return self._features

    def _run(self, network: Callable[[Tensor], Tensor]) -> Tensor:
        images = [image.pixels for image in self._group]
        return _run(images, self._tower.preprocess, network, self._tower, self._batch_size)


def _attend(
    source: AttentionSource, whole: _WholeImages, group: list[LoadedImage], tower: Tower, batch_size: int
) -> Tensor:
    if source.uses_tower_tokens:
        return source.attend_tokens(whole.tokens).float().cpu()
    images = [image.pixels for image in group]
    return _run(images, source.preprocess, source.attend, tower, batch_size).float().cpu()


def _encode_windows(tower: Tower, tokens: Tensor, windows: Tensor, batch_size: int) -> Tensor:
    """Features [B, N, d] of the windows int64 [B, N, 4] of the tokens [B, P + g*g, w] of a group."""
    if tower.device.type != "cpu":
        return _guarded(partial(tower.pool_windows, tokens, windows.to(tower.device)), tower, batch_size)
    pairs = list(zip(torch.split(tokens, 1), torch.split(windows, 1), strict=True))
    return torch.cat(list(in_threads(lambda pair: tower.pool_windows(*pair), pairs)))


def _encode_crops(tower: Tower, group: list[LoadedImage], boxes: list[np.ndarray], batch_size: int) -> Tensor:
    """Features [B, N, d] of the crops of all images of a group, encoded together."""
    crops = [(image.pixels, box) for image, rows in zip(group, boxes, strict=True) for box in rows.tolist()]

    def prepare(crop: tuple[Image.Image, list[int]]) -> Tensor:
        pixels, (left, upper, right, lower) = crop
        return tower.preprocess_crop(pixels.crop((left, upper, right, lower)))

    features = _run(crops, prepare, tower.encode_image, tower, batch_size)
    return features.reshape(len(group), -1, features.shape[-1])


def _run(
    jobs: Sequence[Job],
    prepare: Callable[[Job], Tensor],
    network: Callable[[Tensor], Tensor],
    tower: Tower,
    batch_size: int,
) -> Tensor:
    """The pixels of each job through a network: [jobs, ...], on the tower's device.

    On a CPU every thread prepares and encodes jobs of its own; an accelerator encodes while threads prepare.
    """
    if tower.device.type == "cpu":
        parts = even_parts(jobs, min(batch_size, _CPU_BATCH))
        return torch.cat(list(in_threads(lambda part: network(torch.stack([prepare(job) for job in part])), parts)))
    ready, done = in_threads(prepare, jobs, ahead=2 * batch_size), []
    while batch := list(islice(ready, batch_size)):
        done.append(_guarded(partial(network, torch.stack(batch).to(tower.device)), tower, batch_size))
    return torch.cat(done)


def _guarded(run: Callable[[], Tensor], tower: Tower, batch_size: int) -> Tensor:
    """Run a pass; if the device is out of memory, find and name a batch size that fits."""
    try:
        return run()
    except torch.OutOfMemoryError as error:
        fits = _batch_that_fits(tower, batch_size)
        remedy = f"Use a batch size of {fits}" if fits else "Use a smaller model, a smaller dtype or another device"
        raise ModelError(
            f"{tower.device} ran out of memory with batches of {batch_size} crops", remedy=remedy
        ) from error


def _batch_that_fits(tower: Tower, batch_size: int) -> int:
    sample = tower.preprocess_crop(Image.new("RGB", (32, 32)))
    size = batch_size // 2
    while size:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            tower.encode_image(sample.expand(size, *sample.shape).to(tower.device))
        except torch.OutOfMemoryError:
            size //= 2
        else:
            return size
    return 0
