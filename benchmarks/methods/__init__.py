"""What ``benchmarks/methods.py`` measures: one module per question, and what they share."""
