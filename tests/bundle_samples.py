"""Small bundles for tests, and how tests write and import them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_core.labels import ClassLabel, LabelSet, from_names
from abs_descriptions.bundles import Bundle, Description, Generator, PromptSetEntry, Provenance, Rejection, write_bundle
from abs_descriptions.bundles.repository import Repository

if TYPE_CHECKING:
    from support import Abs

#: A pinned reference as commands print it.
PINNED = re.compile(r"[a-z]+@\d+\.\d+\.\d+#sha256:[0-9a-f]{64}\n")
CREATED = "2025-01-31T12:00:00Z"
PETS = LabelSet(
    "pets", (ClassLabel("cat", "cat", note="Felis catus."), ClassLabel("dog", "dog", group="canine")), "2.1.0"
)
REQUEST = "sha256:" + "ab" * 32
MODEL = Generator(
    id="model",
    backend="local",
    model="SmolLM2-135M-Instruct",
    parameters={"temperature": 0.7, "stop": None, "seed": 3},
    prompts=PromptSetEntry(id="animals", version="1.2.0", digest="sha256:" + "cd" * 32),
)
RECORDS = [
    Description(
        "A cat has whiskers.",
        class_id="cat",
        provenance=Provenance("model", 0, "looks", REQUEST),
        scores={"b": 1, "a": 0.25},
    ),
    Description(
        'Its eyes are called "slit-eyed" \\ green.', class_id="cat", provenance=Provenance("model", 1, "looks")
    ),
    Description("un museau d'épagneul 🐕", "phrase", class_id="dog", provenance=Provenance("hand"), id="d-1"),
]
REJECTED = [
    Rejection("cat", "Sure! Here is", "chatty", Provenance("model", 2, "looks", REQUEST), "begins with 'Sure'"),
    Rejection("dog", "A d\0g\nhas \ud800", "odd", Provenance("model", 3)),
]
HAND = Generator(id="hand", backend="hand", model="not stated", parameters={})


def write_sample(path: Path, records: Any = RECORDS, **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": "pets",
        "version": "1.0.0",
        "created": CREATED,
        "label_set": PETS,
        "generators": [MODEL, HAND],
        "license": "CC0-1.0",
    }
    return write_bundle(path, records=records, **fields | changes)


THREE_PETS = from_names(["cat", "dog", "fish"], name="pets")
G = Provenance("g")


def generator(name: str = "g", **changes: Any) -> Generator:
    return Generator(**{"id": name, "backend": "hand", "model": "none", "parameters": {}} | changes)


def texts(class_id: str, *sentences: str) -> list[Description]:
    return [Description(text, class_id=class_id, provenance=G) for text in sentences]


def write_texts(path: Path, records: Sequence[Description], **changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "name": path.stem,
        "version": "1.0.0",
        "created": CREATED,
        "label_set": THREE_PETS,
        "generators": [generator()],
        "license": "CC0-1.0",
        "complete": False,
    }
    return write_bundle(path, records=records, **fields | changes)


def write_cat(path: Path, text: str = "A cat.", **changes: Any) -> Bundle:
    """Write a bundle of one class with one sentence."""
    fields: dict[str, Any] = {
        "name": "pets",
        "version": "1.0.0",
        "created": CREATED,
        "label_set": from_names(["cat"]),
        "generators": [generator()],
        "license": "CC0-1.0",
        "records": [Description(text, class_id="cat", provenance=G)],
    }
    return write_bundle(path, **fields | changes)


def write_version(folder: Path, version: str = "1.0.0", name: str = "pets", **changes: Any) -> Bundle:
    return write_cat(folder / f"{name}-{version}.jsonl", version=version, name=name, **changes)


def filled(folder: Path, *versions: str, name: str = "pets") -> Repository:
    """A local store with versions of one bundle."""
    store = Repository.local(folder / "store")
    for version in versions:
        store.add(write_version(folder, version, name).path)
    return store


def import_texts(abs_command: Abs, name: str, *lines: str) -> str:
    """Make a bundle of lines "class TAB sentence" with `abs bundle import`; its pinned reference."""
    source = abs_command.home.parent / f"{name}.tsv"
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    made = abs_command("bundle", "import", source, "--name", name, "--format", "text")
    assert PINNED.fullmatch(made.out), made
    return made.out.strip()
