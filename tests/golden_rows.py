"""The rows zero-e, abs-vote, awt, mta, zero and abs-aligned, computed a second way: loops in float64, from formulas.

Nothing here calls the package but for the table of methods, whose class texts and numbers of views it takes. Run as a
script it writes ``tests/golden/rows.json``, which the tests hold both ways of computing to:

    PYTHONPATH=.:tests python tests/golden_rows.py
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Box: TypeAlias = "list[int]"

FILE = Path(__file__).parent / "golden" / "rows.json"

ROWS = ("zero-e", "abs-vote", "awt", "mta", "zero", "abs-aligned")
CLASSES = {"a": "great owl", "b": "fox", "c": "red panda", "d": "wren"}
DESCRIPTIONS = {"a": ["round eyes", "wings"], "b": ["a tail"], "c": ["rings", "red fur", "paws"], "d": ["a beak"]}
TEMPLATES = ("a photo of a {}.", "a drawing of a {}.", "art of a {}.")
IMAGES, DIMENSIONS, SIZE, GRID, IMAGE_ID = 5, 24, (301, 200), 14, "sha256:" + "7" * 64


def vectors(seed: int, *shape: int) -> Floats:
    """Unit vectors around a common direction, so that cosines are positive as CLIP's are."""
    rows = np.random.RandomState(seed).standard_normal(shape) + 1.5
    result: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return result


def features_of(kinds: Sequence[tuple[str, int]]) -> dict[str, Floats]:
    """Kind -> unit features [images, count, dimensions]: each image leans towards a class, more or less by view."""
    classes = vectors(0, len(CLASSES), DIMENSIONS)
    features = {}
    for number, (kind, count) in enumerate(kinds):
        lean = np.random.RandomState(50 + number).random_sample((IMAGES, count, 1))
        rows = vectors(10 + number, IMAGES, count, DIMENSIONS) + lean * classes[np.arange(IMAGES) % 4][:, None]
        features[kind] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return features


def text_features(class_index: Sequence[int]) -> Floats:
    """Unit features of texts, each near its class."""
    rows = vectors(1, len(class_index), DIMENSIONS) + 0.7 * vectors(0, len(CLASSES), DIMENSIONS)[list(class_index)]
    result: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return result


def attention_map() -> Floats:
    """[14, 14] values as DINO's are, with no two alike."""
    return 0.1 * np.random.RandomState(3).random_sample((GRID, GRID))


def softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max())
    result: Floats = powers / powers.sum()
    return result


def entropy(logits: Floats) -> float:
    return float(-sum(p * math.log(p) for p in softmax(logits) if p > 0))


def class_means(texts: list[Floats]) -> Floats:
    means = [rows[0] if len(rows) == 1 else rows.mean(0) / np.linalg.norm(rows.mean(0)) for rows in texts]
    return np.stack(means)


def votes(views: Floats, texts: list[Floats]) -> Floats:
    """ZERO: the 30 % of the views with the least entropy vote; of tied classes the first that a further view names."""
    logits = 100 * views @ class_means(texts).T
    order = sorted(range(len(views)), key=lambda view: entropy(logits[view]))
    kept = int(0.3 * len(views))
    counts = np.zeros(len(texts))
    for view in order[:kept]:
        counts[logits[view].argmax()] += 1
    tied = [position for position, count in enumerate(counts) if count == counts.max()]
    if len(tied) > 1:
        named = [int(logits[view].argmax()) for view in order[kept:]]
        best = max(tied, key=lambda position: logits[order[kept]][position])
        counts[next((position for position in named if position in tied), best)] += 1
    return counts


def transport(views: Floats, texts: list[Floats], scale: float = 100.0, rounds: int = 100) -> Floats:
    """AWT; the rounds of all transports end together."""
    logits = [scale * views @ rows.T for rows in texts]
    means = np.stack([rows.mean(1) for rows in logits], 1)
    view_weights = softmax(-np.array([entropy(row) for row in means]) / 0.5)
    text_weights = []
    for position, rows in enumerate(logits):
        entropies = []
        for value in rows[0]:
            replaced = means[0].copy()
            replaced[position] = value
            entropies.append(entropy(replaced))
        text_weights.append(softmax(-np.array(entropies) / 0.5))
    kernels = [np.exp(-(1 - rows / scale) / 0.1) for rows in logits]
    lefts = [np.ones(len(views)) for _ in texts]
    rights = [np.ones(len(rows)) for rows in texts]
    for _ in range(rounds):
        before = np.concatenate(lefts)
        lefts = [view_weights / (kernel @ right) for kernel, right in zip(kernels, rights, strict=True)]
        rights = [mass / (kernel.T @ left) for mass, kernel, left in zip(text_weights, kernels, lefts, strict=True)]
        if np.abs(np.concatenate(lefts) - before).mean() < 1e-2:
            break
    plans = [left[:, None] * kernel * right for left, kernel, right in zip(lefts, kernels, rights, strict=True)]
    return np.array([(plan * rows).sum() for plan, rows in zip(plans, logits, strict=True)])


