"""What the documents show runs, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_page(name: str, least: int = 5) -> None:
    """Run the Python blocks of a page, in order."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= least
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"docs/{name}", "exec"), names)


@pytest.mark.slow
def test_the_page_on_features_runs_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    run_page("features.md")
    said = capsys.readouterr().out
    assert "right on the other half: " in said
    assert "20 (384,) " in said


@pytest.mark.slow
@pytest.mark.usefixtures("clean_table")
def test_the_python_page_runs_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    run_page("python.md")
    said = capsys.readouterr().out
    assert "pets@1.0.0#sha256:" in said
    assert "abs-with-full" in said


@pytest.mark.slow
def test_the_page_on_robustness_runs_and_names_the_options_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    from abs_cli.commands.robustness import command

    run_page("robustness.md", 1)
    assert "calibration of the confidences:" in capsys.readouterr().out
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    options = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) - options == {"--seeds"}  # of abs eval


def test_the_page_of_methods_is_true_and_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from abs_classify import METHODS

    monkeypatch.chdir(tmp_path)
    run_page("methods.md", 1)
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`([a-z-]+)`", line)}
    assert not set(METHODS) - rows


def test_the_page_on_merging_runs_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    run_page("merging.md")
    said = capsys.readouterr().out.splitlines()
    assert "edited to 'A cat meows.' by Bob in Bob's pets-1.0.0-review.csv" in said[0]
    kept = ["A cat has whiskers.", "A cat meows.", "A cat is a pet.", "A cat sleeps all day."]
    assert said[1:] == [str(kept), "['a model', 'Ann', 'Bob', 'Cay']", str([kept[0], kept[1], kept[3]])]


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert text.strip()
    for target in targets:
        if target and not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[3].startswith("make demo")
    assert lines[4].startswith("make test")
