"""Starts Label Studio, imports an export through its SDK, fetches the images, and prints what it has as JSON."""

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.label_interface import LabelInterface

folder, root = Path(sys.argv[1]), sys.argv[2]
TOKEN = "0123456789abcdef0123456789abcdef01234567"

tasks = json.loads((folder / "tasks.json").read_bytes())
config = (folder / "config.xml").read_text("utf-8")
interface = LabelInterface(config)
interface.validate()
problems = []
for task in tasks:
    for prediction in task.get("predictions", []):
        problems += interface.validate_prediction(prediction, return_errors=True)
    problems += [
        annotation for annotation in task.get("annotations", []) if not interface.validate_annotation(annotation)
    ]

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
environment = {
    **os.environ,
    "LABEL_STUDIO_BASE_DATA_DIR": str(Path.home() / "label-studio"),
    "LOCAL_FILES_SERVING_ENABLED": "true",
    "LOCAL_FILES_DOCUMENT_ROOT": root,
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    "COLLECT_ANALYTICS": "false",
}
server = subprocess.Popen(
    [
        *(Path(sys.executable).with_name("label-studio"), "start", "--no-browser", "--internal-host", "127.0.0.1"),
        *("--port", str(port), "--username", "ann@example.org", "--password", "of-this-test", "--user-token", TOKEN),
    ],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
try:
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Token {TOKEN}"}
    for _ in range(300):
        try:
            if httpx.get(f"{url}/api/projects/", headers=headers, timeout=10).status_code == 200:
                break
        except httpx.TransportError:
            assert server.poll() is None, "Label Studio ended"
        time.sleep(1)
    client = LabelStudio(base_url=url, api_key=TOKEN)
    project = client.projects.create(title="export", label_config=config)
    client.projects.import_tasks(id=project.id, request=tasks)
    client.import_storage.local.create(project=project.id, path=str(Path(root) / "photos"), use_blob_urls=True)
    query = {"project": project.id, "fields": "all", "page_size": 100}
    found = httpx.get(f"{url}/api/tasks/", headers=headers, params=query, timeout=60).json()["tasks"]
    rows = [
        {
            "path": task["data"]["path"],
            "image": len(httpx.get(url + task["data"]["image"], headers=headers, timeout=60).content),
            "predictions": [[entry["score"], entry["result"]] for entry in task["predictions"]],
            "annotations": [[entry["ground_truth"], entry["result"]] for entry in task["annotations"]],
        }
        for task in found
    ]
finally:
    server.terminate()
    server.wait()
print(
    json.dumps({"version": importlib.metadata.version("label-studio"), "problems": problems, "rows": rows}, default=str)
)
