"""Objects of PySide6 behind the face that PythonQt shows: properties as values, facts as limits.

An ``Instance`` stands for one Qt object or value. Its class has a descriptor for every property, signal and method that
contract.json lists, and nothing else: what Slicer lacks raises AttributeError here too. What Slicer has but this double
does not imitate raises NotImplementedError, so that it is never mistaken for a fact.
"""

from __future__ import annotations

import weakref
from typing import Any, Optional

import shiboken6
from PySide6 import QtCore

from .enums import EnumValue, enum_member, is_enum, wrap_enum
from .facts import ClassFacts, all_facts
from .signals import Signal

_by_native: dict[type, type] = {}
_alive: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


class InstanceMeta(type):
    """Gives a class the enums of its Qt class, and its instances no more than their facts."""

    def __getattr__(cls, name: str) -> Any:
        native = cls.__dict__.get("_native") or getattr(super(), "_native", None)
        member = enum_member(native, name) if native is not None and not name.startswith("_") else None
        if member is None:
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return member


class Instance(metaclass=InstanceMeta):
    """What PythonQt calls an instance wrapper."""

    _native: type = object
    _facts: Optional[ClassFacts] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = self._facts.name
        if kwargs:
            raise ValueError(f"Called {name}(...) -> {name} with keyword arguments, but called slot does not support "
                             "kwargs.")
        native = subclass_of(self._native, type(self)) if is_python_subclass(type(self)) else self._native
        object.__setattr__(self, "_q", native(*[unwrap(value) for value in args]))
        if is_python_subclass(type(self)):
            self._q._proxy = self
        if isinstance(self._q, QtCore.QObject):
            _alive[pointer(self._q)] = self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self._facts.name} has no attribute named {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if is_python_subclass(type(self)) or _is_property(type(self), name):
            object.__setattr__(self, name, value)
            return
        raise AttributeError(f"{name!r} does not exist on {self._facts.name} and creating new attributes on C++ "
                             "objects is not allowed")

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._q)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Instance):
            return self is other or (not isinstance(self._q, QtCore.QObject) and self._q == other._q)
        return NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"{self._facts.name} (double)"

    def connect(self, signature: str, *receiver: Any) -> bool:
        """``connect("clicked(bool)", f)``: False, with a line printed, where there is no such signal."""
        compact = signature.replace(" ", "")
        if compact not in self._facts.signals or not hasattr(self._q, compact.partition("(")[0]):
            print(f"QObject::connect: {self._facts.name} has no signal {signature}")
            return False
        return Signal(self, compact).connect(_slot(receiver))

    def disconnect(self, signature: str, *receiver: Any) -> bool:
        compact = signature.replace(" ", "")
        return compact in self._facts.signals and Signal(self, compact).disconnect(_slot(receiver))

    def className(self) -> str:
        return self._facts.name

    def inherits(self, name: str) -> bool:
        return name == self._facts.name or self._q.inherits(name)

    def delete(self) -> None:
        shiboken6.delete(self._q)


class Property:
    """A Qt property: a value, checked as PythonQt checks it."""

    def __init__(self, owner: str, name: str, kind: str, writable: bool, static: Optional[Static] = None) -> None:
        self.owner, self.name, self.kind, self.writable, self.static = owner, name, kind, writable, static

    def __get__(self, instance: Optional[Instance], owner: type) -> Any:
        if instance is None:
            return self.static.__get__(None, owner) if self.static else self
        return wrap(self.imitated(alive(instance, f"read property {self.name!r} from")).property(self.name))

    def __set__(self, instance: Instance, value: Any) -> None:
        native = alive(instance, f"write property {self.name!r} of")
        if not self.writable:
            raise AttributeError(f"Property {self.name!r} of {self.owner} cannot be written")
        self.imitated(native).setProperty(self.name, self.converted(value))

    def imitated(self, native: Any) -> Any:
        if native.metaObject().indexOfProperty(self.name) < 0:
            raise NotImplementedError(f"Slicer's {self.owner} has a property {self.name!r}; the double has not.")
        return native

    def converted(self, value: Any) -> Any:
        """The value as Qt takes it: floats are cut for an int, everything else must fit."""
        fits = {"int": (int, float), "double": (int, float), "bool": (int, float), "QString": (str,)}.get(self.kind)
        if fits is None:
            return unwrap(value)
        if not isinstance(value, fits):
            raise AttributeError(f"Property {self.name!r} of type {self.kind!r} does not accept an object of type "
                                 f"{type(value).__name__} ({value!r})")
        return {"int": int, "double": float, "bool": bool, "QString": str}[self.kind](value)


class Name:
    """``widget.name``, which PythonQt keeps as another word for objectName."""

    def __get__(self, instance: Optional[Instance], _owner: type) -> Any:
        return self if instance is None else alive(instance, "read property 'name' from").objectName()

    def __set__(self, instance: Instance, value: str) -> None:
        alive(instance, "write property 'name' of").setObjectName(value)


class SignalOf:
    """A signal by its name; it stands for the overload with the most arguments."""

    def __init__(self, signatures: list[str]) -> None:
        self.signature = max(signatures, key=lambda item: 0 if item.endswith("()") else item.count(",") + 1)

    def __get__(self, instance: Optional[Instance], _owner: type) -> Any:
        return self if instance is None else Signal(instance, self.signature)


