"""``report.json``: the numbers of a registration in a documented, versioned shape (docs/report-schema.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Optional

import numpy as np
import torch

from ..judge.verdict import verdict
from ..storage import PathLike, atomic_path

SCHEMA_NAME = "nephi-registration-report"
SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes away; new keys alone do not raise it."""


def make_report(*, runtime: Mapping, provenance: Mapping, transforms: Sequence[Mapping] = (),
                files: Optional[Mapping] = None, **measurements: Optional[Mapping]) -> dict:
    """Put the measurements of one registration together as a report.

    Args:
        runtime: at least ``seconds``, ``peak_memory_gb``, ``device``, ``iterations``.
        provenance: what made the result: version, options, inputs and their geometry, seed.
        transforms: :meth:`nephi.files.itk.ExportInfo.to_dict` of each exported file.
        files: role -> file name of the outputs.
        measurements: the arguments of :func:`make_metrics`.

    Returns:
        Plain dictionaries, lists, strings and numbers, with None for numbers that are not finite.
    """
    metrics = make_metrics(**measurements)
    return plain({
        "schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION},
        "verdict": asdict(verdict(metrics, runtime, transforms, provenance)), "metrics": metrics, "runtime": runtime,
        "transforms": transforms, "files": files or {}, "provenance": provenance,
    })


def make_metrics(*, folds: Mapping, inverse_consistency: Mapping, similarity: Mapping, overlap: Mapping,
                 volume_change: Mapping, voxel: float, residual: Optional[Mapping] = None,
                 jacobian: Optional[Mapping] = None, **judges: Optional[Mapping]) -> dict:
    """The ``metrics`` of a report, from what :func:`nephi.judge.evidence.evaluate` measures.

    Args:
        jacobian: direction -> :func:`nephi.judge.folds.summary`.
        judges: ``tre``, ``dice``, ``surface_distance``, ``segments``; None or absent without landmarks or labels.
    """
    return {
        "voxel_mm": voxel, "tre_mm": judges.get("tre"), "residual_mm": residual, "dice": judges.get("dice"),
        "surface_distance_mm": _surfaces(judges.get("surface_distance")), "segments": judges.get("segments"),
        "folds_percent": folds["inside"], "folds_percent_whole": folds["whole"], "jacobian": jacobian,
        "volume_change": volume_change, "inverse_consistency_mm": inverse_consistency, "overlap": overlap,
        "similarity": similarity,
    }


def write_report(report: dict, path: PathLike) -> None:
    """Write a report, completely or not at all.

    Raises:
        InputError: the folder is missing, cannot be written or is full.
    """
    text = json.dumps(plain(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def plain(value: Any) -> Any:
    """Values for JSON: arrays as lists, keys as strings, None for numbers that are not finite."""
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


def _surfaces(per_label: Optional[Mapping]) -> Optional[dict]:
    """Means over the labels that both images have, and the labels themselves."""
    if not per_label:
        return None
    measured = [d for d in per_label.values() if math.isfinite(d["mean"])]
    means = {name: float(np.mean([d[name] for d in measured])) if measured else None for name in ("mean", "hd95")}
    return {**means, "per_label": per_label}
