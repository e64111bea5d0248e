"""Networks: the SAM family, its weight files and their cards. Depends on torch, numpy and segment_anything only.

The name means neural networks, in Python; weight files lie in ``models/weights``.
"""
