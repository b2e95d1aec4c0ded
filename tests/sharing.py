"""What tests of sharing have in common: small bundles, and places of every kind on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bucket_server import Bucket, fake_gcs, serving_gcs, serving_s3
from bundle_samples import write_cat
from hub_server import Hub, serving_hub
from support import ROOT

from abs_descriptions.bundles import Provenance, Rejection
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import CopiedBundle, copy_bundles

PLACES = ["folder", "s3", "hf", pytest.param("gs", marks=pytest.mark.skipif(not fake_gcs(), reason="no fake-gcs"))]
#: Credentials that must not be seen anywhere.
SECRETS = ("AKIAEXAMPLEEXAMPLE01", "wJalrXUtnFEMIsecretsecret", "hf_abcdefghijklmnopqrstuvwxyz")


def add(home: Path, text: str = "A cat.", version: str = "1.0.0", name: str = "pets", **changes: Any) -> Manifest:
    """Write a bundle of one class into the store of a home, with a rejected completion."""
    home.mkdir(exist_ok=True)
    rejected = [Rejection("cat", f"Sure! {text}", "chatty", Provenance("g", 1))]
    fields = {"version": version, "name": name, "rejected": rejected}
    return store_of(home).add(write_cat(home / "new.jsonl", text, **fields | changes).path)


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A place with a server behind it where it needs one: its location, and the environment that leads there."""
    if kind == "folder":
        yield str(folder / "shared"), {}
    elif kind == "s3":
        with serving_s3(Bucket()) as bucket:
            yield "s3://team/bundles", s3_environment(bucket)
    elif kind == "gs":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with serving_gcs(port) as address:
            yield "gs://team/bundles", {"STORAGE_EMULATOR_HOST": address}
    else:
        with serving_hub(Hub(datasets={"org/pets": [{".gitattributes": b""}]})) as hub:
            yield "hf://datasets/org/pets", hub_environment(hub, folder)


def s3_environment(bucket: Bucket) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": bucket.address,
        "AWS_ACCESS_KEY_ID": SECRETS[0],
        "AWS_SECRET_ACCESS_KEY": SECRETS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def hub_environment(hub: Hub, folder: Path) -> dict[str, str]:
    # The local hub speaks the older upload protocol only.
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder / "hf"),
        "HF_TOKEN": SECRETS[2],
        "HF_HUB_DISABLE_XET": "1",
    }


def python(code: str, environment: dict[str, str], *args: str) -> subprocess.Popen[str]:
    """Start a process that runs ``code`` from the top of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_"))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
    )


_RACER = """
import json, sys, time
from pathlib import Path
from abs_core.errors import AbsError
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.sharing import copy_bundles

store, location, start, rounds = Repository.local(Path(sys.argv[1])), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
outcomes = []
for number in range(rounds):
    remote = Repository.open(location)
    time.sleep(max(0, start + number * 0.5 - time.time()))
    for reference in (f"pets@1.{number}.0", f"{sys.argv[5]}@1.{number}.0"):
        try:
            done = copy_bundles(reference, store, remote)[0]
            outcomes.append([reference, done.is_new, done.manifest.digest, ""])
        except AbsError as error:
            outcomes.append([reference, False, "", str(error)])
print(json.dumps(outcomes))
"""


def race(
    homes: Sequence[Path], location: str, environment: dict[str, str], rounds: int, start: float
) -> list[list[tuple[str, bool, str, str]]]:
    """Let a process per home push its own pets@1.N.0, and a bundle of its own, in every round at the same moment.

    Returns:
        for each process a list of reference, whether it was first, digest, error.
    """
    arguments = [str(start), str(rounds)]
    racers = [python(_RACER, environment, str(home / "bundles"), location, *arguments, home.name) for home in homes]
    results = []
    for racer in racers:
        out, err = racer.communicate(timeout=300)
        assert racer.returncode == 0, err
        results.append([tuple(outcome) for outcome in json.loads(out)])
    return results


def store_of(home: Path) -> Repository:
    return Repository.local(home / "bundles")


def send(home: Path, place: Path | str | Repository, reference: str = "pets", **options: Any) -> list[CopiedBundle]:
    return copy_bundles(reference, store_of(home), opened(place), **options)


def take(home: Path, place: Path | str | Repository, reference: str = "pets", **options: Any) -> list[CopiedBundle]:
    return copy_bundles(reference, opened(place), store_of(home), **options)


def opened(place: Path | str | Repository) -> Repository:
    return Repository.open(str(place)) if isinstance(place, Path | str) else place


def enter_environment(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Make an environment that of this process, also where a client read it when it was imported."""
    for name, value in environment.items():
        patch.setenv(name, value)
    if "HF_ENDPOINT" in environment:
        constants, address = "huggingface_hub.constants.", environment["HF_ENDPOINT"]
        patch.setattr(constants + "ENDPOINT", address)
        patch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants + "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants + "HF_HUB_OFFLINE", False)
        patch.setattr(constants + "HF_TOKEN_PATH", environment["HF_HOME"] + "/token")
