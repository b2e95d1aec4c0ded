"""Which extra brings which package: as the metadata says, for everything that the code imports and names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from abs_core.errors import MissingExtraError
from abs_core.extras import (
    DISTRIBUTION,
    distribution_name,
    list_extras,
    missing_extra,
    package_folder,
    packages_by_extra,
    require,
    require_installed,
)

ROOT = Path(__file__).parents[2]
PACKAGES = ("abs_core", "abs_descriptions", "abs_classify", "abs_cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = packages_by_extra(requires(DISTRIBUTION) or ())


def syntax_trees() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def test_the_metadata_is_that_of_the_project() -> None:
    # the metadata may have the extras within extras resolved, the project file has not
    lines = [
        f"{requirement.partition(';')[0]}; extra == '{extra}'"
        for extra, requirements in PROJECT["optional-dependencies"].items()
        for requirement in requirements
    ]
    assert packages_by_extra(lines) == INSTALLED, "install the checkout again: pip install -e ."


def test_extras_within_extras_are_resolved_also_in_a_circle() -> None:
    lines = [
        "click>=8",
        "Some_Package[fast]>=1; (sys_platform == 'linux') and extra == \"a\"",
        "abs-toolkit[a]; extra == 'b'",
        "abs_toolkit[b,c] ; extra == 'c'",
        "other.package ; extra == 'c'",
    ]
    assert packages_by_extra(lines) == {
        "a": {"some-package"},
        "b": {"some-package"},
        "c": {"some-package", "other-package"},
    }


def test_every_extra_but_that_of_developers_says_its_purpose() -> None:
    assert {extra.name for extra in list_extras()} == INSTALLED.keys() - {"dev"}


def test_an_extra_has_what_it_adds_to_those_in_it() -> None:
    extras = {extra.name: extra for extra in list_extras()}
    assert extras["demo"].added == ("skimage", "sklearn")
    assert {"PIL", "open_clip", "gguf", *extras["demo"].added} < set(extras["demo"].modules)
    assert extras["gs"].added == extras["gs"].modules == ("gcsfs",)


@pytest.mark.slow
def test_every_extra_that_is_named_exists() -> None:
    named = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(path for path, _ in syntax_trees())):
        for names in re.findall(r"abs-toolkit\[([a-z,-]+)\]", path.read_text(encoding="utf-8")):
            named.update(names.split(","))
    for _, tree in syntax_trees():
        named |= {
            keyword.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and called(node) in ("require", "require_installed", "package_folder")
            for keyword in node.keywords
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Constant)
        }
    assert {"embedded", "datasets", "demo", "local"} <= named
    assert named <= INSTALLED.keys()


def optional_imports() -> set[str]:
    """The top-level modules that the code imports and that neither Python, nor the core's requirements bring."""
    modules = set()
    for _, tree in syntax_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
            elif isinstance(node, ast.Call) and called(node) in ("require", "require_installed", "import_module"):
                modules |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    tops = {module.partition(".")[0] for module in modules}
    core = {"click", "jsonlines", "platformdirs", "pydantic", "pydantic_core", "rich", "yaml"}
    return tops - set(sys.stdlib_module_names) - set(PACKAGES) - core


@cache
def brought_by(distribution: str) -> set[str]:
    try:
        lines = requires(distribution) or []
    except PackageNotFoundError:
        return set()
    return {distribution_name(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].replace(".", "-")) for line in lines}


def test_every_optional_import_is_of_an_extra_or_of_what_an_extra_needs() -> None:
    modules = optional_imports()
    assert {"torch", "PIL", "open_clip", "pyarrow", "numpy", "gcsfs", "vllm"} <= modules
    packages = set().union(*(INSTALLED[extra.name] for extra in list_extras()))
    needed = set().union(*map(brought_by, packages))
    assert {module for module in modules if distribution_name(module) not in packages | needed} == set()


@pytest.mark.parametrize("module", sorted(optional_imports()))
def test_the_smallest_extra_is_suggested(module: str) -> None:
    missing = missing_extra(ModuleNotFoundError(f"No module named {module!r}", name=module))
    package = distribution_name(module)
    if missing is None:
        assert not any(package in INSTALLED[extra.name] for extra in list_extras())
        return
    suggested = re.fullmatch(r"Run: pip install 'abs-toolkit\[([\w-]+)\]'", missing.remedy)
    assert suggested is not None
    packages = INSTALLED[suggested[1]]
    assert package in packages
    assert not any(package in smaller for smaller in INSTALLED.values() if smaller < packages)


@pytest.mark.parametrize(
    ("module", "package", "extra", "purpose"),
    [
        ("openai", "openai", "openai", "to reach an OpenAI-compatible server"),
        ("torch", "torch", "classify", "to classify images"),
        ("PIL.Image", "pillow", "classify", "to classify images"),
        ("open_clip", "open-clip-torch", "classify", "to classify images"),
        ("transformers", "transformers", "local", "to run a local language model"),
        ("sentence_transformers", "sentence-transformers", "filter", "to filter descriptions"),
        ("huggingface_hub", "huggingface-hub", "sharing", "to reach buckets of S3 and the Hugging Face hub"),
        ("pyarrow.parquet", "pyarrow", "datasets", "to read parquet files and MATLAB annotations"),
        ("sklearn", "scikit-learn", "demo", "for the demo photos"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    module: str, package: str, extra: str, purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (module, module.partition(".")[0]):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        require(module)
    assert str(caught.value) == (
        f"the package {package!r} is needed {purpose} and is not installed. Run: pip install 'abs-toolkit[{extra}]'."
    )


def test_a_caller_may_know_better_what_the_package_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"needed to run a local language model.*abs-toolkit\[local\]"):
        require("torch", extra="local")
    with pytest.raises(MissingExtraError, match=r"needed to fetch images and.*abs-toolkit\[datasets\]"):
        require("huggingface_hub", extra="datasets", purpose="to fetch images")
    for check in (require_installed, package_folder):
        with pytest.raises(MissingExtraError, match=r"abs-toolkit\[embedded\]"):
            check("torch", extra="embedded")


def test_what_a_package_lacks_itself_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_gguf.py").write_text("import gguf")
    (tmp_path / "needs_nothing_of_ours.py").write_text("import no_package_of_any_extra")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"'gguf' is needed to run a local language model.*\[local\]"):
        require("needs_gguf", extra="gs", purpose="to do something else")
    with pytest.raises(ModuleNotFoundError, match="no_package_of_any_extra"):
        require("needs_nothing_of_ours")
    for check in (require_installed, package_folder):
        with pytest.raises(ModuleNotFoundError, match="no_package_of_any_extra"):
            check("no_package_of_any_extra")


def test_the_metadata_is_read_only_when_it_is_needed() -> None:
    code = "import sys, abs_core.extras; print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def test_a_copy_that_is_not_installed_still_says_what_is_missing() -> None:
    code = (
        "from abs_core.extras import list_extras, require\n"
        "print(list_extras())\n"
        "for options in ({'extra': 'local'}, {}):\n"
        "    try: require('torch', **options)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[0] == "()"
    assert "abs-toolkit[local]" in done.stdout.splitlines()[1]
    assert done.stdout.splitlines()[2] == "ModuleNotFoundError No module named 'torch'"
