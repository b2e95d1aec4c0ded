"""The review page as one HTML file, for people who have no server: thumbnails in it, decisions out of it as a file.

It loads nothing and sends nothing: styles and scripts are inline and allowed by their hashes, thumbnails are data:
URIs, and a content security policy forbids the rest. Decisions stay in the browser until they are saved as
``REVIEWER.jsonl``, which ``abs label merge`` takes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from abs_classify.labelling.decisions import ShownBy
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.rows import LabelRow
from abs_core.errors import ImageError, UsageError
from abs_core.files import atomic_write
from abs_core.text import format_bytes
from abs_core.web_page import embedded_json, inline_hash, page_text_script, virtual_grid_script

__all__ = ["MAX_BYTES", "write_static_page"]

#: the size that a page does not exceed, unless the classes alone do; browsers and mail programs cope with it
MAX_BYTES = 50_000_000

# the longer side of an embedded image, which is the only picture that the page has of it
_SIDE = 400

_STYLE = re.compile(r'<link rel="stylesheet" href="(\w+\.css)">')
_SCRIPT = re.compile(r'<script src="(\w+\.js)"></script>\n?')


def write_static_page(
    folder: LabelFolder,
    path: Path,
    rows: Iterable[tuple[LabelRow, ShownBy]],
    *,
    random_share: float = 0.0,
    reviewer: str = "",
    max_bytes: int = MAX_BYTES,
) -> int:
    """Write the page, whole or not at all.

    Args:
        folder: of the labelling run.
        path: of the page; a file there is replaced.
        rows: those to review, in order, with how each was chosen. Those whose image cannot be read are left out.
        random_share: share of the rows that were drawn at random, stated on the page.
        reviewer: whose name the page proposes; the reader can enter another one.
        max_bytes: rows end where the page would become larger.

    Returns:
        How many images the page has.

    Raises:
        UsageError: there is no image for it.
        StorageError: it cannot be written.
    """
    embedded: list[dict[str, Any]] = []
    pictures: dict[str, str] = {}
    size = sum(len(label.id) + len(label.name) + 20 for label in folder.classes) + 200_000
    for row, shown_by in rows:
        picture = _picture(row)
        if picture is None:
            continue
        value = _row(row, shown_by)
        size += len(picture) + len(json.dumps(value)) + 40
        if size > max_bytes:
            break
        embedded.append(value)
        pictures[str(row.number)] = picture
    if not embedded:
        raise UsageError(
            f"no image of {str(folder.path)!r} is open that can be read and fits into {format_bytes(max_bytes)}",
            remedy="Check that the images are where they were labelled, and that some have no decision yet",
        )
    data = {"run": _run(folder, embedded, random_share, reviewer), "rows": embedded, "pictures": pictures}
    key = hashlib.sha256(json.dumps(folder.run, sort_keys=True).encode()).hexdigest()[:16]
    with atomic_write(path) as stream:
        stream.write(_page({**data, "key": key}).encode())
    return len(embedded)


def _picture(row: LabelRow) -> str | None:
    from abs_classify.images import load_image
    from abs_classify.report.drawing import jpeg_uri

    if not row.image_id or row.location is None or row.status in ("failed", "vanished"):
        return None
    try:
        return jpeg_uri(load_image(row.location.sample().read(), row.path, truncated="accept").pixels, _SIDE)
    except ImageError:
        return None


def _row(row: LabelRow, shown_by: ShownBy) -> dict[str, Any]:
    """As the server of the review answers it."""
    return {
        "number": row.number,
        "image": row.image_id,
        "path": row.path,
        "status": row.status,
        "reason": row.reason,
        "label": row.label,
        "confidence": row.confidence,
        "margin": row.margin,
        "ranking": [[entry.position, entry.confidence] for entry in row.ranking],
        "shown_by": shown_by,
        "decision": None,
    }


def _run(folder: LabelFolder, rows: list[dict[str, Any]], random_share: float, reviewer: str) -> dict[str, Any]:
    labels = Counter(row["label"] for row in rows if row["label"] is not None)
    return {
        "title": folder.path.resolve().name,
        "reviewer": reviewer,
        "classes": [{"id": label.id, "name": name} for label, name in zip(folder.classes, folder.names, strict=True)],
        "total": len(rows),
        "random_share": random_share,
        "counts": Counter(row["status"] for row in rows),
        "reviewed": 0,
        "labels": labels.most_common(),
    }


def _page(data: dict[str, Any]) -> str:
    text = _shipped("page.html")
    style = "".join(_shipped(match[1]) for match in _STYLE.finditer(text))
    scripts = [_shipped(match[1]) for match in _SCRIPT.finditer(text)]
    # before the last one, which starts the page, comes what the others have of the server
    scripts.insert(-1, _shipped("static_page.js"))
    hashes = " ".join(f"'{inline_hash(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{inline_hash(style)}'; "
        f"script-src {hashes}; base-uri 'none'; form-action 'none'"
    )
    inline = f'<script type="application/json" id="data">{embedded_json(data)}</script>\n' + "".join(
        f"<script>{script}</script>\n" for script in scripts
    )
    head, _, tail = _SCRIPT.sub("", text).rpartition("</body>")
    meta = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">'
    head = head.replace('<meta charset="utf-8">', meta, 1)
    head = _STYLE.sub(lambda _: f"<style>{style}</style>", head, count=1)
    return f"{head}{inline}</body>{tail}"


def _shipped(name: str) -> str:
    if name == "page_text.js":
        return page_text_script()
    if name == "virtual_grid.js":
        return virtual_grid_script()
    return files("abs_classify.labelling.review").joinpath(name).read_text(encoding="utf-8")
