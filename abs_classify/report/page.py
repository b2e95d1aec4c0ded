"""The page: from plain data to what the template shows, and the file that is written.

The page loads nothing: styles are inline and allowed by their hash, images are data: URIs, there is no script, and a
content security policy forbids the rest. Every string passes through ``printable`` and the escaping of Jinja2.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.tables import NO_DIFFERENCE, difference_text, p_value_text, proportion_text
from abs_classify.report.drawing import heat_uri, jpeg_uri
from abs_classify.report.layout import MethodPrediction, ReportImage, ReportPage, panels, ranking, reasons, tag_places
from abs_core.files import atomic_write
from abs_core.text import printable

__all__ = ["render_report", "write_report"]

_LONG_SIDE = 360
_TEXT_LIMIT = 2000

# A panel is about this large on screen, in CSS pixels: labels inside a drawing are sized by it.
_PANEL_SIZE = (270.0, 200.0)


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page as one HTML file that needs nothing else, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    text = render_report(page)
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))


def render_report(page: ReportPage) -> str:
    """The page as HTML text."""
    style = _shipped("page.css")
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = [_image(image, number) for number, image in enumerate(page.images, start=1)]
    return environment.from_string(_shipped("template.html.j2")).render(
        page=page,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii"),
        results=_results(page.results),
        images=images,
        counts=_counts(images),
        tag_places=tag_places,
    )


def _harmless(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value), _TEXT_LIMIT)


def _shipped(name: str) -> str:
    return files("abs_classify.report").joinpath(name).read_text(encoding="utf-8")


def _image(image: ReportImage, number: int) -> dict[str, Any]:
    main = _main_prediction(image)
    overlay = "" if image.attention is None else heat_uri(image.attention)
    return {
        "id": number,
        "name": image.name,
        "truth": image.truth,
        "size": image.size,
        "uri": Markup(jpeg_uri(image.pixels, _LONG_SIDE)),  # noqa: S704 - base64 of our own making
        "overlay": Markup(overlay),  # noqa: S704 - base64 of our own making
        "unit": max(image.size[0] / _PANEL_SIZE[0], image.size[1] / _PANEL_SIZE[1]),
        "panels": panels(image),
        "rankings": [ranking(prediction, image.truth) for prediction in image.predictions],
        "main": "" if main is None else main.method,
        "predicted": "" if main is None else main.top[0].name,
        "confidence": "" if main is None else main.confidence,
        "right": None if main is None else main.right,
        "mixed": {prediction.right for prediction in image.predictions} >= {True, False},
        "verdict": _verdict(image.predictions),
        "why": reasons(image),
    }


def _main_prediction(image: ReportImage) -> MethodPrediction | None:
    """The prediction that the image is sorted by: the method that is explained, else the last one."""
    if not image.predictions:
        return None
    name = image.explanation.method if image.explanation else image.predictions[-1].method
    return next((p for p in image.predictions if p.method == name), image.predictions[-1])


def _verdict(predictions: Sequence[MethodPrediction]) -> str:
    judged = [prediction for prediction in predictions if prediction.right is not None]
    wrong = [prediction.method for prediction in judged if not prediction.right]
    if not judged:
        return ""
    if not wrong:
        return "right"
    return "wrong" if len(wrong) == len(judged) else "wrong: " + ", ".join(wrong)


def _counts(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "main": next((image["main"] for image in images if image["main"]), ""),
        "all": len(images),
        "wrong": sum(image["right"] is False for image in images),
        "mixed": sum(image["mixed"] for image in images),
        "judged": sum(image["right"] is not None for image in images),
    }


def _results(records: Sequence[ResultRecord]) -> dict[str, Any]:
    differences = [record.details.difference for record in records if record.details.difference is not None]
    ends = [abs(end) for difference in differences for end in (difference.low, difference.high)]
    reach = max(ends, default=0.0) or 1.0
    return {
        "rows": [_result(record, reach) for record in records],
        "base": differences[0].second if differences else "",
        "images": records[0].details.top1.trials if records else 0,
    }


def _result(record: ResultRecord, reach: float) -> dict[str, Any]:
    top1, top5, difference = record.details.top1, record.details.top5, record.details.difference
    cells: dict[str, Any] = {
        "method": record.method,
        "views": record.details.method.views,
        "texts": record.details.texts.source,
        "top1": proportion_text(top1),
        "range": (100 * top1.low, 100 * top1.value, 100 * top1.high),
        "top5": "" if top5 is None else f"{100 * top5.value:.1f}",
        "recall": f"{100 * record.metrics.mean_per_class_recall:.1f}",
        "difference": None,
    }
    if difference is not None:
        better = "better" if difference.difference > 0 else "worse"
        cells["difference"] = {
            "text": difference_text(difference).replace("-", "\u2212"),
            "range": [50 + 50 * value / reach for value in (difference.low, difference.difference, difference.high)],
            "p": p_value_text(difference.p_value),
            "verdict": better if difference.conclusive else NO_DIFFERENCE,
            "conclusive": difference.conclusive,
        }
    return cells
