"""`abs models`: what is known, what is here, and how weights travel, with a real hub client and a local hub server."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, serving_hub

from abs_classify.models.registry import DINO, canonical_name, known_entries, license_of, local_name, local_names
from abs_classify.models.store import RECORD_FILE, WeightsRecord, WeightsStore, read_record
from abs_cli.main import main
from abs_core.errors import WeightsError

GOLDEN_DINO = Path(__file__).parents[1] / "golden" / "models" / "dino"
SMALL_DINO = "vit_small_patch16_224.dino"
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class Machine:
    """`abs` in this process, with a home and a hub cache of its own."""

    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *args: str | Path) -> Ran:
        self.capture.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--home", str(self.home), "models", *map(str, args)])
        said = self.capture.readouterr()
        return Ran(int(done.value.code or 0), said.out, said.err)


@pytest.fixture
def models(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Machine:
    # where the hub client keeps its cache is a constant of its own, read from HF_HOME when it is first imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return Machine(tmp_path / "home", capsys)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as open_clip saves one: a small CLIP with random weights."""
    return _save_clip(tmp_path_factory.mktemp("tiny"), CONFIG)


def _save_clip(folder: Path, config: dict[str, Any]) -> Path:
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = CLIP(**{name: config["model_cfg"][name] for name in ("embed_dim", "vision_cfg", "text_cfg")})
    save_file(_half(model.state_dict()), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def _half(state: dict[str, Any]) -> dict[str, Any]:
    return {name: (each.half() if each.is_floating_point() else each).contiguous() for name, each in state.items()}


def _save_zeros(model: Any, path: Path) -> Path:
    """The weights of a model on the meta device as a file of zeros, which fit it as well as any."""
    import torch
    from safetensors.torch import save_file

    zeros = {name: torch.zeros(each.shape, dtype=torch.float16) for name, each in model.state_dict().items()}
    save_file(zeros, path)
    return path


def _save_torchscript(path: Path) -> Path:
    import torch

    with warnings.catch_warnings():
        # torch advises against TorchScript; OpenAI's files are what they are
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    return path


@pytest.fixture(scope="module")
def small_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(SMALL_DINO, pretrained=False, num_classes=0)
    return _save_zeros(model, tmp_path_factory.mktemp("dino") / "dino.safetensors")


def test_the_list_names_every_published_weight_with_a_licence(models: Machine) -> None:
    import open_clip
    import timm

    entries = {entry.name: entry for entry in known_entries()}
    assert next(iter(entries)) == "embedded"
    assert len(entries) > 150
    assert [name for name, entry in entries.items() if entry.license is None] == []
    assert entries["ViT-B-16-quickgelu/openai"].repository == "timm/vit_base_patch16_clip_224.openai"
    assert entries["ViTamin-S/datacomp1b"].files == ("pytorch_model.safetensors", "pytorch_model.bin")
    assert "ViT-B-16/openai" not in entries  # a QuickGELU mismatch
    for name in set(entries) - {"embedded"} - {f"dino:{spec}" for spec in DINO}:
        arch, _, tag = name.rpartition("/")
        assert tag in open_clip.list_pretrained_tags_by_model(arch)
    for spec in DINO:
        assert timm.models.get_pretrained_cfg(spec).hf_hub_id == entries[f"dino:{spec}"].repository
    ran = models("ls")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["embedded", "package", "110.2", "MB", "Apache-2.0"]
    assert len(ran.out.splitlines()) == len(entries)
    assert all("siglip2" in line.lower() for line in models("ls", "SigLIP2").out.splitlines())


@pytest.mark.parametrize(
    ("repository", "licence"),
    [
        ("timm/vit_large_patch14_clip_336.openai", "MIT"),
        ("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", "MIT"),
        ("timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k", "MIT"),
        ("timm/vit_huge_patch14_clip_224.metaclip2_worldwide", "CC-BY-NC-4.0"),
        ("visheratin/nllb-clip-base-siglip", "CC-BY-NC-4.0"),
        ("timm/ViT-B-16-SigLIP2", "Apache-2.0"),
        ("timm/MobileCLIP2-S0-OpenCLIP", "apple-amlr"),
        ("timm/vit_base_patch16_224.dino", "Apache-2.0"),
    ],
)
def test_licences_go_by_family(repository: str, licence: str) -> None:
    found = license_of(repository)
    assert found is not None
    assert found.name == licence
    assert found.source


def test_an_unknown_publisher_has_no_licence_here() -> None:
    assert license_of("someone/something") is None


def test_what_is_here_is_listed_without_open_clip(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom abs_cli.main import main\n"
        f"try: main(['--home', {str(tmp_path)!r}, 'models', 'ls', '--here', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in ('torch', 'open_clip', 'timm') if name in sys.modules])\n"
    )
    done = _python(code, HF_HOME=str(tmp_path))
    rows, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    (row,) = json.loads(rows)
    assert (row["name"], row["place"], row["bytes"] > 10**8) == ("embedded", "package", True)


def test_show_tells_a_model_from_its_configuration(models: Machine) -> None:
    shown = json.loads(models("show", "ViT-B/16-quickgelu/openai", "--json").out)
    assert shown["name"] == "ViT-B-16-quickgelu/openai"
    assert (shown["grid"], shown["embed_dim"], shown["context_length"], shown["quick_gelu"]) == (14, 512, 77, True)
    assert (shown["pooling"], shown["attention"], shown["default_attention"]) == ("token", ["self", "norm"], "dino")
    assert shown["parameters"] == 149_620_737
    assert shown["preprocess"]["size"] == [224, 224]
    assert (shown["place"], shown["files"]) == (None, [])
    text = models("show", "ViT-B-16-quickgelu/openai").out
    for piece in (
        "a grid of 14 x 14",
        "without the weights",
        "MIT: https://github.com/openai/CLIP",
        "abs models pull",
    ):
        assert piece in text


def test_show_says_which_models_have_no_feature_views(models: Machine) -> None:
    resnet = models("show", "RN50-quickgelu/openai").out
    assert "no, pixel views only" in resnet
    siglip = json.loads(models("show", "ViT-B-16-SigLIP/webli", "--json").out)
    assert (siglip["grid"], siglip["pooling"], siglip["context_length"]) == (14, "attention", 64)
    assert siglip["preprocess"]["mean"] == [0.5, 0.5, 0.5]


def test_show_says_what_the_configuration_of_a_text_model_hides(models: Machine) -> None:
    hidden = models("show", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k").out
    assert "xlm-roberta-base, which is not here" in hidden
    assert "feature views" not in hidden.split("note")[0]


def test_show_of_the_embedded_model_and_of_dino(models: Machine) -> None:
    embedded = models("show", "embedded").out
    assert "pinned in this toolkit" in embedded
    assert "a grid of 7 x 7" in embedded
    dino = json.loads(models("show", "dino", "--json").out)
    assert (dino["name"], dino["grid"]) == ("dino:vit_base_patch16_224.dino", 14)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("ViT-B-16/openai", "QuickGELU mismatch"),
        ("ViT-B-99/openai", "unknown "),
        ("ViT-B-16/nothing", "unknown weights"),
        ("dino:nothing", "unknown vision transformer"),
        ("dino:/nowhere/file.pth", "no file or folder"),
        ("hf-hub:nothing", "Write hf-hub:ORG/REPO"),
        ("local-dir:/nowhere", "no open_clip_config.json"),
    ],
)
def test_a_wrong_name_is_one_line_and_exit_code_2(models: Machine, name: str, complaint: str) -> None:
    ran = models("show", name)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


