"""Reports for people: one self-contained HTML page, or one PNG that explains one photo.

    page.py       the page: what the template shows, and the file that is written
    drawing.py    pixels: thumbnails and heat overlays
    colour.py     the colour map
    png.py        one explanation as one picture

The data that goes in is in ``abs_classify.report_data``.
"""

from __future__ import annotations

from abs_classify.report.page import render_report, write_report
from abs_classify.report.png import explanation_image, explanation_png

__all__ = ["explanation_image", "explanation_png", "render_report", "write_report"]
