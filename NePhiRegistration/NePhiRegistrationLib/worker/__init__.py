"""The engine in a process of its own, and the two ends of the pipe to it (docs/worker.md).

``messages`` is shared; ``client``, ``worker_process`` and ``elsewhere`` are the application's side and import neither
torch nor the engine; ``server`` with the modules it imports is the other side. The command ``nephi worker`` has it as
``nephi.worker``.
"""
