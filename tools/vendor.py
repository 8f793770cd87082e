"""Fetches the libraries of the page from the npm registry, and checks them against the list of their hashes.

    python tools/vendor.py            # fetches every package, checks the files, puts them in their place
    python tools/vendor.py --pin      # also writes the hashes of what was fetched: after a new version in the list

The list is `prefdata/page/vendor/libraries.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "prefdata" / "page" / "vendor"
LIST = FOLDER / "libraries.json"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pin", action="store_true", help="write the hashes of what was fetched")
    pin = parser.parse_args().pin
    listed = json.loads(LIST.read_text("utf-8"))
    wrong = []
    for row in listed["libraries"]:
        archive = fetch(row["package"], row["version"])
        for what in ("code", "notice"):
            content = member(archive, row[f"{what}_path"])
            digest = hashlib.sha256(content).hexdigest()
            if pin:
                row[f"{what}_sha256"] = digest
            if digest != row[f"{what}_sha256"]:
                wrong.append(f"{row['package']} {row['version']}: {row[f'{what}_path']} has the SHA-256 {digest}")
                continue
            (FOLDER / row[f"{what}_file"]).write_bytes(content)
    if pin:
        LIST.write_text(json.dumps(listed, indent=2) + "\n", "utf-8")
    sys.exit("\n".join(wrong))


def fetch(package: str, version: str) -> Path:
    """Downloads the archive of a package with npm."""
    folder = Path(tempfile.mkdtemp(prefix="vendor-"))
    command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{version}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.tgz"))


def member(archive: Path, path: str) -> bytes:
    """Reads one file of a package."""
    with tarfile.open(archive) as files:
        content = files.extractfile(f"package/{path}")
        if content is None:
            raise SystemExit(f"{archive.name} has no file {path}")
        return content.read()


if __name__ == "__main__":
    main()
