"""Many pairs: a table of them, registered by worker processes on this machine or on a cluster (docs/cohorts.md)."""
