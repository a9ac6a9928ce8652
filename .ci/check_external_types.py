"""Checks whose types the published crates show in their public interfaces.

A type of another crate in a public signature binds users to a version of that crate: its next major
version is one of ours. Which crates may be shown is written down here, so that a new one is a
decision. Reads rustdoc's JSON, which needs RUSTC_BOOTSTRAP=1 on a stable toolchain.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

STANDARD = {"core", "alloc", "std"}
CORE = {"bytes", "chiral_proto", "nalgebra"}
ADAPTER = CORE | {"chiral_driver", "chiral_zenoh", "async_tungstenite", "futures_core", "futures_io"}
SHOWN = {
    "chiral-proto": CORE | {"bytemuck", "half", "image", "ndarray", "serde_core"},
    "chiral-driver": ADAPTER | {"event_listener"},
    "chiral-tokio": ADAPTER | {"tokio"},
    # smol shows its sockets under the name of the crate that has them.
    "chiral-smol": ADAPTER | {"async_net"},
    "chiral-blocking": ADAPTER,
    "chiral-zenoh": CORE | {"chiral_driver", "zenoh"},
}


def rustdoc(crate: str, target: Path) -> dict:
    command = ["cargo", "rustdoc", "--locked", "--quiet", "-p", crate, "--lib", "--all-features"]
    command += ["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"]
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1", "CARGO_TARGET_DIR": str(target)}
    subprocess.run(command, check=True, env=environment)
    return json.loads((target / "doc" / f"{crate.replace('-', '_')}.json").read_text())


def references(value: object):
    """The ids of all types and traits that a part of an interface names."""
    if isinstance(value, dict):
        # A path is `{"path": …, "id": …, "args": …}`, of a type as of a trait.
        if "id" in value and ("path" in value or "name" in value) and "args" in value:
            yield value["id"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def shown(doc: dict) -> dict[str, set[str]]:
    """The crates whose types the public items name, with the items that do."""
    found: dict[str, set[str]] = {}
    for item in doc["index"].values():
        if item["crate_id"] != 0 or item["visibility"] not in ("public", "default"):
            continue
        inner = item["inner"]
        implementation = inner.get("impl")
        if implementation and (implementation["is_synthetic"] or implementation["blanket_impl"]):
            continue
        if "#[doc(hidden)]" in str(item["attrs"]) or "module" in inner or "use" in inner:
            continue
        for reference in references(inner):
            path = doc["paths"].get(str(reference))
            if path is None or path["crate_id"] == 0:
                continue
            crate = doc["external_crates"][str(path["crate_id"])]["name"]
            place = (item["span"] or {}).get("filename", "")
            name = item["name"] or "impl"
            found.setdefault(crate, set()).add(f"{name} ({place}): {'::'.join(path['path'])}")
    return found


def main() -> None:
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "external-types"
    faults = []
    for crate in sys.argv[1:] or SHOWN:
        allowed = SHOWN[crate]
        found = shown(rustdoc(crate, target))
        others = {name for name in found if name not in STANDARD and name != crate}
        print(f"{crate} shows types of: {', '.join(sorted(others)) or 'none'}")
        for name in sorted(others - allowed):
            faults += [f"{crate} shows a type of {name} in {place}" for place in sorted(found[name])]
    if faults:
        sys.exit("\n".join([*faults, "Hide these types, or allow their crates in this file."]))


main()
