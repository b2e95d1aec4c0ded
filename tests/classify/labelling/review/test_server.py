"""The review over real HTTP: who may ask, what is answered, and that nothing is lost."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from labelled_folders import labelled_folder, true_class

from abs_classify.labelling.decisions import DecisionLog, ReviewDecision, read_decisions
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.review.server import review_server

CONNECTIONS: list[http.client.HTTPConnection] = []


@pytest.fixture(autouse=True)
def close_connections() -> Iterator[None]:
    yield
    while CONNECTIONS:
        CONNECTIONS.pop().close()


class Client:
    """A browser with one connection and its cookie."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=120)
        CONNECTIONS.append(self.connection)
        _, headers, _ = self.ask("GET", f"/?{self.address.query}")
        self.cookie = headers["Set-Cookie"].split(";")[0]
        self.attributes = headers["Set-Cookie"]

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        values = {name.replace("_", "-"): value for name, value in headers.items()}
        if hasattr(self, "cookie"):
            values.setdefault("Cookie", self.cookie)
        self.connection.request(method, path, body, values)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def get(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, *decisions: dict[str, Any]) -> tuple[int, Any]:
        body = json.dumps({"decisions": decisions}).encode()
        status, _, answer = self.ask("POST", "/api/decisions", body, Content_Type="application/json")
        return status, json.loads(answer)


def entry(row: dict[str, Any], action: str, label: int | None = None, **more: Any) -> dict[str, Any]:
    return {"number": row["number"], "image": row["image"], "action": action, "label": label, **more}


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    return labelled_folder(tmp_path, 12, unreadable=1, copies=1)


@pytest.fixture
def client(folder: LabelFolder) -> Iterator[Client]:
    with review_server(folder, "alice", random_share=0.25) as url:
        yield Client(url)


def test_only_who_has_the_address_with_its_token_gets_in(folder: LabelFolder) -> None:
    with review_server(folder, "alice") as url:
        assert url.startswith("http://127.0.0.1:")
        client = Client(url)
        assert "HttpOnly; SameSite=Strict" in client.attributes
        for path in ("/", "/api/run", "/thumbnail/1", "/page.js", "/?token=guess", "/api/decisions"):
            assert client.ask("GET", path, Cookie="")[0] == 403
        assert client.ask("GET", "/api/run", Cookie=client.cookie[:-1])[0] == 403
        assert client.ask("GET", "/api/run")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_other_hosts_and_origins_are_refused_and_write_nothing(
    client: Client, folder: LabelFolder, headers: dict[str, str]
) -> None:
    row = client.get("/api/images?count=1")["rows"][0]
    body = json.dumps({"decisions": [entry(row, "reject")]}).encode()
    status, _, _ = client.ask("POST", "/api/decisions", body, Content_Type="application/json", **headers)
    assert status == 403
    assert not (folder.path / "decisions").exists()
    assert client.get("/api/run")["reviewed"] == 0


def test_every_answer_forbids_what_the_page_does_not_need(client: Client) -> None:
    for path in ("/", "/page.js", "/api/run", "/thumbnail/1", "/nothing"):
        _, headers, _ = client.ask("GET", path)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../run.json",
        "/%2e%2e/run.json",
        "/server.py",
        "/review/",
        "/thumbnail/../1",
        "/thumbnail/-1",
        "/thumbnail/1e3",
        "/image/99999",
        "/thumbnail/1?side=0",
        "/thumbnail/1?side=x",
        "/api/images?order=number;drop",
        "/api/images?start=-1",
        "/api/images?label=cat",
        "/api/images?decided=maybe",
        "/api/images?status=none",
        "/thumbnail/" + "9" * 400,
    ],
)  # fmt: skip
def test_what_is_not_there_is_an_error_of_the_caller(client: Client, path: str) -> None:
    status, _, body = client.ask("GET", path)
    assert status in (400, 404)
    assert b"Traceback" not in body
    assert client.get("/api/run")["total"] == 14


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"decisions": 3}', b'{"decisions": [{}]}',
     b'{"decisions": [{"number": true, "image": "x", "action": "accept"}]}',
     b'{"decisions": [{"number": 1, "image": "x", "action": "drop"}]}'],
)  # fmt: skip
def test_a_body_that_is_no_decision_is_refused(client: Client, folder: LabelFolder, body: bytes) -> None:
    status, _, _ = client.ask("POST", "/api/decisions", body, Content_Type="application/json")
    assert status == 400
    assert not (folder.path / "decisions").exists()


def test_bodies_are_bounded(client: Client) -> None:
    status, headers, _ = client.ask(
        "POST", "/api/decisions", b"", Content_Type="application/json", Content_Length="1000001"
    )
    assert (status, headers["Connection"]) == (413, "close")
    assert client.ask("POST", "/api/decisions", b"{}", Content_Type="text/plain")[0] == 415


