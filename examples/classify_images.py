"""Classify images with a few sentences for each class, and say why.

python examples/classify_images.py photo.jpg ...
"""

from __future__ import annotations

import sys

from abs_classify import Classifier

DESCRIPTIONS = {
    "cat": ["A cat has whiskers, pointed ears and soft fur.", "A photo of a cat's face."],
    "cup": ["A cup of coffee stands on a saucer.", "A cup with a handle and a dark drink."],
    "rocket": ["A rocket stands on a launch pad.", "A tall white rocket with boosters."],
}


def main(paths: list[str]) -> None:
    # The embedded model needs no download; use an open_clip model such as "ViT-B-16-quickgelu/openai" for work.
    classifier = Classifier("embedded", DESCRIPTIONS, method="abs")
    for prediction in classifier.classify(paths, explain=True):
        print(f"{prediction.image_name}: {prediction.name}")
        if prediction.explanation is not None:
            print(f"    {prediction.explanation.sentences[0].text}")


if __name__ == "__main__":
    main(sys.argv[1:])
