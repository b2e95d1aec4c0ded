"""What MkDocs does beyond its configuration: pages made from the code, and links that leave docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from command_pages import command_pages, exit_code_page, variable_page  # noqa: E402

# Pages that are elsewhere in the repository -> their names on the site.
_PAGES = {
    "docs/tools/home.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
}
_LIBRARIES = ("abs_classify", "abs_descriptions")
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages made from the code, and what pages link to outside docs/."""
    made = {f"reference/commands/{name}.md": text for name, text in command_pages().items()}
    made |= {"reference/exit-codes.md": exit_code_page(), "reference/variables.md": variable_page()}
    for library in _LIBRARIES:
        made |= {f"reference/{library}/{name}.md": text for name, text in _library_pages(library).items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for source, name in _PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for source in sorted(_linked_files(files)):
        files.append(File.generated(config, f"files/{source}", abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to where things are on the site."""
    name = page.file.src_uri
    source = _source_of(name)
    if source is None:
        return markdown

    def replace(match: re.Match[str]) -> str:
        target, sharp, anchor = match[1].partition("#")
        path = _repository_path(source, target)
        if path is None:
            return match[1]
        return posixpath.relpath(_place_of(path), posixpath.dirname(name)) + sharp + anchor

    return _LINK.sub(replace, markdown)


def _source_of(name: str) -> str | None:
    """Where a page of the site is in the repository; None for one made from the code."""
    elsewhere = {place: source for source, place in _PAGES.items()}
    if name.startswith("reference/") or name == "index.md":  # its links are those of the site
        return None
    return elsewhere.get(name, f"docs/{name}")


def _place_of(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path in _PAGES:
        return _PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"


def _repository_path(source: str, target: str) -> str | None:
    """The path in the repository that a link means; None for addresses and places in the page itself."""
    if not target or re.match(r"[a-z]+:", target):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _linked_files(files: Files) -> set[str]:
    """The files of the repository outside docs/ that pages link to."""
    linked = set()
    for file in files.documentation_pages():
        source = _source_of(file.src_uri)
        if source is not None:
            for target in _LINK.findall(file.content_string):
                path = _repository_path(source, target.partition("#")[0])
                if path is not None and path not in _PAGES and not path.startswith("docs/") and (ROOT / path).is_file():
                    linked.add(path)
    return linked


def _library_pages(library: str) -> dict[str, str]:
    """The Markdown of a page for each part of a library, and ``index`` with every public name."""
    loader = griffe.GriffeLoader(search_paths=[str(ROOT)], docstring_parser="google")
    module: Any = loader.load(library)
    loader.load("abs_core")
    loader.resolve_aliases()
    parts: dict[str, list[str]] = defaultdict(list)
    rows = []
    for name in sorted(map(str, module.exports), key=str.lower):
        member = module.members[name].final_target
        part = _part_of(member.canonical_path)
        parts[part].append(name)
        summary = member.docstring.value.partition("\n\n")[0] if member.docstring else ""
        rows.append(f"| [`{name}`]({part}.md#{library}.{name}) | {' '.join(summary.split()).replace('|', '&#124;')} |")
    head = [f"# {library}", "", module.docstring.value, "", "| | |", "|---|---|"]
    pages = {"index": "\n".join([*head, *rows]) + "\n"}
    for part, names in parts.items():
        pages[part] = "\n\n".join([f"# {library}: {part}", *(f"::: {library}.{name}" for name in names)]) + "\n"
    return pages


def _part_of(path: str) -> str:
    """The part of a library that a name is of: the package in it, or the module; "core" for what libraries share."""
    package, part, *_ = path.split(".")
    return "core" if package == "abs_core" else part