def test_import_copies_a_folder_and_the_printed_name_loads_it(models: Machine, tiny: Path) -> None:
    from abs_classify.models.registry import load_model

    ran = models("import", tiny, "--as", "mine")
    assert ran.code == 0
    folder = models.home / "models" / "mine"
    assert ran.out.strip() == f"--model local-dir:{folder}"
    assert sorted(path.name for path in folder.iterdir()) == [
        RECORD_FILE,
        "model.safetensors",
        "open_clip_config.json",
    ]
    digest = hashlib.sha256((tiny / "open_clip_model.safetensors").read_bytes()).hexdigest()
    assert read_record(folder / RECORD_FILE).files[0].sha256 == f"sha256:{digest}"
    model = load_model(f"local-dir:{folder}", device="cpu")
    assert (model.grid, model.embed_dim) == (4, 16)
    store = WeightsStore(models.home / "models")
    assert local_name(store, "mine") == f"local-dir:{folder}"
    assert local_name(store, "theirs") == "theirs"
    assert "local-dir" in models("show", "mine").out
    (row,) = json.loads(models("ls", "--here", "--json", "mine").out)
    assert (row["place"], row["use"]) == ("imported", f"local-dir:{folder}")


def test_import_takes_a_name_once(models: Machine, tiny: Path) -> None:
    assert models("import", tiny, "--as", "mine").code == 0
    again = models("import", tiny, "--as", "mine")
    assert again.code == 2
    assert "was imported before" in again.err