def mode(views: Floats, texts: list[Floats]) -> Floats:
    """MTA: five times five steps of the inlierness scores, and five of the mode, each until it has settled."""
    classes, count = class_means(texts), len(views)
    widths = []
    for view in views:
        squares = sorted(float(((view - other) ** 2).sum()) for other in views)
        nearest = squares[1 : int(0.3 * (count - 1)) + 1]
        widths.append(sum(nearest) / len(nearest) / 2)
    probabilities = np.stack([softmax(100 * classes @ view) for view in views])
    affinity = 4.0 * probabilities @ probabilities.T

    def kernel(centre: Floats) -> Floats:
        squares = [float(((view - centre) ** 2).sum()) for view in views]
        return np.array([math.exp(-square / (2 * width)) for square, width in zip(squares, widths, strict=True)])

    centre, inlierness = views[0], np.full(count, 1 / count)
    for _ in range(5):
        near = kernel(centre)
        for _ in range(5):
            before = inlierness
            inlierness = softmax((near + affinity @ before) / 0.2)
            if np.linalg.norm(inlierness - before) < 1e-6:
                break
        for _ in range(5):
            shifted = (kernel(centre) * inlierness) @ views
            last, centre = centre, shifted / np.linalg.norm(shifted)
            if np.linalg.norm(centre - last) < 1e-6:
                break
    return 100 * classes @ centre


def soft(views: Floats, texts: list[Floats]) -> Floats:
    """ABS: each view spreads a weight of 1 over all texts, those of a class with many texts less each."""
    counts = np.concatenate([np.full(len(rows), len(rows)) for rows in texts])
    owners = np.concatenate([np.full(len(rows), position) for position, rows in enumerate(texts)])
    scores = np.zeros(len(texts))
    for view in views:
        similarity = np.concatenate(texts) @ view / 0.03
        weights = np.exp(similarity - similarity.max()) / counts
        np.add.at(scores, owners, weights / weights.sum() * similarity)
    return scores


SCORERS: dict[str, Callable[[Floats, list[Floats]], Floats]] = {
    "zero-e": votes, "abs-vote": votes, "awt": transport, "mta": mode, "zero": votes, "abs-aligned": soft,
}  # fmt: skip


