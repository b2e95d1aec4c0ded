"""Reads exports with FiftyOne's own importers, which need no database, and prints what they gave as JSON."""

import importlib.metadata
import json
import sys

from fiftyone.utils.data.importers import (
    FiftyOneImageClassificationDatasetImporter,
    FiftyOneImageDetectionDatasetImporter,
)


def described(label):
    if label is None:
        return None
    if hasattr(label, "detections"):
        return [[entry.label, entry.bounding_box, entry.confidence] for entry in label.detections]
    return [label.label, label.confidence]


folder, kind, labels = sys.argv[1:]
importers = {
    "classification": FiftyOneImageClassificationDatasetImporter,
    "detection": FiftyOneImageDetectionDatasetImporter,
}
importer = importers[kind](dataset_dir=folder, labels_path=labels, compute_metadata=True)
with importer:
    rows = [[path, [metadata.width, metadata.height], described(label)] for path, metadata, label in importer]
    classes = importer.get_dataset_info()["classes"]
print(json.dumps({"version": importlib.metadata.version("fiftyone"), "classes": classes, "rows": rows}))
