"""QGIS glue: the plugin object, the engine's client, tasks, map tool, layers and settings. Never imports torch."""
