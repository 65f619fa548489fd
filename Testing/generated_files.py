"""Writes the files that are made from others: the list of files that ship, the options' description and their words.

    python Testing/generated_files.py

Run it after a file was added or removed below NePhiRegistration/, or an option of the engine was changed; a test says
when it is due.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "NePhiRegistration"
NOT_SHIPPED = {"Testing", "__pycache__"}
SCENARIOS = "Testing/Python/NePhiRegistrationScenarios.py"  # for "Reload and Test"


def shipped_files() -> list[str]:
    """Every file of the module that a package must hold, relative to it."""
    found = [path.relative_to(MODULE) for path in MODULE.rglob("*") if path.is_file()]
    shipped = [path for path in found if not NOT_SHIPPED & set(path.parts) or path.as_posix() == SCENARIOS]
    return sorted(path.as_posix() for path in shipped
                  if path.name not in ("CMakeLists.txt", ".gitkeep") and path.suffix != ".pyc")


def cmake_list() -> str:
    """The module's CMakeLists.txt."""
    files = shipped_files()
    scripts = "\n".join(f"  {name}" for name in files if name.endswith(".py"))
    resources = "\n".join(f"  {name}" for name in files if not name.endswith(".py"))
    return f"""set(MODULE_NAME NePhiRegistration)

# Both lists are written by Testing/generated_files.py.
set(MODULE_PYTHON_SCRIPTS
{scripts}
  )

set(MODULE_PYTHON_RESOURCES
{resources}
  )

slicerMacroBuildScriptedModule(
  NAME ${{MODULE_NAME}}
  SCRIPTS ${{MODULE_PYTHON_SCRIPTS}}
  RESOURCES ${{MODULE_PYTHON_RESOURCES}}
  WITH_GENERIC_TESTS
  )

if(BUILD_TESTING)
  slicer_add_python_unittest(SCRIPT ${{MODULE_NAME}}.py)
  add_subdirectory(Testing)
endif()
"""


def options_json() -> str:
    """Every option of the engine: its type, default, help and limits, for a panel that cannot import torch."""
    from nephi.options import Options

    types = typing.get_type_hints(Options)
    described = [_described(item, types[item.name]) for item in dataclasses.fields(Options)]
    return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in described) + "\n]\n"


def _described(item: dataclasses.Field, kind: typing.Any) -> dict:
    levels = typing.get_origin(kind) is tuple
    plain = typing.get_args(kind)[0] if levels else kind
    limits = {name: list(value) if isinstance(value, tuple) else value for name, value in item.metadata.items()
              if name in ("low", "high", "choices")}
    default = list(item.default) if levels else item.default
    return {"name": item.name, "kind": plain.__name__, "levels": levels, "default": default,
            "help": item.metadata["help"], **limits}


def words_py() -> str:
    """What the panel shows from files of data, as calls that the translators' tools find."""
    from nephi.options import Options

    help_texts = {item.name: item.metadata["help"] for item in dataclasses.fields(Options)}
    presets = {path.stem: json.loads(path.read_text(encoding="utf-8"))["description"]
               for path in sorted((MODULE / "Resources" / "Presets").glob("*.json"))}
    return f'''"""What the panel shows from files of data, marked for translation (Testing/generated_files.py)."""

from __future__ import annotations

from slicer.i18n import tr as _


def option_help() -> dict[str, str]:
    """Option -> what it does."""
    return {{
{_marked(help_texts)}
    }}


def preset_descriptions() -> dict[str, str]:
    """Preset -> what it is for."""
    return {{
{_marked(presets)}
    }}
'''


def _marked(texts: dict[str, str]) -> str:
    lines = []
    for name, text in texts.items():
        line = f"        {json.dumps(name)}: _({json.dumps(text, ensure_ascii=False)}),"
        if len(line) <= 120:
            lines.append(line)
            continue
        pieces = textwrap.wrap(text, 96, drop_whitespace=False, break_on_hyphens=False)
        quoted = "\n          ".join(json.dumps(piece, ensure_ascii=False) for piece in pieces)
        lines.append(f"        {json.dumps(name)}:\n        _({quoted}),")
    return "\n".join(lines)


LIBRARY = MODULE / "NePhiRegistrationLib"
GENERATED = {MODULE / "Resources" / "options.json": options_json, LIBRARY / "panel" / "words.py": words_py,
             MODULE / "CMakeLists.txt": cmake_list}


def main() -> None:
    for path, make in GENERATED.items():
        path.write_text(make(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
