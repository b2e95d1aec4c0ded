"""What the documents show runs, and what they name exists."""

from __future__ import annotations

import ast
import csv
import os
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support import Abs
from tutorials import path_with_abs, run_tutorial

from abs_classify import merge_labels
from abs_cli.commands.eval import command as eval_command
from abs_cli.main import COMMANDS, cli
from abs_cli.settings import option_names, variables_of
from abs_core.extras import find_package_folder

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
    assert "8 (384,) " in said


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
    targets = [target.partition("#")[0] for target in re.findall(r"(?:\]\(|src(?:set)?=\")([^)\s\"]+)", text)]
    assert text.strip()
    for target in targets:
        if target and not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_site_lists_every_page_and_command_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", navigation, flags=re.MULTILINE)
    pages = {path.name for path in ROOT.glob("docs/*.md")} | {f"reference/commands/{name}.md" for name in COMMANDS}
    assert pages - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_the_overview_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", (ROOT / "docs" / "overview.md").read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - linked == {"overview.md"}


def variables_read() -> set[str]:
    """The variables of the environment that the code asks for by a literal name, or by one of its constants."""
    names = set()
    for path in sorted(path for package in ROOT.glob("abs_*") for path in package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "environ" not in text:
            continue
        tree = ast.parse(text)
        constants = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
        for node in ast.walk(tree):
            match node:
                case ast.Subscript(value=mapping, slice=name):
                    pass
                case ast.Call(func=ast.Attribute(value=mapping, attr="get" | "setdefault"), args=[name, *_]):
                    pass
                case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[mapping]):
                    pass
                case _:
                    continue
            name = constants.get(ast.unparse(name), name)
            if ast.unparse(mapping).endswith(("environ", "environment")) and isinstance(name, ast.Constant):
                names.add(str(name.value))
    return names


def test_every_variable_that_is_read_is_on_the_page_of_variables() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("### Other variables")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    listed = {name.upper() for cell in cells for name in re.findall("`(.+?)`", cell)}
    options = {variable for name in option_names(cli) for variable in variables_of((), name)}
    # between a shell and its completion, and of a CGI server
    internal = {"_ABS_COMPLETE", "COMP_POINT", "COMP_LINE", "COMP_WORDBREAKS", "REQUEST_METHOD"}
    read = variables_read()
    assert {"ABS_HOME", "OPENAI_BASE_URL", "ABS_CONFIG", "SSL_CERT_FILE"} <= read
    assert {name.upper() for name in read} - listed - options - internal == set()


# Numbers of others, and what a command prints in a tutorial that runs.
NOT_MEASURED = {"models.md", "reproduce.md", "tutorial-label.md"}
NUMBER = re.compile(r"\[[+-]?\d[\d.]*, [+-]?\d[\d.]*\]|\d (ms|s|MB|kB|GB|minutes)\b|^[+-]?\d+\.\d+( %)?$|^\d+ %$")
SOURCE = re.compile(r"^\*Measured 20\d\d-\d\d-\d\d with `.+?\.\*$", flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "benchmarks" / "README.md"], ids=lambda page: page.name
)
def test_tables_of_measured_numbers_say_when_how_and_on_what(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for section in re.split(r"^(?=#)", text, flags=re.MULTILINE):
        rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
        numbers = sum(NUMBER.search(cell.strip()) is not None for row in rows for cell in row)
        sources = [match[0] for match in SOURCE.finditer(section)]
        assert sources or numbers < 3 or page.name in NOT_MEASURED, section.partition("\n")[0]
        for source in sources:
            assert "core" in source or "thread" in source or "machine" in source, source
            makers = re.findall(r"`(?:(benchmarks/\w+\.py)|abs ([a-z-]+))", source)
            assert makers, source
            scripts, commands = ({name for name in names if name} for names in zip(*makers, strict=True))
            assert [script for script in scripts if not (ROOT / script).is_file()] == []
            assert commands <= set(COMMANDS)


def test_every_benchmark_is_on_its_page() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in ROOT.glob("benchmarks/*.py") if f"| `{path.name}` |" not in page] == []


def test_the_figures_of_measured_numbers_are_drawn_from_the_tables(tmp_path: Path) -> None:
    figures = runpy.run_path(str(ROOT / "docs" / "figures" / "measured.py"))
    assert set(figures["gains"]("abs")) == {"small", "plain", "stamps", "emoji", "digits"}
    assert set(figures["crops"]()) == {"plain", "small", "ucf101"}
    figures["main"](tmp_path)
    committed = {path.name for path in (ROOT / "docs" / "figures").glob("*.png")}
    assert {path.name for path in tmp_path.iterdir()} == committed - {"explanation.png"}
    text = " ".join((ROOT / "docs" / "when-it-helps.md").read_text(encoding="utf-8").split())
    rows = [row for row in figures["rows_of"]("numbers.md") if "small" in row]
    small = {row["method"]: row["small"].partition(" ")[0] for row in rows}
    assert f"{small['clip']} % became {small['abs']} with `abs` and {small['abs-pixels']} with `abs-pixels`" in text


def test_the_readme_names_the_two_commands() -> None:
    lines = block_of("../README.md", "sh").splitlines()
    assert [line.partition("#")[0].split() for line in lines] == [["make", "demo"], ["make", "test"]]


