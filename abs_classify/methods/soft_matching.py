"""Soft matching of ABS (Cai et al., ICML 2025), streamed: memory does not grow with views times texts.

For views f_v of one image and texts t_m, z_vm = f_v . t_m / temperature. Each view spreads a weight of 1 over ALL texts
of all classes, q_vm proportional to exp(z_vm) / n_c with n_c the number of texts of m's class (which cancels where all
classes have equally many, as in the paper). The score of class c is the sum of q_vm z_vm over views and over the texts
of c.

How it is computed: a block of views times a block of texts is a tile that stays in the processor's cache; each tile is
reduced at once to two sums for each view and class, sum exp(z) and sum exp(z) z. Three things keep float32 scores
near float64 (how near follows from the rounding of a similarity, about 1e-5 of the largest score for 512 dimensions at
most, and 1e-7 to 2e-6 was seen): the texts are centred, so that the product rounds their differences and not what they
share (the shared part, one number for each view, is added in float64); the product is summed in four parts, which
shortens the chains of rounded additions; sums over classes and views are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from abs_classify.methods.similarity import check_texts, class_counts, class_sums, row_blocks, wide_dtype, widen
from abs_classify.threads import in_threads
from abs_core.errors import ModelError, UsageError

__all__ = [
    "SoftBuffers",
    "SoftSums",
    "SoftTexts",
    "soft",
    "soft_parts",
    "soft_prepared",
    "soft_reference",
    "soft_shares",
    "soft_sums",
    "soft_usage",
    "soft_views",
]

_Block: TypeAlias = tuple[slice, slice]

#: elements of the tiles of all threads: on a CPU what fits the last-level cache, on an accelerator enough to fill it
_TILE_CPU, _TILE_DEVICE = 1 << 20, 1 << 23

#: elements of the sums of all threads for their blocks of views
_SUMS = 1 << 22
_ROWS = 1000

#: similarities from which on threads pay
_MANY = 1 << 23

#: parts that the sum over dimensions is cut into
_PARTS = 4

#: elements of the weights that ``soft_usage`` holds at once
_WEIGHTS = 1 << 23

#: natural logarithm of the largest power that float32 may hold, with room for sums
_SAFE_32, _SAFE_64 = 80.0, 700.0
_LN2 = math.log(2)


def soft(views: Tensor, texts: Tensor, class_index: Tensor, classes: int, temperature: float = 0.03) -> Tensor:
    """Class scores of soft matching. For many calls with the same texts see ``SoftTexts`` and ``soft_prepared``.

    Args:
        views: [B, V, d]; unit vectors as published, but any norm works.
        texts: [M, d], likewise; in any order, fastest when sorted by class with as many texts in each.
        class_index: int64 [M], the class of each text.
        classes: C.
        temperature: 0.03 as published.

    Returns:
        [B, C] float32, or float64 if views or texts are float64.

    Raises:
        ModelError: a text or a view whose features are zero or not finite; the message names it.
        UsageError: a class without a text, no view, shapes that do not fit, or a temperature that is not positive.
    """
    return soft_prepared(views, SoftTexts.of(texts, class_index, classes), temperature)


@torch.no_grad()
def soft_prepared(views: Tensor, texts: SoftTexts, temperature: float = 0.03) -> Tensor:
    """``soft`` with texts that were prepared before."""
    _check(views, texts, temperature)
    classes, workers = len(texts.counts), _workers(views, texts)
    rows, width = _block_sizes(classes, views.device, workers)
    blocks = _blocks(views.shape[0], views.shape[1], rows, workers)

    def work(block: _Block) -> Tensor:
        return _block_scores(views[block], texts, temperature, width)

    # threads wait for each other after a block, not after a tile: tiles are too many
    done = in_threads(work, blocks, ahead=2 * workers) if workers > 1 else map(work, blocks)
    scores = torch.zeros(len(views), classes, dtype=wide_dtype(views.device), device=views.device)
    for (images, _), added in zip(blocks, done, strict=True):
        scores[images] += added
    return scores.to(torch.promote_types(widen(views).dtype, texts.centre.dtype))


@torch.no_grad()
def soft_views(views: Tensor, texts: SoftTexts, temperature: float = 0.03) -> Tensor:
    """What each view adds to the class scores, ``soft_prepared`` before its sum over views.

    Args and errors as in ``soft_prepared``.

    Returns:
        [B, V, C], whose sum over V is the score within rounding; float32, or float64 if views or texts are float64.
    """
    _check(views, texts, temperature)
    images, count, classes = len(views), views.shape[1], len(texts.counts)
    rows, width = _block_sizes(classes, views.device, 1)
    dtype = torch.promote_types(widen(views).dtype, texts.centre.dtype)
    scores = torch.empty(images, count, classes, dtype=dtype, device=views.device)
    for block in _blocks(images, count, rows, 1):
        part = scores[block]
        for members, weights, sums in _view_sums(views[block], texts, temperature, width):
            part[:, :, members] = (weights[:, None] * sums).permute(1, 2, 0).to(dtype)
    return scores


@torch.no_grad()
def soft_shares(views: Tensor, texts: SoftTexts, temperature: float) -> Iterator[tuple[slice, Tensor]]:
    """How each view spreads its weight of 1 over the classes: p_vc, the sum of q_vm over the texts m of c.

    Args:
        views: [R, d], of any number of images.
        texts: of C classes.
        temperature: as in ``soft``.

    Yields:
        The positions of some of the views, and their shares [r, C]; float32, or float64 if views or texts are float64.

    Raises:
        As ``soft`` does; a view is named by its position.
    """
    _check(views[None], texts, temperature)
    rows, width = _block_sizes(len(texts.counts), views.device, 1)
    for start in range(0, len(views), rows):
        block = slice(start, min(start + rows, len(views)))
        yield block, _view_shares(views[block], texts, temperature, width)


@dataclass(frozen=True, eq=False)
class SoftSums:
    """What each of R views gives C classes, as sums from which sentences can be taken out again.

    Attributes:
        powers: [C, R], P_vc = sum_k e^z / n_c, divided by e^scale.
        products: [C, R], A_vc = sum_k z e^z / n_c, divided by e^scale; the score of a class is the sum of A / P.sum(0).
        peaks: [C, R], the largest e^z of the class's texts, divided by e^scale.
        scale: [R].
        weights: [M, R], e^z of each text, divided by e^scale; rows in ``order``.
        order: int64 [M], the texts of the rows of ``weights``; None if these are in the order of the texts.
    """

    powers: Tensor
    products: Tensor
    peaks: Tensor
    scale: Tensor
    weights: Tensor
    order: Tensor | None


class SoftBuffers:
    """Memory for calls of ``soft_sums``, one after the other: to get it anew each time takes longer than the sums."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, size: int) -> Tensor:
        """An uninitialised tensor [size], which the next call of that name takes over."""
        held = self._held.get(name)
        if held is None or len(held) < size or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = like.new_empty(size)
        return held[:size]


