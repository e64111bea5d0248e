"""SamTune in QGIS's Processing: toolbox, models, batch, Python and ``qgis_process``. Knows nothing of the window."""
