"""`abs bundle gc`, `verify` and `repair`: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sharing import add, store_of
from support import Abs

ORPHAN = f"objects/sha256/00/{'00' * 32}.jsonl"


def test_garbage_is_shown_and_removed_when_it_is_asked_for(abs_command: Abs, tmp_path: Path) -> None:
    add(abs_command.home)
    abs_command("bundle", "remote", "add", "team", tmp_path / "shared", "--default")
    abs_command("bundle", "push", "pets")
    for path, age in ((tmp_path / "shared" / ORPHAN, 0), (abs_command.home / "bundles" / ORPHAN, 0)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a cat")
        os.utime(path, (age, age))
    shown = abs_command("bundle", "gc")
    assert shown.out == f"{ORPHAN}  5 B, no manifest names it\n"
    assert shown.err.splitlines()[-1] == "nothing was changed; --delete removes them"
    assert (tmp_path / "shared" / ORPHAN).exists()
    removed = abs_command("bundle", "gc", "team", "--delete", "--min-age", "1", "--json")
    assert json.loads(removed.out)["files"] == [{"path": ORPHAN, "bytes": 5, "reason": "no manifest names it"}]
    assert f"removed from {tmp_path / 'shared'}: 1 file, 5 B" in removed.err
    assert not (tmp_path / "shared" / ORPHAN).exists()
    assert abs_command("bundle", "gc", "--local", "--delete").out.startswith(ORPHAN)
    assert not (abs_command.home / "bundles" / ORPHAN).exists()
    assert "--local does not go with LOCATION" in abs_command.refuses("bundle", "gc", "--local", "team")
    assert "--min-age" in abs_command.refuses("bundle", "gc", "--min-age", "0.5")
    assert "cannot be listed whole" in abs_command.refuses("bundle", "gc", "http://127.0.0.1:9/x")


def test_damage_is_named_and_repaired(abs_command: Abs, tmp_path: Path) -> None:
    entry = add(abs_command.home)
    shared = tmp_path / "shared"
    abs_command("bundle", "push", "pets", shared)
    assert abs_command("bundle", "verify", shared).err.endswith("0 damaged, 0 restored\n")
    path = shared / entry.object_path
    path.write_bytes(path.read_bytes()[:-1])
    (shared / ORPHAN).parent.mkdir(exist_ok=True)
    (shared / ORPHAN).touch()
    for words in (("verify", shared), ("verify", "--quick", shared)):
        found = abs_command("bundle", *words)
        assert (found.code, found.out[:21]) == (2, "pets@1.0.0  DAMAGED: ")
    assert "1 object has no manifest: see `abs bundle gc`" in found.err
    repaired = abs_command("bundle", "repair", shared, "--json")
    assert (repaired.code, json.loads(repaired.out)["damaged"][0]["restored"]) == (0, True)
    assert abs_command("bundle", "verify", shared).code == 0

    store_of(abs_command.home).remove("pets@1.0.0")
    path.unlink()
    lost = abs_command("bundle", "repair", shared)
    assert (lost.code, lost.out) == (
        2,
        f"pets@1.0.0  DAMAGED: {shared} lists pets@1.0.0 but lacks its bytes. Push it again from where it is whole.\n",
    )
