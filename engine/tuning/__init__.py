"""Tuning: from rasters and a few drawn polygons to an adapter, with scores before and after on ground held out."""
