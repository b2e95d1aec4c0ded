"""Report pages and images for the tests, and a parser of what is rendered."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
from result_records import make_records

from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.explanation import Explanation, RankedClass, SentenceShare, ViewShare
from abs_classify.report.layout import MethodPrediction, ReportImage, ReportPage, ViewPlaces

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
    "\u202eevil\u2066\x1b[31m\x00\n</style>"
)


class Page(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag and (css_class is None or css_class in a.get("class", "").split())]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def ranked(name: str, score: float) -> RankedClass:
    return RankedClass(name, name, score)


def make_image(name="cat.png", truth="tabby cat", winner="tabby cat", seed=0, size=(640, 427)) -> ReportImage:
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
            MethodPrediction("clip", (ranked(truth, 0.25), ranked(runner_up, 0.2)), 1),
            MethodPrediction("abs", top, rank),
        ),
        explanation=explanation,
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
            "images": images,
            "notes": ("It knows what ImageNet knows.",),
            "footer": (("torch", "2.6.0"),),
            **fields,
        }
    )
