"""Checks that no dependency asks for a newer Rust than the workspace's `rust-version` promises.

Together with clippy's `incompatible_msrv`, which watches over what the code itself uses, this keeps
the promise true without a second toolchain.
"""

import json
import subprocess
import sys


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))[:2]


command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
members = set(metadata["workspace_members"])
promised = {package["rust_version"] for package in metadata["packages"] if package["id"] in members}
if len(promised) != 1 or None in promised:
    sys.exit(f"the members promise different versions: {promised}")
(promise,) = promised
newer = [
    f"{package['name']} {package['version']} asks for {package['rust_version']}"
    for package in metadata["packages"]
    if package["rust_version"] and version(package["rust_version"]) > version(promise)
]
if newer:
    sys.exit(f"rust-version is {promise}, but " + "; ".join(newer))
print(f"{len(metadata['packages'])} packages, none asks for more than Rust {promise}")
