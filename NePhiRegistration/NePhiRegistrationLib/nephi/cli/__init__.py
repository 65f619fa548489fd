"""The command line: ``nephi register``, ``apply``, ``jacobian``, ``evaluate``, ``info`` and ``demo``."""
