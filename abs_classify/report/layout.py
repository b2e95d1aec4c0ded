"""What a report shows, as plain data, and its layout: outlines, rankings, reasons. No HTML, no pixels.

The page and the picture draw the same layout, so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from abs_classify.evaluation.records import ResultRecord
from abs_classify.explanation import Explanation, RankedClass, SentenceShare, ViewShare
from abs_classify.report.drawing import peak_words
from abs_classify.report.image_rows import ImageRows
from abs_core.errors import UsageError

__all__ = [
    "MARKED_VIEWS",
    "TAG",
    "Bar",
    "Group",
    "Highlight",
    "MethodPrediction",
    "Outline",
    "Panel",
    "Ranking",
    "Reasons",
    "ReportImage",
    "ReportPage",
    "ViewPlaces",
    "panels",
    "ranking",
    "reasons",
    "tag_places",
]


@dataclass(frozen=True)
class MethodPrediction:
    """What one method predicts for one image.

    Attributes:
        method: its name.
        top: the best classes, best first; at least one.
        true_rank: place of the true class among all classes, 1 is best; None without a true label.
    """

    method: str
    top: tuple[RankedClass, ...]
    true_rank: int | None = None

    @property
    def confidence(self) -> str:
        """The confidence of the first class, in figures; empty where it has none."""
        confidence = self.top[0].confidence
        return "" if confidence is None else f"{confidence:.4f}"

    @property
    def right(self) -> bool | None:
        """Whether the first class is the true one; None without a true label."""
        return None if self.true_rank is None else self.true_rank == 1


@dataclass(frozen=True)
class ViewPlaces:
    """Where the views of one kind lie on an image.

    Attributes:
        kind: "whole", "random", "resized", "box" or "window".
        boxes: int64 [N, 4]: left, upper, right, lower in pixels of the original image; for windows first row, end
            row, first column, end column on the grid, ends exclusive.
        grid: side of the token grid for windows, 0 for the others.
        area: the part of the image that the grid covers: left, upper, right, lower in pixels of the original; None
            for the full image.

    Raises:
        UsageError: another shape, or windows without a grid.
    """

    kind: str
    boxes: NDArray[np.int64]
    grid: int = 0
    area: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise UsageError(
                f"views of kind {self.kind!r} have the shape {self.boxes.shape}", remedy="Give [N, 4] whole numbers"
            )
        if self.kind == "window" and self.grid < 1:
            raise UsageError("feature windows lack the side of their grid", remedy="Give the model's grid")

    def pixels(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """The places in pixels of an image of ``size`` (width, height): float64 [N, 4] left, upper, right, lower."""
        if self.kind != "window":
            return self.boxes.astype(np.float64)
        left, upper, right, lower = self.area or (0.0, 0.0, float(size[0]), float(size[1]))
        row0, row1, col0, col1 = (self.boxes.astype(np.float64) / self.grid).T
        across, down = right - left, lower - upper
        return np.stack([left + col0 * across, upper + row0 * down, left + col1 * across, upper + row1 * down], axis=1)


@dataclass(frozen=True)
class ReportImage:
    """One image with what was computed from it.

    Attributes:
        name: what the user calls it, usually the file name.
        pixels: RGB, upright, of any size; the report shrinks them. Pass a thumbnail if memory matters.
        size: width and height of the original in pixels, after its orientation is applied; boxes refer to it.
        truth: the true class name, or None.
        attention: float [g, g], over the full image stretched to a square; or None.
        views: places by kind, in the order in which they are to be shown.
        predictions: one per method.
        explanation: of the method that the page explains, with the strongest views and sentences; or None.
        position: in the table of the page.

    Raises:
        UsageError: an attention map that is no finite square matrix.
    """

    name: str
    pixels: PIL.Image.Image
    size: tuple[int, int]
    truth: str | None = None
    attention: NDArray[np.floating] | None = None
    views: tuple[ViewPlaces, ...] = ()
    predictions: tuple[MethodPrediction, ...] = ()
    explanation: Explanation | None = None
    position: int = 0

    def __post_init__(self) -> None:
        if self.attention is None:
            return
        if self.attention.ndim != 2 or self.attention.size == 0 or not np.isfinite(self.attention).all():
            raise UsageError(
                f"the attention map of {self.name!r} must be a matrix of finite numbers", remedy="Give a [g, g] map"
            )


@dataclass(frozen=True)
class Highlight:
    """An image to open with, as it is drawn.

    Attributes:
        rule: why it is this image.
        position: in the table of the page.
        name: of the image.
        size: width and height of the image in pixels.
        picture, heat: a JPEG and a PNG file; ``heat`` is empty without an attention map.
        peak: where the attention map is highest, in words.
        outline: of the view that decided most; None for the full image.
        truth: the true class.
        method: that is explained.
        answers: of that method and the one it is compared with: name, predicted class, whether it is right.
        sentence: that spoke most for the predicted class; empty where nothing is explained.
        other: the class against which it spoke.
    """

    rule: str
    position: int
    name: str
    size: tuple[int, int]
    picture: bytes
    heat: bytes
    peak: str
    outline: Outline | None
    truth: str
    method: str
    answers: tuple[tuple[str, str, bool], ...]
    sentence: str
    other: str


@dataclass(frozen=True)
class ReportPage:
    """The page.

    Attributes:
        title: one line.
        subtitle: one sentence under it.
        facts: what was run, as pairs of name and value: model, bundle with digest, data set, seed, command line.
        results: the records of the accuracy table; empty if there are no true labels.
        table: what is known of every image of the run; None for a page without images.
        pictured: positions in the table of the images that get a picture and an explanation.
        images: those, in any order; gone through once, while the page is written.
        highlights: what the page opens with.
        index: the file name of the page that lists this one with others; empty if there is none.
        warnings: what the reader must not miss: accuracies at chance level, skipped images.
        notes: remarks on how to read the numbers.
        footer: versions and digests, as pairs of name and value.
    """

    title: str
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    results: tuple[ResultRecord, ...] = ()
    table: ImageRows | None = None
    pictured: Sequence[int] = ()
    images: Iterable[ReportImage] = ()
    highlights: tuple[Highlight, ...] = ()
    index: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    footer: tuple[tuple[str, str], ...] = ()


#: How many of the strongest views get a number and a colour of their own.
MARKED_VIEWS = 6

#: Side of a number's square, in pixels of the drawing.
TAG = 17

_PANEL_TITLES = {
    "whole": "Full image",
    "random": "Random crops",
    "resized": "Random resized crops",
    "box": "Attention-guided crops",
    "window": "Feature windows",
}

_VIEW_NAMES = {
    "whole": "full image",
    "random": "random crop",
    "resized": "random resized crop",
    "box": "crop",
    "window": "window",
}


@dataclass(frozen=True)
class Outline:
    """A rectangle in pixels of the original image.

    Attributes:
        x, y, width, height: its place and size.
        number: 1 to ``MARKED_VIEWS`` for a view that is marked, 0 for a faint one.
        against: whether the view speaks for the runner-up.
    """

    x: float
    y: float
    width: float
    height: float
    number: int = 0
    against: bool = False


@dataclass(frozen=True)
class Panel:
    """One drawing of the image.

    Attributes:
        kind: "image", "attention" or the kind of views.
        title, note: the caption.
        alt: what it shows, for people who cannot see it.
        faint, marked: outlines; of equal faint ones only one, the strongest marked one last.
        area: the part that a token grid covers, if it is not the full image.
    """

    kind: str
    title: str
    note: str
    alt: str
    faint: tuple[Outline, ...] = ()
    marked: tuple[Outline, ...] = ()
    area: Outline | None = None


@dataclass(frozen=True)
class Bar:
    """A labelled bar.

    Attributes:
        text: the label.
        length: 0 to 100 in a ranking, -100 to 100 among reasons, where negative speaks for the runner-up.
        value: the figures.
        is_true: whether it is the true class.
        number: of a marked view, else 0.
        outline: where a view lies.
        sides: what a view adds to the score of the winner and to that of the other class, in figures.
    """

    text: str
    length: float
    value: str
    is_true: bool = False
    number: int = 0
    outline: Outline | None = None
    sides: tuple[str, str] | None = None


@dataclass(frozen=True)
class Ranking:
    """The best classes of one method.

    Attributes:
        method: its name.
        right: whether the first class is the true one; None without a true label.
        confidence: of the first class, in figures; empty where it has none.
        bars: the classes.
        beyond: where the true class is if it is not among them.
    """

    method: str
    right: bool | None
    confidence: str
    bars: tuple[Bar, ...]
    beyond: str


@dataclass(frozen=True)
class Group:
    """The sentences about one class."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Reasons:
    """Why a class won; with the number and the sum of the sentences and views that are not listed, or None.

    The runner-up is the class that the winner is compared with: the true one where the winner is wrong.
    """

    method: str
    winner: str
    runner_up: str
    runner_up_is_true: bool
    margin: str
    groups: tuple[Group, ...]
    views: tuple[Bar, ...]
    other_sentences: tuple[int, str] | None
    other_views: tuple[int, str] | None


