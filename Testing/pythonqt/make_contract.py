"""Copy from a dump of a running Slicer the facts of the classes used here into contract.json.

    python Testing/pythonqt/make_contract.py DUMP.json

The dump has, for each class: module, bases, properties, signals, methods. What it lacks (static functions, and values
such as QColor, which are no QObjects and have no meta-object to dump) is in ``extra_facts.json``, by hand from the
documentation of Qt 5.15 and from what was measured in a running Slicer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOTS = ("QObject", "QWidget")


def extracted(dump: dict, extra: dict) -> dict:
    """The contract: each class as what it adds to the largest other class that it contains."""
    names = sorted(extra["dumped"], key=lambda name: (size(dump[name]), name))
    return {name: entry(name, names, dump, extra["statics"]) for name in names} | extra["values"]


def entry(name: str, names: list[str], dump: dict, statics: dict) -> dict:
    said = dump[name]
    parent = next((other for other in reversed(names) if other != name and other in said["bases"]
                   and contains(said, dump[other])), None)
    base = dump[parent] if parent else {"properties": {}, "signals": [], "methods": []}
    module = said["module"] or "slicer"
    added = {"module": module, "extends": parent,
             "properties": {key: value for key, value in said["properties"].items() if key not in base["properties"]},
             "signals": [item for item in said["signals"] if item not in base["signals"]],
             "methods": [item for item in said["methods"] if item not in base["methods"]],
             "statics": statics.get(name, [])}
    return {key: value for key, value in added.items() if value}


def contains(outer: dict, inner: dict) -> bool:
    return all(set(inner[kind]) <= set(outer[kind]) for kind in ("properties", "signals", "methods"))


def size(said: dict) -> int:
    return sum(len(said[kind]) for kind in ("properties", "signals", "methods"))


def main() -> None:
    dump = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    extra = json.loads((HERE / "extra_facts.json").read_text(encoding="utf-8"))
    lines = [f"{json.dumps(name)}: {json.dumps(said)}" for name, said in extracted(dump, extra).items()]
    text = '{"about": ' + json.dumps(extra["about"]) + ',\n"classes": {\n' + ",\n".join(lines) + "\n}}\n"
    (HERE / "contract.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
