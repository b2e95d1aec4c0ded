"""Optional packages: which extra of this distribution brings which, as its own metadata says."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from abs_core.errors import MissingExtraError

__all__ = [
    "DISTRIBUTION",
    "Extra",
    "distribution_name",
    "find_package_folder",
    "installed_version",
    "is_installed",
    "list_extras",
    "missing_extra",
    "package_folder",
    "packages_by_extra",
    "require",
    "require_installed",
]

#: What pip installs this toolkit as.
DISTRIBUTION = "abs-toolkit"

# What the metadata cannot say: what each extra is needed for. Of several that bring a package the first is suggested.
_PURPOSES = {
    "openai": "to reach an OpenAI-compatible server",
    "vllm": "to run a language model through vLLM",
    "classify": "to classify images",
    "local": "to run a local language model",
    "filter-light": "to filter descriptions without torch",
    "filter": "to filter descriptions",
    "embedded": "for the embedded image-text model",
    "sharing": "to reach buckets of S3 and the Hugging Face hub",
    "gs": "to reach Google Cloud Storage",
    "signing": "to sign bundles and check their signatures",
    "datasets": "to read parquet files and MATLAB annotations",
    "plots": "to draw pictures of results",
    "openvino": "to run image encoders through OpenVINO",
    "ray": "to compute on many machines",
    "demo": "for the demo photos",
}

# Import names that do not follow from the distribution's name.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?([^;]*);?(.*)")
_EXTRA_MARKER = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra that users may install.

    Args:
        name: in brackets after ``abs-toolkit``.
        purpose: what it is needed for, continuing "is needed ...".
        modules: import names of all packages that it brings.
        added: those of them that no smaller extra brings together with everything else that is in it.
    """

    name: str
    purpose: str
    modules: tuple[str, ...]
    added: tuple[str, ...]


def require(module: str, *, extra: str | None = None, purpose: str | None = None) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: an import name, with or without submodules.
        extra: to suggest, where several bring the package and the first is not the one for this use.
        purpose: what the package is needed for, where that of the extra says too little; continuing "is needed ...".

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = error.name or ""
        is_itself = _top(name) == _top(module)
        if extra is not None and not is_itself and distribution_name(name) not in _installed_extras().get(extra, ()):
            extra = None
        missing = _missing(name, extra, purpose if is_itself else None)
        if missing is None:
            raise
        raise missing from None


def require_installed(module: str, *, extra: str | None = None) -> None:
    """Find a top-level package without importing it, or say which extra brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not is_installed(module):
        raise _missing(module, extra) or ModuleNotFoundError(f"No module named {module!r}", name=module)


def package_folder(module: str, *, extra: str | None = None) -> Path:
    """The folder of an installed package, without importing (and so running) it, or say which extra brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    folder = find_package_folder(module)
    if folder is None:
        raise _missing(module, extra) or ModuleNotFoundError(f"No module named {module!r}", name=module)
    return folder


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show for a failed import of a package that an extra brings; None for any other module."""
    return _missing(error.name or "")


@cache
def installed_version(distribution: str) -> str:
    """The version of an installed distribution, read once in a process; empty if it is not installed."""
    # takes longer to import than the rest of the core
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def is_installed(module: str) -> bool:
    """Whether a top-level package can be found, without importing it."""
    return find_spec(module) is not None


def find_package_folder(module: str) -> Path | None:
    """The folder of an installed package, without importing (and so running) it; None if it is not installed."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def list_extras() -> tuple[Extra, ...]:
    """The extras for users with what they bring; not those for developers. Empty where nothing is installed."""
    packages = _installed_extras()
    extras = []
    for name, purpose in _PURPOSES.items():
        if name in packages:
            smaller = (other for other in packages.values() if other < packages[name])
            added = packages[name].difference(*smaller)
            extras.append(Extra(name, purpose, _modules(packages[name]), _modules(added)))
    return tuple(extras)


def packages_by_extra(requirements: Iterable[str]) -> dict[str, frozenset[str]]:
    """The normalized names of the distributions that each extra brings.

    Args:
        requirements: as ``Requires-Dist`` has them, of which one may name other extras of this distribution.
    """
    direct: dict[str, set[str]] = {}
    included: dict[str, set[str]] = {}
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        for extra in map(_normalized, _EXTRA_MARKER.findall(match[4])):
            packages, extras = direct.setdefault(extra, set()), included.setdefault(extra, set())
            if _normalized(match[1]) == DISTRIBUTION:
                extras.update(_normalized(name.strip()) for name in (match[2] or "").split(","))
            else:
                packages.add(_normalized(match[1]))

    def collect(extra: str, visited: frozenset[str]) -> set[str]:
        others = included.get(extra, set()) - visited
        return direct.get(extra, set()).union(*(collect(other, visited | others) for other in others))

    return {extra: frozenset(collect(extra, frozenset({extra}))) for extra in direct}


def distribution_name(module: str) -> str:
    """What pip installs a module with, normalized."""
    return _DISTRIBUTIONS.get(_top(module)) or _normalized(_top(module))


@cache
def _installed_extras() -> dict[str, frozenset[str]]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return packages_by_extra(requires(DISTRIBUTION) or ())
    except PackageNotFoundError:  # a copy on the path that was not installed
        return {}


def _missing(module: str, extra: str | None = None, purpose: str | None = None) -> MissingExtraError | None:
    package = distribution_name(module)
    if extra is None:
        packages = _installed_extras()
        extra = next((name for name in _PURPOSES if package in packages.get(name, ())), None)
    return None if extra is None else MissingExtraError(package, extra, purpose or _PURPOSES[extra])


def _modules(distributions: Iterable[str]) -> tuple[str, ...]:
    names = {distribution: module for module, distribution in _DISTRIBUTIONS.items()}
    return tuple(sorted((names.get(name) or name.replace("-", "_") for name in distributions), key=str.lower))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _normalized(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()