def panels(image: ReportImage) -> tuple[Panel, ...]:
    """The image, its attention map, and one panel for each kind of views but the full image."""
    truth = f", true label {image.truth}" if image.truth is not None else ""
    width, height = image.size
    out = [Panel("image", "Image", f"{width} × {height} pixels", f"The image {image.name}{truth}")]
    if image.attention is not None:
        rows, columns = image.attention.shape
        note = f"{rows} × {columns} patches, brighter is more"
        alt = f"Attention over {image.name}: highest in {peak_words(image.attention)}"
        out.append(Panel("attention", "Attention", note, alt))
    marked = _marked(image.explanation)
    out.extend(_views_panel(image, places, marked) for places in image.views if places.kind != "whole")
    return tuple(out)


def tag_places(marked: Sequence[Outline], unit: float) -> list[tuple[Outline, float, float]]:
    """Where the numbers go: on the upper edge of their own outline, else on the lower, where no other number is.

    Without a free place, which takes many small outlines, a number partly covers another.

    Args:
        marked: the outlines of one panel, in any order; the strongest is placed first.
        unit: pixels of the image per pixel of the drawing. A number takes ``TAG`` by ``TAG`` pixels of the drawing.

    Returns:
        Each outline with the left upper corner of its number, in pixels of the image.
    """
    side, placed = TAG * unit, list[tuple[Outline, float, float]]()
    for outline in sorted(marked, key=lambda o: o.number):
        steps = max(1, int((outline.width - 2 * unit) / side))
        rows = (outline.y, max(outline.y, outline.y + outline.height - side))
        spots = [(outline.x + 2 * unit + step * side, y) for y in rows for step in range(steps)]
        free = ((x, y) for x, y in spots if all(abs(x - px) >= side or abs(y - py) >= side for _, px, py in placed))
        placed.append((outline, *next(free, spots[0])))
    return placed


