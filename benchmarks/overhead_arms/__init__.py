"""The arms of ``benchmarks.overhead``: each trains the same federation in a process of its own."""
