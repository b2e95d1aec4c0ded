"""What each extra takes on disk: a fresh environment for each, one after the other, measured with du.

python benchmarks/extras_size.py [EXTRA ...] [--wheel FILE] [--with REQUIREMENT] [--folder DIR]

Needs du. Prints one line for each extra: megabytes in addition to an environment with the core alone, what of them is
torch with the libraries of CUDA, and the number of packages. A row ends with "failed" where pip could not install it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).parents[1]
_DEVELOPERS = "dev"


def main() -> None:
    """Print the table."""
    extras = list(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", default=[extra for extra in extras if extra != _DEVELOPERS])
    parser.add_argument("--wheel", type=Path, help="of this checkout; without it the checkout itself is installed")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], help="beside each extra: torch==2.13.0+cpu"
    )
    parser.add_argument("--folder", type=Path, help="where the environments are made and removed")
    options = parser.parse_args()
    folder = Path(mkdtemp(dir=options.folder))
    source = str(options.wheel or ROOT)
    try:
        core, torch, packages = measure(folder / "core", [source])
        print(f"{'core':<14}{core:>8.0f} MB, torch {torch:.0f} MB, {packages} packages", flush=True)
        for extra in options.extras:
            try:
                size, torch, packages = measure(folder / extra, [f"{source}[{extra}]", *options.others])
            except subprocess.CalledProcessError as error:
                print(f"{extra:<14} failed: {error.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            print(f"{extra:<14}{size - core:>8.0f} MB, torch {torch:.0f} MB, {packages} packages", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(environment: Path, requirements: list[str]) -> tuple[float, float, int]:
    """Megabytes (10^6 bytes) of an environment with these requirements, those of torch and CUDA in it, and packages."""
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", environment / "bin" / "python"]
        subprocess.run([*pip, "install", "--no-compile", *requirements], check=True, capture_output=True, text=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        heavy = [packages / name for name in ("torch", "nvidia", "triton", "cuda") if (packages / name).is_dir()]
        return _disk_use([environment]), _disk_use(heavy), len(list(packages.glob("*.dist-info")))
    finally:
        shutil.rmtree(environment, ignore_errors=True)


def _disk_use(folders: list[Path]) -> float:
    if not folders:
        return 0.0
    lines = subprocess.run(["du", "-sk", *folders], check=True, capture_output=True, text=True).stdout.splitlines()
    return sum(int(line.split()[0]) for line in lines) * 1024 / 1e6


if __name__ == "__main__":
    main()
