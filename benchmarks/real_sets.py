"""Labelled images that packages ship, as ``csv:`` data sets: nothing of them is in this repository.

    python benchmarks/real_sets.py stamps DIR      # apt-get install tuxpaint-stamps-default      (GPL-2)
    python benchmarks/real_sets.py emoji DIR       # apt-get install fonts-noto-color-emoji       (OFL-1.1)
    python benchmarks/real_sets.py flags DIR       # apt-get install iso-flags-png-320x240 tzdata (public domain)
    python benchmarks/real_sets.py digits DIR      # pip install scikit-learn                     (BSD-3-Clause)

    abs eval --dataset csv:DIR/stamps/images.csv --methods clip,clip-e,cupl,wca,abs

``stamps``: photographs of animals, plants, food, clothes, tools, instruments and vehicles, cut out, from Tux Paint; the
class is what the stamp says of itself. ``emoji``: Google's drawings of animals, plants and food; the class is the
character's name in Unicode. ``flags``: of countries and territories; the class is the name in ISO 3166. ``digits``: the
handwritten digits of UCI, 8 x 8 pixels, the first 20 of each. What is kept is decided by rules, never by looking at a
result. ``--package`` names another folder that the package was extracted to (``dpkg -x FILE.deb FOLDER``).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Pairs = Iterator[tuple[Path, str]]

STAMPS = "usr/share/tuxpaint/stamps"
PHOTOGRAPHED = ("animals", "clothes", "food", "hobbies", "household", "plants", "sports", "vehicles")
#: "A great blue heron." and "A peacock (a male peafowl)." are names; "Eat your broccoli!" is none.
STAMP_NAME = re.compile(r"(?:An?|The) ((?:[\w“”'’-]+ ?){1,4})(?: \(.*\))?\.")

FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
#: the only size that the font's bitmaps have
FONT_SIZE = 109
#: plants and food; animals; more food; more animals
EMOJI = ((0x1F32D, 0x1F380), (0x1F400, 0x1F43F), (0x1F950, 0x1F970), (0x1F980, 0x1F9AF))

FLAGS, COUNTRIES = "usr/share/iso-flags-png-320x240", "usr/share/zoneinfo/iso3166.tab"

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
OF_EACH_DIGIT = 20


def stamps(root: Path, target: Path) -> Pairs:  # noqa: ARG001 - as of every set
    """The photographs that are named, where they lie."""
    for path in sorted((root / STAMPS).rglob("*.png")):
        text = path.with_suffix(".txt")
        kind = path.relative_to(root / STAMPS).parts
        if kind[0] in PHOTOGRAPHED and "cartoon" not in kind and text.is_file():
            found = STAMP_NAME.fullmatch(text.read_text(encoding="utf-8").partition("\n")[0].strip())
            if found:
                yield path, re.sub("[“”'’]", "", found[1]).strip().lower()


def emoji(root: Path, target: Path) -> Pairs:
    """The characters that the font draws, on white."""
    font = ImageFont.truetype(str(root / FONT), FONT_SIZE)
    for code in (code for first, end in EMOJI for code in range(first, end)):
        image = Image.new("RGB", (160, 160), "white")
        ImageDraw.Draw(image).text((12, 16), chr(code), font=font, embedded_color=True)
        name = unicodedata.name(chr(code), "")
        if name and image.getcolors(1) is None:
            path = target / f"{code:x}.png"
            image.save(path)
            yield path, name.lower()


def flags(root: Path, target: Path) -> Pairs:  # noqa: ARG001 - as of every set
    """The flags of ISO 3166, where they lie."""
    for line in (root / COUNTRIES).read_text(encoding="utf-8").splitlines():
        code, _, name = line.partition("\t")
        path = root / FLAGS / f"{code.lower()}.png"
        if not line.startswith("#") and path.is_file():
            yield path, f"flag of {name}"


def digits(root: Path, target: Path) -> Pairs:  # noqa: ARG001 - it comes with a Python package
    """The first of each digit, black on white, enlarged."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        sys.exit("scikit-learn is not installed")
    counts: Counter[int] = Counter()
    with gzip.open(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as stream:
        for at, line in enumerate(stream):
            *ink, digit = (int(float(value)) for value in line.split(","))
            counts[digit] += 1
            if counts[digit] <= OF_EACH_DIGIT:
                image = Image.new("L", (8, 8))
                image.putdata([255 - 255 * value // 16 for value in ink])
                path = target / f"{at:04d}.png"
                image.resize((224, 224), Image.Resampling.BICUBIC).save(path)
                yield path, f"digit {DIGITS[digit]}"


SETS: dict[str, Callable[[Path, Path], Pairs]] = {"stamps": stamps, "emoji": emoji, "flags": flags, "digits": digits}


def main() -> None:
    """Build one set and say how to use it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("folder", type=Path, help="where to put the table, and images that must be drawn")
    parser.add_argument("--package", type=Path, default=Path("/"), help="where the package was extracted to")
    options = parser.parse_args()
    target = options.folder / options.set
    target.mkdir(parents=True, exist_ok=True)
    rows = [(path.resolve(), name.replace(" ", "_")) for path, name in SETS[options.set](options.package, target)]
    if not rows:
        sys.exit(f"there is nothing of {options.set} below {options.package}; see --help for the package")
    table = target / "images.csv"
    with table.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    print(f"{len(rows)} images of {len({label for _, label in rows})} classes: csv:{table}")


if __name__ == "__main__":
    main()