def uniform(kind: str, view: int, numbers: int) -> list[float]:
    """Numbers in [0, 1) from hashes of the seed 0, the image, the kind of view and its number."""
    words: list[int] = []
    for block in range(-(-numbers // 4)):
        text = json.dumps(["sha256-53bit-1", 0, IMAGE_ID, kind, view, block], separators=(",", ":"))
        data = hashlib.sha256(text.encode()).digest()
        words += [int.from_bytes(data[start : start + 8], "big") for start in range(0, 32, 8)]
    return [(word >> 11) / 2**53 for word in words[:numbers]]


def resized_box(view: int) -> Box:
    """Left, upper, right, lower and mirrored of a crop as torchvision's RandomResizedCrop finds it."""
    width, height = SIZE
    *attempts, top, left, mirror = uniform("resized", view, 23)
    low, high = math.log(3 / 4), math.log(4 / 3)
    for share, position in zip(attempts[::2], attempts[1::2], strict=True):
        area, aspect = width * height * (0.08 + 0.92 * share), math.exp(low + (high - low) * position)
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            x, y = math.floor(left * (width - w + 1)), math.floor(top * (height - h + 1))
            return [x, y, x + w, y + h, int(mirror < 0.5)]
    # wider than 4 : 3
    w, h = round(height * 4 / 3), height
    return [(width - w) // 2, 0, (width - w) // 2 + w, h, int(mirror < 0.5)]


def centre_patch(number: float) -> tuple[int, int]:
    """Row and column of the patch that a number in [0, 1) samples: the softmax over the 20 most attended."""
    flat = attention_map().ravel()
    best = sorted(range(flat.size), key=lambda patch: -flat[patch])[:20]
    total = 0.0
    for patch, probability in zip(best, softmax(flat[best] / 0.03), strict=True):
        total += probability
        if number < total:
            return divmod(patch, GRID)
    return divmod(best[-1], GRID)


def guided_box(view: int, *, aligned: bool) -> Box:
    """Left, upper, right and lower of an attention-guided crop."""
    first, *shares = uniform("box", view, 3)
    row, column = centre_patch(first)
    sides = []
    for patch, side, share in ((column, SIZE[0], shares[0]), (row, SIZE[1], shares[1])):
        if aligned:
            middle = (2 * patch + 1) * side // (2 * GRID)
        else:
            start = int(np.float32(16 * patch) * np.float32(side / 224))
            middle = (start + min(start + int(16 * side / 224), side)) // 2
        least, most = int(0.6 * side), int(0.9 * side)
        half = (least + math.floor(share * (most - least + 1))) // 2
        sides.append((max(middle - half, 0), min(middle + half, side)))
    (left, right), (upper, lower) = sides
    return [left, upper, right, lower]


def aligned_window(view: int) -> Box:
    """First row, end row, first column and end column of tokens, around the token that shows the patch's centre.

    The model sees the square in the middle of the image, as high as the short side.
    """
    first, share = uniform("window", view, 2)
    seen = min(SIZE)
    edges = []
    least, most = int(0.6 * GRID), int(0.9 * GRID)
    half = (least + math.floor(share * (most - least + 1))) // 2
    for patch, side in zip(centre_patch(first), (SIZE[1], SIZE[0]), strict=True):
        offset = (patch + 0.5) * side / GRID - (side - seen) / 2
        token = min(max(math.floor(offset * GRID / seen), 0), GRID - 1)
        edges += [max(token - half, 0), min(token + half + 1, GRID)]
    return edges


def places(row: str) -> dict[str, list[Box]]:
    """Where the sampled views of a row lie, by kind."""
    if row == "abs-aligned":
        boxes = [guided_box(view, aligned=True) for view in range(50)]
        return {"box": boxes, "window": [aligned_window(view) for view in range(50)]}
    if row == "abs-vote":
        return {"box": [guided_box(view, aligned=False) for view in range(50)]}
    return {"resized": [resized_box(view) for view in range(50 if row == "awt" else 63)]}


def by_class(features: Floats, class_index: Sequence[int]) -> list[Floats]:
    """The features of the texts of each class, in their order."""
    return [features[np.array(class_index) == position] for position in range(max(class_index) + 1)]


def scores(row: str, views: dict[str, Floats], texts: Floats, class_index: Sequence[int]) -> Floats:
    """Class scores [images, classes] of a row, from unit features."""
    stacked = np.concatenate(list(views.values()), 1)
    return np.stack([SCORERS[row](image, by_class(texts, class_index)) for image in stacked])


def class_texts(row: str) -> Any:
    """The row's class texts."""
    from abs_classify.methods.class_texts import ClassTextInputs
    from abs_classify.methods.table import METHODS
    from abs_core.descriptions import Description

    descriptions = {name: tuple(map(Description, texts)) for name, texts in DESCRIPTIONS.items()}
    return METHODS[row].texts.build(ClassTextInputs(CLASSES, descriptions, TEMPLATES))


def kinds_of(row: str) -> list[tuple[str, int]]:
    """Kind and number of the row's views."""
    whole = [] if row == "abs-aligned" else [("whole", 1)]
    return whole + [(kind, len(boxes)) for kind, boxes in places(row).items()]


def derive() -> dict[str, Any]:
    """What the file holds."""
    rows: dict[str, Any] = {}
    for row in ROWS:
        index = class_texts(row).class_index
        values = scores(row, features_of(kinds_of(row)), text_features(index), index)
        # ten digits tell every change apart, and twice as many would be rounding
        rounded = [[float(f"{value:.10g}") for value in image] for image in values]
        rows[row] = {"scores": rounded, "places": places(row)}
    note = (
        "Derived by tests/golden_rows.py in float64, from formulas, for seeded features and a seeded attention map; "
        "written again by running that file."
    )
    return {"note": note, "rows": rows}


if __name__ == "__main__":
    FILE.write_text(json.dumps(derive(), separators=(",", ":")) + "\n", encoding="utf-8")
