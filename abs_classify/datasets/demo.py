"""Twenty images that ship with the packages scikit-image and scikit-learn: ``demo``.

They need no download and are found without importing the packages. Each label was assigned by looking at the image;
the 48 candidate classes are those of ``data/labels/demo.json``.
"""

from __future__ import annotations

from abs_classify.datasets.base import Dataset, Sample
from abs_core.errors import DatasetError
from abs_core.extras import distribution_name, package_folder
from abs_core.labels import shipped_label_set

__all__ = ["DEMO_IMAGES", "open_demo"]

#: (package, file in it, class id). Left out are drawings and test patterns (chessboards, colour wheel, logo, phantom),
#: the second half of a stereo pair (motorcycle_right shows the same scene as motorcycle_left), a patch of a retina that
#: is there as a whole (microaneurysms), a phase reconstruction that nobody could name (cell), and tiny images.
DEMO_IMAGES: tuple[tuple[str, str, str], ...] = (
    ("skimage", "data/astronaut.png", "astronaut"),
    ("skimage", "data/brick.png", "brick_wall"),
    ("skimage", "data/camera.png", "photographer"),
    ("skimage", "data/chelsea.png", "cat"),
    # blurred by motion, hardly recognizable
    ("skimage", "data/clock_motion.png", "clock"),
    ("skimage", "data/coffee.png", "cup_of_coffee"),
    ("skimage", "data/coins.png", "coin"),
    ("skimage", "data/grass.png", "grass"),
    ("skimage", "data/gravel.png", "gravel"),
    # a black silhouette, the only image here that is not a photo
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
    """The images of the demo with 48 candidate classes.

    Args:
        location: must be empty; the demo has no variants.

    Raises:
        MissingExtraError: scikit-image or scikit-learn is not installed.
        DatasetError: the installed version lacks an image, or ``location`` is not empty.
    """
    if location:
        raise DatasetError(f"the data set 'demo' takes no location, got {location!r}", remedy="Write demo")
    folders = {
        package: package_folder(package, extra="demo") for package in sorted({package for package, _, _ in DEMO_IMAGES})
    }
    samples = tuple(Sample(folders[package] / file, label) for package, file, label in DEMO_IMAGES)
    for sample, (package, file, _) in zip(samples, DEMO_IMAGES, strict=True):
        if not sample.path.is_file():
            raise DatasetError(
                f"the installed {distribution_name(package)} lacks the demo image {file!r}",
                remedy="Run: pip install --upgrade 'abs-toolkit[demo]'",
            )
    return Dataset("demo", shipped_label_set("demo").classes, samples)
