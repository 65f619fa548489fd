"""The extension configured, built and installed by the CMake macros of Slicer and CTK, without Slicer itself.

Runs where SLICER_SOURCE_DIR and CTK_SOURCE_DIR name their source trees and cmake is installed. The configuration of a
Slicer build is stood in for by a few variables; the macros that copy, compile, install and register are the real ones.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from generated_files import ROOT, shipped_files

SCRIPTED = "lib/Slicer-5.13/qt-scripted-modules"
SLICER, CTK = (Path(os.environ.get(name) or "nowhere") for name in ("SLICER_SOURCE_DIR", "CTK_SOURCE_DIR"))

CONFIGURATION = f"""
set(Slicer_USE_PYTHONQT ON)
set(Slicer_USE_FILE ${{CMAKE_CURRENT_LIST_DIR}}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${{CMAKE_CURRENT_LIST_DIR}}/End.cmake)
set(Slicer_EXTENSION_CPACK ${{CMAKE_CURRENT_LIST_DIR}}/End.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR {SCRIPTED})
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR {SCRIPTED})
set(Slicer_LAUNCHER_EXECUTABLE Slicer)
set(Slicer_PYTHON_MODULE_TEST_TEMPLATES_DIR "{SLICER.as_posix()}/Base/QTCore/Testing/Python")
"""
USE = f"""
set(CTK_CMAKE_DIR "{CTK.as_posix()}/CMake")
list(APPEND CMAKE_MODULE_PATH "{SLICER.as_posix()}/CMake" ${{CTK_CMAKE_DIR}})
include(CTest)
include(ExternalData)
include(ctkFunctionExtractOptimizedLibrary)
include(ctkMacroCompilePythonScript)
include(SlicerMacroBuildScriptedModule)
include(SlicerMacroConfigureGenericPythonModuleTests)
include(SlicerMacroPythonTesting)
"""

READY = (SLICER / "CMake").is_dir() and (CTK / "CMake").is_dir() and shutil.which("cmake")
pytestmark = pytest.mark.skipif(not READY, reason="SLICER_SOURCE_DIR or CTK_SOURCE_DIR names no sources, or no cmake")


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The build folder of the extension."""
    folder = tmp_path_factory.mktemp("slicer")
    for name, text in (("SlicerConfig", CONFIGURATION), ("UseSlicer", USE), ("End", "")):
        (folder / f"{name}.cmake").write_text(text, encoding="utf-8")
    _run("cmake", "-S", str(ROOT), "-B", str(folder / "build"), f"-DSlicer_DIR={folder}", "-DBUILD_TESTING=ON",
         f"-DPYTHON_EXECUTABLE={sys.executable}")
    _run("cmake", "--build", str(folder / "build"))
    return folder / "build"


def test_a_built_extension_installs_every_file_of_the_module(build, tmp_path):
    _run("cmake", "--install", str(build), "--prefix", str(tmp_path))
    installed = tmp_path / SCRIPTED
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert {name for name in found if not name.endswith(".pyc")} == set(shipped_files())


def test_ctest_knows_the_tests_of_the_module(build):
    listed = _run("ctest", "--test-dir", str(build), "-N")
    for name in ("py_nomainwindow_qSlicerNePhiRegistrationModuleGenericTest", "py_NePhiRegistration",
                 "py_NePhiRegistrationModuleTest"):
        assert name in listed
