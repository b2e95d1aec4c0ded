"""Reads an export with Datumaro, and prints what it gave as JSON."""

import importlib.metadata
import json
import sys

import datumaro

folder, kind, *options = sys.argv[1:]
dataset = datumaro.Dataset.import_from(folder, kind, **dict.fromkeys(options, True))
names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
items = [
    {
        "id": item.id,
        "size": list(item.media.size) if item.media.data is not None else None,
        "labels": [
            [names[annotation.label], annotation.type.name, getattr(annotation, "get_bbox", list)()]
            for annotation in item.annotations
        ],
        "attributes": [annotation.attributes for annotation in item.annotations],
    }
    for item in dataset
]
print(json.dumps({"version": importlib.metadata.version("datumaro"), "classes": names, "items": items}, default=str))
