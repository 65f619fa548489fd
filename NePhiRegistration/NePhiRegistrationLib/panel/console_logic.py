"""``slicer.modules.nephiregistration.logic()`` for scripts.

Slicer makes the logic object of a scripted module in C++. It is given the methods of the Python logic; the Python
logic itself, and with it the worker, is made when one of them is called for the first time.
"""

from __future__ import annotations

from typing import Any, Callable

METHODS = ("register", "start", "resume", "pull", "evaluate", "jacobian", "applyTo", "applyToPoints",
           "applyToSegmentation", "doubtfulPlaces", "errorMap", "registerPairs", "registerSequence", "startSequence",
           "saveTransform", "loadTransform", "startLoading", "computeOn", "setComputeOn", "warmUp", "close")

_extended: list[Any] = []  # VTK forgets the attributes of an object that Python does not hold


def add_methods(logic: Any, make: Callable[[], Any]) -> None:
    """Give a vtkMRMLAbstractLogic the methods of the Python logic that ``make`` makes."""
    made: list[Any] = []

    def method(name: str) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not made:
                made.append(make())
            return getattr(made[0], name)(*args, **kwargs)
        call.__name__ = name
        return call

    for name in METHODS:
        setattr(logic, name, method(name))
    _extended.append(logic)
