"""Keep the descriptions that images use in soft matching; the images need no labels.

python examples/filter_by_images.py FOLDER BUNDLE IMAGES
"""

from __future__ import annotations

import sys
from pathlib import Path

from abs_classify import Classifier, measure_usage
from abs_classify.usage import open_images
from abs_descriptions import FilterOutput, Repository, filter_bundle, find_bundle
from abs_descriptions.filtering.bundle_filters import filter_by_weight


def main(folder: str, reference: str, images: str) -> None:
    repository = Repository.local(Path(folder))
    bundle = find_bundle(repository, reference)
    classifier = Classifier("embedded", bundle.label_space(), method="abs", views=10)
    usage = measure_usage(classifier, open_images(images).samples)
    result = filter_bundle(
        bundle,
        # The descriptions of each class that hold 90 % of its weight; the rest is kept beside the child, with reasons.
        lambda parent: filter_by_weight(
            parent, usage.weights, keep=None, share=0.9, model=usage.model, parameters=usage.parameters
        ),
        FilterOutput(repository),
    )
    print(f"{result.reference}: {len(result.filtered.kept)} kept, {len(result.filtered.removed)} removed")


if __name__ == "__main__":
    main(*sys.argv[1:])