@torch.no_grad()
def soft_sums(views: Tensor, texts: SoftTexts, temperature: float, buffers: SoftBuffers, share: int = 1) -> SoftSums:
    """The sums of views [R, d], in float64 from products as ``soft_prepared`` forms them.

    Args:
        views: [R, d]; few enough that [M, R] fits into memory.
        texts: of C classes.
        temperature: as in ``soft``.
        buffers: hold ``weights`` until their next use.
        share: how many of these calls divide the processor's cache between them.

    Raises:
        As ``soft`` does; a view is named by its position.
    """
    _check(views[None], texts, temperature)
    flat, offset, shifted = _scaled_views(views, texts, temperature)
    tile = max(1 << 17, _TILE_CPU // share) if views.device.type == "cpu" else _TILE_DEVICE
    width = max(64, tile // sum(views.shape))
    sums = _Sums(texts, flat, width, shifted=shifted, kept=buffers)
    powers, products, _ = sums.run()
    assert sums.peaks is not None
    counts = texts.counts[:, None].to(offset.dtype)
    wide = torch.empty(3, *powers.shape, dtype=offset.dtype, device=views.device)
    wide[0, texts.class_of_slot] = powers.to(offset.dtype) / counts
    wide[1, texts.class_of_slot] = (
        products.to(offset.dtype).mul_(_LN2).addcmul_(powers.to(offset.dtype), offset) / counts
    )
    wide[2, texts.class_of_slot] = sums.peaks.to(offset.dtype)
    scale = offset if sums.largest is None else offset + _LN2 * sums.largest.to(offset.dtype)
    return SoftSums(wide[0], wide[1], wide[2], scale, sums.e.view(len(texts.texts), -1), texts.order)


def soft_parts(views: Tensor, texts: Tensor, class_index: Tensor, classes: int, temperature: float = 0.03) -> Tensor:
    """What each view and text adds to the score of the text's class: q_vm z_vm.

    Args:
        views: [V, d] of ONE image.
        texts, class_index, classes, temperature: as in ``soft``.

    Returns:
        [V, M] float64; the sum over views and over the texts of a class is the class score.
    """
    z = views.double() @ texts.double().T / temperature
    weighted = z - class_counts(class_index, classes).double().log()[class_index]
    return torch.softmax(weighted, dim=1) * z


@torch.no_grad()
def soft_usage(views: Tensor, texts: Tensor, class_index: Tensor, classes: int, temperature: float = 0.03) -> Tensor:
    """The weight with which each text enters the class scores: the sum of q_vm over all views of all images.

    Args:
        views, texts, class_index, classes, temperature: as in ``soft``, and checked as there.

    Returns:
        [M] in the wide dtype. Each view spreads a weight of 1 over all texts; together they have the number of views.
    """
    _check(views, SoftTexts.of(texts, class_index, classes), temperature)
    wide = wide_dtype(views.device)
    dtype = torch.promote_types(widen(views).dtype, widen(texts).dtype)
    flat, columns = views.reshape(-1, views.shape[-1]), texts.to(dtype).T / temperature
    offsets = class_counts(class_index, classes).to(dtype).log()[class_index]
    usage = torch.zeros(len(texts), dtype=wide, device=views.device)
    for block in torch.split(flat, max(1, _WEIGHTS // len(texts))):
        usage += torch.softmax(block.to(dtype) @ columns - offsets, dim=1).sum(0, dtype=wide)
    return usage


def soft_reference(
    views: Tensor, texts: Tensor, class_index: Tensor, classes: int, temperature: float = 0.03
) -> Tensor:
    """The definition as it stands: slow, [V, M] in memory, float64. The oracle of ``soft``.

    Args and result as in ``soft``, the result in float64.
    """
    parts = (soft_parts(image, texts, class_index, classes, temperature) for image in views)
    return torch.stack([class_sums(part.sum(0), class_index, classes) for part in parts])


@dataclass(frozen=True)
class _Tile:
    """Texts that are multiplied with a block of views at once: ``count`` of each of ``classes`` classes, in order.

    ``slots`` are the places of these classes in the order of the sums. A class with more texts than a tile holds is
    spread over several tiles, of which only the first is ``fresh``.
    """

    texts: Tensor | slice
    slots: slice
    classes: int
    count: int
    weight: float
    fresh: bool


@dataclass(frozen=True)
class SoftTexts:
    """Texts prepared for soft matching: checked, and their classes put in the order of their number of texts.

    Attributes:
        texts: [M, d], as given.
        order: int64 [M], the texts in the order of their classes' slots; None if they are in it already.
        counts: int64 [C], number of texts by slot.
        class_of_slot: int64 [C].
        centre: [d], the mean text; float32, or float64 for float64 texts.
        radius: the largest distance of a text from the centre.
    """

    texts: Tensor
    order: Tensor | None
    counts: Tensor
    class_of_slot: Tensor
    centre: Tensor
    radius: float

    @classmethod
    @torch.no_grad()
    def of(cls, texts: Tensor, class_index: Tensor, classes: int) -> SoftTexts:
        """Prepare texts [M, d] with class indices [M] of ``classes`` classes. Raises as ``soft`` does."""
        check_texts(texts, class_index)
        counts = class_counts(class_index, classes)
        class_of_slot = torch.argsort(counts, stable=True)
        slot_of_class = torch.argsort(class_of_slot)
        order = torch.argsort(slot_of_class[class_index], stable=True)
        in_order = bool((order == torch.arange(len(order), device=order.device)).all())
        centre = torch.stack([widen(block).sum(0) for block in row_blocks(texts)]).sum(0) / len(texts)
        radius = max(float(torch.linalg.vector_norm(block - centre, dim=1).max()) for block in row_blocks(texts))
        return cls(texts, None if in_order else order, counts[class_of_slot], class_of_slot, centre, radius)

    def tiles(self, width: int) -> Iterator[_Tile]:
        """Tiles of at most ``width`` texts, each of classes with equally many texts."""
        start = slot = 0
        sizes, numbers = torch.unique_consecutive(self.counts, return_counts=True)
        for count, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
            step = max(1, width // count)
            for first in range(0, number, step):
                size = min(step, number - first)
                slots = slice(slot + first, slot + first + size)
                for offset in range(0, count, width):
                    piece = min(width, count - offset) if size == 1 else count
                    texts = self._select(start, start + size * piece)
                    start += size * piece
                    yield _Tile(texts, slots, size, piece, 1.0 / count, offset == 0)
            slot += number

    def _select(self, start: int, stop: int) -> Tensor | slice:
        return slice(start, stop) if self.order is None else self.order[start:stop]


def _block_scores(block: Tensor, texts: SoftTexts, temperature: float, width: int) -> Tensor:
    """The scores that ``block`` [b, v, d], views of b images, adds: [b, C] in the wide dtype."""
    scores = torch.empty(len(block), len(texts.counts), dtype=wide_dtype(block.device), device=block.device)
    for members, weights, sums in _view_sums(block, texts, temperature, width):
        scores[:, members] = (weights * sums.sum(-1)).T
    return scores


def _view_sums(
    block: Tensor, texts: SoftTexts, temperature: float, width: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some classes after others: their positions int64 [c], the weight [c, 1] of a text, and sums [c, b, v].

    The weight times the sum is what one view of ``block`` [b, v, d] adds to the score; both are in the wide dtype.
    """
    flat, offset, shifted = _scaled_views(block, texts, temperature)
    sums = _Sums(texts, flat, width, shifted=shifted)
    powers, products, total = sums.run()
    step = max(1, _SUMS // 4 // len(total))
    for start in range(0, len(texts.counts), step):
        slots = slice(start, start + step)
        # z is the centred product plus the view's offset, and sum e^z z splits accordingly
        score = products[slots].to(total.dtype).mul_(_LN2).addcmul_(powers[slots].to(total.dtype), offset).div_(total)
        weight = 1.0 / texts.counts[slots, None].to(total.dtype)
        yield texts.class_of_slot[slots], weight, score.view(len(score), *block.shape[:2])


def _view_shares(block: Tensor, texts: SoftTexts, temperature: float, width: int) -> Tensor:
    """The weight that each view of ``block`` [r, d] gives each class: [r, C] in the dtype of the sums."""
    flat, _, shifted = _scaled_views(block, texts, temperature)
    powers, _, total = _Sums(texts, flat, width, shifted=shifted, weighted=False).run()
    shares = torch.empty_like(powers)
    shares[texts.class_of_slot] = powers / texts.counts[:, None] / total.to(powers.dtype)
    return shares.T


def _scaled_views(block: Tensor, texts: SoftTexts, temperature: float) -> tuple[Tensor, Tensor, bool]:
    """Views [..., d] as ``_Sums`` takes them, their products [rows] with the centre, and whether powers must shift."""
    dtype = torch.promote_types(widen(block).dtype, texts.centre.dtype)
    wide = wide_dtype(block.device)
    flat = block.reshape(-1, block.shape[-1]).to(wide) / temperature
    offset = flat @ texts.centre.to(wide)
    bound = float(torch.linalg.vector_norm(flat, dim=1).max()) * texts.radius
    # powers of 2, whose vectorised form takes half the time of powers of e
    flat = (flat / _LN2).to(dtype)
    limit = (_SAFE_64 if dtype == torch.float64 else _SAFE_32) - math.log(len(texts.texts) * max(bound, 1.0))
    return flat.T.contiguous(), offset, not bound < limit


class _Sums:
    """Sums of 2^z and, if ``weighted``, of 2^z z per class and view, filled tile by tile; z = views . (texts - centre).

    With ``kept``, ``e`` has the power of each text in the end, [M, rows] in the order of the tiles, and ``peaks`` the
    largest one of each class.

    ``shifted`` takes a running maximum per view out of every power. It is needed only where norms and temperature
    allow powers beyond the float range, which unit vectors at the published temperature never do.
    """

    def __init__(
        self,
        texts: SoftTexts,
        views: Tensor,
        width: int,
        *,
        shifted: bool,
        weighted: bool = True,
        kept: SoftBuffers | None = None,
    ) -> None:
        self.texts, self.views, self.width = texts, views, width
        rows, classes = views.shape[1], len(texts.counts)
        longest = min(width, len(texts.texts))
        buffers = SoftBuffers() if kept is None else kept
        self.z = buffers.take("z", views, longest * rows)
        # of every text one after the other if they are kept, else of one tile
        self.e = buffers.take("e", views, (longest if kept is None else len(texts.texts)) * rows)
        self.centred = buffers.take("centred", views, longest * len(views)).view(longest, -1)
        self.peaks = None if kept is None else views.new_empty(classes, rows)
        self.start = 0
        self.pieces: list[tuple[slice, Tensor]] = []
        self.powers, self.products = views.new_empty(classes, rows), views.new_empty(classes if weighted else 0, rows)
        self.total = torch.zeros(rows, dtype=wide_dtype(views.device), device=views.device)
        self.largest = views.new_full((rows,), -torch.inf) if shifted else None
        self.taken_out: list[tuple[_Tile, Tensor]] = []

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns powers [C, rows], products [C, rows], total [rows] = sum over texts of 2^z / n_c."""
        for tile in self.texts.tiles(self.width):
            self._add(tile)
        if self.largest is not None:
            for tile, taken in self.taken_out:
                self._rescale(tile.slots, torch.exp2(taken - self.largest))
            for piece, taken in self.pieces:
                self.e.view(-1, self.views.shape[1])[piece] *= torch.exp2(taken - self.largest)
        return self.powers, self.products, self.total

    def _add(self, tile: _Tile) -> None:
        rows = self.views.shape[1]
        shape = (tile.classes, tile.count, rows)
        size = tile.classes * tile.count
        z = _centred_product(self, tile, size)
        e = self.e[self.start * rows : (self.start + size) * rows].view(size, rows)
        torch.exp2(z if self.largest is None else self._shift(tile, z, e), out=e)
        self._keep(tile, e.view(shape))
        powers, products = self.powers[tile.slots], self.products[tile.slots]
        added = e.view(shape).sum(1)
        self.total += tile.weight * added.sum(0, dtype=self.total.dtype)
        if not tile.fresh:
            added += powers
        powers.copy_(added)
        if len(products):
            weighted = z.mul_(e).view(shape).sum(1)
            if not tile.fresh:
                weighted += products
            products.copy_(weighted)

    def _keep(self, tile: _Tile, e: Tensor) -> None:
        """Go on behind the powers [classes, count, rows] of a tile, and take their largest, if powers are kept."""
        if self.peaks is None:
            return
        peaks, stop = self.peaks[tile.slots], self.start + e.shape[0] * e.shape[1]
        torch.amax(e, 1, out=peaks) if tile.fresh else torch.maximum(peaks, e.amax(1), out=peaks)
        if self.largest is not None:
            self.pieces.append((slice(self.start, stop), self.largest))
        self.start = stop

    def _shift(self, tile: _Tile, z: Tensor, out: Tensor) -> Tensor:
        """z minus the running maximum, after what is already summed has been brought to the new maximum."""
        assert self.largest is not None
        largest = torch.maximum(self.largest, z.amax(0))
        self.total *= torch.exp2(self.largest - largest)
        if not tile.fresh:
            self._rescale(tile.slots, torch.exp2(self.taken_out.pop()[1] - largest))
        self.largest = largest
        self.taken_out.append((tile, largest))
        return torch.sub(z, largest, out=out)

    def _rescale(self, slots: slice, factor: Tensor) -> None:
        self.powers[slots] *= factor
        self.products[slots] *= factor
        if self.peaks is not None:
            self.peaks[slots] *= factor


def _centred_product(sums: _Sums, tile: _Tile, size: int) -> Tensor:
    """(texts - centre) @ views of one tile: [texts, rows], in the buffer of ``sums``."""
    dims, rows = sums.views.shape
    z = sums.z[: size * rows].view(size, rows)
    centred = torch.sub(sums.texts.texts[tile.texts], sums.texts.centre, out=sums.centred[:size])
    step = max(1, -(-dims // _PARTS))
    torch.mm(centred[:, :step], sums.views[:step], out=z)
    for start in range(step, dims, step):
        z.addmm_(centred[:, start : start + step], sums.views[start : start + step])
    return z


def _workers(views: Tensor, texts: SoftTexts) -> int:
    """Threads that share the blocks; 1 leaves it to each operation to use what it can."""
    many = views.shape[0] * views.shape[1] * len(texts.texts) >= _MANY
    return torch.get_num_threads() if many and views.device.type == "cpu" else 1


def _block_sizes(classes: int, device: torch.device, workers: int) -> tuple[int, int]:
    """The most views of a block and texts of a tile, for each of ``workers`` threads."""
    tile = max(1 << 17, _TILE_CPU // workers) if device.type == "cpu" else _TILE_DEVICE
    rows = max(16, min(_ROWS, _SUMS // workers // classes))
    return rows, max(64, min(8192, tile // rows))


def _blocks(images: int, views: int, rows: int, workers: int) -> list[_Block]:
    """Cut [images, views] into even blocks of at most ``rows`` views, whole images or parts of one, for all workers."""
    most = max(1, rows // views)
    count = min(images, -(-images // (most * workers)) * workers)
    edges = [images * number // max(1, count) for number in range(count + 1)]
    pieces = max(-(-views // rows), -(-workers // max(1, count)))
    step = -(-views // pieces)
    parts = [slice(start, start + step) for start in range(0, views, step)]
    return [(slice(first, last), part) for first, last in pairwise(edges) for part in parts]


def _check(views: Tensor, texts: SoftTexts, temperature: float) -> None:
    if views.dim() != 3 or not views.shape[1] or views.shape[-1] != texts.texts.shape[-1]:
        raise UsageError(f"views {list(views.shape)} and texts {list(texts.texts.shape)} cannot be matched")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise UsageError(f"the temperature must be above 0, got {temperature}", remedy="Use 0.03, as published")
    norms = torch.linalg.vector_norm(widen(views), dim=-1)
    bad = ~(norms.isfinite() & (norms > 0))
    if bool(bad.any()):
        image, view = bad.nonzero()[0].tolist()
        raise ModelError(
            f"view {view} of image {image} was encoded to zeros or to numbers that are not finite",
            remedy="Check the model's weights and, in half precision, try float32",
        )
