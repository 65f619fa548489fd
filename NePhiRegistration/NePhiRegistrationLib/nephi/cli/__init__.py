"""The command line: ``nephi register``, ``apply``, ``jacobian``, ``evaluate``, ``info``, ``demo`` and ``train``."""
