"""`abs models pull`, and weights that travel to a machine without a network: a real hub client, a local hub server."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serving_hub
from model_weights import (
    SMALL_DINO,
    Machine,
    run_python,
    save_worded_clip,
)
from support import Ran
from transformers_models import save_shards

from abs_classify.models.store import RECORD_FILE, read_record

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub(tiny: Path, small_dino: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    worded = save_worded_clip(tmp_path_factory.mktemp("worded"))
    hub = Hub(gated={"tiny/gated"}, wrong_digest={"tiny/liar"})
    hub.files = {
        "tiny/clip": {path.name: path.read_bytes() for path in tiny.iterdir()},
        "tiny/liar": {path.name: path.read_bytes() for path in tiny.iterdir()},
        "tiny/worded": {path.name: path.read_bytes() for path in worded.iterdir()},
        "tiny/empty": {"README.md": b"nothing"},
        f"timm/{SMALL_DINO}": {"model.safetensors": small_dino.read_bytes()},
        "tiny/shards": {path.name: path.read_bytes() for path in save_shards(tmp_path_factory.mktemp("shards"))},
    }
    with serving_hub(hub):
        yield hub


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
    done = run_python(code, HF_HOME=str(root / "hf"), HF_ENDPOINT=address)
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
        "shards": ["pull", "hf-hub:tiny/shards", "--to", str(root / "usb" / "shards")],
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
        "hf-hub:tiny/shards": "hub cache",
        "hf-hub:tiny/worded": "hub cache",
    }
    assert ran["verify"].code == 0, ran["verify"].out


def test_a_model_of_transformers_in_several_files_travels(
    travelled: tuple[Path, dict[str, Ran]], hub: Hub, models: Machine
) -> None:
    root, ran = travelled
    assert ran["shards"].code == 0, ran["shards"].err
    assert "downloading model.safetensors.index.json of tiny/shards" in ran["shards"].err
    record = read_record(root / "home" / "models" / "hf-hub--tiny--shards" / RECORD_FILE)
    recorded = {file.name: file.sha256.removeprefix("sha256:") for file in record.files}
    assert recorded == {name: hashlib.sha256(data).hexdigest() for name, data in hub.files["tiny/shards"].items()}
    imported = models("import", root / "usb" / "shards")
    assert imported.code == 0, imported.err
    assert imported.out.strip() == f"--model local-dir:{models.home / 'models' / 'hf-hub--tiny--shards'}"
    assert models("verify", "hf-hub:tiny/shards").code == 0


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
