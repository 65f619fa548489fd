"""Review: how fixed and warped are shown together, the Jacobian over them, the deformation drawn and dosed.

Outputs are only looked at. What has to be made for looking (a checkerboard, a difference, a part of the deformation) is
a node of the panel's own, hidden, not saved with the scene and removed with the panel.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml import (
    comparison_volumes,
    deformation_display,
    error_volume,
    log_jacobian_display,
    slice_views,
    snapshot,
    transform_nodes,
)
from ..mrml.deformation_nodes import deformation
from ..mrml.slabs import Gradual
from ..session.event_loop import EventLoopQueue
from .layout_watch import LayoutWatch

logger = logging.getLogger(__name__)

OVERLAY, CHECKERBOARD, DIFFERENCE, FLICKER, REVEAL = "overlay", "checkerboard", "difference", "flicker", "reveal"
MIXED = (CHECKERBOARD, DIFFERENCE)
NOTHING, GRID, ARROWS = "nothing", "grid", "arrows"
FLICKER_INTERVAL = 500  # ms
SETTLED = 200  # ms until a new layout has its sizes
FOLLOW_INTERVAL = 1.0  # s between two pictures of a running task that have to be made anew
ONLY_FOLDS = 1e3  # a threshold that only the colour of folds survives
OWN = {"moving": "vtkMRMLScalarVolumeNode", "part": "vtkMRMLTransformNode", "mixed": "vtkMRMLScalarVolumeNode"}


class ReviewSection:
    """The tools of the section.

    Args:
        ui: the widgets of the .ui file.
        parameters: gives the parameter node, or None while there is none.
        say: takes a sentence for the user.
        make_error_map: gives the volume node with the error that is left.
    """

    def __init__(self, ui: Any, parameters: Callable[[], Any], say: Callable[[str], None],
                 make_error_map: Callable[[], Any]) -> None:
        self._ui, self._parameters, self._say, self._make_error_map = ui, parameters, say, make_error_map
        self._own: dict[str, Any] = {}
        self._layout = LayoutWatch(self.onLayoutChanged)
        self._fitted: Any = None  # the volume that the three views were fitted to
        self._layout_before: Optional[int] = None  # what to go back to from the three views
        self._reveal: Any = None
        self._running = False
        self._shown = 0.0
        self._layers_before: list[tuple] = []
        self._drawn: Any = None  # the transform that is drawn in the slice views
        self._queue = EventLoopQueue(self._failed)
        self._timer = qt.QTimer()
        self._timer.setInterval(FLICKER_INTERVAL)
        self._timer.connect("timeout()", self.onFlicker)
        self._fill()
        ui.compareComboBox.connect("currentIndexChanged(int)", lambda _index: self.show())
        ui.checkerSpinBox.connect("valueChanged(int)", lambda _value: self.show())
        ui.jacobianCheckBox.connect("toggled(bool)", lambda _checked: self.onOverlay(ui.errorMapCheckBox))
        ui.errorMapCheckBox.connect("toggled(bool)", lambda _checked: self.onOverlay(ui.jacobianCheckBox))
        ui.amountSlider.connect("valueChanged(double)", lambda _value: self.show())
        ui.everywhereCheckBox.connect("toggled(bool)", self.onEverywhere)
        ui.layoutComboBox.connect("currentIndexChanged(int)", self.onLayout)
        ui.drawComboBox.connect("currentIndexChanged(int)", lambda _index: self.draw())
        ui.opacitySlider.connect("valueChanged(double)", self.onOpacity)
        ui.thresholdSlider.connect("valueChanged(double)", lambda _value: self.color())
        ui.foldsCheckBox.connect("toggled(bool)", lambda _checked: self.color())
        self.update()

    @property
    def forward(self) -> Any:
        """The forward transform node when it holds a deformation, else None."""
        parameters = self._parameters()
        node = parameters.forwardTransform if parameters is not None else None
        return node if node is not None and deformation(node) is not None else None

    def update(self) -> None:
        """Allow what there is something to show for."""
        ui, parameters = self._ui, self._parameters()
        self._layout.follow(slicer.mrmlScene)
        with _quiet(ui.layoutComboBox):
            ui.layoutComboBox.setCurrentIndex(int(self._layout.compares))
        shown = parameters is not None and parameters.fixedVolume is not None and self._something()
        comparing = ui.compareComboBox.currentData
        ui.compareComboBox.enabled = shown
        ui.layoutComboBox.enabled = shown or self._layout.compares
        ui.opacitySlider.enabled = shown and (comparing in (OVERLAY, REVEAL) or ui.jacobianCheckBox.checked
                                              or ui.errorMapCheckBox.checked)
        ui.checkerSpinBox.enabled = shown and comparing == CHECKERBOARD
        jacobian = self._jacobian()
        ui.jacobianGroupBox.enabled = jacobian is not None
        everywhere = None if jacobian is None else log_jacobian_display.shows_everywhere(jacobian)
        ui.everywhereCheckBox.enabled = everywhere is not None
        with _quiet(ui.everywhereCheckBox):
            ui.everywhereCheckBox.checked = bool(everywhere)
        ui.errorMapCheckBox.enabled = shown and error_volume.present(parameters.metricsTable)
        ui.deformationGroupBox.enabled = self.forward is not None
        if self._to_draw() is not self._drawn:
            self.draw()

    def follow(self) -> None:
        """A task is running: show the moving volume as the forward transform carries it, which from now on moves by
        itself; a part of the deformation and mixed pictures are made anew every second."""
        if self.forward is None:
            return
        if not self._running:
            self._running = True
            self._layers_before = slice_views.layers(self._views())
            self.show()
            self.draw()
        elif self._ui.jacobianGroupBox.enabled != (self._jacobian() is not None):  # the first of its previews
            self.color()
            self.show()
        elif not self._queue and time.monotonic() - self._shown >= FOLLOW_INTERVAL:
            self._renew()

    def result(self) -> None:
        """The outputs are filled, or are what they were before: show them."""
        self._running = False
        self.color()
        if self._parameters() is None or not self._something():  # the moving volume must not stay where it was
            slice_views.restore_layers(self._layers_before)
        self._layers_before = []
        self.show()
        self.draw()

    def forget(self) -> None:
        """The scene is gone, and with it every node."""
        self._queue.clear()
        self._timer.stop()
        self._end_reveal()
        self._own.clear()
        self._running, self._layers_before, self._drawn = False, [], None
        self._leave_comparison()
        for combo in (self._ui.compareComboBox, self._ui.drawComboBox):
            with _quiet(combo):
                combo.setCurrentIndex(0)
        for box in (self._ui.jacobianCheckBox, self._ui.errorMapCheckBox):
            with _quiet(box):
                box.checked = False
        self.update()

    def close(self) -> None:
        """The panel goes: leave nothing of it in the scene."""
        nodes = list(self._own.values())
        self.forget()
        self._layout.follow(None)
        self._queue.close()
        for node in nodes:
            snapshot.remove(node)

    def show(self) -> None:
        """Put the chosen picture into the slice views, at once or, when it has to be made, as soon as it is."""
        self._shown = time.monotonic()
        self._queue.clear()
        self._timer.stop()
        self._end_reveal()
        self.update()
        parameters = self._parameters()
        if parameters is None or parameters.fixedVolume is None or not self._something():
            return
        self._own = {role: node for role, node in self._own.items() if node.GetScene() is not None}
        self._queue.begin(self._while_there(self._picture(parameters),
                                            (parameters.fixedVolume, parameters.movingVolume, parameters.warpedVolume)))

    def draw(self) -> None:
        """Draw the forward transform in slice views, or draw it no more."""
        drawn, self._drawn = self._drawn, self._to_draw()
        if drawn is not None and drawn is not self._drawn:
            deformation_display.hide_deformation(drawn)
        if self._drawn is not None:
            grid = self._ui.drawComboBox.currentData == GRID
            (deformation_display.show_grid if grid else deformation_display.show_arrows)(self._drawn)

    def color(self) -> None:
        """Hide the values of the Jacobian that are nearer to 0 than the threshold, or all but folds."""
        volume = self._jacobian()
        if volume is not None:
            ui = self._ui
            threshold = ONLY_FOLDS if ui.foldsCheckBox.checked else ui.thresholdSlider.value
            log_jacobian_display.set_colors(volume, threshold)

    def onOpacity(self, opacity: float) -> None:
        """The user moved the slider."""
        slice_views.set_opacity(self._views(), opacity)

    def onOverlay(self, other: Any) -> None:
        """The user wants one of the overlays, which takes the place of the other, or no more."""
        if self._ui.jacobianCheckBox.checked and self._ui.errorMapCheckBox.checked:
            with _quiet(other):
                other.checked = False
        self.show()

    def onEverywhere(self, everywhere: bool) -> None:
        """The user wants to see the Jacobian outside of what was compared too, or no more."""
        if self._jacobian() is not None:
            log_jacobian_display.show_everywhere(self._jacobian(), everywhere)

    def onFlicker(self) -> None:
        """Show the other of the two volumes."""
        views = self._views()
        if views:
            slice_views.set_opacity(views, 0.0 if views[0].GetForegroundOpacity() > 0.5 else 1.0)

    def onLayout(self, _index: int) -> None:
        """The user asked for three views side by side, or for what was there before."""
        if self._ui.layoutComboBox.currentIndex == 0:
            self._leave_comparison()
        elif not self._layout.compares:
            self._enter_comparison()
        self.show()

    def onLayoutChanged(self) -> None:
        """The user, a script or an opened scene changed to the three views or away from them."""
        self._layout_before = self._fitted = None
        self.show()

    def _enter_comparison(self) -> None:
        self._layout.compares = True
        self._layout_before = slice_views.show_comparison(slicer.mrmlScene, self._parameters().fixedVolume, None,
                                                     self._ui.opacitySlider.value)

        self._fit()

    def _fit(self) -> None:
        """Fit the three views to the fixed volume, now and once the window has given them their sizes."""
        self._fitted = self._parameters().fixedVolume
        slice_views.fit_comparison(slicer.mrmlScene, self._fitted)
        for wait in (0, SETTLED):
            qt.QTimer.singleShot(wait, self._fit_again)

    def _fit_again(self) -> None:
        parameters = self._parameters()
        if self._layout.compares and parameters is not None and parameters.fixedVolume is self._fitted:
            slice_views.fit_comparison(slicer.mrmlScene, self._fitted)

    def _leave_comparison(self) -> None:
        if self._layout.compares:
            self._layout.compares = False
            slice_views.leave_comparison(slicer.mrmlScene, self._layout_before)
        self._layout_before = self._fitted = None

    def _fill(self) -> None:
        ui = self._ui
        for text in (_("Current layout"), _("Fixed | warped | overlay")):
            ui.layoutComboBox.addItem(text)
        comparisons = [(_("Overlay"), OVERLAY), (_("Checkerboard"), CHECKERBOARD), (_("Difference"), DIFFERENCE),
                       (_("Flicker"), FLICKER)]
        if hasattr(slicer.modules, "comparevolumes"):
            comparisons.append((_("Reveal cursor"), REVEAL))
        for text, choice in comparisons:
            ui.compareComboBox.addItem(text, choice)
        for text, choice in ((_("Nothing"), NOTHING), (_("Deformed grid"), GRID), (_("Arrows"), ARROWS)):
            ui.drawComboBox.addItem(text, choice)

    def _picture(self, parameters: Any) -> Gradual[None]:
        """Show what is chosen; no step but the last is seen."""
        fixed, choice = parameters.fixedVolume, self._ui.compareComboBox.currentData
        warped = yield from self._warped(parameters)
        if choice in MIXED:
            mix = self._node("mixed")
            yield from self._mix(mix, fixed, warped)
            slice_views.show_layers(self._views(), mix)
        else:
            slice_views.show_layers(self._views(), fixed, warped, self._ui.opacitySlider.value)
        self._put_over(fixed, warped)
        if choice == FLICKER:
            self._timer.start()
        elif choice == REVEAL:
            self._reveal = importlib.import_module("CompareVolumes").LayerReveal()

    def _mix(self, node: Any, fixed: Any, warped: Any) -> Gradual[None]:
        if self._ui.compareComboBox.currentData == CHECKERBOARD:
            return comparison_volumes.write_checkerboard(node, fixed, warped, self._ui.checkerSpinBox.value)
        return comparison_volumes.write_difference(node, fixed, warped, self._parameters().movingVolume, self.forward)

    def _while_there(self, steps: Gradual[None], nodes: tuple) -> Gradual[None]:
        """Steps that are given up when one of the nodes or of our own leaves the scene meanwhile."""
        for _step in steps:
            yield
            if any(node is not None and node.GetScene() is None for node in (*nodes, *self._own.values())):
                return

    def _put_over(self, fixed: Any, warped: Any) -> None:
        """What is shown beside and over the comparison."""
        ui, log_jacobian = self._ui, self._jacobian()
        if self._layout.compares:
            self._put_side_by_side(fixed, warped)
            if fixed is not self._fitted:
                self._fit()
        if log_jacobian is not None:
            if ui.jacobianCheckBox.checked:
                slice_views.overlay(self._views(), fixed, log_jacobian, ui.opacitySlider.value)
            log_jacobian_display.show_legend(log_jacobian, ui.jacobianCheckBox.checked)
        shows_error = ui.errorMapCheckBox.checked and ui.errorMapCheckBox.enabled and not self._running
        error = self._make_error_map() if shows_error else error_volume.made(self._parameters().metricsTable)
        if error is not None:
            if shows_error:
                slice_views.overlay(self._views(), fixed, error, ui.opacitySlider.value)
            error_volume.show_legend(error, shows_error)

    def _put_side_by_side(self, fixed: Any, warped: Any) -> None:
        pair = slice_views.composites(slicer.mrmlScene, slice_views.COMPARED[:2])
        for view, volume in zip(pair, (fixed, warped)):
            slice_views.show_layers([view], volume)

    def _views(self) -> list[Any]:
        """The composite nodes that show the comparison: the third of three, or all of the user's own layout. While a
        task runs, only those that are seen: drawing through its previews takes time."""
        scene = slicer.mrmlScene
        views = slice_views.composites(scene, slice_views.COMPARED[2:] if self._layout.compares else None)
        return slice_views.in_layout(views) if self._running else views

    def _warped(self, parameters: Any) -> Gradual[Any]:
        """The volume that shows the moving volume carried over: the output itself, or one of our own."""
        percent, warped = self._ui.amountSlider.value, parameters.warpedVolume
        if not self._running and (percent >= 100 or self.forward is None) and _filled(warped):
            return warped
        transform, shown = self.forward, self._node("moving")
        if percent < 100:
            transform = self._node("part")
            transform_nodes.scale_field(transform, self.forward, percent)
        yield from deformation_display.show_moving(shown, parameters.movingVolume, transform, self.forward)
        return shown

    def _renew(self) -> None:
        """Make anew what does not follow the forward transform by itself; the views stay as they are."""
        self._shown, percent, part = time.monotonic(), self._ui.amountSlider.value, self._own.get("part")
        if self._ui.compareComboBox.currentData in MIXED:
            self.show()
        elif percent < 100 and part is not None and part.GetScene() is not None:
            transform_nodes.scale_field(part, self.forward, percent)

    def _to_draw(self) -> Any:
        """The transform that is to be drawn in the slice views, or None."""
        return self.forward if self._ui.drawComboBox.currentData != NOTHING else None

    def _something(self) -> bool:
        parameters = self._parameters()
        if self.forward is not None and parameters.movingVolume is not None:
            return True
        return _filled(parameters.warpedVolume)

    def _jacobian(self) -> Any:
        """The log-Jacobian volume when it holds one, else None."""
        parameters = self._parameters()
        volume = parameters.logJacobian if parameters is not None else None
        return volume if _filled(volume) and log_jacobian_display.is_colored(volume) else None

    def _node(self, role: str) -> Any:
        """A node of our own, made on first use and again when the user removed it."""
        node = self._own.get(role)
        if node is None or node.GetScene() is None:
            node = getattr(slicer, OWN[role])()
            node.SetName(f"NePhi {role}")
            node.SetHideFromEditors(True)  # before it is added: lists of nodes look only then
            node.SetSaveWithScene(False)
            self._own[role] = slicer.mrmlScene.AddNode(node)
        return node

    def _end_reveal(self) -> None:
        if self._reveal is not None:
            self._reveal.cleanup()
            self._reveal = None

    def _failed(self, error: Exception) -> None:
        logger.info("The comparison cannot be shown.", exc_info=error)
        self._say(str(error))


def _filled(volume: Any) -> bool:
    return volume is not None and volume.GetImageData() is not None


@contextlib.contextmanager
def _quiet(widget: Any) -> Iterator[None]:
    before = widget.blockSignals(True)
    yield
    widget.blockSignals(before)
