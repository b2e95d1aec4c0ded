"""The review page of a bundle in a real browser, opened from a file as a colleague opens it, and what it saves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from browser import Page
from bundle_samples import G, generator

from abs_core.bundle_scores import BundleScores
from abs_core.labels import ClassLabel, LabelSet
from abs_descriptions.bundles import Bundle, Description, write_bundle
from abs_descriptions.bundles.review import write_page

COUNT = "document.getElementById('count').textContent"
CURRENT = "document.querySelector('article.current .text bdi').textContent"
TOAST = "document.querySelector('#toast span').textContent"


def write_classes(path: Path, classes: dict[str, list[str]], **changes: Any) -> Bundle:
    """A bundle of these classes, which are named as their ids in upper case."""
    labels = LabelSet("kinds", tuple(ClassLabel(class_id, class_id.upper()) for class_id in classes))
    fields: dict[str, Any] = {
        "name": path.stem,
        "version": "1.0.0",
        "created": "2025-01-31T12:00:00Z",
        "label_set": labels,
        "generators": [generator()],
        "license": "CC0-1.0",
        "complete": all(classes.values()),
        "records": [
            Description(text, "phrase" if text.islower() else "sentence", class_id=class_id, provenance=G)
            for class_id, texts in classes.items()
            for text in texts
        ],
    }
    return write_bundle(path, **fields | changes)


def open_page(page: Page, bundle: Bundle, scores: BundleScores | None = None) -> None:
    """Write the page beside the bundle and open it; downloads go there too."""
    path = bundle.path.with_suffix(".html")
    write_page(bundle, path, scores)
    page.close()
    page.said.clear()
    page.open(path.as_uri(), path.parent)
    page.resize(1200, 800)
    wait_for_rows(page)


def reload_page(page: Page) -> None:
    page.reload()
    wait_for_rows(page)


def wait_for_rows(page: Page) -> None:
    page.wait_for("document.querySelector('article.current, #notice:not([hidden])') !== null")


def type_text(page: Page, text: str) -> None:
    page.press(*("Space" if character == " " else character for character in text))


def listed(page: Page) -> list[str]:
    """The texts of the sentences in sight, from above."""
    shown: list[str] = page.run("[...document.querySelectorAll('article .text bdi')].map((text) => text.textContent)")
    return shown


def saved_file(page: Page, bundle: Bundle, reviewer: str = "") -> Path:
    """Save the decisions with the keyboard; the file that the browser wrote."""
    page.press("Control+s")
    page.wait_for_download()
    return bundle.path.parent / f"{bundle.header.name}-1.0.0-decisions{reviewer and '-'}{reviewer}.csv"


def decided_rows(path: Path) -> list[tuple[str, str, str, str, str]]:
    """The rows with a decision: class, text, decision, new text, reason, as they stand in the file."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        (row["class"], row["text"], row["decision"], row["new_text"], row["reason"]) for row in rows if row["decision"]
    ]
