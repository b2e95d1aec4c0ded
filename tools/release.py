"""Build the sdist and the wheel into dist/, and check them as a user will meet them. Nothing is uploaded.

    make release

Needs ``build``, ``hatchling`` and ``twine`` in this environment, git, and a package index for a fresh environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("abs_core", "abs_descriptions", "abs_classify", "abs_cli")
#: Folders of the checkout, and where they lie in the wheel.
SHIPPED = {"prompts": "abs_core/shipped/prompts", "data": "abs_core/shipped/data"}
SDIST_FILES = (".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")
#: Bytes. An accident, such as a fixture, is to be noticed; growth is to be decided.
LARGEST = {".whl": 4_000_000, ".tar.gz": 4_000_000}

#: What must work without any extra.
COMMANDS = (
    ("abs", "--help"),
    ("abs", "doctor"),
    ("abs", "bundle", "ls"),
    ("abs", "bundle", "validate", "textures"),
    ("abs", "lint", "textures"),
    ("abs", "datasets", "ls"),
    ("python", "-m", "abs_cli", "--help"),
    ("python", "-c", "import abs_descriptions, abs_classify; abs_descriptions.Repository.local().list()"),
    ("python", "-m", "pip", "check"),
)


class ReleaseError(Exception):
    """What is wrong with the release, in a line."""


def project_version(root: Path) -> str:
    """The version, which only ``pyproject.toml`` has, after checking that the newest entry of the changelog is its own.

    Raises:
        ReleaseError: the changelog begins with another version.
    """
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    heading = re.search(r"^## (\S+) \((.*)\)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None or heading[1] != version:
        raise ReleaseError(
            f"pyproject.toml has the version {version}, and CHANGELOG.md begins with {heading and heading[1]}"
        )
    if heading[2] == "unreleased":
        print("note: CHANGELOG.md calls this version unreleased; give it a date before it is tagged")
    return version


def tracked_files(root: Path) -> list[str]:
    """What git knows of the checkout; untracked files have no place in a release.

    Raises:
        ReleaseError: there is no git, or the folder is not a checkout.
    """
    return [os.fsdecode(name) for name in _git(root, "ls-files", "-z").split(b"\0") if name]


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise ReleaseError("git is needed, which knows what belongs into a release") from error
    except subprocess.CalledProcessError as error:
        raise ReleaseError(f"git {arguments[0]} failed: {os.fsdecode(error.stderr).strip()}") from error


def wheel_contents(tracked: Iterable[str]) -> set[str]:
    """The names that a wheel must have, without its ``.dist-info``."""
    names = set()
    for name in tracked:
        top, _, rest = name.partition("/")
        if top in PACKAGES:
            names.add(name)
        elif top in SHIPPED:
            names.add(f"{SHIPPED[top]}/{rest}")
    return names


def sdist_contents(tracked: Iterable[str]) -> set[str]:
    """The names that an sdist must have, without its folder."""
    tops = (*PACKAGES, *SHIPPED)
    return {name for name in tracked if name.partition("/")[0] in tops or name in SDIST_FILES} | {"PKG-INFO"}


def check_names(what: str, names: Iterable[str], expected: set[str]) -> None:
    """Compare the files of an archive with those that it must have.

    Raises:
        ReleaseError: some are missing, or more than they are in it.
    """
    present = set(names)
    for problem, wrong in (("lacks", expected - present), ("has too much:", present - expected)):
        if wrong:
            raise ReleaseError(f"{what} {problem} {', '.join(sorted(wrong)[:5])} ({len(wrong)} files)")


def check_size(path: Path) -> None:
    """Refuse an archive over its limit.

    Raises:
        ReleaseError: it is larger.
    """
    limit = next(limit for ending, limit in LARGEST.items() if path.name.endswith(ending))
    if path.stat().st_size > limit:
        raise ReleaseError(f"{path.name} has {path.stat().st_size:,} bytes, more than {limit:,}")


def check_wheel(path: Path, tracked: Sequence[str]) -> None:
    """Check size and contents of a wheel; raises ``ReleaseError``."""
    check_size(path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    check_names(path.name, names, wheel_contents(tracked))


def check_sdist(path: Path, tracked: Sequence[str]) -> None:
    """Check size and contents of an sdist; raises ``ReleaseError``."""
    check_size(path)
    with tarfile.open(path) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers()]
    check_names(path.name, names, sdist_contents(tracked))


def build(root: Path, folder: Path, *options: str) -> list[Path]:
    """Build below a folder with the hatchling of this environment, dated as the last commit."""
    date = _git(root, "log", "-1", "--format=%ct").decode().strip()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), *options, str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "SOURCE_DATE_EPOCH": date}
    )
    if done.returncode:
        raise ReleaseError(f"the build failed: {done.stderr.strip() or done.stdout.strip()}")
    return sorted(folder.iterdir())


def check_same(first: Path, second: Path, how: str) -> None:
    """Refuse two archives of one name whose bytes differ; raises ``ReleaseError``."""
    if first.read_bytes() != second.read_bytes():
        raise ReleaseError(f"{first.name} has other bytes when it is built {how}")


def check_installed(version: str, sdist: Path, wheel: Path, folder: Path) -> None:
    """Install the wheel and then the sdist without extras into a fresh environment, and run commands of both.

    Raises:
        ReleaseError: a command fails, or torch came along.
    """
    venv.create(folder / "venv", with_pip=True, symlinks=os.name != "nt")
    binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    work = folder / "work"
    work.mkdir()
    pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # the sdist is built by pip in an environment of its own, with what pyproject.toml asks for
    for archive, options in ((wheel, ()), (sdist, ("--force-reinstall", "--no-deps"))):
        _run(binaries, work, *pip, *options, str(archive))
        if (shown := _run(binaries, work, "abs", "--version").strip()) != f"abs, version {version}":
            raise ReleaseError(f"abs --version prints {shown!r}, not the version {version}")
        for command in COMMANDS:
            _run(binaries, work, *command)
        if "torch" in _run(binaries, work, "python", "-m", "pip", "list").split():
            raise ReleaseError("torch was installed without any extra")


def _run(binaries: Path, work: Path, program: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"PATH": f"{binaries}{os.pathsep}{environment['PATH']}", "ABS_HOME": str(work / "home")}
    done = subprocess.run(
        [str(binaries / program), *arguments], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(
            f"{' '.join((program, *arguments))} ended with {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
    return done.stdout


def make_release(root: Path, target: Path) -> list[Path]:
    """Build and check, then put both archives into a folder in place of what is there.

    Raises:
        ReleaseError: something is wrong; the folder stays as it is.
    """
    version, tracked = project_version(root), tracked_files(root)
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        print("note: the checkout has changes that are not committed")
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        # without options the wheel is built from the sdist, as pip does it
        wheel, sdist = sorted(build(root, folder / "first"), key=lambda path: path.suffix, reverse=True)
        check_wheel(wheel, tracked)
        check_sdist(sdist, tracked)
        (from_tree,) = build(root, folder / "tree", "--wheel")
        check_same(wheel, from_tree, "from the checkout and not from the sdist")
        (again,) = build(root, folder / "again", "--sdist")
        check_same(sdist, again, "a second time")
        twine = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
        if subprocess.run(twine, check=False).returncode:
            raise ReleaseError("twine refuses the metadata, as above")
        check_installed(version, sdist, wheel, folder)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        return [Path(shutil.copy(path, target)) for path in (wheel, sdist)]


def main() -> None:
    """Build and check the release of this checkout."""
    try:
        archives = make_release(ROOT, ROOT / "dist")
    except ReleaseError as error:
        raise SystemExit(f"release: {error}") from error
    for path in archives:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes  sha256:{digest}")


if __name__ == "__main__":
    main()
