"""Review files as people fill them in, for tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from abs_core.text import text_of_cell
from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.review import write_review_file
from abs_descriptions.bundles.review_file import COLUMNS

#: Text -> decision, and with an edit the new text, and with a rejection the reason.
Decisions = Mapping[str, Sequence[str]]


def table_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def write_table(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> Path:
    """Write rows as a CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(out.getvalue(), encoding="utf-8-sig", newline="")
    return path


def decide(bundle: Bundle, path: Path, decisions: Decisions, added: Sequence[tuple[str, str]] = ()) -> Path:
    """Write the review file of a bundle with decisions, and with new sentences (class, text)."""
    write_review_file(bundle, path)
    rows = table_of(path)
    for row in rows:
        decision, *rest = decisions.get(text_of_cell(row["text"]), [""])
        row["decision"] = decision
        if rest:
            row["new_text" if decision == "edit" else "reason"] = rest[0]
    for class_id, text in added:
        rows.append({"bundle": bundle.reference, "class": class_id, "decision": "add", "new_text": text})
    return write_table(path, rows)
