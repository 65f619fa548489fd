"""The extension is complete: every file is listed, its descriptions agree, and nothing heavy loads at file scope."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest
from generated_files import GENERATED, MODULE, ROOT, shipped_files

ALLOWED_AT_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "numpy", "SimpleITK", "scipy", "NePhiRegistrationLib"}


def cmake_value(name: str) -> str:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(rf'^set\({name} "([^"]*)"\)$', text, re.MULTILINE).group(1)


def s4ext() -> dict[str, str]:
    lines = (ROOT / "NePhiRegistration.s4ext").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def description() -> dict:
    return json.loads((ROOT / "NePhiRegistration.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_files_are_up_to_date(path):
    assert path.read_text(encoding="utf-8") == GENERATED[path](), "run: python Testing/generated_files.py"


def test_every_file_of_the_module_is_listed_and_every_listed_file_is_there():
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^  (\S+\.\w+)$", text, re.MULTILINE)
    assert sorted(listed) == shipped_files()
    assert len(set(listed)) == len(listed)


def test_every_script_in_the_module_folder_is_a_module():
    assert [path.name for path in MODULE.glob("*.py")] == ["NePhiRegistration.py"]


def test_s4ext_json_and_cmake_agree():
    old, new = s4ext(), description()
    assert old["scmurl"] == new["scm_url"] == old["homepage"] == cmake_value("EXTENSION_HOMEPAGE")
    assert old["scmrevision"] == new["scm_revision"]
    assert old["category"] == new["category"] == cmake_value("EXTENSION_CATEGORY") == "Registration"
    assert old["depends"].split() == new["build_dependencies"] == cmake_value("EXTENSION_DEPENDS").split()
    assert old["build_subdirectory"] == new["build_subdirectory"]
    for key, name in (("description", "DESCRIPTION"), ("contributors", "CONTRIBUTORS"), ("iconurl", "ICONURL"),
                      ("screenshoturls", "SCREENSHOTURLS")):
        assert old[key] == cmake_value(f"EXTENSION_{name}")


def test_the_icon_and_the_screenshot_that_the_descriptions_name_are_there():
    for name in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for url in cmake_value(name).split():
            assert (ROOT / url.partition("/main/")[2]).is_file(), url
    header = (ROOT / "Resources" / "NePhiRegistration.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (128, 128)


def test_text_files_end_their_lines_with_lf_and_a_license_is_at_the_root():
    assert (ROOT / "LICENSE").is_file()
    texts = [ROOT / "CMakeLists.txt", ROOT / "NePhiRegistration.json", ROOT / "NePhiRegistration.s4ext",
             *(MODULE / name for name in shipped_files()
               if name.endswith((".py", ".ui", ".json", ".txt", ".toml", ".j2", ".css")))]
    assert not [path for path in texts if b"\r" in path.read_bytes()]


def imported_at_file_scope(path: Path) -> set[str]:
    """The packages that a file imports when it is loaded; those in functions, and for type checking, are not."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level
            found |= {f"{prefix}{node.module or ''}.{alias.name}" if node.level else node.module or ""
                      for alias in node.names}
    return found


def reached_from(start: Path) -> dict[Path, set[str]]:
    """Every file of the library that loading one file loads, with what each imports."""
    library, open_, seen = MODULE / "NePhiRegistrationLib", [start], {}
    while open_:
        path = open_.pop()
        if path in seen:
            continue
        seen[path] = imported_at_file_scope(path)
        for name in seen[path]:
            open_ += _files(name, path, library)
    return seen


def _files(name: str, path: Path, library: Path) -> list[Path]:
    if name.startswith("."):
        level = len(name) - len(name.lstrip("."))
        folder, parts = path.parents[level - 1], name.lstrip(".").split(".")
    elif name.startswith("NePhiRegistrationLib"):
        folder, parts = library.parent, name.split(".")
    else:
        return []
    found = []
    for count in range(1, len(parts) + 1):
        target = folder.joinpath(*parts[:count])
        found += [candidate for candidate in (target.with_suffix(".py"), target / "__init__.py")
                  if candidate.is_file()]
    return found


SLICER_SIDE = [MODULE / "NePhiRegistration.py", *sorted((MODULE / "NePhiRegistrationLib" / "panel").glob("*.py")),
               *sorted((MODULE / "NePhiRegistrationLib" / "mrml").glob("*.py"))]


@pytest.mark.parametrize("path", SLICER_SIDE, ids=lambda path: path.relative_to(MODULE).as_posix())
def test_loading_the_module_imports_only_what_slicer_brings(path):
    for reached, names in reached_from(path).items():
        assert "nephi" not in reached.relative_to(MODULE).parts, f"{path.name} loads the engine through {reached.name}"
        outside = {name.split(".")[0] for name in names if not name.startswith(".")}
        assert outside <= ALLOWED_AT_FILE_SCOPE | set(sys.stdlib_module_names), reached


def test_the_file_of_the_panel_names_only_parameters_that_exist():
    module = ast.parse((MODULE / "NePhiRegistration.py").read_text(encoding="utf-8"))
    node = next(item for item in module.body if getattr(item, "name", "") == "NePhiRegistrationParameterNode")
    parameters = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
    text = (MODULE / "Resources" / "UI" / "NePhiRegistration.ui").read_text(encoding="utf-8")
    bound = re.findall(r'name="SlicerParameterName" stdset="0">\s*<string notr="true">(\w+)<', text)
    assert set(bound) <= parameters
    assert len(bound) == len(set(bound))


def test_the_python_package_holds_every_folder_of_the_engine_and_the_worker():
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {}
    for name in setuptools["packages"]:
        mapped = setuptools["package-dir"].get(name)
        folders[name] = ROOT / mapped if mapped else folders["nephi"].joinpath(*name.split(".")[1:])
    library = MODULE / "NePhiRegistrationLib"
    engine = {path.parent for path in (library / "nephi").rglob("__init__.py")}
    assert set(folders.values()) == {*engine, library / "worker", MODULE / "Resources"}
