"""What the tutorial names in bold can be found in the window, in the same words."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "NePhiRegistration"
OF_SLICER = {"Sample Data"}


def words() -> set[str]:
    """The labels of the panel and all texts that its sources mark for translation, without shortcuts and colons; and
    the names under which sample data are offered."""
    drawn = [text.text or "" for text in ET.parse(next(MODULE.glob("Resources/UI/*.ui"))).iter("string")]
    calls = [node for source in [*MODULE.glob("*.py"), *MODULE.glob("NePhiRegistrationLib/panel/*.py")]
             for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    marked = [call.args[0].value for call in calls if ast.unparse(call.func) == "_"]
    samples = [word.value.value for call in calls for word in call.keywords if word.arg == "sampleName"]
    return {text.replace("&", "").rstrip(":") for text in [*drawn, *marked, *samples]}


def test_every_name_that_the_tutorial_of_the_module_sets_in_bold_is_shown_by_the_module():
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    of_module = text[text.index("## 6. In 3D Slicer"):]
    names = {" ".join(name.split()) for name in re.findall(r"\*\*([^*]+)\*\*", of_module)}
    assert len(names) > 40
    assert names - OF_SLICER <= words(), names - OF_SLICER - words()
