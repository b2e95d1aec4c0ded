"""What the labels of a folder depend on, and in what two runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.labelling.label_folder import LabelFolder, locked_folder
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import ResultError, StorageError, UsageError
from abs_core.files import atomic_write, storage_errors
from abs_core.labels import ClassLabel, LabelSet
from abs_core.text import json_text

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier
    from abs_classify.methods.adaptive import AdaptiveViews
    from abs_classify.methods.table import ViewNumber

__all__ = [
    "SHARD_KEY",
    "differences_of",
    "identity_of",
    "open_or_create",
    "read_label_space",
    "refuse_differences",
    "views_as_json",
    "write_label_space",
]

_CLASSES = "classes.json"

#: what the identity of a folder calls the share of the images that it is of; those of all images have none
SHARD_KEY = "shard"

# classes that a message names
_NAMED = 3

# what each part of an identity is called in messages
_WORDS = {
    "model": "model",
    "model_digest": "weights or number type of the model",
    "attention": "attention backend",
    "method": "method",
    "method_key": "views or scorer of the method (--views)",
    "views": "rule for the number of views",
    "templates": "template set",
    "texts_digest": "class texts",
    "negatives": "negatives",
    "none": "question whether an image shows none of the classes (--none)",
    "seed": "seed",
    "truncated": "treatment of files that end early",
    SHARD_KEY: "share of the images (--shard)",
}


def identity_of(
    classifier: Classifier, negatives: Sequence[str], none: bool, truncated: str, shard: str | None = None
) -> dict[str, Any]:
    """What a label depends on besides the image and the classes, as JSON values by name.

    Args:
        classifier: its model is not loaded.
        negatives, none, truncated: as ``label`` takes them.
        shard: the share of the images that the folder is of, ``1/3``; None for all.
    """
    models = classifier.stages.models
    facts = models.facts
    return {
        "model": models.label,
        "model_digest": facts.model,
        "attention": facts.attention,
        "method": classifier.method.name,
        "method_key": classifier.method.key(),
        "views": _views_key(classifier.adaptive),
        "texts_digest": classifier.class_texts.digest,
        "seed": classifier.stages.seed,
        "negatives": list(negatives),
        "none": none,
        "truncated": truncated,
        **({} if shard is None else {SHARD_KEY: shard}),
    }


def views_as_json(views: ViewNumber) -> Any:
    """How a run looks at views, as JSON values: a number, None for the method's own, or a rule with all it needs."""
    from abs_classify.methods.adaptive import AdaptiveViews

    if views == "adaptive":
        views = AdaptiveViews()
    if not isinstance(views, AdaptiveViews):
        return views
    calibration = None if views.calibration is None else views.calibration.model_dump(mode="json")
    return {"agreement": views.agreement, "stopping": views.stopping, "calibration": calibration}


def _views_key(adaptive: AdaptiveViews | None) -> dict[str, Any] | None:
    if adaptive is None:
        return None
    calibration = None if adaptive.calibration is None else adaptive.calibration.digest
    return {"agreement": adaptive.agreement, "stopping": adaptive.stopping, "calibration": calibration}