def test_import_of_a_file_for_a_named_architecture(models: Machine, tmp_path: Path) -> None:
    import open_clip
    import torch

    with torch.device("meta"):
        model = open_clip.create_model("ViT-S-32-alt", load_weights=False, device="meta")
    file = _save_zeros(model, tmp_path / "any name.safetensors")
    ran = models("import", file, "--as", "ViT-S-32-alt")
    assert ran.code == 0, ran.err
    use = ran.out.strip()
    assert use == f"--model ViT-S-32-alt@{models.home / 'models' / 'ViT-S-32-alt' / 'model.safetensors'}"
    assert models("show", "ViT-S-32-alt").out.count("recorded when it was imported") == 1


def test_import_refuses_weights_of_another_architecture(models: Machine, tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "clip.safetensors"
    shutil.copy(tiny / "open_clip_model.safetensors", bare)
    ran = models("import", bare, "--as", "ViT-S-32-alt")
    assert ran.code == 2
    assert "do not fit" in ran.err
    assert str(bare) in ran.err
    assert not (models.home / "models" / "ViT-S-32-alt").exists()


def test_import_runs_no_code_from_a_file(models: Machine, tmp_path: Path) -> None:
    import pickle

    import torch

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    pickled = tmp_path / "pickled.pt"
    pickled.write_bytes(pickle.dumps({"state_dict": Malicious()}, protocol=2))
    zipped = tmp_path / "zipped.pt"
    torch.save({"state_dict": Malicious()}, zipped)
    script = _save_torchscript(tmp_path / "script.pt")
    for file, complaint in ((pickled, "plain tensors"), (zipped, "plain tensors"), (script, "not one that OpenAI")):
        ran = models("import", file, "--as", "ViT-S-32-alt")
        assert (ran.code, complaint in ran.err) == (2, True), ran.err
    assert not (tmp_path / "executed").exists()
    assert not list(models.home.rglob("*.bin"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (None, "does not say which model"),
        ("embedded", "comes in packages"),
        ("local-dir:/x", "cannot be imported as"),
        ("ViT-B-32@x", "cannot be imported as"),
        ("dino:../x", "cannot be imported as"),
        ("ViT-B-16-quickgelu/openai", "QuickGELU mismatch"),
    ],
)
def test_import_refuses_names_that_cannot_be(models: Machine, tiny: Path, name: str | None, complaint: str) -> None:
    ran = models("import", tiny, *(["--as", name] if name else []))
    assert ran.code == 2
    assert complaint in ran.err
    assert not list(models.home.rglob(RECORD_FILE))


def test_import_names_a_missing_or_ambiguous_file(models: Machine, tmp_path: Path) -> None:
    assert "no file or folder" in models("import", tmp_path / "nothing", "--as", "dino").err
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert "found: a.bin, b.bin" in models("import", tmp_path, "--as", "dino").err


def test_dino_is_imported_by_its_timm_name(models: Machine, small_dino: Path) -> None:
    from abs_classify.models.attention import DinoAttention

    ran = models("import", small_dino, "--as", f"dino:{SMALL_DINO}")
    assert ran.code == 0, ran.err
    option, use = ran.out.split()
    assert option == "--attention"
    assert DinoAttention(use.removeprefix("dino:")).grid == 14
    store = WeightsStore(models.home / "models")
    assert local_names(store, "embedded", f"dino:{SMALL_DINO}") == ("embedded", use)
    assert local_names(store, "ViT-B-16-quickgelu/openai", "auto") == ("ViT-B-16-quickgelu/openai", "auto")
    (row,) = json.loads(models("ls", "--here", "--json", SMALL_DINO).out)
    assert row["use"] == use
    assert row["licence"]["name"] == "Apache-2.0"


def test_a_hugging_face_dino_must_be_the_model_it_is_imported_as(models: Machine) -> None:
    from abs_classify.models.attention import DinoAttention

    wrong = models("import", GOLDEN_DINO, "--as", "dino")
    assert wrong.code == 2
    assert "their shapes differ" in wrong.err
    right = models("import", GOLDEN_DINO, "--as", "dino:small-golden")
    assert right.code == 0, right.err
    assert DinoAttention(right.out.split()[1].removeprefix("dino:")).grid == 14


def test_verify_finds_what_changed(models: Machine, tiny: Path) -> None:
    models("import", tiny, "--as", "mine")
    sound = models("verify", "mine")
    assert (sound.code, sound.out.count("ok ")) == (0, 2)
    weights = models.home / "models" / "mine" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = models("verify")
    assert changed.code == 1
    assert f"differs    {weights}" in changed.out
    weights.unlink()
    gone = models("verify", "mine")
    assert gone.code == 1
    assert f"missing    {weights}" in gone.out


def test_verify_compares_the_embedded_model_with_pinned_digests(models: Machine) -> None:
    ran = models("verify", "embedded")
    assert (ran.code, ran.out.count("pinned in this toolkit")) == (0, 4)


def test_verify_says_when_there_is_nothing_to_compare_with(models: Machine, tiny: Path) -> None:
    ran = models("verify", f"local-dir:{tiny}")
    assert ran.code == 0
    assert "unrecorded" in ran.out
    assert models("verify", "dino").code == 2


def test_verify_doubts_a_torchscript_archive_that_openai_did_not_publish(models: Machine, tmp_path: Path) -> None:
    script = _save_torchscript(tmp_path / "ViT-B-32.pt")
    ran = models("verify", f"ViT-B-32@{script}")
    assert ran.code == 1
    assert "one that OpenAI published" in ran.out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "abs-model/2"}',
        '{"format":"abs-model/1","name":"x","origin":"imported","layout":"file","files":[{"name":"../../etc/passwd",'
        '"sha256":"sha256:' + "0" * 64 + '","bytes":1}]}',
        '{"format":"abs-model/1","name":"x","origin":"imported","layout":"file","files":[]}',
        " " * 70_000,
    ],
)
def test_a_damaged_record_is_named(models: Machine, tmp_path: Path, text: str) -> None:
    record = models.home / "models" / "x" / RECORD_FILE
    record.parent.mkdir(parents=True)
    record.write_text(text)
    with pytest.raises(WeightsError, match="is damaged"):
        read_record(record)
    ran = models("ls", "--here")
    assert ran.code == 2
    assert str(record) in ran.err


