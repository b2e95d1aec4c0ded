"""Reports for people: one self-contained HTML page, or one PNG that explains one image.

data.py       what a page shows, as plain data
contents.py   fills it from the results of a run
evaluation.py      the pages of an evaluation, and the other files beside its results
classification.py  the page and pictures of images without labels
layout.py     outlines, rankings and reasons, worked out from the data; page and picture draw the same
page.py       the page: the values of the template, and the file that is written
png.py        one explanation as one picture
drawing.py    pixels: thumbnails, the colour map and heat overlays
"""

from __future__ import annotations

from abs_classify.report.page import render_report, write_report
from abs_classify.report.png import explanation_image, explanation_png

__all__ = ["explanation_image", "explanation_png", "render_report", "write_report"]
