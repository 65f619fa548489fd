"""Many frames of one body in time: tracked, composed, measured, written; see docs/architecture.md."""
