"""Draw docs/figures/gains.png and crops.png from the tables of docs/. Run it from the top of the checkout.

Nothing is measured here: what the figures show stands in docs/numbers.md and docs/adaptive.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

DOCS = Path(__file__).parents[1]

_GAIN = re.compile(r"; ([+-]?\d+\.\d) \[([+-]?\d+\.\d), ([+-]?\d+\.\d)\]")
_BLUE, _GREY = "#3949ab", "#777777"
_LABELS = {
    "small": "small objects\n(400 photos, 200 classes)",
    "plain": "the same objects, large\n(400 photos, 200 classes)",
    "stamps": "stamps, mostly cut-out photos\n(274, 259 classes)",
    "emoji": "emoji\n(225, 225 classes)",
    "digits": "handwritten digits\n(200, 10 classes)",
}


def rows_of(page: str) -> Iterator[dict[str, str]]:
    """The rows of all tables of a page of docs/, each by the heads of its columns."""
    heads: list[str] = []
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            heads = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if not heads:
            heads = cells
        elif set(line) - set("|- :"):
            yield dict(zip(heads, cells, strict=False))


def gains(method: str) -> dict[str, tuple[float, float, float]]:
    """Points of top-1 that a method gains over clip, with the interval, by image set."""
    found = {}
    for row in rows_of("numbers.md"):
        if row.get("method") == method:
            for name, cell in row.items():
                if name in _LABELS and (match := _GAIN.search(cell)):
                    found[name] = (float(match[1]), float(match[2]), float(match[3]))
    return {name: found[name] for name in _LABELS}


def crops() -> dict[str, float]:
    """Mean number of crops until the label of abs is settled, by image set."""
    return {
        row["images"]: float(row["mean crops"])
        for row in rows_of("adaptive.md")
        if row.get("method") == "abs" and row.get("rule, P") == "normal, 0.99"
    }


def draw_gains() -> Figure:
    """What abs and abs-pixels gain over plain CLIP on each set."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for offset, (method, colour) in enumerate((("abs", _BLUE), ("abs-pixels", "#f57c00"))):
        for place, (middle, low, high) in enumerate(gains(method).values()):
            height = -place + 0.14 - 0.28 * offset
            axes.plot([low, high], [height, height], color=colour, linewidth=2)
            axes.plot(middle, height, "o", color=colour, label=method if place == 0 else None)
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set_yticks([-place for place in range(len(_LABELS))], list(_LABELS.values()))
    axes.set_xlabel("top-1 minus that of clip, in points, with 95 % intervals")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def draw_crops() -> Figure:
    """How many of 50 crops the adaptive rule looks at."""
    figure = Figure(figsize=(7.2, 1.8), layout="constrained")
    axes = figure.subplots()
    counts = crops()
    axes.barh(list(counts), [50] * len(counts), color="#e8eaf6", height=0.6)
    axes.barh(list(counts), list(counts.values()), color=_BLUE, height=0.6)
    for name, count in counts.items():
        axes.annotate(f"{count} of 50 crops", (count, name), (5, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 50)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def main(folder: Path = Path(__file__).parent) -> None:
    """Write both figures; a palette keeps them small enough for a repository."""
    for name, figure in (("gains", draw_gains()), ("crops", draw_crops())):
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=160, metadata={"Software": None})
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(64)
        small.save(path, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
