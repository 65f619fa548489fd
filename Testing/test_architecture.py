"""The engine's rooms stand in one order, and a module imports only what stands before it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[1] / "NePhiRegistration" / "NePhiRegistrationLib" / "nephi"
ROOMS = ("", "images", "maps", "judge", "predict", "align", "report", "files", "series", "training", "cohort",
         "template", "cli")
"""As docs/architecture.md draws them; "" is the engine's own folder."""

LARGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 60, 8


def _modules() -> list[Path]:
    return sorted(path for path in ENGINE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def _product() -> list[Path]:
    return sorted(ENGINE.parents[1].rglob("*.py"))


def _room(module: Path) -> str:
    return "" if module.parent == ENGINE else module.parent.name


def _imported(module: Path) -> set[Path]:
    """The engine's modules that a module imports at its head."""
    found = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base / alias.name for alias in node.names]
            found |= {path.with_suffix(".py") for path in (base, *names) if path.with_suffix(".py").is_file()}
    return found


def test_the_map_lists_every_file_of_the_engine_in_its_room():
    text = (ENGINE.parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed, room = [], None
    for line in text[text.index("```\nnephi/ "):].split("```")[1].splitlines():
        head = re.match(r" {0,2}(\w+)/ ", line)
        room = head[1] if head else room
        listed += [(room, name) for name in re.findall(r"\w+\.py", line)]
    assert sorted(listed) == sorted((module.parent.name, module.name) for module in _modules())
    rooms = ["" if room == ENGINE.name else room for room, _ in listed]
    assert rooms == sorted(rooms, key=ROOMS.index) and set(rooms) == set(ROOMS)


@pytest.mark.parametrize("module", _modules(), ids=lambda path: str(path.relative_to(ENGINE)))
def test_a_module_imports_only_from_its_own_room_and_from_those_before_it(module):
    rooms = {_room(other) for other in _imported(module)}
    assert all(ROOMS.index(room) <= ROOMS.index(_room(module)) for room in rooms)


def test_no_modules_of_the_engine_import_each_other_in_a_circle():
    waiting = {module: _imported(module) for module in _modules()}
    while free := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting


def test_a_file_name_stands_for_one_file_of_the_product():
    names = [path.name for path in _product() if path.name not in ("__init__.py", "__main__.py")]
    assert sorted(set(names)) == sorted(names)


def test_files_functions_and_parameter_lists_stay_short():
    for path in _product():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LARGEST_FILE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                own = arguments[1:] if arguments and arguments[0].arg in ("self", "cls") else arguments
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (path.name, node.name)
                assert len(own) <= MOST_PARAMETERS, (path.name, node.name)
