"""From a user's name for an open_clip model to its architecture, preprocessing, weights file and tokenizer.

The forms of a name:

    ARCH/TAG             published weights, from the local hub cache:      ViT-B-16-quickgelu/openai
    ARCH/TAG@FILE        the same weights from a file of the user's:       ViT-B-16-quickgelu/openai@/data/b16.pt
    ARCH@FILE            a checkpoint of the user's own:                   ViT-B-16@/data/mine.pt
    hf-hub:ORG/REPO      a repository with an open_clip_config.json, or of a CLIP or SigLIP model of transformers
    local-dir:FOLDER     a folder with an open_clip_config.json and weights, or one that save_pretrained wrote
    ORG/REPO             a repository of transformers that is in the local hub cache:  openai/clip-vit-base-patch32

Nothing is downloaded unless the caller allows it. The published names are read from open_clip's own files, without
importing it: that would import torch.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from abs_classify.models.open_clip_configs import PREPROCESS_KEYS, read_config
from abs_classify.models.registered import registered_models
from abs_classify.models.transformers_configs import TransformersShape, read_preprocess, read_shape
from abs_classify.models.transformers_sources import (
    INDEX_FILES,
    MODEL_CONFIG_FILE,
    fetch_from_hub,
    open_clip_name,
    processor_files,
    read_index,
    transformers_weights,
)
from abs_classify.models.weights import (
    CONFIG_FILE,
    OPEN_CLIP_FILES,
    PUBLISHED_TORCHSCRIPT,
    cached_file,
    hub_file,
    is_torchscript,
)
from abs_core.canonical import digest
from abs_core.errors import ModelError, UnknownNameError, WeightsError
from abs_core.extras import package_folder, require
from abs_core.files import sha256_file

__all__ = ["CheckpointSource", "OpenClipCatalogue", "find_source", "is_cached_repository", "read_catalogue"]


@dataclass(frozen=True)
class OpenClipCatalogue:
    """The architectures and the published weights of open_clip.

    Attributes:
        configs: architecture to its configuration, in open_clip's order.
        published: architecture to tag to where these weights are and what preprocessing they want.
    """

    configs: Mapping[str, Mapping[str, Any]]
    published: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def weights(self, arch: str, tag: str) -> Mapping[str, Any]:
        """The entry of published weights; empty where there are none of this name."""
        return self.published.get(arch, {}).get(tag, {})

    def name_of(self, repository: str) -> str:
        """The ``ARCH/TAG`` of the weights in a hub repository, ``organisation/name``; empty where there is none."""
        places = {
            str(self.weights(*name.rsplit("/", 1)).get("hf_hub") or "").strip("/").casefold(): name
            for name in reversed(self.names())
        }
        return places.get(repository.casefold(), "")

    def names(self) -> tuple[str, ...]:
        """All published weights as ``ARCH/TAG``, without the pairs that are a QuickGELU mismatch."""
        return tuple(
            f"{arch}/{tag}"
            for arch, tags in self.published.items()
            for tag, entry in tags.items()
            if self.agrees(arch, entry) or self.is_unstated(arch, entry)
        )

    def agrees(self, arch: str, published: Mapping[str, Any]) -> bool:
        """Whether an architecture computes the activation that its list states of published weights."""
        return bool(self.configs[arch].get("quick_gelu", False)) == bool(published.get("quick_gelu", False))

    def is_unstated(self, arch: str, published: Mapping[str, Any]) -> bool:
        """Whether the list says nothing of QuickGELU of weights whose only architecture computes it.

        So it is with ``roberta-ViT-B-32``: it has no counterpart with another activation, its weights were trained with
        its configuration, and open_clip computes that, with a warning.
        """
        is_quick = bool(self.configs[arch].get("quick_gelu", False)) and not published.get("quick_gelu", False)
        return is_quick and f"{arch}-quickgelu" not in self.configs and not arch.endswith("-quickgelu")


def read_catalogue() -> OpenClipCatalogue:
    """The catalogue of the installed open_clip.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    if "open_clip" in sys.modules:
        return _ask_library()
    folder = package_folder("open_clip")
    try:
        return _read_files(folder)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError):
        return _ask_library()


