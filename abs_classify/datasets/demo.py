"""Photos that ship with the packages scikit-image and scikit-learn, and small on other backgrounds: ``demo``.

They need no download and are found without importing the packages. Each label was assigned by looking at the image;
the 17 candidate classes, ``data/labels/demo.json``, are the eight subjects and the ten classes of CIFAR-10, which were
not chosen to suit these photos; cat is both.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.datasets.base import Dataset, Sample, read_bytes, split_options
from abs_core.canonical import sha256_bytes
from abs_core.errors import DatasetError, UsageError
from abs_core.extras import distribution_name, package_folder
from abs_core.labels import shipped_label_set

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DEMO_PHOTOS", "DemoPhoto", "SmallPhoto", "open_demo"]


@dataclass(frozen=True)
class DemoPhoto:
    """A photo that a package ships.

    Attributes:
        package: the package.
        file: in it.
        label: the id of its class.
        credit: who made it, and its license, as the package says.
    """

    package: str
    file: str
    label: str
    credit: str


#: All photos of the two packages that were taken with a camera, show something that people have a word for, and have a
#: license that the package states. Left out are those taken through a telescope, microscope or ophthalmoscope, drawings
#: and test patterns, scans of text, the surfaces brick, grass and gravel, a clock that motion has blurred beyond
#: recognition, faces of 25 pixels, and a motorcycle whose license is not stated.
DEMO_PHOTOS: tuple[DemoPhoto, ...] = (
    DemoPhoto("skimage", "data/chelsea.png", "cat", "Stefan van der Walt, CC0"),
    DemoPhoto("skimage", "data/coffee.png", "cup_of_coffee", "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0"),
    DemoPhoto("sklearn", "datasets/images/flower.jpg", "flower", "vultilion, CC BY 2.0"),
    DemoPhoto("sklearn", "datasets/images/china.jpg", "temple", "danielbuechele, CC BY 2.0"),
    DemoPhoto("skimage", "data/rocket.jpg", "rocket", "SpaceX, public domain"),
    DemoPhoto("skimage", "data/astronaut.png", "astronaut", "NASA, public domain"),
    DemoPhoto("skimage", "data/coins.png", "coin", "Brooklyn Museum, no known copyright restrictions"),
    DemoPhoto("skimage", "data/camera.png", "photographer", "Lav Varshney, CC0"),
)

_BACKGROUNDS = 3
_SIDE = 448
#: of a small photo, in percent of the height of the image: what is usual, and what fits with the margins
_HEIGHT, _HEIGHTS = 30, range(10, 51)
_BLUR = 1 / 24
#: what is left free on each side, so that the central 7/8 that a model may see has all of the photo
_MARGIN = 1 / 16


@dataclass(frozen=True, slots=True)
class SmallPhoto:
    """A photo on another one, which is larger and blurred; the ``ByteSource`` of a sample.

    Args:
        photo: the file of the photo.
        background: the file of the other one.
        digest: of the content of the background, in hexadecimal digits.
        corner: 0 upper left, 1 upper right, 2 lower left, 3 lower right.
        height: of the photo, in percent of the height of the image.
    """

    photo: Path
    background: Path
    digest: str
    corner: int
    height: int = _HEIGHT

    @property
    def name(self) -> str:
        """What it is, with the digest: a background that changes makes another image."""
        return f"at {self.height} % on {self.background.name} ({self.digest})"

    def read(self) -> bytes:
        """The composed image as a Netpbm file (P6), without loss.

        Raises:
            ImageError: a file cannot be read.
        """
        from PIL import Image, ImageFilter

        ground = self._open(self.background)
        side = min(ground.size)
        left, top = (ground.width - side) // 2, (ground.height - side) // 2
        square = ground.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        image = square.filter(ImageFilter.GaussianBlur(_SIDE * _BLUR))
        photo = self._open(self.photo)
        height = round(self.height / 100 * _SIDE)
        small = photo.resize((round(height * photo.width / photo.height), height), Image.Resampling.LANCZOS)
        margin = round(_MARGIN * _SIDE)
        right, bottom = self.corner % 2, self.corner // 2
        x = _SIDE - margin - small.width if right else margin
        y = _SIDE - margin - small.height if bottom else margin
        image.paste(small, (x, y))
        return b"P6\n%d %d\n255\n" % image.size + image.tobytes()

    def _open(self, path: Path) -> Image.Image:
        from PIL import Image

        with Image.open(BytesIO(read_bytes(path, str(path)))) as image:
            return image.convert("RGB")


def open_demo(location: str = "") -> Dataset:
    """The photos of the demo with 17 candidate classes: ``demo``; each small on three others: ``demo:small``.

    Args:
        location: empty, or "small", of which ``small?height=20`` makes the photos 20 % as high as the image.

    Raises:
        MissingExtraError: scikit-image or scikit-learn is not installed.
        UsageError: an option other than the height, or a height that is no whole number from 10 to 50.
        DatasetError: the installed version lacks a photo, or there is no such part.
    """
    part, options = split_options(location, ("height",) if location.startswith("small") else (), "demo:small?height=20")
    height = options.get("height", str(_HEIGHT))
    if part not in ("", "small"):
        raise DatasetError(f"unknown part of the demo: {location!r}", remedy="Write demo or demo:small")
    if height not in map(str, _HEIGHTS):
        raise UsageError(
            f"height must be a whole number from {_HEIGHTS[0]} to {_HEIGHTS[-1]}, got {height!r}",
            remedy="Write demo:small?height=20",
        )
    folders = {
        package: package_folder(package, extra="demo") for package in sorted({photo.package for photo in DEMO_PHOTOS})
    }
    files = [folders[photo.package] / photo.file for photo in DEMO_PHOTOS]
    for file, photo in zip(files, DEMO_PHOTOS, strict=True):
        if not file.is_file():
            package = distribution_name(photo.package)
            raise DatasetError(
                f"the installed {package} lacks the demo photo {photo.file!r}",
                remedy=f"Run: pip install --force-reinstall --no-deps {package}",
            )
    credits = "; ".join(f"{file.name}: {photo.credit}" for file, photo in zip(files, DEMO_PHOTOS, strict=True))
    classes = shipped_label_set("demo").classes
    if part:
        notes = (f"photos, made small and put on another one that is blurred: {credits}",)
        return Dataset(f"demo:{location}", classes, _small(files, int(height)), notes=notes)
    samples = tuple(Sample(file, photo.label) for file, photo in zip(files, DEMO_PHOTOS, strict=True))
    return Dataset("demo", classes, samples, notes=(f"photos: {credits}",))


def _small(files: list[Path], height: int) -> tuple[Sample, ...]:
    """Each photo on the ones that follow it in the list, in the corners in turn."""
    digests = [sha256_bytes(read_bytes(file, str(file))).partition(":")[2][:8] for file in files]
    samples: list[Sample] = []
    for place, photo in enumerate(DEMO_PHOTOS):
        for step in range(1, _BACKGROUNDS + 1):
            other = (place + step) % len(files)
            source = SmallPhoto(files[place], files[other], digests[other], len(samples) % 4, height)
            samples.append(Sample(files[place], photo.label, source))
    return tuple(samples)
