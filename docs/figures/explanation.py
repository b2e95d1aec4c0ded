"""Draw docs/figures/explanation.png: what abs makes of one photo. Run it from the top of the checkout.

The photo is Chelsea the cat by Stefan van der Walt (CC0), which scikit-image ships.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from PIL import Image


def classify(photo: str, bundle: str, *options: str) -> None:
    """Run ``abs classify`` with nothing in its cache."""
    with tempfile.TemporaryDirectory() as home:
        command = ("-m", "abs_cli", "--home", home, "classify", photo, "--bundle", bundle, *options)
        subprocess.run([sys.executable, *command], check=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        classify(str(files("skimage") / "data" / "chelsea.png"), "pets", "--method", "abs", "--png", folder)
        (picture,) = Path(folder).glob("*.png")
        # a palette keeps the file small enough for a repository
        Image.open(picture).quantize(256).save(Path(__file__).with_name("explanation.png"), optimize=True)
