"""Finds in Python sources the sentences that users read and that are not, or not rightly, marked for translation."""

from __future__ import annotations

import ast
import re
import string


def unmarked(tree: ast.AST) -> list[str]:
    """The sentences, and all words that an exception is made of, that do not go through ``_()``.

    Docstrings and lines for the log are for others, and what fills the places of a marked sentence may be anything.
    """
    passed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("logger.", "log.")):
            passed.update(ast.walk(node))
        elif _is_mark(node):
            passed.update(argument for argument in node.args if isinstance(argument, ast.Constant))
        elif _fills_mark(node):
            passed.update(part for filling in node.keywords for part in ast.walk(filling))
    raised = _raised(tree)
    texts = {node: _text(node) for node in ast.walk(tree) if node not in passed}
    return [text for node, text in texts.items() if text and (node in raised or re.search(r" .*\w\W?\.$", text))]


def unfilled(tree: ast.AST) -> list[str]:
    """The marked texts whose places in braces are not just those that ``format`` fills by name.

    One that is not filled on the spot may be filled later, unless an exception is made of it.
    """
    filled = {node.func.value: {filling.arg for filling in node.keywords}
              for node in ast.walk(tree) if _fills_mark(node)}
    marks = {**{node: set() for node in _raised(tree) if _is_mark(node)}, **filled}
    texts = {node: node.args[0].value for node in marks if isinstance(node.args[0], ast.Constant)}
    return [text for node, text in texts.items() if _places(text) != marks[node]]


def _text(node: ast.AST) -> str:
    """What a string says, an f-string with a word for each of its values; "" for all else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "value" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _raised(tree: ast.AST) -> set[ast.AST]:
    """All that exceptions are made of."""
    made = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"))
    return {part for node in made for part in ast.walk(node)}


def _places(text: str) -> set[str]:
    return {name for _before, name, _format, _kind in string.Formatter().parse(text) if name is not None}


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"


def _fills_mark(node: ast.AST) -> bool:
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
            and _is_mark(node.func.value))
