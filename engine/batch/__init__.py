"""Batch jobs: one task over many rasters, in units that a job file remembers."""
