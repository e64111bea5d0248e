"""Adapters over whole areas: tiles that cover them, finding all objects, mapping classes, where to label next."""
