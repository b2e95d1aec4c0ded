"""One explanation as one picture: the image, where the model looked, the classes, and the sentences that decided."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from abs_classify.report.drawing import flattened, heat_overlay
from abs_classify.report.layout import (
    TAG,
    Bar,
    Outline,
    Panel,
    Ranking,
    Reasons,
    ReportImage,
    panels,
    ranking,
    reasons,
    tag_places,
)
from abs_core.files import atomic_write
from abs_core.text import printable

__all__ = ["explanation_image", "explanation_png"]

_WIDTH, _MARGIN, _GAP = 1240, 28, 16
_LINE = 19
_SIDE = (_WIDTH - 2 * _MARGIN - 40) // 2
_TEXT_LIMIT = 600
_GROUND, _INK, _QUIET, _TRACK, _BACKDROP = "#ffffff", "#1c1f24", "#5b6370", "#eceef0", "#eceef0"
_FILL, _GOOD, _BAD, _PRO, _CONTRA = "#8491a3", "#0b6e46", "#ad2318", "#1f6fd1", "#c65a00"
_NUMBERED = ("#ffb000", "#56c7ff", "#f5f04a", "#ff85bd", "#4be0a8", "#cbb0ff")


def explanation_png(image: ReportImage, path: Path) -> None:
    """Write ``explanation_image`` as a PNG file, whole or not at all.

    Raises:
        StorageError: the file cannot be written.
    """
    picture = explanation_image(image)
    with atomic_write(path) as stream:
        picture.save(stream, "PNG", optimize=True)


def explanation_image(image: ReportImage) -> PIL.Image.Image:
    """Everything that is known of one image as an RGB picture, 1240 pixels wide and as high as needed."""
    rankings = [ranking(prediction, image.truth) for prediction in image.predictions]
    why = reasons(image)
    sheet = _Sheet()
    truth = "" if image.truth is None else f"true label: {image.truth}"
    sheet.text(_MARGIN, _MARGIN, image.name, size=26, width=_WIDTH - 2 * _MARGIN)
    y = sheet.text(_MARGIN, _MARGIN + 34, truth, colour=_QUIET, width=_WIDTH - 2 * _MARGIN) + 12
    y = _panel_row(sheet, image, panels(image), y) + 18
    if why is None:
        y = _ranking_column(sheet, rankings, y, _WIDTH - 2 * _MARGIN)
    else:
        left = _ranking_column(sheet, rankings, y, _SIDE)
        y = max(_view_rows(sheet, why, left, _SIDE), _reasons_column(sheet, why, _MARGIN + _SIDE + 40, y, _SIDE))
    return sheet.cut(y + _MARGIN)


class _Sheet:
    """A white picture that grows downwards, with what this module draws: wrapped text, figures, rectangles."""

    def __init__(self) -> None:
        self.image = PIL.Image.new("RGB", (_WIDTH, 1024), _GROUND)

    def text(self, x: float, y: float, text: str, *, size: int = 15, colour: str = _INK, width: float) -> int:
        """Draw wrapped text, harmless, and give the y under it."""
        font, step = _font(size), round(size * 1.27)
        for line in _wrapped(_drawable(text), font, width):
            self._pen(y + step).text((x, y), line, fill=colour, font=font)
            y += step
        return int(y)

    def number(self, right: float, y: float, text: str) -> None:
        """Draw figures that end at ``right``."""
        self._pen(y + _LINE).text((right, y), _drawable(text), fill=_INK, font=_font(15), anchor="ra")

    def rectangle(self, left: float, upper: float, right: float, lower: float, fill: str) -> None:
        """Fill a rectangle, edges included."""
        self._pen(lower + 1).rectangle((left, upper, right, lower), fill=fill)

    def paste(self, picture: PIL.Image.Image, x: int, y: int) -> None:
        """Put a picture on the sheet."""
        self._pen(y + picture.height)
        self.image.paste(picture, (x, y))

    def cut(self, bottom: int) -> PIL.Image.Image:
        """The sheet down to ``bottom``."""
        self._pen(bottom)
        return self.image.crop((0, 0, _WIDTH, bottom))

    def _pen(self, bottom: float) -> PIL.ImageDraw.ImageDraw:
        if bottom > self.image.height:
            taller = PIL.Image.new("RGB", (_WIDTH, max(int(bottom) + 1, 2 * self.image.height)), _GROUND)
            taller.paste(self.image)
            self.image = taller
        return PIL.ImageDraw.Draw(self.image)


@cache
def _font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


def _drawable(text: str) -> str:
    """Harmless text, with the signs that Pillow's own font lacks replaced."""
    return printable(text, _TEXT_LIMIT).replace("\u2212", "-").replace("\u00d7", "x")


