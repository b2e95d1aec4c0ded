"""Twenty pictures that come inside the packages scikit-image and scikit-learn: ``demo``.

They are found without importing the packages, and they are there without a download. Each label was given by looking
at the picture; the 48 candidate classes are those of ``data/labels/demo.json``.
"""

from __future__ import annotations

from abs_classify.datasets.base import Dataset, Sample
from abs_core.errors import DatasetError
from abs_core.extras import distribution_name, package_folder
from abs_core.labels import shipped_label_set

__all__ = ["DEMO_IMAGES", "open_demo"]


#: (package, file in it, class id). Left out: drawings and test patterns (chessboards, colour wheel, logo, phantom), the
#: second half of a stereo pair (motorcycle_right shows the same scene as motorcycle_left), a patch of a retina beside
#: the whole one (microaneurysms), a phase reconstruction that nobody could name (cell), and images of a few pixels.
DEMO_IMAGES: tuple[tuple[str, str, str], ...] = (
    ("skimage", "data/astronaut.png", "astronaut"),
    ("skimage", "data/brick.png", "brick_wall"),
    ("skimage", "data/camera.png", "photographer"),
    ("skimage", "data/chelsea.png", "cat"),
    # blurred by motion, and hardly to be recognised
    ("skimage", "data/clock_motion.png", "clock"),
    ("skimage", "data/coffee.png", "cup_of_coffee"),
    ("skimage", "data/coins.png", "coin"),
    ("skimage", "data/grass.png", "grass"),
    ("skimage", "data/gravel.png", "gravel"),
    # a black silhouette, the one picture here that is no photo
    ("skimage", "data/horse.png", "horse"),
    ("skimage", "data/hubble_deep_field.jpg", "galaxy"),
    # stained with antibodies, seen through a microscope
    ("skimage", "data/ihc.png", "tissue_sample"),
    ("skimage", "data/moon.png", "moon"),
    ("skimage", "data/motorcycle_left.png", "motorcycle"),
    ("skimage", "data/page.png", "printed_page"),
    ("skimage", "data/retina.jpg", "retina"),
    ("skimage", "data/rocket.jpg", "rocket"),
    ("skimage", "data/text.png", "handwriting"),
    ("sklearn", "datasets/images/china.jpg", "temple"),
    ("sklearn", "datasets/images/flower.jpg", "flower"),
)


def open_demo(location: str = "") -> Dataset:
    """The demo's pictures, and the 48 classes among which they are to be told.

    Args:
        location: must be empty; the demo has no variants.

    Raises:
        MissingExtraError: scikit-image or scikit-learn is not installed.
        DatasetError: the installed version lacks a picture, or ``location`` is not empty.
    """
    if location:
        raise DatasetError(f"the data set 'demo' takes no location, but got {location!r}", remedy="Write demo")
    folders = {
        package: package_folder(package, extra="demo") for package in sorted({package for package, _, _ in DEMO_IMAGES})
    }
    items = tuple(Sample(folders[package] / file, label) for package, file, label in DEMO_IMAGES)
    for item, (package, file, _) in zip(items, DEMO_IMAGES, strict=True):
        if not item.path.is_file():
            raise DatasetError(
                f"the installed {distribution_name(package)} lacks the demo picture {file!r}",
                remedy="Run: pip install --upgrade 'abs-toolkit[demo]'",
            )
    return Dataset("demo", shipped_label_set("demo").classes, items)
