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

with tempfile.TemporaryDirectory() as folder:
    photo = str(files("skimage") / "data" / "chelsea.png")
    common = ("-m", "abs_cli", "--home", f"{folder}/home")
    command = ("classify", photo, "--bundle", "pets", "--method", "abs", "--png", f"{folder}/pictures")
    subprocess.run([sys.executable, *common, *command], check=True)
    (picture,) = Path(folder).glob("pictures/*.png")
    # a palette keeps the file small enough for a repository
    Image.open(picture).quantize(256).save(Path(__file__).with_name("explanation.png"), optimize=True)
