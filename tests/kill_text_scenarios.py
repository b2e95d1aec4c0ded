"""Long commands on texts and on the network, to be killed; see ``kill_scenarios``."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any, ClassVar

from gen_descriptions_command import PROMPTS, ChatReply, ChatScript
from kill_image_scenarios import bundle_files
from kill_scenarios import Scenario, check_repository
from sharing import s3_environment

from abs_classify.models.store import RECORD_FILE
from abs_core.files import sha256_file
from abs_descriptions.bundles.repository import Repository

#: Requests that `abs gen-descriptions` has under way here.
CONCURRENCY = 4


def reply_slowly(name: str, body: dict[str, Any]) -> ChatReply:
    """A fifth of the replies is refused by cleaning, so that there are rounds."""
    time.sleep(0.005)
    return "No." if body["seed"] % 5 == 0 else f"This {name} number {body['seed']} has a long tail."


class Generation(Scenario):
    """``shared`` has the chat server."""

    name: ClassVar[str] = "gen-descriptions"

    @property
    def chat(self) -> ChatScript:
        server: ChatScript = self.shared["chat"]
        return server

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "labels.txt").write_text("cat\ndog\ncow\n", encoding="utf-8")
        (self.folder / "prompts.yaml").write_text(PROMPTS, encoding="utf-8")
        self.first = len(self.chat.seen)

    @property
    def arguments(self) -> list[str | Path]:
        given = ("--name", "zoo", "--prompts", self.folder / "prompts.yaml")
        where = ("--backend", "openai", "--model", "m", "--base-url", self.chat.url)
        much = ("--per-class", "8", "--concurrency", str(CONCURRENCY))
        return ["gen-descriptions", self.folder / "labels.txt", *given, *where, *much]

    def results(self) -> Any:
        # an interruption leaves a partial version, and the complete one is the next
        bundle = Repository.local(self.home / "bundles").read("zoo")
        header = bundle.header
        lines = (self.home / "journals" / "zoo.jsonl").read_text(encoding="utf-8").splitlines()
        # one line a request, whenever its reply came
        return header.records_digest, header.rejected_digest, header.counts, sorted(lines)

    def check_work(self, kills: int, whole: Scenario) -> None:
        assert isinstance(whole, Generation)
        asked = len(self.chat.seen) - self.first
        # what was under way is paid again: what the server had, and replies on their way to the journal
        assert self.needed <= asked <= self.needed + 2 * CONCURRENCY * kills, (asked, kills)

    @property
    def needed(self) -> int:
        return len((self.home / "journals" / "zoo.jsonl").read_text(encoding="utf-8").splitlines()) - 1


class FilterByText(Scenario):
    """``shared`` has a store with a bundle of one version."""

    name: ClassVar[str] = "filter-descriptions"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.shared["bundle"], self.home / "bundles")

    @property
    def arguments(self) -> list[str | Path]:
        return ["filter-descriptions", "zoo@1.0.0", "--encoder", "text", "--out", self.folder / "child.jsonl"]

    def results(self) -> Any:
        from kill_image_scenarios import without_digests

        return [without_digests(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("child*"))]


class Push(Scenario):
    """``shared`` has a store with two versions of a bundle."""

    name: ClassVar[str] = "bundle push (folder)"

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(self.shared["bundles"], self.home / "bundles")

    @property
    def place(self) -> str:
        return str(self.folder / "shared")

    @property
    def arguments(self) -> list[str | Path]:
        return ["bundle", "push", "zoo@1.1.0", self.place, "--with-parents"]

    def check(self) -> None:
        super().check()
        if Path(self.place).is_dir():
            check_repository(Path(self.place))

    def results(self) -> Any:
        return bundle_files(Path(self.place))


class PushToBucket(Push):
    """``shared`` has the bucket server; each scenario has a folder of its own in the bucket."""

    name: ClassVar[str] = "bundle push (S3)"

    @property
    def place(self) -> str:
        return f"s3://team/{self.folder.name}"

    @property
    def environment(self) -> dict[str, str]:
        return s3_environment(self.shared["bucket"])

    def check(self) -> None:
        """What is announced is there: a manifest names objects that are whole."""
        Scenario.check(self)
        objects = self.objects()
        for path, data in objects.items():
            if path.startswith("versions/"):
                digest = json.loads(data)["digest"]
                assert digest in {f"sha256:{hashlib.sha256(other).hexdigest()}" for other in objects.values()}, path

    def results(self) -> Any:
        return self.objects()

    def objects(self) -> dict[str, bytes]:
        """What is in its folder of the bucket."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        keys = s3_backends[DEFAULT_ACCOUNT_ID]["global"].buckets["team"].keys
        prefix = f"{self.folder.name}/"
        return {name.removeprefix(prefix): keys[name].value for name in list(keys) if name.startswith(prefix)}


class Pull(Push):
    """``shared`` has a folder that a bundle was pushed to; the home is empty."""

    name: ClassVar[str] = "bundle pull (folder)"

    def prepare(self) -> None:
        Scenario.prepare(self)
        shutil.copytree(self.shared["pushed"], self.folder / "shared")

    @property
    def arguments(self) -> list[str | Path]:
        return ["bundle", "pull", "zoo@1.1.0", self.place, "--with-parents"]

    def results(self) -> Any:
        return bundle_files(self.home / "bundles")


class ModelPull(Scenario):
    """``shared`` has the hub."""

    name: ClassVar[str] = "models pull"

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_HOME": str(self.folder / "hf"), "HF_TOKEN": "hf_abc"}

    def prepare(self) -> None:
        super().prepare()
        self.first = self.shared["hub"].sent

    @property
    def arguments(self) -> list[str | Path]:
        return ["models", "pull", "hf-hub:tiny/clip"]

    @property
    def sent(self) -> int:
        """Bytes that the hub sent to it."""
        return int(self.shared["hub"].sent) - self.first

    def results(self) -> Any:
        (record,) = (self.home / "models").rglob(RECORD_FILE)
        (snapshot,) = (self.folder / "hf" / "hub" / "models--tiny--clip" / "snapshots").iterdir()
        files = {path.name: sha256_file(path) for path in sorted(snapshot.iterdir())}
        return record.read_text(encoding="utf-8").replace(str(self.folder), "."), files

    def check_work(self, kills: int, whole: Scenario) -> None:
        assert isinstance(whole, ModelPull)
        size = sum(map(len, self.shared["hub"].files["tiny/clip"].values()))
        # what was in the buffers of the connection and of the program when it was killed
        assert self.sent <= size + kills * (2 << 20), (self.sent, size)
