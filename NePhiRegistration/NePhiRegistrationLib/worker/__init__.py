"""The engine in a process of its own, and the two ends of the pipe to it (docs/worker.md).

``messages`` is shared; ``client`` and ``process`` are the application's side and import neither torch nor the engine;
``__main__`` with the modules it imports is the other side.
"""
