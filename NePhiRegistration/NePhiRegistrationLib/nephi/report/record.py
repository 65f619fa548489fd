"""``report.json``: the numbers of a registration in a documented, versioned shape (docs/report-schema.md)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch

from ..errors import InputError
from ..judge.verdict import verdict
from ..storage import atomic_path

SCHEMA_NAME = "nephi-registration-report"
SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes away; new keys alone do not raise it."""

_DIRECTIONS = ("forward", "inverse")
_REQUIRED = (
    *[f"metrics.folds_percent.{d}.{how}" for d in _DIRECTIONS for how in ("analytic", "finite_difference")],
    *[f"metrics.inverse_consistency_mm.{name}" for name in ("mean", "p95", "max")],
    "metrics.similarity.before", "metrics.similarity.after",
    *[f"runtime.{name}" for name in ("seconds", "peak_memory_gb", "device", "iterations")],
    "provenance",
)
_WHEN_MEASURED = {
    "tre_mm": ("before", "mean", "median", "p95", "max"),
    "dice": ("before", "mean", "per_label"),
}


def make_report(*, folds: Mapping, inverse_consistency: Mapping, similarity_before: Mapping, similarity_after: Mapping,
                runtime: Mapping, provenance: Mapping, tre: Optional[Mapping] = None, dice: Optional[Mapping] = None,
                surface_distance: Optional[Mapping] = None, jacobian: Optional[Mapping] = None,
                transforms: Optional[list] = None, files: Optional[Mapping] = None) -> dict:
    """Put the measurements of one registration together as a report.

    Args:
        folds: from :func:`nephi.judge.folds.folds`.
        inverse_consistency: from :func:`nephi.judge.inverse_consistency.inverse_consistency`.
        similarity_before, similarity_after: from :func:`nephi.judge.likeness.similarity`.
        runtime: at least ``seconds``, ``peak_memory_gb``, ``device``, ``iterations``.
        provenance: what made the result: version, options, inputs and their geometry, seed.
        tre: from :func:`nephi.judge.landmarks.tre`, when there are landmarks.
        dice: from :func:`nephi.judge.labels.overlap`, when there are labels.
        surface_distance: from :func:`nephi.judge.labels.surface_distance`, when there are labels.
        jacobian: direction -> :func:`nephi.maps.determinant.summary`.
        transforms: :meth:`nephi.files.itk.ExportInfo.to_dict` of each exported file.
        files: role -> file name of the outputs.

    Returns:
        Plain dictionaries, lists, strings and numbers; what is not a finite number is None.

    Raises:
        ValueError: a required value is missing.
    """
    metrics = make_metrics(folds=folds, inverse_consistency=inverse_consistency, similarity_before=similarity_before,
                           similarity_after=similarity_after, tre=tre, dice=dice, surface_distance=surface_distance,
                           jacobian=jacobian)
    report = {"schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION}, "verdict": {}, "metrics": metrics,
              "runtime": runtime, "transforms": transforms or [], "files": files or {}, "provenance": provenance}
    check_report(report)
    report["verdict"] = verdict(metrics, dict(runtime), transforms).to_dict()
    return plain(report)


def make_metrics(*, folds: Mapping, inverse_consistency: Mapping, similarity_before: Optional[Mapping] = None,
                 similarity_after: Optional[Mapping] = None, tre: Optional[Mapping] = None,
                 dice: Optional[Mapping] = None, surface_distance: Optional[Mapping] = None,
                 jacobian: Optional[Mapping] = None) -> dict:
    """The ``metrics`` of a report, from the same arguments as :func:`make_report`."""
    return {
        "tre_mm": tre, "dice": dice, "surface_distance_mm": _surfaces(surface_distance),
        "folds_percent": folds["inside"], "folds_percent_whole": folds["whole"], "jacobian": jacobian,
        "inverse_consistency_mm": inverse_consistency,
        "similarity": {"before": similarity_before, "after": similarity_after},
    }


def write_report(report: dict, path: Union[str, os.PathLike]) -> None:
    """Write a report, completely or not at all.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    text = json.dumps(plain(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_report(path: Union[str, os.PathLike]) -> dict:
    """Read a report of this or an earlier version.

    Raises:
        InputError: missing or unreadable, not a report, of a newer version.
    """
    path = Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        schema = report["schema"]
        name, version = schema["name"], int(schema["version"])
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}); check the name.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path.name} is not a registration report; choose a report.json of this program.") from error
    if name != SCHEMA_NAME:
        raise InputError(f"{path.name} is a {name!r} file, not a {SCHEMA_NAME!r}; choose another file.")
    if version > SCHEMA_VERSION:
        raise InputError(f"{path.name} has schema version {version} and this program reads up to {SCHEMA_VERSION}; "
                         f"update the program.")
    return report


def check_report(report: Mapping) -> None:
    """Check that the values every report has are there.

    Raises:
        ValueError: naming the first that is missing.
    """
    for dotted in _REQUIRED:
        _lookup(report, dotted)
    for name, keys in _WHEN_MEASURED.items():
        for key in keys if report["metrics"].get(name) else ():
            _lookup(report, f"metrics.{name}.{key}")


def plain(value: Any) -> Any:
    """The same values as JSON knows them: arrays as lists, keys as strings, None for what is not a finite number."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _lookup(report: Mapping, dotted: str) -> Any:
    value: Any = report
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise ValueError(f"The report lacks {dotted}.")
        value = value[key]
    return value


def _surfaces(per_label: Optional[Mapping]) -> Optional[dict]:
    """Means over the labels that both images have, and the labels themselves."""
    if not per_label:
        return None
    measured = [d for d in per_label.values() if math.isfinite(d["mean"])]
    means = {name: float(np.mean([d[name] for d in measured])) if measured else None for name in ("mean", "hd95")}
    return {**means, "per_label": per_label}