def test_the_run_and_its_images(client: Client) -> None:
    run = client.get("/api/run")
    assert (run["total"], run["reviewer"], run["reviewed"], run["random_share"]) == (14, "alice", 0, 0.25)
    assert run["classes"][2] == {"id": "red_fox", "name": "red fox"}
    assert sum(run["counts"].values()) == 14
    assert run["counts"]["failed"] == 1
    assert sum(count for _, count in run["labels"]) == 13
    queue = client.get("/api/images?order=queue")
    # copies once, and nothing that cannot be looked at; every fourth one is drawn at random
    assert (queue["total"], len({row["image"] for row in queue["rows"]})) == (12, 12)
    assert [place for place, row in enumerate(queue["rows"]) if row["shown_by"] == "random"] == [3, 7, 11]
    chosen = [row["confidence"] for row in queue["rows"] if row["shown_by"] == "chosen"]
    assert chosen == sorted(chosen)
    drawn = [row["number"] for row in queue["rows"] if row["shown_by"] == "random"]
    assert [row["number"] for row in client.get("/api/images?order=random")["rows"][:3]] == drawn
    doubtful = client.get("/api/images?order=doubtful")
    assert (doubtful["total"], doubtful["rows"][-1]["status"]) == (14, "failed")
    assert [row["path"] for row in client.get("/api/images?order=path&search=BROKEN")["rows"]] == [
        doubtful["rows"][-1]["path"]
    ]
    assert client.get("/api/images?order=path&start=13&count=5")["rows"][0]["shown_by"] == "chosen"
    assert sum(count for *_, count in client.get("/api/confusions")) == 13


def test_a_decision_is_on_disk_when_it_is_answered_and_holds_for_copies(client: Client, folder: LabelFolder) -> None:
    token = client.get("/api/changes?after=")["token"]
    first, second = client.get("/api/images?order=path&search=CAT-000000")["rows"]
    assert first["image"] == second["image"]
    status, answer = client.post(entry(first, "label", 1))
    assert (status, answer["rows"][0]["decision"]["label"]) == (200, 1)
    decision = read_decisions(folder.path).settled[first["image"]]
    assert (decision.label, decision.reviewer, decision.path) == ("dog", "alice", first["path"])
    changes = client.get(f"/api/changes?after={token}")
    assert {row["number"] for row in changes["rows"]} == {first["number"], second["number"]}
    assert changes["reviewed"] == 2
    assert client.get(f"/api/changes?after={changes['token']}")["rows"] == []
    assert client.get("/api/images?decided=decided&order=path")["total"] == 2
    assert client.post(entry(first, "undo"))[1]["rows"][0]["decision"] is None
    assert client.get("/api/run")["reviewed"] == 0


def test_a_decision_on_another_image_or_class_is_refused_with_all_of_its_request(
    client: Client, folder: LabelFolder
) -> None:
    row = client.get("/api/images?count=1")["rows"][0]
    good = entry(row, "reject")
    for bad in (
        {**good, "image": "sha256:" + "0" * 64},
        {**good, "number": 999},
        entry(row, "label", 3),
        entry(row, "label", -1),
        entry(row, "label", None),
    ):
        assert client.post(good, bad)[0] == 409
    assert not (folder.path / "decisions").exists()


def test_what_another_process_decides_is_seen_and_conflicts_are_shown(client: Client, folder: LabelFolder) -> None:
    row = client.get("/api/images?order=path")["rows"][3]
    token = client.get("/api/changes?after=")["token"]
    client.post(entry(row, "label", 1))
    with DecisionLog(folder.path, "bob") as log:
        log.append([ReviewDecision(row["image"], "reject")])
    rows = client.get(f"/api/changes?after={token}")["rows"]
    assert rows[-1]["decision"]["conflict"]
    assert rows[-1]["decision"]["others"] == [{"reviewer": "alice", "action": "label", "label": 1}]
    assert client.get("/api/images?decided=conflict&order=path")["total"] == 1
    _, answer = client.post(entry(row, "label", 1, resolves=True))
    assert not answer["rows"][0]["decision"]["conflict"]


def test_only_decisions_at_the_places_of_the_random_order_and_in_it_count_as_drawn(
    client: Client, folder: LabelFolder
) -> None:
    order = client.get("/api/images?order=random")["rows"]
    assert all(row["shown_by"] == "random" and row["due"] for row in order)
    # found in another way; skipping the first; then in order
    client.post(entry(order[1], "accept", shown_by="chosen"), entry(order[2], "accept", shown_by="random"))
    assert {decision.shown_by for decision in read_decisions(folder.path).current.values()} == {"chosen"}
    due = client.get("/api/images?order=random&decided=open")["rows"]
    assert [row["number"] for row in due] == [row["number"] for row in order]
    client.post(*[entry(row, "accept", shown_by="random") for row in reversed(order[:3])])
    current = read_decisions(folder.path).current
    assert [current[row["image"]].shown_by for row in order[:3]] == ["random"] * 3
    assert client.get("/api/images?order=random&decided=open")["total"] == 9
    # where somebody chose which images are shown, none is there by chance
    assert {row["shown_by"] for row in client.get("/api/images?order=random&label=0")["rows"]} == {"chosen"}


