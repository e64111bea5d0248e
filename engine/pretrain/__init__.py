"""Pretraining of the compact model: packing of labelled images, composed scenes, sampling, simulated prompts, the loop."""
