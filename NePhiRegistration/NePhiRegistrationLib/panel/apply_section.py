"""Apply to: a table of what else belongs to a registered volume; what is ticked in it is carried to the other one."""

from __future__ import annotations

from typing import Any, Callable, Optional

import qt
import slicer
from slicer.i18n import tr as _

from ..mrml.belongings import Belonging
from ..session.applying import Carried
from ..session.event_loop import EventLoopQueue
from .node_watch import NodeWatch

_KINDS = ("Volume", "Mask", "Exclude", "Landmarks", "Labels")  # of parameters that belong to a side


class ApplySection:
    """The table, the button and the line below it.

    Args:
        ui: the widgets of the .ui file.
        logic: the module's logic.
        parameters: gives the parameter node, or None while there is none.
        transform: gives the forward transform node that is meant, or None for the last result.
    """

    def __init__(self, ui: Any, logic: Any, parameters: Callable[[], Any], transform: Callable[[], Any]) -> None:
        self._ui, self._logic, self._parameters, self._transform = ui, logic, parameters, transform
        self._rows: list[Belonging] = []
        self._problems: dict[Any, str] = {}
        self._carried: list[Carried] = []
        self._result = False
        self._queue = EventLoopQueue(self.onFailed)
        self._watch = NodeWatch(self.update)
        scene = slicer.mrmlScene
        self._observed = scene, [scene.AddObserver(event, self.onScene) for event in
                                 (scene.NodeAddedEvent, scene.NodeRemovedEvent)]
        ui.applyDirectionComboBox.addItem(_("Moving to fixed"), "fixed")
        ui.applyDirectionComboBox.addItem(_("Fixed to moving"), "moving")
        table = ui.applyTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Node"), _("Kind")])
        table.verticalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.connect("cellChanged(int,int)", self.onTicked)
        ui.applyDirectionComboBox.connect("currentIndexChanged(int)", self.onDirection)
        ui.applyCollapsibleButton.connect("contentsCollapsed(bool)", self.onScene)
        ui.hardenCheckBox.connect("toggled(bool)", self.onTicked)
        ui.applyButton.connect("clicked()", self.onApply)
        ui.undoHardenButton.connect("clicked()", self.onUndo)
        self.update()

    def update(self, result: Optional[bool] = None) -> None:
        """Show what can be carried now.

        Args:
            result: whether there is a result; None keeps what was said.
        """
        self._result = self._result if result is None else result
        rows = [] if self._ui.applyCollapsibleButton.collapsed or not self._result else self._found()
        if rows != self._rows:
            ticked, self._rows = self._ticked(), rows
            self._watch.follow(row.node for row in rows)
            self._fill(ticked)
        self._enable()

    def news(self) -> None:
        """There is another result: what was said of the last one no longer holds, and no more is carried by it."""
        working = bool(self._queue)
        self._queue.clear()
        self._forget()
        if working:
            self._ui.applyLabel.text = _("Stopped, because there is another result; apply again.")
        self.update()

    def forget(self) -> None:
        """The scene is gone."""
        self._queue.clear()
        self._forget()
        self.update(False)

    def close(self) -> None:
        """The panel goes."""
        self._queue.close()
        self._watch.follow(())
        scene, tags = self._observed
        for tag in tags:
            scene.RemoveObserver(tag)

    def onScene(self, *_event: Any) -> None:
        """Nodes have come or gone, or the section opens."""
        if not slicer.mrmlScene.IsBatchProcessing() and not slicer.mrmlScene.IsClosing():
            self.update()

    def onDirection(self, _index: int) -> None:
        """The other volume's belongings are meant."""
        self._rows = []
        self.news()

    def onTicked(self, *_where: Any) -> None:
        """The user ticked a node, or chose what becomes of it."""
        self._enable()

    def onApply(self) -> None:
        """Carry what is ticked, or stop doing so; what is done stays."""
        if self._queue:
            self._queue.clear()
            self._tell()
            return
        self._forget()
        nodes = self._ticked()
        try:
            steps = self._logic.applyToGradually(nodes, self.onCarried, self._to, self._transform(),
                                                 self._ui.hardenCheckBox.checked)
        except (ValueError, RuntimeError) as error:
            self._ui.applyLabel.text = str(error)
            return
        self._ui.applyLabel.text = _("Carrying…")
        self._queue.begin(self._all(steps))
        self._enable()

    def onCarried(self, carried: Carried) -> None:
        """A node is done, or could not be carried."""
        self._carried.append(carried)
        if carried.problem:
            self._problems[carried.source] = carried.problem
        self._fill([node for node in self._ticked() if node is not carried.source or carried.problem])
        self.update()
        self._tell()

    def onFailed(self, error: Exception) -> None:
        """Something went wrong that nobody had thought of."""
        self._ui.applyLabel.text = str(error)
        self._enable()

    def onUndo(self) -> None:
        """Give all nodes that were hardened last back what they held."""
        for carried in self._carried:
            if carried.undo is not None:
                carried.undo()
        self._forget()
        self.update()

    @property
    def _to(self) -> str:
        return self._ui.applyDirectionComboBox.currentData

    def _all(self, steps: Any) -> Any:
        yield from steps
        self._queue.clear()
        self._tell()

    def _found(self) -> list[Belonging]:
        parameters = self._parameters()
        others = [] if parameters is None else [getattr(parameters, name) for name in (
            "fixedVolume", "movingVolume", "warpedVolume", "logJacobian", *(self._to + kind for kind in _KINDS))]
        return self._logic.belongings(self._to, self._transform(), others)

    def _ticked(self) -> list[Any]:
        items = [self._ui.applyTable.item(row, 0) for row in range(len(self._rows))]
        return [row.node for row, item in zip(self._rows, items)
                if item is not None and item.checkState() == qt.Qt.Checked]

    def _fill(self, ticked: list[Any]) -> None:
        table = self._ui.applyTable
        before = table.blockSignals(True)
        table.setRowCount(len(self._rows))
        for index, row in enumerate(self._rows):
            name, problem = qt.QTableWidgetItem(row.node.GetName()), row.obstacle or self._problems.get(row.node, "")
            if row.obstacle:
                name.setFlags(qt.Qt.NoItemFlags)
            else:
                name.setCheckState(qt.Qt.Checked if row.node in ticked else qt.Qt.Unchecked)
            kind = qt.QTableWidgetItem(problem or row.kind)
            for column, item in enumerate((name, kind)):
                item.setToolTip(problem or row.node.GetName())
                table.setItem(index, column, item)
        table.blockSignals(before)

    def _forget(self) -> None:
        self._problems, self._carried = {}, []
        self._ui.applyLabel.text = ""
        self._fill(self._ticked())

    def _tell(self) -> None:
        """Say what came of it."""
        new = [one.node for one in self._carried if one.node is not None and one.undo is None]
        hardened = [one.node for one in self._carried if one.undo is not None]
        gone = [one.problem for one in self._carried if one.problem and one.source.GetScene() is None]
        missed = sum(bool(one.problem) for one in self._carried) - len(gone)
        said = [_("Made {names}.").format(names=_names(new)) if new else "",
                _("Hardened {names}.").format(names=_names(hardened)) if hardened else "", *gone,
                _("{count} could not be carried; the table says why.").format(count=missed) if missed else ""]
        self._ui.applyLabel.text = " ".join(filter(None, said))
        self._enable()

    def _enable(self) -> None:
        ui, working, ticked = self._ui, bool(self._queue), self._ticked()
        start = _("Change the ticked nodes") if ui.hardenCheckBox.checked else _("Apply")
        ui.applyButton.text = _("Stop") if working else start
        ui.applyButton.enabled = working or (self._result and bool(ticked))
        ui.applyTable.enabled = ui.applyDirectionComboBox.enabled = ui.hardenCheckBox.enabled = not working
        ui.undoHardenButton.enabled = not working and any(one.undo is not None for one in self._carried)


def _names(nodes: list[Any]) -> str:
    return ", ".join(f"'{node.GetName()}'" for node in nodes)