def test_the_first_open_image_is_found(client: Client) -> None:
    rows = client.get("/api/images?order=queue")["rows"]
    client.post(*[entry(row, "accept", shown_by=row["shown_by"]) for row in (*rows[:4], rows[5])])
    answer = client.get("/api/images?order=queue&open=1&count=2")
    assert (answer["start"], [row["number"] for row in answer["rows"]]) == (4, [row["number"] for row in rows[4:6]])
    assert client.get("/api/images?order=queue&open=1&start=5&count=1")["start"] == 6
    client.post(*[entry(row, "accept", shown_by=row["shown_by"]) for row in rows])
    assert client.get("/api/images?order=queue&open=1")["rows"] == []


def test_pictures(client: Client, folder: LabelFolder) -> None:
    row = client.get("/api/images?order=path&search=cat")["rows"][0]
    number = row["number"]
    status, headers, body = client.ask("GET", f"/thumbnail/{number}?side=240")
    assert (status, headers["Content-Type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert headers["Cache-Control"] == "private, no-cache"
    assert client.ask("GET", f"/thumbnail/{number}?side=240", If_None_Match=headers["ETag"])[0] == 304
    _, headers, _ = client.ask("GET", f"/image/{number}?side=999999&image={row['image']}")
    assert "immutable" in headers["Cache-Control"]
    broken = client.get("/api/images?order=path&search=broken")["rows"][0]
    status, headers, body = client.ask("GET", f"/thumbnail/{broken['number']}")
    assert (status, headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    # the image that was labelled, and no other one
    location = folder.row(number)
    assert location is not None
    assert location.location is not None
    location.location.file.write_bytes((folder.path.parent / "photos" / "dog-000001.jpg").read_bytes())
    status, _, body = client.ask("GET", f"/thumbnail/{number}?side=800")
    assert status == 404
    assert b"has changed since it was labelled" in body


def test_two_servers_on_one_folder_do_not_disturb_each_other(folder: LabelFolder) -> None:
    with review_server(folder, "alice") as first, review_server(folder, "alice") as second:
        clients = [Client(first), Client(second)]
        rows = clients[0].get("/api/images?order=queue")["rows"]
        for place, row in enumerate(rows[:6]):
            assert clients[place % 2].post(entry(row, "reject"))[0] == 200
        # undone in another process than it was made in
        assert clients[1].post(entry(rows[0], "undo"))[0] == 200
        reviewed = {client.get("/api/images?order=queue&decided=decided")["total"] for client in clients}
        assert reviewed == {5}
    assert set(read_decisions(folder.path).settled) == {row["image"] for row in rows[1:6]}
    assert len(list((folder.path / "decisions").iterdir())) == 2


def test_rows_that_a_run_adds_meanwhile_come_along(folder: LabelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.labelling.review.session._LOOK", 0.0)
    monkeypatch.setattr("abs_classify.labelling.review.session._PAUSE", 0.0)
    with review_server(folder, "alice") as url:
        client = Client(url)
        row = folder.row(1)
        assert row is not None
        client.post({"number": 1, "image": row.image_id, "action": "reject"})
        folder.store([(b"new", "1", row)])
        assert client.get("/api/run")["total"] == 15
        assert client.get("/api/run")["reviewed"] == 3


@pytest.mark.faults
def test_a_killed_server_loses_no_decision_that_it_answered(folder: LabelFolder) -> None:
    command = [sys.executable, "-m", "abs_cli", "label", "review", folder.path, "--reviewer", "alice", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            client = Client(process.stdout.readline().strip())
            rows = client.get("/api/images?order=queue")["rows"]
            done = [row["image"] for row in rows[:5] if client.post(entry(row, "reject"))[0] == 200]
        finally:
            process.kill()
    assert len(done) == 5
    assert set(read_decisions(folder.path).settled) == set(done)


def test_ctrl_c_ends_it_cleanly(folder: LabelFolder) -> None:
    command = [sys.executable, "-m", "abs_cli", "label", "review", folder.path, "--reviewer", "alice", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    Client(process.stdout.readline().strip()).get("/api/run")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "abs label merge" in said
    assert "Traceback" not in said


def test_the_labels_of_the_helper_are_right_more_often_where_they_are_confident(folder: LabelFolder) -> None:
    rows = [row for row in folder.rows() if row.label is not None]
    right = [row for row in rows if folder.classes[row.label or 0].id == true_class(row)]
    assert len(right) > len(rows) / 2