def ranking(prediction: MethodPrediction, truth: str | None) -> Ranking:
    """The bars of one method, in proportion to the best score."""
    best = max((entry.score for entry in prediction.top), default=0.0)
    decimals = _decimals((entry.score for entry in prediction.top), 3)
    bars = []
    for place, entry in enumerate(prediction.top, start=1):
        length = 100 * entry.score / best if best > 0 else 0.0
        value = f"{entry.score:.{decimals}f}"
        bars.append(Bar(entry.name, min(100.0, max(0.0, length)), value, is_true=place == prediction.true_rank))
    beyond = ""
    if prediction.true_rank is not None and prediction.true_rank > len(prediction.top):
        beyond = f"true label {truth}: place {prediction.true_rank}"
    return Ranking(prediction.method, prediction.right, prediction.confidence, tuple(bars), beyond)


def reasons(image: ReportImage) -> Reasons | None:
    """The bars of the explanation, strongest first; None for an image without one, or without a runner-up."""
    explanation = image.explanation
    if explanation is None or explanation.runner_up is None:
        return None
    figures = _figures(explanation)
    sentences = explanation.sentences
    largest = _largest(sentences)
    groups = []
    for ranked in (explanation.winner, explanation.runner_up):
        shares = [share for share in sentences if share.class_id == ranked.class_id]
        bars = tuple(Bar(s.text, 100 * s.contribution / largest, figures(s.contribution)) for s in shares)
        groups.append(Group(ranked.name, bars))
    return Reasons(
        method=explanation.method,
        winner=explanation.winner.name,
        runner_up=explanation.runner_up.name,
        runner_up_is_true=explanation.runner_up.name == image.truth,
        margin=figures(explanation.margin),
        groups=tuple(group for group in groups if group.bars),
        views=_view_bars(image, explanation, figures),
        other_sentences=_rest(explanation.other_sentences, explanation.sentence_count - len(sentences), figures),
        other_views=_rest(explanation.other_views, explanation.view_count - len(explanation.views), figures),
    )