def _ask_library() -> OpenClipCatalogue:
    open_clip = require("open_clip")
    published: dict[str, dict[str, Any]] = {}
    for arch, tag in open_clip.list_pretrained():
        published.setdefault(arch, {})[tag] = open_clip.get_pretrained_cfg(arch, tag)
    return OpenClipCatalogue({arch: open_clip.get_model_config(arch) for arch in open_clip.list_models()}, published)


@cache
def _read_files(folder: Path) -> OpenClipCatalogue:
    return OpenClipCatalogue(_read_configs(folder / "model_configs"), _read_published(folder))


def _read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(folder.glob("*.json"), key=lambda path: _natural_key(path.stem))
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {arch: config for arch, config in contents.items() if {"embed_dim", "vision_cfg", "text_cfg"} <= set(config)}


def _natural_key(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def _read_published(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    reader = _LiteralReader()
    for file in ("constants.py", "pretrained.py"):
        reader.read(ast.parse((folder / file).read_text(encoding="utf-8")))
    published: dict[str, dict[str, dict[str, Any]]] = reader.values["_PRETRAINED"]
    # open_clip lists weights with QuickGELU a second time, under the architecture that computes it
    twins = {
        f"{arch}-quickgelu": {tag: entry for tag, entry in tags.items() if entry.get("quick_gelu", False)}
        for arch, tags in published.items()
    }
    return published | {arch: tags for arch, tags in twins.items() if tags}


class _LiteralReader:
    """Evaluates the assignments of a module whose values are literals, ``dict(...)``, names, or calls of its functions.

    A function counts if it does nothing but return such a value of its arguments.

    Attributes:
        values: what was assigned, by name.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._functions: dict[str, ast.FunctionDef] = {}

    def read(self, module: ast.Module) -> None:
        """Evaluate a module's assignments of one name each, in order; other statements are passed over."""
        for statement in module.body:
            match statement:
                case ast.FunctionDef():
                    self._functions[statement.name] = statement
                case ast.Assign(targets=[ast.Name(id=name)]):
                    self.values[name] = self._evaluate(statement.value, self.values)

    def _evaluate(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        match node:
            case ast.Name(id=name):
                return names[name]
            case ast.Dict():
                merged: dict[Any, Any] = {}
                for key, value in zip(node.keys, node.values, strict=True):
                    evaluated = self._evaluate(value, names)
                    # a dictionary behind two stars has no key
                    merged |= evaluated if key is None else {self._evaluate(key, names): evaluated}
                return merged
            case ast.Call(func=ast.Name(id=name), args=[]):
                arguments = {str(keyword.arg): self._evaluate(keyword.value, names) for keyword in node.keywords}
                return arguments if name == "dict" else self._call(self._functions[name], arguments)
            case _:
                return ast.literal_eval(node)

    def _call(self, function: ast.FunctionDef, arguments: dict[str, Any]) -> Any:
        signature, (*_, last) = function.args, function.body
        if not isinstance(last, ast.Return) or last.value is None or len(function.body) > 1:
            raise ValueError(f"{function.name} does more than return a value")
        defaults = [self._evaluate(default, self.values) for default in signature.defaults]
        names = {**self.values, **dict(zip((arg.arg for arg in signature.args), defaults, strict=True))}
        known = {arg.arg for arg in signature.args}
        names.update({name: value for name, value in arguments.items() if name in known})
        if signature.kwarg is not None:
            names[signature.kwarg.arg] = {name: value for name, value in arguments.items() if name not in known}
        return self._evaluate(last.value, names)


@dataclass(frozen=True)
class CheckpointSource:
    """All that is needed to build a model.

    Attributes:
        name: what the user wrote.
        model: the architecture as open_clip's ``create_model`` takes it: a name, or ``local-dir:`` and a folder.
        config: the architecture's configuration.
        preprocess: mean, std, interpolation and resize mode, where they differ from open_clip's defaults.
        checkpoint: the weights file.
        tokenizer: the tokenizer as open_clip's ``get_tokenizer`` takes it.
        configuration: the ``open_clip_config.json`` or ``config.json`` that was read, if any.
        shards: the files that ``checkpoint`` lists, if it is an index.
        extras: the other files that decide what is computed: image processor and tokenizer of a transformers model.
        shape: the architecture of a transformers model; None for one of open_clip.
        remarks: what was assumed, for people.
    """

    name: str
    model: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    checkpoint: Path
    tokenizer: str
    configuration: Path | None = None
    shards: tuple[Path, ...] = ()
    extras: tuple[Path, ...] = ()
    shape: TransformersShape | None = None
    remarks: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """``sha256:...`` of the weights file, or of the digests of several."""
        if self.shards:
            return digest({shard.name: sha256_file(shard) for shard in self.shards})
        return sha256_file(self.checkpoint)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides what is computed, the weights first."""
        configuration = () if self.configuration is None else (self.configuration,)
        return (self.checkpoint, *self.shards, *configuration, *self.extras)


def find_source(name: str, *, allow_download: bool) -> CheckpointSource:
    """Find what a name stands for.

    Raises:
        UnknownNameError: there is no such architecture, or no such published weights.
        WeightsError: the weights are not on this machine and may not be downloaded.
        ModelError: a QuickGELU mismatch, or a bare checkpoint whose preprocessing is in doubt.
    """
    if name.startswith("hf-hub:"):
        return _from_hub(name, allow_download=allow_download)
    if name.startswith("local-dir:"):
        return _from_folder(name, Path(name.removeprefix("local-dir:")).expanduser())
    if is_cached_repository(name):
        return _from_hub(name, allow_download=False)
    head, sign, file = name.partition("@")
    arch, tag = _split_name(head, has_file=bool(sign))
    catalogue = read_catalogue()
    config = catalogue.configs[arch]
    published = catalogue.weights(arch, tag)
    remarks: tuple[str, ...] = ()
    if tag and catalogue.is_unstated(arch, published):
        remarks = (f"open_clip's list does not say that {tag} needs the QuickGELU that {arch} computes",)
    elif tag:
        _check_activation(arch, config, bool(published.get("quick_gelu", False)), f"the weights {tag!r}")
    if sign:
        source = _from_file(name, arch, config, published, Path(file).expanduser())
        return replace(source, remarks=(*source.remarks, *remarks))
    checkpoint = _published_file(name, published["hf_hub"], allow_download=allow_download)
    preprocess = {key: published[key] for key in PREPROCESS_KEYS}
    return CheckpointSource(name, arch, config, preprocess, checkpoint, arch, remarks=remarks)


_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_cached_repository(name: str) -> bool:
    """Whether a name is that of a repository of transformers, ``ORG/REPO``, which is in the local hub cache."""
    return bool(_REPOSITORY.fullmatch(name)) and cached_file(name, MODEL_CONFIG_FILE) is not None


def _unknown_architecture(arch: str, head: str, architectures: Iterable[str]) -> UnknownNameError:
    close = difflib.get_close_matches(arch or head, architectures, n=8, cutoff=0.5)
    tag = head.rpartition("/")[2]
    complete = [f"{name}/{tag}" for name in close if tag in read_catalogue().published.get(name, {})]
    valid, remedy = [*complete, *close, "embedded", *registered_models(), *architectures], _NAMES_REMEDY
    if same := open_clip_name(head) or read_catalogue().name_of(head):
        valid = [same]
        remedy = f"Did you mean {same}, the same weights? Or pull hf-hub:{head}, the model as transformers has it"
    elif Path(head).expanduser().is_dir():
        remedy = f"Did you mean local-dir:{head}?"
    elif not close and _REPOSITORY.fullmatch(head):
        remedy = f"Write hf-hub:{head} for a repository of the hub; see also `abs models ls`"
    return UnknownNameError("image-text model", head, valid, remedy=remedy)


def _split_name(head: str, *, has_file: bool) -> tuple[str, str]:
    """``ARCH/TAG`` to its parts; the tag may be left out only where a file is named."""
    catalogue = read_catalogue()
    architectures = catalogue.configs
    if head.replace("/", "-") in architectures:
        arch, tag = head.replace("/", "-"), ""
    else:
        arch, _, tag = head.rpartition("/")
        arch = arch.replace("/", "-")
    if arch not in architectures:
        raise _unknown_architecture(arch, head, architectures)
    tags = catalogue.published.get(arch, {})
    tag = tag.lower().replace("-", "_")
    if tag and tag not in tags:
        raise UnknownNameError(f"{arch} weights", tag, tags, remedy=f"See `abs models ls {arch}`")
    if not tag and not has_file:
        families = (f"{arch}-quickgelu/", f"{arch}/")
        fitting = [name for family in families for name in catalogue.names() if name.startswith(family)]
        remedy = f"Name the weights too, see `abs models ls {arch}`, or a file: {arch}@FILE"
        raise UnknownNameError("image-text model", head, fitting, remedy=remedy)
    return arch, tag


_NAMES_REMEDY = "See `abs models ls`; write ARCH/TAG, ARCH@FILE, hf-hub:ORG/REPO, or local-dir:FOLDER"


def _published_file(name: str, location: str, *, allow_download: bool) -> Path:
    """The weights file at open_clip's ``org/repo/`` or ``org/repo/file``; safetensors before pickled tensors."""
    organisation, repository, file = (*location.split("/"), "")[:3]
    names = (f"{Path(file).stem}.safetensors", file) if file else OPEN_CLIP_FILES
    path = hub_file(f"{organisation}/{repository}", names, allow_download=allow_download)
    if path is None:
        raise _not_here(name, f"{organisation}/{repository}", allow_download=allow_download)
    return path


def _not_here(name: str, repository: str, *, allow_download: bool) -> WeightsError:
    by_hand = "its files here and use local-dir:FOLDER" if name.startswith("hf-hub:") else f"the file here: {name}@FILE"
    if allow_download:
        return WeightsError(
            f"the weights of {name!r} cannot be downloaded from {repository!r}",
            remedy=f"Check the network, or copy {by_hand}",
        )
    return WeightsError(
        f"the weights of {name!r} are not on this machine, and are not downloaded automatically",
        remedy=f"Run `abs models pull {name}`, or copy {by_hand}",
    )


def _from_hub(name: str, *, allow_download: bool) -> CheckpointSource:
    repository = name.removeprefix("hf-hub:")
    file = hub_file(repository, [CONFIG_FILE], allow_download=allow_download)
    if file is None:
        folder = fetch_from_hub(repository, allow_download=allow_download)
        if folder is None:
            raise _not_here(name, repository, allow_download=allow_download)
        return _from_transformers(name, folder)
    config = read_config(file)
    checkpoint = _published_file(name, f"{repository}/", allow_download=allow_download)
    return CheckpointSource(
        name=name,
        model=f"local-dir:{file.parent}",
        config=config["model_cfg"],
        preprocess=config["preprocess_cfg"],
        checkpoint=checkpoint,
        tokenizer=name,
        configuration=file,
    )


def _from_folder(name: str, folder: Path) -> CheckpointSource:
    if not (folder / CONFIG_FILE).is_file() and (folder / MODEL_CONFIG_FILE).is_file():
        return _from_transformers(name, folder)
    _refuse_other_folders(folder)
    config = read_config(folder / CONFIG_FILE)
    indices = [folder / name for name in INDEX_FILES if (folder / name).is_file()]
    candidates = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))
    # a single file beside an index may be one of those that it lists
    if not any(path.name in OPEN_CLIP_FILES for path in candidates):
        candidates = indices[:1] or candidates
    if len(candidates) != 1:
        names = ", ".join(path.name for path in candidates) or "none"
        raise WeightsError(
            f"the folder {str(folder)!r} should hold one weights file; found: {names}",
            remedy=f"Leave one .safetensors file in it, or add the {INDEX_FILES[0]} that lists them",
        )
    return CheckpointSource(
        name=name,
        model=f"local-dir:{folder}",
        config=config["model_cfg"],
        preprocess=config["preprocess_cfg"],
        checkpoint=candidates[0],
        tokenizer=f"local-dir:{folder}",
        configuration=folder / CONFIG_FILE,
        shards=read_index(candidates[0]) if candidates[0].name in INDEX_FILES else (),
    )


def _refuse_other_folders(folder: Path) -> None:
    """Name a folder of a library around transformers, which holds no whole model, or holds it further below."""
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(
            f"the folder {str(folder)!r} holds a LoRA adapter of peft, not a model",
            remedy="Merge it into its model (model.merge_and_unload()), and save that with save_pretrained",
        )
    inner = next((path.parent for path in sorted(folder.glob(f"*/{MODEL_CONFIG_FILE}"))), None)
    if (folder / "modules.json").is_file() and inner is not None:
        raise WeightsError(
            f"the folder {str(folder)!r} is of sentence-transformers, which keeps the model in a folder in it",
            remedy=f"Use local-dir:{inner}",
        )


def _from_transformers(name: str, folder: Path) -> CheckpointSource:
    configuration = folder / MODEL_CONFIG_FILE
    shape = read_shape(configuration)
    checkpoint, shards = transformers_weights(folder)
    preprocess, remarks = read_preprocess(folder, shape)
    extras = processor_files(folder)
    if shape.has_openai_vocabulary and not {"tokenizer.json", "vocab.json"} & {path.name for path in extras}:
        remarks += ("no tokenizer files, so OpenAI's own tokenizer is used",)
    return CheckpointSource(
        name=name,
        model=f"transformers {shape.kind}",
        config=shape.as_config(),
        preprocess=preprocess,
        checkpoint=checkpoint,
        tokenizer=str(folder),
        configuration=configuration,
        shards=shards,
        extras=extras,
        shape=shape,
        remarks=remarks,
    )


def _from_file(
    name: str, arch: str, config: Mapping[str, Any], published: Mapping[str, Any], file: Path
) -> CheckpointSource:
    if not file.is_file():
        raise WeightsError(f"there is no weights file {str(file)!r}", remedy="Check the path after the @")
    configuration = file.parent / CONFIG_FILE
    own_config = read_config(configuration) if configuration.is_file() else {}
    if own_config:
        weights_quick = bool(own_config["model_cfg"].get("quick_gelu", False))
        _check_activation(arch, config, weights_quick, f"the checkpoint {file.name!r}")
    settings = own_config.get("preprocess_cfg") or published or _agreed_preprocess(arch)
    preprocess = {key: settings[key] for key in PREPROCESS_KEYS if key in settings}
    source = CheckpointSource(name, arch, config, preprocess, file, arch, configuration if own_config else None)
    if is_torchscript(file) and source.sha256.removeprefix("sha256:") in PUBLISHED_TORCHSCRIPT:
        _check_activation(arch, config, True, f"OpenAI's {file.name!r}")
    return source


def _agreed_preprocess(arch: str) -> Mapping[str, Any]:
    """The preprocessing that all published weights of an architecture share; nothing where there are none."""
    choices: list[dict[str, Any]] = []
    for published in read_catalogue().published.get(arch, {}).values():
        preprocess = {key: published[key] for key in PREPROCESS_KEYS}
        if preprocess not in choices:
            choices.append(preprocess)
    if len(choices) > 1:
        raise ModelError(
            f"published weights of {arch} differ in their preprocessing, and a bare checkpoint does not name its own",
            remedy=f"Name the weights that it comes from ({arch}/TAG@FILE), or put an {CONFIG_FILE} beside it",
        )
    return choices[0] if choices else {}


def _check_activation(arch: str, config: Mapping[str, Any], weights_quick: bool, weights: str) -> None:
    """QuickGELU weights on a GELU architecture, or the reverse, give wrong features without any other sign."""
    if bool(config.get("quick_gelu", False)) == weights_quick:
        return
    twin = f"{arch}-quickgelu" if weights_quick else arch.removesuffix("-quickgelu")
    wanted, has = ("QuickGELU", "GELU") if weights_quick else ("GELU", "QuickGELU")
    remedy = "Use an architecture with that activation"
    if twin != arch and twin in read_catalogue().configs:
        remedy = f"Use {twin}"
    raise ModelError(
        f"QuickGELU mismatch: {weights} were trained with {wanted}, and the architecture {arch} computes {has}",
        remedy=remedy,
    )