def _wrapped(text: str, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont, width: float) -> list[str]:
    """Lines no wider than ``width`` pixels; a word that is wider is broken."""
    lines, line = [], ""
    for word in text.split():
        rest = word if not line else f"{line} {word}"
        if line and font.getlength(rest) > width:
            lines.append(line)
            rest = word
        while len(rest) > 1 and font.getlength(rest) > width:
            fits = max(1, int(len(rest) * width / font.getlength(rest)) - 1)
            lines.append(rest[:fits])
            rest = rest[fits:]
        line = rest
    return [*lines, line] if line else lines


def _panel_row(sheet: _Sheet, image: ReportImage, shown: tuple[Panel, ...], y: int) -> int:
    width = (_WIDTH - 2 * _MARGIN - _GAP * (len(shown) - 1)) // len(shown)
    height = round(width * min(1.25, max(0.4, image.size[1] / image.size[0])))
    bottom = y
    for index, panel in enumerate(shown):
        x = _MARGIN + index * (width + _GAP)
        sheet.rectangle(x, y, x + width - 1, y + height - 1, _BACKDROP)
        scale = min(width / image.size[0], height / image.size[1])
        size = (max(1, round(image.size[0] * scale)), max(1, round(image.size[1] * scale)))
        picture = _panel_image(image, panel, size)
        sheet.paste(picture, x + (width - size[0]) // 2, y + (height - size[1]) // 2)
        under = sheet.text(x, y + height + 6, panel.title, width=width)
        bottom = max(bottom, sheet.text(x, under, panel.note, size=13, colour=_QUIET, width=width))
    return bottom


def _panel_image(image: ReportImage, panel: Panel, size: tuple[int, int]) -> PIL.Image.Image:
    picture = flattened(image.pixels).resize(size, PIL.Image.Resampling.LANCZOS)
    if panel.kind == "image":
        return picture
    if panel.kind == "attention":
        if image.attention is None:
            return picture
        heat = heat_overlay(image.attention).convert("RGBA").resize(size, PIL.Image.Resampling.BICUBIC)
        return PIL.Image.alpha_composite(picture.convert("L").convert("RGBA"), heat).convert("RGB")
    picture = PIL.Image.blend(picture, PIL.Image.new("RGB", size, "black"), 0.38)
    pen = PIL.ImageDraw.Draw(picture, "RGBA")
    scale = size[0] / image.size[0], size[1] / image.size[1]
    for outline in panel.faint:
        pen.rectangle(_corners(outline, scale), outline=(255, 255, 255, 80))
    if panel.area is not None:
        pen.rectangle(_corners(panel.area, scale), outline=(255, 255, 255, 200))
    for outline in panel.marked:
        pen.rectangle(
            _corners(outline, scale), outline=_NUMBERED[outline.number - 1], width=1 if outline.against else 3
        )
    for outline, x, y in tag_places(panel.marked, 1 / min(scale)):
        left, upper = x * scale[0], y * scale[1]
        pen.rectangle((left, upper, left + TAG - 2, upper + TAG - 2), fill=_NUMBERED[outline.number - 1])
        pen.text((left + 8, upper + 8), str(outline.number), fill="black", font=_font(13), anchor="mm")
    return picture


def _corners(outline: Outline, scale: tuple[float, float]) -> tuple[float, float, float, float]:
    left, upper = outline.x * scale[0], outline.y * scale[1]
    # the last row and column of pixels are part of the box
    right = max(left, left + outline.width * scale[0] - 1)
    return left, upper, right, max(upper, upper + outline.height * scale[1] - 1)


def _ranking_column(sheet: _Sheet, rankings: list[Ranking], y: int, width: int) -> int:
    x = _MARGIN
    for entry in rankings:
        confidence = f"confidence {entry.confidence}" if entry.confidence else ""
        verdict = {True: "right", False: "wrong", None: confidence}[entry.right]
        under = sheet.text(x, y, entry.method, size=18, width=width * 0.7)
        colour = {True: _GOOD, False: _BAD, None: _QUIET}[entry.right]
        sheet.text(x + width * 0.56, y + 3, verdict, colour=colour, width=width * 0.44)
        y = under + 5
        for bar in entry.bars:
            label = f"{bar.text} (true label)" if bar.is_true else bar.text
            y = _bar_row(sheet, Bar(label, bar.length, bar.value), x, y, width, _GOOD if bar.is_true else _FILL)
        if entry.beyond:
            y = sheet.text(x, y, entry.beyond, colour=_QUIET, width=width)
        y += 14
    return y


def _reasons_column(sheet: _Sheet, why: Reasons, x: int, y: int, width: int) -> int:
    title = f"Why {why.method} puts {why.winner} before {why.runner_up}"
    y = sheet.text(x, y, title, size=18, width=width) + 2
    note = (
        f"The scores differ by {why.margin}. Bars to the right speak for {why.winner}, to the left for {why.runner_up}."
    )
    y = sheet.text(x, y, note, size=13, colour=_QUIET, width=width) + 8
    for group in why.groups:
        y = sheet.text(x, y, f"Sentences about {group.label}", colour=_QUIET, width=width) + 4
        for bar in group.bars:
            y = _bar_row(sheet, bar, x, y, width, None)
        y += 6
    return _rest_row(sheet, "other sentences", why.other_sentences, x, y, width)


def _view_rows(sheet: _Sheet, why: Reasons, y: int, width: int) -> int:
    """The views that decided, under the rankings; the sentences beside them take more room."""
    if not why.views:
        return y
    y = sheet.text(_MARGIN, y, "Views, by what they add to the difference", colour=_QUIET, width=width) + 4
    for bar in why.views:
        label = f"{bar.number}: {bar.text}" if bar.number else bar.text
        y = _bar_row(sheet, Bar(label, bar.length, bar.value), _MARGIN, y, width, None)
    return _rest_row(sheet, "other views", why.other_views, _MARGIN, y, width)


def _rest_row(sheet: _Sheet, kind: str, rest: tuple[int, str] | None, x: int, y: int, width: int) -> int:
    if rest is None:
        return y
    sheet.number(x + width, y, rest[1])
    return sheet.text(x, y, f"{rest[0]} {kind}", colour=_QUIET, width=width * 0.6)


def _bar_row(sheet: _Sheet, bar: Bar, x: int, y: int, width: int, fill: str | None) -> int:
    """Label to the left, bar and figures to the right; without ``fill`` the bar starts in the middle."""
    left, right = x + width * 0.56, x + width - 78
    sheet.rectangle(left, y + 4, right, y + 13, _TRACK)
    if fill is not None:
        start, end, colour = left, left + (right - left) * bar.length / 100, fill
    else:
        middle = (left + right) / 2
        tip = middle + (right - middle) * bar.length / 100
        start, end, colour = min(middle, tip), max(middle, tip), _CONTRA if bar.length < 0 else _PRO
    sheet.rectangle(start, y + 4, end, y + 13, colour)
    sheet.number(x + width, y, bar.value)
    return sheet.text(x, y, bar.text, width=width * 0.53) + 5
