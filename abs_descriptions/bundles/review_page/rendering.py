"""The page for a browser on which decisions are marked and saved as the CSV of ``review_file``. Pure.

It loads nothing and sends nothing: styles and script are inline and allowed by their hashes, and a content security
policy forbids the rest. Every string passes through ``printable`` and ``html.escape``. It needs no package beyond the
standard library, because a review happens where descriptions are written, without the classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from string import Template

from abs_core.descriptions import Description
from abs_core.text import printable, visible_cell
from abs_core.web_page import inline_hash
from abs_descriptions.bundles.format import BundleHeader
from abs_descriptions.bundles.review_file import row_id

__all__ = ["render_review_page"]

_HEAD = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '$style_hash'; \
script-src '$script_hash'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Review of $title</title>
<style>$style</style>
</head>
<body data-bundle="$reference" data-file="$file">
<header>
<h1>Review of $title</h1>
<p class="reference">$reference</p>
<p class="lead">Accept, edit or reject each sentence, then save the decisions and send the file back. What you leave
open is kept as it is. Keys on a sentence: <kbd>a</kbd> accept, <kbd>e</kbd> edit, <kbd>r</kbd> reject, <kbd>j</kbd> and
<kbd>k</kbd> next and previous. This page sends nothing anywhere.</p>
<noscript><p class="warning">Scripts are off, so nothing can be marked here. Use the CSV file beside this
page.</p></noscript>
</header>
<div class="bar">
<span id="done"><span id="count" role="status">$count descriptions</span><progress value="0" max="1"></progress></span>
<label>Show <select id="filter"><option value="">all</option><option value="open">open</option>\
<option value="decided">decided</option></select></label>
<button id="save" type="button" disabled>Save decisions</button>
</div>
<main>
""")


def render_review_page(reference: str, header: BundleHeader, records: Iterable[Description]) -> Iterator[str]:
    """The page, class by class.

    Args:
        reference: pinned, of the bundle.
        header: of the bundle.
        records: of the bundle, grouped by class.
    """
    style, script = _shipped("page.css"), _shipped("page.js")
    yield _HEAD.substitute(
        style=style,
        style_hash=inline_hash(style),
        script_hash=inline_hash(script),
        title=_shown(f"{header.name} {header.version}"),
        reference=_shown(reference),
        file=_shown(f"{header.name}-{header.version}-decisions.csv"),
        count=header.counts.records,
    )
    names = header.label_set.names
    for class_id, group in groupby(records, key=attrgetter("class_id")):
        yield f'<section data-class="{escape(class_id)}" data-name="{escape(names[class_id])}">\n'
        yield f"<h2>{_shown(names[class_id])}<small>{_shown(class_id)}</small></h2>\n<ul>\n"
        yield "".join(map(_page_row, group))
        yield "</ul>\n</section>\n"
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def _page_row(record: Description) -> str:
    shown = printable(record.text)
    # Where the shown text is another, because it would hide or reorder itself, the script needs the true one.
    cell = visible_cell(record.text)
    true = "" if shown == record.text else f' data-text="{escape(record.text)}" data-cell="{escape(cell)}"'
    kind = "" if record.kind == "sentence" else f' data-kind="{record.kind}"'
    tag = "" if record.kind == "sentence" else f"<small>{record.kind}</small>"
    return f'<li data-row="{row_id(record)}"{kind}{true}><p><span>{escape(shown)}</span>{tag}</p></li>\n'


def _shown(text: str) -> str:
    return escape(printable(text))


def _shipped(name: str) -> str:
    return files("abs_descriptions.bundles.review_page").joinpath(name).read_text(encoding="utf-8")