def test_auto_stands_for_an_imported_dino(tmp_path: Path) -> None:
    store = WeightsStore(tmp_path)
    file = {"name": "model.safetensors", "sha256": "sha256:" + "a" * 64, "bytes": 3}
    name = canonical_name("dino")
    store.record(WeightsRecord.model_validate({"name": name, "origin": "imported", "layout": "file", "files": [file]}))
    use = f"{name}@{store.folder(name) / 'model.safetensors'}"
    assert local_names(store, "ViT-B-32-quickgelu/openai", "auto") == ("ViT-B-32-quickgelu/openai", use)
    assert local_names(store, "embedded", "auto") == ("embedded", "auto")
    assert local_names(store, "embedded", "dino") == ("embedded", use)


def test_names_have_one_spelling() -> None:
    assert canonical_name("dino") == f"dino:{DINO[0]}"
    assert canonical_name("ViT-B/16/LAION2B-s34b-b88k") == "ViT-B-16/laion2b_s34b_b88k"
    for name in ("embedded", "hf-hub:Org/Repo", "ViT-B-16", "ViT-B-16/openai@/a/File-1.pt"):
        assert canonical_name(name) == name


# --- with a hub ---


@pytest.fixture(scope="module")
def hub(tiny: Path, small_dino: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    worded = _save_worded_clip(tmp_path_factory.mktemp("worded"))
    hub = Hub(gated={"tiny/gated"}, wrong_digest={"tiny/liar"})
    hub.files = {
        "tiny/clip": {path.name: path.read_bytes() for path in tiny.iterdir()},
        "tiny/liar": {path.name: path.read_bytes() for path in tiny.iterdir()},
        "tiny/worded": {path.name: path.read_bytes() for path in worded.iterdir()},
        "tiny/empty": {"README.md": b"nothing"},
        f"timm/{SMALL_DINO}": {"model.safetensors": small_dino.read_bytes()},
    }
    with serving_hub(hub):
        yield hub


def _save_worded_clip(folder: Path) -> Path:
    """A CLIP whose tokenizer is a Hugging Face one in its own repository, as SigLIP's is."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "photo": 3, "of": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    model = CONFIG["model_cfg"]
    text = {**model["text_cfg"], "vocab_size": 8, "hf_tokenizer_name": "tiny/worded"}
    return _save_clip(folder, {**CONFIG, "model_cfg": {**model, "text_cfg": text}})


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).parents[2],
    )


def _run_there(root: Path, address: str, *commands: list[str]) -> list[Ran]:
    """Run commands of `abs models` one after the other in a new process with a home, a hub cache and a hub."""
    code = (
        "import contextlib, io, json\nfrom abs_cli.main import main\nran = []\n"
        f"for args in json.loads({json.dumps(json.dumps(commands))}):\n"
        "    out, err, code = io.StringIO(), io.StringIO(), None\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        f"        try: main(['--home', {str(root / 'home')!r}, 'models', *args])\n"
        "        except SystemExit as end: code = end.code or 0\n"
        "    ran.append([code, out.getvalue(), err.getvalue()])\n"
        "print(json.dumps(ran))\n"
    )
    done = _python(code, HF_HOME=str(root / "hf"), HF_ENDPOINT=address)
    return [Ran(*each) for each in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def travelled(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Ran]]:
    """A machine that pulled what it could, and the folders it made for another machine."""
    root = tmp_path_factory.mktemp("online")
    commands = {
        "before": ["ls", "--here"],
        "pull": ["pull", "hf-hub:tiny/clip"],
        "again": ["pull", "hf-hub:tiny/clip"],
        "worded": ["pull", "hf-hub:tiny/worded", "--to", str(root / "usb" / "worded")],
        "dino": ["pull", f"dino:{SMALL_DINO}", "--to", str(root / "usb" / "dino")],
        "occupied": ["pull", f"dino:{SMALL_DINO}", "--to", str(root / "usb" / "dino")],
        "missing": ["pull", "hf-hub:tiny/nothing"],
        "gated": ["pull", "hf-hub:tiny/gated"],
        "empty": ["pull", "hf-hub:tiny/empty"],
        "liar": ["pull", "hf-hub:tiny/liar"],
        "after": ["ls", "--here", "--json"],
        "verify": ["verify"],
        "show": ["show", "hf-hub:tiny/clip"],
    }
    return root, dict(zip(commands, _run_there(root, hub.address, *commands.values()), strict=True))


def test_pull_downloads_checks_and_records(travelled: tuple[Path, dict[str, Ran]], hub: Hub) -> None:
    root, ran = travelled
    digest = hashlib.sha256(hub.files["tiny/clip"]["open_clip_model.safetensors"]).hexdigest()
    assert ran["pull"].code == 0, ran["pull"].err
    assert "downloading open_clip_model.safetensors of tiny/clip" in ran["pull"].err
    assert f"sha256:{digest}" in ran["pull"].err
    assert ran["pull"].out.strip() == "--model hf-hub:tiny/clip"
    assert "downloading" not in ran["again"].err
    record = read_record(root / "home" / "models" / "hf-hub--tiny--clip" / RECORD_FILE)
    assert (record.origin, record.layout, record.repository) == ("pulled", "name", "tiny/clip")
    assert [file.name for file in record.files] == ["open_clip_model.safetensors", "open_clip_config.json"]
    assert "recorded when it was pulled" in ran["show"].out


def test_what_was_pulled_is_listed_and_verified(travelled: tuple[Path, dict[str, Ran]]) -> None:
    _, ran = travelled
    assert ran["before"].out.split()[0] == "embedded"
    assert len(ran["before"].out.splitlines()) == 1
    places = {row["name"]: row["place"] for row in json.loads(ran["after"].out)}
    assert places == {
        "embedded": "package",
        f"dino:{SMALL_DINO}": "hub cache",
        "hf-hub:tiny/clip": "hub cache",
        "hf-hub:tiny/worded": "hub cache",
    }
    assert ran["verify"].code == 0, ran["verify"].out


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("missing", "no public repository 'tiny/nothing'"),
        ("gated", "asks for an account with 'tiny/gated'"),
        ("empty", "holds none of open_clip_model.safetensors"),
        ("liar", "and the hub says sha256:0000"),
        ("occupied", "is not empty"),
    ],
)
def test_what_cannot_be_pulled_says_why(travelled: tuple[Path, dict[str, Ran]], command: str, complaint: str) -> None:
    ran = travelled[1][command]
    assert ran.code == 2
    assert complaint in ran.err.splitlines()[-1]


def test_a_machine_without_a_network_imports_what_another_pulled(
    travelled: tuple[Path, dict[str, Ran]], tmp_path: Path
) -> None:
    usb = travelled[0] / "usb"
    assert sorted(path.name for path in (usb / "worded").iterdir()) == [
        RECORD_FILE,
        "model.safetensors",
        "open_clip_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    broken = shutil.copytree(usb / "worded", tmp_path / "broken")
    data = bytearray((broken / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "model.safetensors").write_bytes(data)
    nowhere = "http://127.0.0.1:9"
    refused, worded, dino, pull, verify = _run_there(
        tmp_path,
        nowhere,
        ["import", str(broken)],
        ["import", str(usb / "worded")],
        ["import", str(usb / "dino")],
        ["pull", "ViT-B-16-quickgelu/openai"],
        ["verify"],
    )
    assert refused.code == 2
    assert "is not the file that abs-model.json beside it names" in refused.err
    assert worded.code == 0, worded.err
    assert worded.out.strip() == f"--model local-dir:{tmp_path / 'home' / 'models' / 'hf-hub--tiny--worded'}"
    assert dino.code == 0, dino.err
    assert dino.out.startswith(f"--attention dino:{SMALL_DINO}@")
    assert pull.code == 2
    assert len(pull.err.splitlines()) == 1
    assert "cannot pull 'ViT-B-16-quickgelu/openai' from 127.0.0.1" in pull.err
    assert verify.code == 0, verify.out


def test_a_record_survives_a_round_trip(tmp_path: Path) -> None:
    file = {"name": "model.safetensors", "sha256": "sha256:" + "a" * 64, "bytes": 3}
    record = WeightsRecord.model_validate({"name": "dino:x", "origin": "imported", "layout": "file", "files": [file]})
    store = WeightsStore(tmp_path)
    stored = store.record(record)
    assert store.find("dino:x") == stored
    assert store.find("dino--x") is None
    assert stored.use == f"dino:x@{tmp_path / 'dino--x' / 'model.safetensors'}"


@pytest.mark.parametrize("with_option", [True, False])
def test_code_in_a_model_folder_is_never_run(models: Machine, tmp_path: Path, with_option: bool) -> None:
    """A tokenizer may name a Python file beside it; with trust_remote_code, transformers would run it."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    _save_worded_clip(folder)
    mark = tmp_path / "ran"
    config = json.loads((folder / "open_clip_config.json").read_text())
    if with_option:
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "evil.py").write_text(
        f"import pathlib; pathlib.Path({str(mark)!r}).write_text('x')\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedTokenizerFast): pass\n"
    )
    ran = models("import", folder, "--as", "hostile")
    assert not mark.exists()
    if with_option:
        assert ran.code == 2
        assert "trust_remote_code" in ran.err
