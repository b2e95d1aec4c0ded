"""A reader of the site: every link leads somewhere, everything is found, and nothing is asked of another host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, Page, browser

import abs_classify
import abs_descriptions
from abs_cli.main import COMMANDS

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class _Addresses(HTMLParser):
    """What a page links to, what it loads, and the names of its places."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a":
            self.links.add(values.get("href", ""))
        elif tag == "link":
            self.loaded.add(values.get("href", ""))
        elif "src" in values:
            self.loaded.add(values["src"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Addresses]:
    addresses = {path: _Addresses(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    assert len(addresses) > 60
    return addresses


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile"), (1400, 900)) as opened:
        yield opened


def test_every_link_leads_to_a_page_and_a_place_in_it(pages: dict[Path, _Addresses]) -> None:
    broken = []
    for path, addresses in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for link in addresses.links | addresses.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            lost = anchor and target in pages and anchor not in pages[target].anchors
            if not target.is_file() or lost:
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, _Addresses]) -> None:
    loaded = {address for addresses in pages.values() for address in addresses.loaded}
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        loaded |= set(re.findall(r"url\([\"']?([^)\"']+)", text)) | set(re.findall(r"@import\s+[\"']([^\"']+)", text))
    assert loaded
    assert [address for address in loaded if urlsplit(address).scheme not in ("", "data") or address[:2] == "//"] == []


def test_every_command_and_every_public_name_has_its_place(site: Path, pages: dict[Path, _Addresses]) -> None:
    for command in COMMANDS:
        assert f"abs-{command}" in pages[site / "reference" / "commands" / f"{command}.html"].anchors
    anchors = {anchor for addresses in pages.values() for anchor in addresses.anchors}
    for library in (abs_classify, abs_descriptions):
        assert {f"{library.__name__}.{name}" for name in library.__all__} - anchors == set()


@needs_browser
@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("measure_robustness", "reference/abs_classify/evaluation.html"),
        ("ABS_BUNDLE_PUSH_WITH_PARENTS", "reference/commands/bundle.html"),
        ("Wilson intervals", "results.html"),
    ],
)
def test_search_works_from_a_disk_without_a_network(
    words: str, address: str, site: Path, page: Page, tmp_path: Path
) -> None:
    page.open((site / "index.html").as_uri(), tmp_path)
    page.set_offline(True)
    page.reload()  # without a network from the start; what is missing is logged
    page.wait_for("document.querySelector('[data-md-component=search-query]') !== null")
    page.run(
        "const field = document.querySelector('[data-md-component=search-query]'); field.focus();"
        f"field.value = {json.dumps(words)}; field.dispatchEvent(new KeyboardEvent('keyup', {{bubbles: true}}))"
    )
    results = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href.split(/[?#]/)[0])"
    assert page.wait_for(f"({results}).length")
    assert (site / address).as_uri() in page.run(results)
    loaded = page.run("[...document.querySelectorAll('[src], link')].map(element => element.src || element.href)")
    assert any("frame_worker.js" in name for name in loaded)
    assert [name for name in loaded if not name.startswith("file:")] == []
    assert page.said == []
    page.close()
