"""Copy a bundle from one repository to another and withdraw a version; the same with s3:// or hf: in place of a folder.

python examples/share_bundles.py FOLDER SHARED
"""

from __future__ import annotations

import sys
from pathlib import Path

from abs_descriptions import Repository, copy_bundles, find_bundle


def main(folder: str, shared: str) -> None:
    local, team = Repository.local(Path(folder)), Repository.open(shared)
    local.add(find_bundle(local, "textures").path)
    for copied in copy_bundles("textures", local, team):
        print(f"{copied.manifest} is in {team.address}")

    yank = local.yank("textures@1.0.0", "the wording is being reviewed")
    copy_bundles("textures@1.0.0", local, team)
    print(f"withdrawn: {yank.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
