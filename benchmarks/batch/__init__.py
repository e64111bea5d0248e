"""What ``benchmarks/batch.py`` measures, one module per section; loaded by it under a name of its own."""
