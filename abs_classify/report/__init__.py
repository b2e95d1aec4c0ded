"""Reports for people: one self-contained HTML page, or one PNG that explains one image.

image_rows.py what is known of every image, as columns; which images get pictures
contents.py   what a page shows, out of the results of a run; the files of an evaluation and of a classification
layout.py     the same as plain data, with outlines, rankings and reasons; page and picture draw the same
highlights.py the images that a page opens with, and by which rule
page.py       the page: results as markup, images as data, written block by block
              (rows.js rows, filters and orders; picture.js one image; summary.js tables; page.js keys and parts)
png.py        one explanation as one picture
drawing.py    pixels: thumbnails, the colour map and heat overlays
"""

from __future__ import annotations

from abs_classify.report.page import render_report, write_report
from abs_classify.report.png import explanation_image, explanation_png

__all__ = ["explanation_image", "explanation_png", "render_report", "write_report"]
