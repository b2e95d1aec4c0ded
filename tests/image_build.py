"""The Dockerfile without a container engine: its steps, run in copies of this machine's root that keep nothing.

    python tests/image_build.py [--build-arg NAME=VALUE]...

Each stage is an overlay over ``/`` in a mount namespace of its own, with this interpreter in /usr/local, where the base
image has its own, and with an environment that has the way to the package index alone. What the base image has besides,
and whether its digest exists, is not tested. Linux, as root.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What the base image says of itself, https://github.com/docker-library/python.
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

# how this machine reaches the package index
_PASSED_ON = re.compile(r"PIP_.*|(https?|no|all)_proxy|SSL_CERT_.*|REQUESTS_CA_BUNDLE", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile: its keyword and what follows, on one line."""

    keyword: str
    value: str
    options: Mapping[str, str] = field(default_factory=dict)


def read_dockerfile(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    instructions = []
    for line in joined.splitlines():
        keyword, _, value = line.strip().partition(" ")
        options = {}
        while keyword == "COPY" and (match := re.match(r"--([a-z]+)=(\S+)\s+", value.lstrip())):
            options[match[1]] = match[2]
            value = value.lstrip()[match.end() :]
        if keyword:
            instructions.append(Instruction(keyword.upper(), value.strip(), options))
    return instructions


def expand(value: str, variables: Mapping[str, str]) -> str:
    """A value with ``$NAME`` and ``${NAME}`` replaced; unknown ones are empty."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: variables.get(match[1] or match[2], ""), value)


class Stage:
    """One stage of the build: a copy of the root, what is set, and who runs what follows."""

    def __init__(self, folder: Path) -> None:
        self.upper, self.root = folder / "upper", folder / "root"
        for path in (self.upper, folder / "work", self.root):
            path.mkdir(parents=True)
        options = f"lowerdir=/,upperdir={self.upper},workdir={folder / 'work'}"
        _run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)])
        for name in ("dev", "proc", "sys"):
            _run(["mount", "--rbind", f"/{name}", str(self.root / name)])
        # what a base image has not, but this machine may have
        for path in (self.root / name for name in ("tmp", "opt/abs", "opt/build", "src", "data", "work")):
            if path.exists():
                _run(["mount", "-t", "tmpfs", "tmpfs", str(path)])
        _copy_interpreter(self.root / "usr" / "local")
        self.environment = dict(BASE_ENVIRONMENT)
        self.arguments: dict[str, str] = {}
        self.user, self.directory = "0:0", "/"
        self.entry: list[str] = []

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.environment}

    def run(self, command: Sequence[str], *, offline: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as the user and in the folder that are set."""
        passed = {} if offline else {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        # the copied interpreter knows its library where it was built, which may be closed to the user
        passed["LD_LIBRARY_PATH"] = "/usr/local/lib"
        variables = [f"{name}={value}" for name, value in {**passed, **self.variables}.items()]
        inner = f"cd {shlex.quote(self.directory)} && exec {shlex.join(command)}"
        chroot = ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *variables]
        prefix = ["unshare", "--net"] if offline else []
        whole = [*prefix, *chroot, "/bin/sh", "-c", inner]
        return subprocess.run(whole, stdout=subprocess.PIPE, text=True, check=True)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


def _copy_interpreter(target: Path) -> None:
    """Put this interpreter where the base image has its own: without the packages that are installed here, but pip."""
    source = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("bin", "lib", "include"):
        others = shutil.ignore_patterns("__pycache__", "site-packages", "test", "*.a")
        shutil.copytree(source / name, target / name, ignore=others, symlinks=True, dirs_exist_ok=True)
    (target / "lib" / version / "site-packages").mkdir(exist_ok=True)
    python = target / "bin" / "python"
    python.unlink(missing_ok=True)
    python.symlink_to(version)


class Build:
    """A build of all stages in a folder, in which everything lies."""

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        self._folder, self._given = folder, given
        self._arguments: dict[str, str] = {}
        self._names: dict[str, Stage] = {}
        self.stage: Stage | None = None

    def step(self, instruction: Instruction) -> None:
        """Carry out one instruction.

        Raises:
            ValueError: an instruction that this does not know.
            subprocess.CalledProcessError: a step that fails.
        """
        keyword, value = instruction.keyword, instruction.value
        if keyword == "FROM":
            self._names[value.partition(" AS ")[2]] = self.stage = Stage(self._folder / str(len(self._names)))
        elif keyword == "ARG":
            self._add_argument(value)
        else:
            assert self.stage is not None, "an instruction before FROM"
            _carry_out(self.stage, instruction, self._names)

    def _add_argument(self, value: str) -> None:
        name, _, default = value.partition("=")
        arguments = self._arguments if self.stage is None else self.stage.arguments
        arguments[name] = self._given.get(name, self._arguments.get(name, default))


def _carry_out(stage: Stage, instruction: Instruction, names: Mapping[str, Stage]) -> None:
    keyword, value = instruction.keyword, instruction.value
    if keyword == "ENV":
        for pair in shlex.split(value):
            name, _, text = pair.partition("=")
            stage.environment[name] = expand(text, stage.variables)
    elif keyword == "RUN":
        stage.run(["/bin/sh", "-c", value])
    elif keyword == "COPY":
        *sources, target = shlex.split(expand(value, stage.variables))
        origin = ROOT if "from" not in instruction.options else names[instruction.options["from"]].upper
        place = stage.root / (Path(stage.directory) / target).relative_to("/")
        for source in sources:
            _copy(origin / source.lstrip("/"), place / Path(source).name if target.endswith("./") else place)
    elif keyword == "WORKDIR":
        stage.directory = value
        (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif keyword == "USER":
        stage.user = value
    elif keyword == "ENTRYPOINT":
        stage.entry = json.loads(value)
    elif keyword != "CMD":
        raise ValueError(f"the instruction {keyword} is unknown here")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        skipped = shutil.ignore_patterns("__pycache__") if ROOT in source.parents else None
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=skipped)
    else:
        shutil.copy2(source, target)


#: What the image must do, as its user and without a network; the last one computes features.
CHECKS = (
    ["--version"],
    ["config", "path", "--json"],
    ["lint", "pets", "--quiet"],
    ["classify", "/work/photo.png", "--labels", "cat,dog", "--method", "abs", "--views", "2", "--json"],
)


def check(stage: Stage) -> None:
    """Run what the image is for.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    picture = "from PIL import Image; Image.new('RGB', (64, 48), (90, 60, 20)).save('/work/photo.png')"
    stage.run(["/opt/abs/bin/python", "-c", picture])
    for arguments in CHECKS:
        command = [*stage.entry, *arguments]
        lines = stage.run(command, offline=True).stdout.splitlines() or [""]
        print(f"  {shlex.join(command)}: {lines[-1][:200]}", flush=True)
    stage.run(["/bin/sh", "-c", 'test "$(id -u)" = 10001 && ! touch /opt/abs/x 2>/dev/null && touch /data/x'])


def build(given: Mapping[str, str], folder: Path) -> None:
    """Build in a folder, and check what comes out."""
    instructions = read_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    work = Build(folder, given)
    for instruction in instructions:
        start = time.monotonic()
        print(f"{instruction.keyword} {instruction.value[:120]}", flush=True)
        work.step(instruction)
        if time.monotonic() - start > 1:
            print(f"  took {time.monotonic() - start:.0f} s", flush=True)
    assert work.stage is not None
    check(work.stage)


def main() -> None:
    """Build and check in a mount namespace of a process of its own, with which every mount ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        build(dict(argument.split("=", 1) for argument in options.build_arg), options.inside)
        return
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv, "--inside", str(folder)]
    try:
        code = subprocess.run(command, check=False).returncode
    finally:
        # nothing is mounted here: below root/ lie the folders that the overlay was mounted on
        shutil.rmtree(folder, ignore_errors=True)
    if code:
        sys.exit(code)
    print("image: every step ran, and what came out works", flush=True)


if __name__ == "__main__":
    main()
