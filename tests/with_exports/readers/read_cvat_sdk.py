"""Takes an export apart with the models of CVAT's SDK, as a client sends them, and prints them as JSON.

The SDK reads no files: CVAT's server does, and it cannot be installed as a package.
"""

import importlib.metadata
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

from cvat_sdk import models

folder = Path(sys.argv[1])
labels = [
    models.PatchedLabelRequest(
        name=label["name"],
        type=label["type"],
        attributes=[models.AttributeRequest(**attribute) for attribute in label["attributes"]],
    )
    for label in json.loads((folder / "labels.json").read_bytes())
]
task = models.TaskWriteRequest(name="export", labels=labels)
ids = {label.name: number for number, label in enumerate(labels, 1)}
root = ElementTree.parse(folder / "annotations.xml").getroot()
assert [label.find("name").text for label in root.iter("label")] == list(ids)
tags, shapes, names = [], [], []
for image in root.iter("image"):
    frame = int(image.attrib["id"])
    names.append(image.attrib["name"])
    for tag in image.iter("tag"):
        tags.append(
            models.LabeledImageRequest(frame=frame, label_id=ids[tag.attrib["label"]], source=tag.attrib["source"])
        )
    for box in image.iter("box"):
        shapes.append(
            models.LabeledShapeRequest(
                type="rectangle",
                frame=frame,
                label_id=ids[box.attrib["label"]],
                source=box.attrib["source"],
                points=[float(box.attrib[corner]) for corner in ("xtl", "ytl", "xbr", "ybr")],
            )
        )
data = models.LabeledDataRequest(tags=tags, shapes=shapes)
print(
    json.dumps(
        {
            "version": importlib.metadata.version("cvat-sdk"),
            "names": names,
            "task": task.to_dict(),
            "data": data.to_dict(),
        }
    )
)