def open_or_create(
    path: Path, space: LabelSpace, identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> LabelFolder:
    """The folder of a run, which is made if it is not there.

    Args:
        path: the folder.
        space: the candidate classes, with their descriptions.
        identity: what the labels depend on besides.
        settings: how to open the model again, JSON values.

    Raises:
        UsageError: it is the folder of another run, or holds other files, or another process is about to make it.
        ResultError, StorageError: it cannot be used.
    """
    classes = space.labels.classes
    if not LabelFolder.exists(path):
        _refuse_other_files(path)
        # or of two runs that begin at once, one would label into what the other has just made
        with locked_folder(path):
            if not LabelFolder.exists(path):
                write_label_space(path, space)
                return LabelFolder.create(path, classes, identity, settings)
    folder = LabelFolder.open(path)
    refuse_differences(folder, space, identity)
    try:
        read_label_space(folder)
    except (ResultError, StorageError):  # damaged or lost; the texts of the space are those of the run
        write_label_space(path, space)
    return folder


def refuse_differences(folder: LabelFolder, space: LabelSpace, identity: Mapping[str, Any]) -> None:
    """Refuse to use a folder for anything but its own run.

    Args:
        folder: the folder.
        space, identity: of the run that is wanted.

    Raises:
        UsageError: it is the folder of another run; the message says what differs.
    """
    if differences := differences_of(folder, space.labels.classes, identity):
        raise UsageError(
            f"{str(folder.path)!r} is the folder of another run: {'; '.join(differences)}",
            remedy="Give another folder with --out, or the options of that run",
        )


def differences_of(folder: LabelFolder, classes: Sequence[ClassLabel], identity: Mapping[str, Any]) -> list[str]:
    """In what the run of a folder differs from another one, as phrases; none if it does not."""
    return [
        *_class_differences(folder.classes, classes),
        *_identity_differences(folder.run["identity"], identity),
    ]


def write_label_space(path: Path, space: LabelSpace) -> None:
    """Keep the classes and descriptions of a folder's run."""
    with atomic_write(path / _CLASSES) as stream:
        stream.write((json_text(_space_as_json(space)) + "\n").encode())


def _refuse_other_files(path: Path) -> None:
    if not path.exists():
        return
    with storage_errors(path, "read"):
        others = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    # what a run leaves that was killed before it had a row
    if set(others) - {_CLASSES}:
        raise UsageError(
            f"{str(path)!r} holds other files, such as {others[0]!r}, and no labels",
            remedy="Give a new or empty folder with --out",
        )


def _class_differences(ours: Sequence[ClassLabel], theirs: Sequence[ClassLabel]) -> list[str]:
    if [(label.id, label.name) for label in ours] == [(label.id, label.name) for label in theirs]:
        return []
    old, new = {label.id for label in ours}, {label.id for label in theirs}
    parts = []
    for verb, ids in (("lacks", sorted(new - old)), ("also has", sorted(old - new))):
        if ids:
            shown = ", ".join(map(repr, ids[:_NAMED])) + (", ..." if len(ids) > _NAMED else "")
            parts.append(
                f"it {verb} {len(ids)} of the classes ({shown})" if len(ids) > 1 else f"it {verb} the class {shown}"
            )
    return parts or ["its classes have another order or other names"]


def _identity_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    parts = []
    # another method has other attention and views, too
    implied = ("attention", "method_key", "views") if ours.get("method") != theirs.get("method") else ()
    for name in dict.fromkeys([*ours, *theirs]):
        old, new = ours.get(name), theirs.get(name)
        if old == new or name in implied:
            continue
        word = _WORDS.get(name, name)
        is_short = all(isinstance(value, str | int | float | bool | None) for value in (old, new))
        if is_short and not str(name).endswith("digest") and name != "attention":
            parts.append(f"its {word} is {_shown(old)}, not {_shown(new)}")
        else:
            parts.append(f"its {word} differ{'' if word.endswith('s') else 's'}")
    return parts


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value)


def _space_as_json(space: LabelSpace) -> dict[str, Any]:
    return {
        "name": space.labels.name,
        "source": space.source,
        "classes": [
            {
                "id": label.id,
                "name": label.name,
                "descriptions": None
                if space.descriptions is None
                else [{"text": item.text, "kind": item.kind} for item in space.descriptions[label.id]],
            }
            for label in space.labels.classes
        ],
    }


def read_label_space(folder: LabelFolder) -> LabelSpace:
    """The classes and descriptions of a folder's run.

    Raises:
        ResultError: the file is damaged or lost.
        StorageError: it cannot be read.
    """
    path = folder.path / _CLASSES
    remedy = "Run the `abs label` command of the folder again, which writes it anew"
    if not path.exists():
        raise ResultError(f"there is no {path}", remedy=remedy)
    with storage_errors(path, "read"):
        data = path.read_bytes()
    try:
        value = json.loads(data)
        labels = LabelSet(value["name"], tuple(ClassLabel(entry["id"], entry["name"]) for entry in value["classes"]))
        described = {entry["id"]: entry["descriptions"] for entry in value["classes"]}
        descriptions = None
        if all(items is not None for items in described.values()):
            descriptions = {
                class_id: tuple(Description(item["text"], item["kind"]) for item in items)
                for class_id, items in described.items()
            }
        return LabelSpace(labels, descriptions, value["source"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultError(f"{path} is damaged", remedy=remedy) from error
