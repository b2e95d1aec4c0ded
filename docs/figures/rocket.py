"""Draw docs/figures/rocket-light.webp and rocket-dark.webp: the page of the README's command, cut down to a picture.

Run it from the top of the checkout; it needs Chromium. The photo is of a Falcon 9, by SpaceX (public domain), as
scikit-image ships it.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
from pathlib import Path

from explanation import classify
from PIL import Image

FIGURES = Path(__file__).parent
sys.path.append(str(FIGURES.parents[1] / "tests"))
from browser import Page, browser  # noqa: E402

WIDTH = 940
# Left out: what leads to other images, the sentences of the second class, and the list of views.
STYLE = """
#bar, .tools, #image h3, .legend, .why > .quiet, .why > div ~ div, .parts ~ .parts, .rest { display: none !important; }
.report { height: auto; overflow: visible; }
body, .view { background: transparent; }
.view { padding: 0.3rem 0; overflow: visible; }
#image { display: grid; grid-template-columns: 3fr 7fr; gap: 1.1rem 2rem; }
.panels { grid-column: 1 / -1; grid-template-columns: repeat(4, 1fr); gap: 0.8rem; }
.panel > svg { aspect-ratio: 3 / 2; }
.panel figcaption { font-size: 0.78rem; white-space: nowrap; }
.panel b { display: block; }
.rankings, .why { margin: 0; border: 0; padding: 0; }
.why > div { margin-top: 0.4rem; }
.sides { grid-template-columns: 1fr; }
.parts th { width: 70%; }
"""


def draw(page: Page, scheme: str) -> None:
    """Write the picture for readers who like pages light or dark, at twice the size it is shown at."""
    page.prefer(scheme)
    page.call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=900, deviceScaleFactor=2, mobile=False)
    height = page.run("document.querySelector('#image-view').getBoundingClientRect().height")
    # whatever the picture lies on shows through
    page.call("Emulation.setDefaultBackgroundColorOverride", color={"r": 0, "g": 0, "b": 0, "a": 0})
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
    data = base64.b64decode(page.call("Page.captureScreenshot", format="png", clip=clip)["data"])
    Image.open(io.BytesIO(data)).save(FIGURES / f"rocket-{scheme}.webp", quality=85, method=6)


with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
    report = Path(folder) / "report.html"
    classify("examples/rocket.jpg", "examples/towers.jsonl", "--report", str(report))
    page.open(report.as_uri(), Path(folder))
    page.wait_for("document.querySelector('#image .panels') !== null")
    # the page's policy refuses a style element
    page.run(
        "const sheet = new CSSStyleSheet();"
        f"sheet.replaceSync({json.dumps(STYLE)}); document.adoptedStyleSheets = [sheet]"
    )
    for scheme in ("light", "dark"):
        draw(page, scheme)
