"""Pretraining of the compact model: packs, composed scenes, sampling, simulated prompts, the loop."""
