"""What a page opens with: an image with its label, where the method looked, and the sentence that decided.

Which images these are follows from a rule that the page states, so that nobody chose them. Markup without a script.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup

from abs_classify.report.drawing import heat_png, jpeg, peak_words
from abs_classify.report.image_rows import ImageRows
from abs_classify.report.layout import Highlight, MethodPrediction, ReportImage, reasons
from abs_core.text import counted, printable

__all__ = ["choose_highlights", "draw_highlights", "highlights_markup"]

_LONG_SIDE = 480
_TEXT_LIMIT = 600


def choose_highlights(table: ImageRows, base: str = "") -> list[tuple[int, str]]:
    """The images to open with, and by which rule: the first of the list for which it holds.

    One is an image that the main method gets right; the other, if there is one, is also wrong by the base. How many
    there are of each, and how many the other way round, is part of the rule.

    Args:
        table: with labels.
        base: the method that others are compared with; empty if there is none.

    Returns:
        Positions and rules, the most telling image last; none without labels.
    """
    if not table.truth:
        return []
    main, total = table.main_columns, len(table)
    right = main.ranks == 1
    baseline = next((method for method in table.methods if method.name == base and base != table.main), None)
    won = [] if baseline is None else (right & (baseline.ranks != 1)).nonzero()[0].tolist()
    comparison = ""
    if baseline is not None:
        lost = int((~right & (baseline.ranks == 1)).sum())
        reverse = f"{base} right and {main.name} wrong on {lost}"
        comparison = (
            f"{main.name} is right and {base} wrong on {len(won)} of {counted(total, 'image', 'images')}, {reverse}"
        )
    if not right.any():
        return [(0, f"{main.name} gets no image right; this is the first")]
    first = int(right.argmax())
    rule = f"The first of {counted(int(right.sum()), 'image', 'images')} that {main.name} gets right, of {total}"
    if not won:
        return [(first, f"{rule}; {comparison}" if comparison else rule)]
    gain = f"The first that {main.name} gets right and {base} wrong; {comparison}"
    return [(won[0], gain)] if won[0] == first else [(first, rule), (won[0], gain)]


def draw_highlights(
    table: ImageRows, base: str, images: Callable[[Sequence[int]], Iterable[ReportImage]]
) -> tuple[Highlight, ...]:
    """The images of ``choose_highlights``, drawn.

    Args:
        table: with labels.
        base: the method that others are compared with; empty if there is none.
        images: what a report shows of the images at some positions of the table.
    """
    chosen = dict(choose_highlights(table, base))
    drawn = {image.position: _draw(image, chosen[image.position], table.main, base) for image in images(sorted(chosen))}
    return tuple(drawn[position] for position in chosen)


def _draw(image: ReportImage, rule: str, main: str, base: str) -> Highlight:
    why = reasons(image)
    # what spoke against the answer may be stronger, and did not decide
    views = [bar for bar in why.views if bar.length > 0] if why else []
    groups = [group for group in why.groups if group.label == why.winner] if why else []
    sentences = [bar for group in groups for bar in group.bars if bar.length > 0]
    outline = views[0].outline if views else None
    is_part = outline is not None and (outline.width < image.size[0] or outline.height < image.size[1])
    return Highlight(
        rule=rule,
        position=image.position,
        name=image.name,
        size=image.size,
        picture=jpeg(image.pixels, _LONG_SIDE),
        heat=b"" if image.attention is None else heat_png(image.attention),
        peak="" if image.attention is None else peak_words(image.attention),
        outline=outline if is_part else None,
        truth=image.truth or "",
        method=main,
        answers=tuple(_answer(prediction) for prediction in image.predictions if prediction.method in (main, base)),
        sentence=sentences[0].text if sentences else "",
        other=why.runner_up if why else "",
    )


def _answer(prediction: MethodPrediction) -> tuple[str, str, bool]:
    return prediction.method, prediction.top[0].name, bool(prediction.right)


def highlights_markup(highlights: Sequence[tuple[Highlight, str]]) -> Markup:
    """Highlights as markup that needs the style of the pages and no script.

    Args:
        highlights: each with the address of what explains the image, empty if there is none.
    """
    environment = jinja2.Environment(
        autoescape=True, finalize=_harmless, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["uri"] = _uri
    template = files("abs_classify.report").joinpath("highlights.html.j2").read_text(encoding="utf-8")
    return Markup(environment.from_string(template).render(highlights=highlights))  # noqa: S704 - escaped by Jinja2


def _uri(data: bytes, kind: str) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")  # noqa: S704 - base64


def _harmless(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value), _TEXT_LIMIT)
