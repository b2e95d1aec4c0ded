"""The Dockerfile and what it is built from: pinned, complete, and of this project's own requirements."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from image_build import BASE_ENVIRONMENT, Instruction, expand, read_dockerfile
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCKERFILE = read_dockerfile((ROOT / "Dockerfile").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = sorted((ROOT / "constraints").glob("*.txt"))


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(match.groups() for line in lines if (match := re.match(r"([a-z0-9-]+)==(\S+)", line)))  # type: ignore[misc]


def requirements(*extras: str) -> list[Requirement]:
    """What the core and extras of this project ask for, with the extras that those name."""
    found = [Requirement(text) for text in PROJECT["dependencies"]] if not extras else []
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            own = requirement.name == PROJECT["name"]
            found += requirements(*requirement.extras) if own else [requirement]
    return found


def make_variable(name: str) -> list[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.findall(rf"^{name} *:= (.*)$", text, flags=re.MULTILINE)[0].split()


def test_a_dockerfile_is_read() -> None:
    text = "# a\nFROM x AS y\nRUN a && \\\n  # inside\n  b\nCOPY --from=y --chown=1:1 /a b ./\n\nENV A=1\n"
    assert read_dockerfile(text) == [
        Instruction("FROM", "x AS y"),
        Instruction("RUN", "a &&   b"),
        Instruction("COPY", "/a b ./", {"from": "y", "chown": "1:1"}),
        Instruction("ENV", "A=1"),
    ]
    assert expand("$A:${B}$C", {"A": "1", "B": "2"}) == "1:2"


def test_the_base_is_pinned_by_digest_and_the_user_is_not_root() -> None:
    (base,) = [step.value for step in DOCKERFILE if step.keyword == "ARG" and step.value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=[a-z0-9./:-]+@sha256:[0-9a-f]{64}", base)
    assert {step.value.partition(" ")[0] for step in DOCKERFILE if step.keyword == "FROM"} == {"${BASE}"}
    assert [step.value for step in DOCKERFILE if step.keyword == "USER"] == ["10001:10001"]
    last = next(number for number, step in enumerate(DOCKERFILE) if step.keyword == "USER")
    assert not [step for step in DOCKERFILE[last:] if step.keyword in ("RUN", "COPY")]


def test_every_package_is_pinned_and_no_cache_stays() -> None:
    installs = [
        part for step in DOCKERFILE if step.keyword == "RUN" for part in re.findall(r"pip install [^;&]*", step.value)
    ]
    assert len(installs) >= 5
    for command in installs:
        words = shlex.split(command)
        assert "--no-deps" in words
        assert {"--require-hashes", "--no-index", "constraints/image-torch-cpu.txt"} & set(words), command
    assert any("PIP_NO_CACHE_DIR=1" in step.value for step in DOCKERFILE if step.keyword == "ENV")
    for name in ("image.txt", "image-torch-gpu.txt", "build.txt"):
        text = (ROOT / "constraints" / name).read_text(encoding="utf-8")
        entries = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in entry for entry in entries)
    used = {match for step in DOCKERFILE for match in re.findall(r"constraints/([a-z-]+\.txt)", step.value)}
    assert used == {path.name for path in LOCKS if not path.name.startswith("py3")}


@pytest.mark.parametrize("path", [*LOCKS, ROOT / "Dockerfile", ROOT / "Makefile"], ids=lambda path: path.name)
def test_no_index_but_the_public_ones_is_named(path: Path) -> None:
    hosts = set(re.findall(r"https?://([^/\s\"']+)", path.read_text(encoding="utf-8")))
    assert hosts <= {"pypi.org", "download.pytorch.org"}
    assert not re.search(r"find-links|extra-index|file:", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["py311.txt", "py313.txt"])
def test_the_constraints_satisfy_every_extra_that_they_are_for(name: str) -> None:
    extras = make_variable("LOCKED_EXTRAS")
    assert set(PROJECT["optional-dependencies"]) - set(extras) == {"dev", "vllm"}
    locked = pins(ROOT / "constraints" / name)
    for requirement in [*requirements(), *requirements(*extras)]:
        version = locked[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version, prereleases=True), (requirement, version)


def test_the_image_has_the_versions_of_the_constraints() -> None:
    image, torch = pins(ROOT / "constraints" / "image.txt"), pins(ROOT / "constraints" / "image-torch-gpu.txt")
    every = pins(ROOT / "constraints" / "py311.txt")
    assert not image.keys() & torch.keys()
    assert (image | torch).items() <= every.items()
    cpu = pins(ROOT / "constraints" / "image-torch-cpu.txt")
    assert cpu == {name: torch[name] for name in ("torch", "torchvision")}
    wanted = {re.sub(r"[-_.]+", "-", entry.name).lower() for entry in requirements(*make_variable("IMAGE_EXTRAS"))}
    assert (image | torch).keys() >= wanted


def test_the_context_has_what_is_copied_and_little_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for step in DOCKERFILE:
        if step.keyword == "COPY" and "from" not in step.options:
            copied |= {name.rstrip("/") for name in step.value.split()[:-1]}
    assert copied == let_in
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    wheel = tools["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"]} <= copied


@pytest.mark.parametrize("variant", ["cpu", "gpu", "tpu"])
def test_the_variant_chooses_torch(variant: str) -> None:
    (step,) = [step for step in DOCKERFILE if step.keyword == "RUN" and step.value.startswith("case ")]
    script = step.value.replace("/opt/abs/bin/pip", "echo pip")
    environment = {**BASE_ENVIRONMENT, "VARIANT": variant, "TORCH_INDEX": "https://index"}
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False, env=environment)
    expected = {
        "cpu": "pip install --no-deps --index-url https://index --requirement constraints/image-torch-cpu.txt\n",
        "gpu": "pip install --no-deps --require-hashes --requirement constraints/image-torch-gpu.txt\n",
    }
    assert done.stdout == expected.get(variant, "")
    assert done.returncode == (variant not in expected)
