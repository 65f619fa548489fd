"""The colour legend of a volume in the slice views."""

from __future__ import annotations

from typing import Any

import slicer


def show_legend(node: Any, title: str, visible: bool = True) -> Any:
    """Show or hide the colour legend of a volume; its display node, or None where Slicer has none."""
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if logic is None or not node.GetScene().IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        return None
    legend = logic.GetColorLegendDisplayNode(node)
    if legend is None and visible:
        legend = logic.AddDefaultColorLegendDisplayNode(node.GetDisplayNode())
        legend.SetTitleText(title)
        legend.SetLabelFormat("%.2f")
    if legend is not None:
        legend.SetVisibility(visible)
    return legend
