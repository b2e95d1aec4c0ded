"""Report pages and images for the tests, and a parser of what is rendered."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import PIL.Image
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.explanation import Explanation, RankedClass, SentenceShare, ViewShare
from abs_classify.report import render_report
from abs_classify.report.image_rows import ImageRows, MethodColumns
from abs_classify.report.layout import MethodPrediction, ReportImage, ReportPage, ViewPlaces

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
    "\u202eevil\u2066\x1b[31m\x00\n</style><!--data-->"
)


class Page(HTMLParser):
    """Every start tag with its attributes, the text, and what inert scripts hold, by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.stored: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._script = self.tags[-1][1].get("id", "") if tag == "script" else None

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        if self._script is None:
            self.words.append(data)
        else:
            self.stored[self._script] = self.stored.get(self._script, "") + data

    def handle_endtag(self, tag):
        self._script = None

    @property
    def table(self) -> dict[str, Any]:
        """The rows of all images."""
        return json.loads(self.stored["table"])

    def details(self, image: int) -> dict[str, Any]:
        """What is drawn of an image."""
        return json.loads(self.stored[f"details-{image}"])

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag and (css_class is None or css_class in a.get("class", "").split())]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def ranked(name: str, score: float) -> RankedClass:
    return RankedClass(name, name, score)


def make_columns(name: str, truth: Sequence[int], classes: int, seed: int) -> MethodColumns:
    """What a method says that is right for about three images of four, with some images that it ranks nearly right."""
    numbers = np.random.default_rng(seed)
    wrong = numbers.random(len(truth)) < 0.25
    top = np.where(wrong, numbers.integers(0, classes, len(truth)), truth)
    ranks = np.where(top == truth, 1, numbers.integers(2, 9, len(truth)))
    margin, confidence = numbers.exponential(5, len(truth)), numbers.random(len(truth))
    return MethodColumns(name, top, (top + 1) % classes, margin, confidence, ranks)


def table_of(images: Sequence[ReportImage]) -> ImageRows:
    """The rows of images."""
    names = [prediction.top[0].name for image in images for prediction in image.predictions]
    second = [prediction.top[1].name for image in images for prediction in image.predictions]
    classes = list(dict.fromkeys([*names, *second, *(image.truth for image in images if image.truth is not None)]))
    truth = [classes.index(image.truth) for image in images if image.truth is not None]
    columns = []
    for place, method in enumerate(images[0].predictions):
        of_method = [image.predictions[place] for image in images]
        columns.append(
            MethodColumns(
                method.method,
                np.array([classes.index(prediction.top[0].name) for prediction in of_method]),
                np.array([classes.index(prediction.top[1].name) for prediction in of_method]),
                np.array([prediction.top[0].score - prediction.top[1].score for prediction in of_method]),
                np.linspace(0.9, 0.1, len(images)),
                np.array([prediction.true_rank for prediction in of_method] if truth else [], dtype=np.int64),
            )
        )
    return ImageRows([image.name for image in images], classes, columns, "abs", truth)


def page_text(page: ReportPage) -> str:
    return "".join(render_report(page))


def make_image(
    name="cat.png", truth="tabby cat", winner="tabby cat", seed=0, size=(640, 427), position=0
) -> ReportImage:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    pixels = PIL.Image.fromarray(noise).resize(size, PIL.Image.Resampling.BICUBIC)
    attention = np.zeros((14, 14))
    attention[2, 11] = 1.0
    left, upper = rng.integers(0, size[0] // 3, 50), rng.integers(0, size[1] // 3, 50)
    boxes = np.stack([left, upper, left + size[0] // 2, upper + size[1] // 2], axis=1)
    windows = np.array([[0, 4, 1, 6], [2, 7, 2, 7], [2, 7, 2, 7], [0, 7, 0, 7]])
    runner_up = "lynx"
    top = (ranked(winner, 700.0), ranked(runner_up, 200.0))
    rank = 1 if truth == winner else 17
    explanation = Explanation(
        method="abs",
        winner=top[0],
        runner_up=top[1],
        sentences=(
            SentenceShare("The tabby cat has a striped coat.", winner, 300.0, 300.0),
            SentenceShare("The lynx has tufted ears.", runner_up, 100.5, -100.5),
            SentenceShare("Tabby cats have an M on the forehead.", winner, 250.0, 250.0),
        ),
        views=(
            ViewShare("box", 7, 310.0, 100.0, "The tabby cat has a striped coat."),
            ViewShare("window", 0, 90.0, 0.0, "The tabby cat has a striped coat."),
            ViewShare("box", 3, 10.0, 50.0, "The tabby cat has a striped coat."),
        ),
        sentence_count=100,
        view_count=54,
    )
    return ReportImage(
        name=name,
        pixels=pixels,
        size=size,
        truth=truth,
        attention=attention,
        views=(ViewPlaces("box", boxes), ViewPlaces("window", windows, grid=7, area=(106.5, 0.0, 533.5, 427.0))),
        predictions=(
            MethodPrediction(
                "clip", (ranked(truth or winner, 0.25), ranked(runner_up, 0.2)), None if truth is None else 1
            ),
            MethodPrediction("abs", top, None if truth is None else rank),
        ),
        explanation=explanation,
        position=position,
    )


def make_page(*images: ReportImage, **fields) -> ReportPage:
    labels = np.arange(40) % 20
    clip = evaluate_ranks("clip", np.where(np.arange(40) < 20, 1, 9), labels, 20)
    better = evaluate_ranks("abs", np.where(np.arange(40) < 33, 1, 3), labels, 20)
    same = evaluate_ranks("cupl", np.where(np.arange(40) < 21, 1, 3), labels, 20)
    records = make_records([clip, same, better], {"abs": "50 crops, 50 windows"}, {"clip": "a photo of a {}."})
    return ReportPage(
        **{
            "title": "Forty images",
            "subtitle": "Without training.",
            "facts": (("Seed", "0"), ("Descriptions", "demo@0.1.0#sha256:" + "a" * 64)),
            "results": tuple(records),
            "images": [replace(image, position=position) for position, image in enumerate(images)],
            "table": table_of(images) if images else None,
            "pictured": range(len(images)),
            "notes": ("It knows what ImageNet knows.",),
            "footer": (("torch", "2.6.0"),),
            **fields,
        }
    )