def _marked(explanation: Explanation | None) -> list[ViewShare]:
    """The strongest views; their place in this list, from 1, is their number everywhere."""
    if explanation is None:
        return []
    return list(explanation.views[:MARKED_VIEWS])


def _views_panel(image: ReportImage, places: ViewPlaces, marked: Sequence[ViewShare]) -> Panel:
    boxes = places.pixels(image.size).tolist()
    numbered = [
        (n, share) for n, share in enumerate(marked, 1) if share.kind == places.kind and share.index < len(boxes)
    ]
    strong = [_outline(boxes[share.index], number, share.contribution < 0) for number, share in numbered]
    taken = {share.index for _, share in numbered}
    faint = dict.fromkeys(_outline(box) for index, box in enumerate(boxes) if index not in taken)
    title = _PANEL_TITLES[places.kind]
    note = f"{len(boxes)} {'view' if len(boxes) == 1 else 'views'}" + (f", {len(strong)} numbered" if strong else "")
    return Panel(
        places.kind,
        title,
        note,
        f"{title} outlined on {image.name}: {note}" + (" by how much they decided" if strong else ""),
        tuple(faint),
        tuple(reversed(strong)),
        None if places.kind != "window" or places.area is None else _outline(places.area),
    )


def _outline(box: Sequence[float], number: int = 0, against: bool = False) -> Outline:
    left, upper, right, lower = box
    return Outline(left, upper, max(right - left, 0.0), max(lower - upper, 0.0), number, against)


def _view_bars(image: ReportImage, explanation: Explanation, figures: Callable[[float], str]) -> tuple[Bar, ...]:
    places = {view.kind: view.pixels(image.size).tolist() for view in image.views}
    places["whole"] = [[0.0, 0.0, float(image.size[0]), float(image.size[1])]]
    largest = _largest(explanation.views)
    bars = []
    for number, share in enumerate(explanation.views, start=1):
        boxes = places.get(share.kind, [])
        name = _VIEW_NAMES[share.kind] + ("" if share.kind == "whole" else f" {share.index + 1}")
        bars.append(
            Bar(
                name,
                100 * share.contribution / largest,
                figures(share.contribution),
                number=number if number <= MARKED_VIEWS else 0,
                outline=_outline(boxes[share.index]) if share.index < len(boxes) else None,
                sides=(figures(share.winner), figures(share.runner_up)),
            )
        )
    return tuple(bars)


def _largest(shares: Sequence[SentenceShare | ViewShare]) -> float:
    """The largest contribution by size, for the length of bars; 1 where all are 0."""
    return max((abs(share.contribution) for share in shares), default=0.0) or 1.0


def _rest(value: float, count: int, figures: Callable[[float], str]) -> tuple[int, str] | None:
    return (count, figures(value)) if count > 0 else None


def _figures(explanation: Explanation) -> Callable[[float], str]:
    """A function that writes contributions with as many decimals as give the largest of them four figures."""
    sentences = (share.contribution for share in explanation.sentences)
    views = (share.contribution for share in explanation.views)
    decimals = _decimals((explanation.margin, *sentences, *views), 4)

    def write(value: float) -> str:
        # adding zero turns a rounded -0.0 into 0.0
        return f"{round(value, decimals) + 0.0:+.{decimals}f}".replace("-", "\u2212")

    return write


def _decimals(values: Iterable[float], figures: int) -> int:
    """How many decimals give the largest of the values this many figures, 0 to 9."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return figures
    return min(9, max(0, figures - 1 - math.floor(math.log10(largest))))
