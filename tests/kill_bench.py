"""Everything that scenarios of kills share: images, models, bundles, servers, and the process that is forked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gen_descriptions_command import ChatScript
from hub_server import Hub, serving_hub
from kill_image_scenarios import Label, review, save_photos
from kill_scenarios import KillReport, Scenario, kill_often
from kill_text_scenarios import Push, reply_slowly
from killed_commands import KillServer, serving_kills
from model_weights import CONFIG
from servers import serving
from sharing import add
from support import save_small_clip

from abs_classify.models.hub_downloads import LARGE
from abs_core.labels import from_names
from abs_descriptions.bundles import Description, Provenance

CLASSES = ("cat", "car")


@dataclass
class KillBench:
    """What kills are tried on.

    Args:
        server: has the processes.
        folder: for everything.
        shared: as ``Scenario`` takes it.
        reports: of what was tried.
    """

    server: KillServer
    folder: Path
    shared: dict[str, Any]
    reports: list[KillReport] = field(default_factory=list)

    def kill(self, kind: type[Scenario], kills: int, *, seed: int = 0, **shared: Any) -> KillReport:
        """Kill a command so often; what must hold of every command is asserted."""
        parts: Mapping[str, Any] = {**self.shared, **shared}
        make: Callable[[Path], Scenario] = lambda folder: kind(folder, parts)  # noqa: E731
        report = kill_often(self.server, make, self.folder / kind.__name__, kills=kills, seed=seed)
        print(report)
        self.reports.append(report)
        # with what the last of several kills left, that of those before is gone
        assert report.most_left[0] <= 6, report
        return report

    def labelled(self, images: int) -> dict[str, Any]:
        """A labelled and reviewed folder, with its home, and the photos that it is of."""
        root = self.folder / f"labelled-{images}"
        parts = {**self.shared, "photos": save_photos(root / "photos", images)}
        first = Label(root / "run", parts)
        first.prepare()
        done = first.run(self.server)
        assert done.code == 0, done.err
        review(first.folder / "out")
        return {"labelled": first.folder, "photos": parts["photos"]}

    def pushed(self) -> dict[str, Any]:
        """A folder that a bundle and its parent were pushed to."""
        first = Push(self.folder / "pushed", self.shared)
        first.prepare()
        done = first.run(self.server)
        assert done.code == 0, done.err
        return {"pushed": Path(first.place)}


@contextmanager
def opened_bench(folder: Path, *modules: str) -> Iterator[KillBench]:
    """Make the images, models and bundles, and start the servers.

    Args:
        folder: for everything.
        modules: to import, besides those of the toolkit, before the first fork.
    """
    with ExitStack() as stack:
        hub = stack.enter_context(serving_hub(Hub(files={"tiny/clip": _published_clip(folder / "published")})))
        chat = stack.enter_context(serving(ChatScript(behave=reply_slowly)))
        environment = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
        server = stack.enter_context(serving_kills(folder, modules, **environment))
        shared = {
            "model": save_small_clip(folder / "clip"),
            "photos": save_photos(folder / "photos"),
            "bundles": _save_bundles(folder / "two-versions", 2),
            "bundle": _save_bundles(folder / "one-version", 1),
            "hub": hub,
            "chat": chat,
        }
        yield KillBench(server, folder, shared)


def _published_clip(folder: Path) -> dict[str, bytes]:
    """The files of a model that is large enough to be resumed."""
    import json

    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save

    parts = dict(CONFIG["model_cfg"])
    parts["text_cfg"] = {**parts["text_cfg"], "width": 64}
    torch.manual_seed(0)
    weights = save({name: tensor.contiguous() for name, tensor in CLIP(**parts).state_dict().items()})
    assert len(weights) > 2 * LARGE
    config = json.dumps({**CONFIG, "model_cfg": parts}).encode()
    return {"open_clip_model.safetensors": weights, "open_clip_config.json": config}


def _save_bundles(home: Path, versions: int) -> Path:
    """A store with versions of one bundle, each the parent of the next."""
    parents: tuple[str, ...] = ()
    for number in range(versions):
        records = [
            Description(
                f"A {name} number {sentence} has {part} parts{' indeed' * number}.",
                class_id=name,
                provenance=Provenance("g"),
            )
            for name in CLASSES
            for sentence, part in enumerate(("long", "short", "soft", "hard", "blue"))
        ]
        changes: dict[str, Any] = {"parents": parents} if parents else {}
        manifest = add(
            home,
            name="zoo",
            version=f"1.{number}.0",
            label_set=from_names(list(CLASSES)),
            records=records,
            rejected=[],
            **changes,
        )
        parents = (str(manifest),)
    return home / "bundles"
