"""The failure a node can cause, one clear sentence for the person in front of the panel."""

from __future__ import annotations


class NodeError(ValueError):
    """A node that cannot be used as it is; the message says what, which value, and what to do."""