@pytest.mark.slow
def test_the_command_of_the_readme_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers may differ in the last figure between processors."""
    monkeypatch.chdir(ROOT)
    line, *shown = block_of("../README.md", "console").splitlines()
    page = tmp_path / "rocket.html"
    printed = Abs(tmp_path / "home", tmp_path / "cache", capsys)(*shlex.split(line)[2:-1], page).out.splitlines()
    number = re.compile(r"[+-]?\d+\.\d+|[+-]?\d+(?=  )")
    assert [number.sub("N", text).split() for text in printed] == [number.sub("N", text).split() for text in shown]
    values = [[float(value) for text in lines for value in number.findall(text)] for lines in (printed[1:], shown[1:])]
    assert values[0] == pytest.approx(values[1], rel=0.02)
    assert page.stat().st_size > 50_000


def test_the_photo_of_the_readme_is_the_one_that_scikit_image_ships() -> None:
    folder = find_package_folder("skimage")
    assert folder is not None
    assert (ROOT / "examples" / "rocket.jpg").read_bytes() == (folder / "data" / "rocket.jpg").read_bytes()


@pytest.mark.slow
def test_the_page_on_reproduction_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_page("reproduce.md", 1)
    assert "2 not published" in capsys.readouterr().out


def test_the_numbers_to_reproduce_are_those_of_the_tables_that_ship() -> None:
    from abs_classify.evaluation.published import published_numbers

    shown, columns = set(), []
    for line in (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8").splitlines():
        head, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if head == "method, source":
            columns = [cell.strip("`") for cell in cells]
        elif re.match(r"`[a-z-]+`, ", head):
            method, source = head.split(", ")
            models = ("B-16",) if "imagenet-a" in columns else ("B-32", "B-16", "L-14")
            for dataset, cell in zip(columns, cells, strict=True):
                values = zip(models, cell.split(), strict=True) if cell else ()
                shown |= {(method.strip("`"), source, dataset, model, percent) for model, percent in values}
    shipped = {
        (number.method, source, number.dataset, model, f"{number.percent:.2f}")
        for number in published_numbers()
        for model in ("B-32", "B-16", "L-14")
        if number.model == f"ViT-{model}-quickgelu/openai"
        for source in ("WCA", "open_clip")
        if source in number.source
    }
    assert len(shown) == 5 * 18 - 6 + 5 * 4
    assert shown <= shipped


@pytest.mark.slow
def test_the_page_on_scaling_runs_in_order() -> None:
    run_page("scaling.md", 1)


def block_of(page: str, language: str) -> str:
    """The first block of a page in a language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_tutorial_on_descriptions_runs_in_order_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tutorial("tutorial-descriptions.md", tmp_path, monkeypatch, capsys)
    assert (tmp_path / "pinned.txt").read_text().startswith("things@1.1.0#sha256:")


@pytest.mark.usefixtures("clean_plugins")
@pytest.mark.parametrize("name", ["howto-offline", "howto-server", "howto-team-store", "plugins"])
def test_what_the_how_to_pages_show_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tutorial(f"{name}.md", tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_the_tutorial_on_labels_runs_in_order_and_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run_tutorial("tutorial-label.md", tmp_path, monkeypatch, capsys)
    with (tmp_path / "labelled" / "labels.csv").open(encoding="utf-8") as file:
        rows = [(row["path"], row["label"], row["status"], row["reason"]) for row in csv.DictReader(file)]
    shown = re.findall(r"^\| `(photos/\S+)` \| (.+?) \| 0\.\d+ \| (\w+) \| ?(.*?) ?\|$", page, flags=re.MULTILINE)
    assert rows == shown
    assert len(list((tmp_path / "labelled" / "exports" / "imagefolder").glob("*/*.*"))) == 5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_tasks_of_the_slurm_script_make_the_folder_of_one_run(tmp_path: Path) -> None:
    from image_files import encode

    (tmp_path / "names.txt").write_text("".join(f"{tmp_path}/{number}.png\n" for number in range(4)))
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        (tmp_path / f"{number}.png").write_bytes(encode(Image.fromarray(pixels), "PNG"))
    (tmp_path / "3.png").write_bytes(b"no image")
    path = path_with_abs(tmp_path)
    classes = "--labels cat,dog --method clip"
    script = block_of("scaling.md", "bash").replace("/8", "/2").replace("--bundle birds", classes)
    environment = {
        **os.environ, "SCRATCH": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": path,
    }  # fmt: skip
    tasks = [
        subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**environment, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        )
        for task in (1, 2)
    ]
    # an image that cannot be read has a row, and does not fail its task
    assert [task.wait(300) for task in tasks] == [0, 0]
    shares = sorted((tmp_path / "shares").iterdir())
    table = (merge_labels(shares, tmp_path / "labelled").folder.path / "labels.csv").read_text()
    assert [line.partition(",")[0] for line in table.splitlines()[1:]] == [f"{tmp_path}/{n}.png" for n in range(4)]
    assert "cannot be read" in table or "failed" in table


def test_the_manifest_for_kuberay_has_the_fields_of_a_rayjob() -> None:
    manifest = yaml.safe_load(block_of("scaling.md", "yaml"))
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    known = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
    assert set(spec) == known
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    group = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert [set(workers) for workers in cluster["workerGroupSpecs"]] == [group]
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    # parameters of ray start are strings in the resource
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())
    arguments = shlex.split(spec["entrypoint"])
    assert arguments[:1] == ["abs"]
    for name in (name for name in arguments if name.startswith("--")):
        assert any(name in option.opts for option in [*cli.params, *eval_command.params]), name
