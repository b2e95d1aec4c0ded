"""What a page shows: places in pixels, and data that cannot be drawn."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from report_pages import make_image

from abs_classify.report.layout import ReportImage, ViewPlaces
from abs_core.errors import UsageError


def test_windows_lie_on_the_area_that_the_grid_covers():
    places = make_image().views[1]
    pixels = places.pixels((640, 427))
    assert pixels[3] == pytest.approx(places.area)
    # rows 0 to 4 and columns 1 to 6 of 7 on a square of 427 that starts at x = 106.5
    assert pixels[0] == pytest.approx([106.5 + 61.0, 0.0, 106.5 + 366.0, 244.0])
    whole = ViewPlaces("window", np.array([[0, 7, 0, 7]]), grid=7).pixels((640, 427))
    assert whole[0] == pytest.approx([0, 0, 640, 427])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ViewPlaces("box", np.zeros((3, 3), dtype=np.int64)),
        lambda: ViewPlaces("window", np.zeros((3, 4), dtype=np.int64)),
        lambda: ReportImage("a", PIL.Image.new("RGB", (1, 1)), (1, 1), attention=np.full((2, 2), np.nan)),
        lambda: ReportImage("a", PIL.Image.new("RGB", (1, 1)), (1, 1), attention=np.zeros(3)),
    ],
)
def test_data_that_cannot_be_drawn_is_refused(make):
    with pytest.raises(UsageError):
        make()
