"""Signed bundles in places of every kind: who vouches, what travels, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("cryptography")

from sharing import add, send, store_of, take
from ssh_keys import write_key, write_signers
from web import serve_on_loopback

from abs_core.errors import BundleError, UsageError
from abs_descriptions.bundles.maintenance import collect_garbage
from abs_descriptions.bundles.manifest import manifest_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.signatures import NAMESPACE, add_signature, sign_bundle, verify_bundle
from abs_descriptions.bundles.signers import AllowedSigners, read_signers


class Team(SimpleNamespace):
    """The keys of two people, and who allows whom."""

    ada: Path
    bob: Path
    adas: AllowedSigners
    both: AllowedSigners


@pytest.fixture
def team(tmp_path: Path) -> Team:
    ada, bob = write_key(tmp_path / "ada"), write_key(tmp_path / "bob", "p256")
    adas = read_signers(write_signers(tmp_path / "adas", ada=ada))
    return Team(ada=ada, bob=bob, adas=adas, both=read_signers(write_signers(tmp_path / "both", ada=ada, bob=bob)))


def signature_files(folder: Path) -> list[Path]:
    return sorted((folder / "versions" / "pets").glob("*.sig"))


def test_signatures_travel_and_are_asked_for(place: Repository, tmp_path: Path, team: Team) -> None:
    entry = add(tmp_path / "a")
    send(tmp_path / "a", place)
    with pytest.raises(BundleError, match="not signed by an allowed signer: it has no signature"):
        take(tmp_path / "b", place, signers=team.adas)
    assert store_of(tmp_path / "b").list() == []
    sign_bundle(store_of(tmp_path / "a"), "pets", team.bob)
    assert not send(tmp_path / "a", place)[0].is_new
    with pytest.raises(BundleError, match=r"signed by keys that are not in .*adas: SHA256:\S+\."):
        take(tmp_path / "b", place, signers=team.adas)
    assert take(tmp_path / "b", place, signers=team.both)[0].signers == ["bob@example.org"]
    sign_bundle(store_of(tmp_path / "a"), "pets", team.ada)
    send(tmp_path / "a", place)
    for _ in range(2):
        [pulled] = take(tmp_path / "b", place, signers=team.both)
        assert (pulled.manifest, pulled.signers) == (entry, ["ada@example.org", "bob@example.org"])
    assert verify_bundle(store_of(tmp_path / "b"), entry, team.adas) == ["ada@example.org"]
    assert take(tmp_path / "c", place)[0].signers == ()


def test_signing_again_changes_nothing_and_a_version_that_goes_takes_its_signatures(tmp_path: Path, team: Team) -> None:
    add(tmp_path / "a")
    add(tmp_path / "a", version="1.0.0-rc")
    store = store_of(tmp_path / "a")
    sign_bundle(store, "pets@1.0.0", team.ada)
    [file] = signature_files(store.root)
    before = file.read_bytes()
    sign_bundle(store, "pets@1.0.0", team.ada)
    sign_bundle(store, "pets@1.0.0-rc", team.ada)
    assert file.read_bytes() == before
    assert [str(version) for version in store.versions("pets")] == ["1.0.0-rc", "1.0.0"]
    store.remove("pets@1.0.0")
    assert [path.name[:9] for path in signature_files(store.root)] == ["1.0.0-rc."]


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def forge(file: Path) -> None:
    data = file.read_text().splitlines()
    data[-2] = data[-2][:-8] + ("AAAAAAA=" if data[-2].endswith("=") else "AAAAAAAA")
    file.write_text("\n".join([*data, ""]))


def take_of_another(file: Path) -> None:
    [other] = file.parent.glob("1.1.0.*.sig")
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Path.unlink, "it has no signature"),
        (damage, "the signature of 'ada@example.org' .* is broken"),
        (forge, "the signature of 'ada@example.org' .* is (broken|not of this manifest)"),
        (take_of_another, "the signature of 'ada@example.org' .* is not of this manifest"),
        (lambda file: file.write_bytes(b" " * 100_000), "is broken"),
    ],
)
def test_a_wrong_signature_is_refused(change: object, problem: str, tmp_path: Path, team: Team) -> None:
    add(tmp_path / "a")
    add(tmp_path / "a", version="1.1.0")
    for version in ("1.0.0", "1.1.0"):
        sign_bundle(store_of(tmp_path / "a"), f"pets@{version}", team.ada)
        send(tmp_path / "a", tmp_path / "shared", f"pets@{version}")
    [file] = [path for path in signature_files(tmp_path / "shared") if path.name.startswith("1.0.0.")]
    assert callable(change)
    change(file)
    with pytest.raises(BundleError, match=problem):
        take(tmp_path / "b", tmp_path / "shared", "pets@1.0.0", signers=team.adas)
    assert store_of(tmp_path / "b").list() == []


@pytest.mark.parametrize("place", ["folder", "hf"], indirect=True)
@pytest.mark.parametrize("change", [damage, forge])
def test_what_stands_in_the_place_of_a_signature_gives_way(
    change: object, place: Repository, tmp_path: Path, team: Team
) -> None:
    entry = add(tmp_path / "a")
    store = store_of(tmp_path / "a")
    sign_bundle(store, "pets", team.bob)
    [file] = signature_files(store.root)
    whole = file.read_bytes()
    assert callable(change)
    change(file)
    path = f"versions/pets/{file.name}"
    send(tmp_path / "a", place)
    assert path not in {listed.path for listed in place.storage.files("versions")}
    assert place.storage.publish([], path, file.read_bytes())
    file.write_bytes(whole)
    send(tmp_path / "a", place)
    assert verify_bundle(place, entry, team.both) == ["bob@example.org"]
    sign_bundle(store, "pets", team.bob)  # another one of the same key, which is as good
    assert file.read_bytes() == whole


def test_another_bundle_under_a_signed_name_is_refused(tmp_path: Path, team: Team) -> None:
    add(tmp_path / "a")
    sign_bundle(store_of(tmp_path / "a"), "pets", team.ada)
    send(tmp_path / "a", tmp_path / "shared")
    (tmp_path / "shared" / manifest_path("pets", "1.0.0")).unlink()
    add(tmp_path / "evil", "A dog.")
    send(tmp_path / "evil", tmp_path / "shared")
    with pytest.raises(BundleError, match="is not of this manifest"):
        take(tmp_path / "b", tmp_path / "shared", signers=team.adas)


def test_parents_must_be_signed_as_well(tmp_path: Path, team: Team) -> None:
    parent = add(tmp_path / "a")
    child = add(tmp_path / "a", "A newer cat.", "1.1.0", parents=[str(parent)])
    sign_bundle(store_of(tmp_path / "a"), str(child), team.ada)
    send(tmp_path / "a", tmp_path / "shared", with_parents=True)
    with pytest.raises(BundleError, match=f"pets@1.0.0 in .* it has no signature; copied before that: {child}"):
        take(tmp_path / "b", tmp_path / "shared", with_parents=True, signers=team.adas)


def test_a_web_server_without_an_index_is_asked_for_the_allowed_keys(tmp_path: Path, team: Team) -> None:
    class Handler(SimpleHTTPRequestHandler):
        def list_directory(self, path: object) -> None:
            self.send_error(403)

        def log_message(self, *args: object) -> None:
            pass

    add(tmp_path / "a")
    sign_bundle(store_of(tmp_path / "a"), "pets", team.bob)
    send(tmp_path / "a", tmp_path / "shared")
    with serve_on_loopback(partial(Handler, directory=str(tmp_path / "shared"))) as address:
        assert take(tmp_path / "b", address, "pets@1.0.0", signers=team.both)[0].signers == ["bob@example.org"]
        with pytest.raises(BundleError, match="it has no signature"):
            take(tmp_path / "c", address, "pets@1.0.0", signers=team.adas)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="NOT TESTED: no ssh-keygen")
def test_ssh_keygen_signs_and_checks_the_manifest_itself(tmp_path: Path, team: Team) -> None:
    entry = add(tmp_path / "a")
    store = store_of(tmp_path / "a")
    file = store.root / manifest_path("pets", "1.0.0")
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(team.ada), str(file)], capture_output=True, check=True
    )
    made = file.with_name("1.0.0.json.sig")
    add_signature(store, "pets", made)
    assert verify_bundle(store, entry, team.adas) == ["ada@example.org"]
    [kept] = [path for path in signature_files(store.root) if path != made]
    command = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-f", str(team.adas.path), "-I", "ada@example.org"]
    checked = subprocess.run([*command, "-s", str(kept)], input=file.read_bytes(), capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    add(tmp_path / "a", "A newer cat.", "1.1.0")
    with pytest.raises(UsageError, match=r"is no signature of the manifest of pets@1\.1\.0"):
        add_signature(store, "pets@1.1.0", made)


def test_signatures_of_nothing_are_garbage(tmp_path: Path, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_descriptions.bundles.maintenance.time", SimpleNamespace(time=lambda: 10**11))
    add(tmp_path / "a")
    store = store_of(tmp_path / "a")
    sign_bundle(store, "pets", team.ada)
    assert collect_garbage(store).files == []
    (store.root / manifest_path("pets", "1.0.0")).unlink()
    reasons = {item.reason for item in collect_garbage(store, delete=True).files}
    assert reasons == {"no manifest names it", "its version is not here"}
    assert signature_files(store.root) == []
