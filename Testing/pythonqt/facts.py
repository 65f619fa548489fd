"""What Slicer's classes offer to Python, read from contract.json: facts of a running Slicer, no behaviour."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Optional

CONTRACT = Path(__file__).with_name("contract.json")


@dataclass(frozen=True)
class ClassFacts:
    """One class: property -> (Qt type, writable); the signatures of its signals; names of methods and of statics."""

    name: str
    module: str
    properties: dict[str, tuple[str, bool]]
    signals: frozenset[str]
    methods: frozenset[str]
    statics: frozenset[str]

    @property
    def signal_names(self) -> frozenset[str]:
        return frozenset(signature.partition("(")[0] for signature in self.signals)


@cache
def all_facts() -> dict[str, ClassFacts]:
    """Every class that the tests may use. A class says only what it adds to the one it extends."""
    raw = json.loads(CONTRACT.read_text(encoding="utf-8"))["classes"]
    found: dict[str, ClassFacts] = {}

    def facts(name: str) -> ClassFacts:
        if name not in found:
            said = raw[name]
            base: Optional[ClassFacts] = facts(said["extends"]) if said.get("extends") else None
            own = {key: tuple(value) for key, value in said.get("properties", {}).items()}
            found[name] = ClassFacts(
                name=name,
                module=said["module"],
                properties={**(base.properties if base else {}), **own},
                signals=frozenset(said.get("signals", ())) | (base.signals if base else frozenset()),
                methods=frozenset(said.get("methods", ())) | (base.methods if base else frozenset()),
                statics=frozenset(said.get("statics", ())) | (base.statics if base else frozenset()),
            )
        return found[name]

    return {name: facts(name) for name in raw}