class Method:
    """A C++ method: no keyword arguments; called on the class itself when a Python subclass says super()."""

    def __init__(self, owner: str, native: type, name: str) -> None:
        self.owner, self.native, self.name = owner, native, name

    def __get__(self, instance: Optional[Instance], _owner: type) -> Any:
        if instance is None:
            return lambda this, *args, **kwargs: self.__get__(this, type(this))(*args, **kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            native = alive(instance, f"call {self.name!r} on")
            refuse_kwargs(self.name, kwargs)
            if is_python_subclass(type(instance)):
                return call_native(self.owner, getattr(self.native, self.name, None), self.name, (native, *args))
            return call_native(self.owner, getattr(native, self.name, None), self.name, args)

        call.__doc__ = call.__name__ = self.name
        return call


class Static:
    """A static function of the class."""

    def __init__(self, owner: str, native: type, name: str) -> None:
        self.owner, self.native, self.name = owner, native, name

    def __get__(self, _instance: Optional[Instance], _owner: type) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            refuse_kwargs(self.name, kwargs)
            return call_native(self.owner, getattr(self.native, self.name, None), self.name, args)
        return call


def alive(instance: Instance, what: str) -> Any:
    """The Qt object behind an instance.

    Raises:
        ValueError: it was deleted.
    """
    if not shiboken6.isValid(instance._q):
        raise ValueError(f"Trying to {what} a destroyed {instance._facts.name} object")
    return instance._q


def refuse_kwargs(name: str, kwargs: dict) -> None:
    if kwargs:
        raise ValueError(f"Called {name}(...) with keyword arguments, but called slot does not support kwargs.")


def call_native(owner: str, function: Any, name: str, args: tuple) -> Any:
    """Call through, with wrapped arguments taken off and put on.

    Raises:
        ValueError: arguments that no overload takes.
    """
    if function is None:
        raise NotImplementedError(f"Slicer's {owner} has a method {name!r}; the double has not.")
    for value in args:
        if isinstance(value, (bytearray, memoryview)):
            raise ValueError(f"Called {name}(...) with a {type(value).__name__}, which is no QByteArray; pass bytes.")
    try:
        return wrap(function(*[unwrap(value) for value in args]))
    except TypeError as error:
        raise ValueError(f"Could not find matching overload for given arguments of {owner}.{name}: {error}") from error


def define(name: str, native: type) -> type:
    """The class that stands for a Qt class, made from its facts."""
    facts = all_facts()[name]
    body: dict[str, Any] = {"_native": native, "_facts": facts, "_defined": True, "__module__": facts.module}
    for method in facts.methods - {"connect", "disconnect", "inherits", "className"}:
        body[method] = Method(name, native, method)
    for static in facts.statics:
        body[static] = Static(name, native, static)
    for signal in facts.signal_names:
        same = [item for item in facts.signals if item.partition("(")[0] == signal]
        if signal not in facts.properties and signal not in facts.methods and hasattr(native, signal):
            body[signal] = SignalOf(same)
    for key, (kind, writable) in facts.properties.items():
        body[key] = Property(name, key, kind, writable, Static(name, native, key) if key in facts.statics else None)
    if "objectName" in facts.properties:
        body["name"] = body.get("name", Name())
    _by_native[native] = InstanceMeta(name, (Instance,), body)
    return _by_native[native]


def _is_property(kind: type, name: str) -> bool:
    return any(isinstance(ancestor.__dict__.get(name), (Property, Name)) for ancestor in kind.__mro__)


def is_python_subclass(kind: type) -> bool:
    return "_defined" not in kind.__dict__


def subclass_of(native: type, kind: type) -> type:
    """A Qt class whose virtual functions are those that a Python subclass overrides."""
    overridden = {}
    for ancestor in kind.__mro__:
        if "_defined" in ancestor.__dict__:
            break
        for name in ancestor.__dict__:
            if not name.startswith("_") and callable(getattr(native, name, None)):
                overridden[name] = _forward(name)
    return type(kind.__name__, (native,), overridden)


def _forward(name: str) -> Any:
    def forward(native: Any, *args: Any) -> Any:
        return unwrap(getattr(native._proxy, name)(*[wrap(value) for value in args]))
    return forward


def wrap(value: Any) -> Any:
    """A value of PySide6 as PythonQt would hand it to Python."""
    if isinstance(value, QtCore.QObject):
        return _wrap_object(value)
    if is_enum(value):
        return wrap_enum(value)
    if isinstance(value, (list, tuple)):
        return tuple(wrap(item) for item in value)
    kind = _by_native.get(type(value))
    return value if kind is None else _standing_for(kind, value)


def unwrap(value: Any) -> Any:
    """The value of PySide6 behind what Python holds."""
    if isinstance(value, Instance):
        return value._q
    if isinstance(value, EnumValue):
        return value.native
    if isinstance(value, InstanceMeta):
        return value._native
    if isinstance(value, (list, tuple)):
        return [unwrap(item) for item in value]
    return value


def _wrap_object(value: QtCore.QObject) -> Instance:
    proxy = getattr(value, "_proxy", None) or _alive.get(pointer(value))
    if proxy is not None and proxy._q is not None and shiboken6.isValid(proxy._q):
        return proxy
    for kind in type(value).__mro__:
        found = _by_native.get(kind)
        if found is not None:
            proxy = _standing_for(found, value)
            _alive[pointer(value)] = proxy
            return proxy
    return value


def _standing_for(kind: type, value: Any) -> Instance:
    proxy = kind.__new__(kind)
    object.__setattr__(proxy, "_q", value)
    return proxy


def pointer(value: QtCore.QObject) -> int:
    return shiboken6.getCppPointer(value)[0]


def _slot(receiver: tuple) -> Any:
    if len(receiver) == 1:
        return receiver[0]
    target, name = receiver
    return getattr(target, name.partition("(")[0])
