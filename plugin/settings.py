"""The plugin's settings: one node of QGIS's settings tree, one attribute per entry."""

from __future__ import annotations

import importlib

from qgis.core import (
    QgsSettingsEntryBool,
    QgsSettingsEntryDouble,
    QgsSettingsEntryInteger,
    QgsSettingsEntryString,
    QgsSettingsTree,
    QgsSettingsTreeNode,
)

from ..engine.messages import EngineSettings

PLUGIN_KEY = "samtune"
AUTO_LEVEL = "auto"
GIB = 1024**3


class PluginSettings:
    """Every setting of the plugin, typed, with its default.

    Attributes:
        node: the node of QGIS's settings tree that holds the entries.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: CPU threads for the model; 0 leaves one core free while somebody clicks.
        store_folder: folder of the embedding store; empty for the engine's default.
        store_cap_gib: size cap of the embedding store on disk, GiB.
        models_folder: folder of downloaded weights; empty for the engine's default.
        engine_interpreter: Python that runs the engine; empty for the one the plugin manages.
        download_mirror: base URL used in place of the published one.
        level_mode: ``auto`` or a level as text.
        simplify: simplification tolerance in pixels of the model's input.
        fill_holes: side, in pixels of the model's input, of the square that a hole must exceed to stay.
        hover_preview: show the outline under the pointer before clicking.
        adapters_folder: folder of adapter files; empty for the default.
        model: name of the model last used.
        adapter: name of the file of the adapter last used; empty for none.
        class_value: class last given to an object.
        dock_open: whether the panel was open when QGIS was left.
        output_folder: folder of the last new GeoPackage.
        batch_jobs: the batch jobs known, as JSON (see :mod:`.batch_book`).
    """

    def __init__(self) -> None:
        """Create the node, or take the one that QGIS (from 4.2 on) has made for this plugin."""
        given = getattr(importlib.import_module(__package__.rpartition(".")[0]), "SETTINGS_NODE", None)
        self._own_node = given is None
        node: QgsSettingsTreeNode = given or QgsSettingsTree.createPluginTreeNode(PLUGIN_KEY)
        self.node = node
        self.device = QgsSettingsEntryString("device", node, "auto", "Computing device of the engine")
        self.threads = QgsSettingsEntryInteger("threads", node, 0, "CPU threads; 0 leaves one core free while clicking")
        self.store_folder = QgsSettingsEntryString("store-folder", node, "", "Folder of the embedding store")
        self.store_cap_gib = QgsSettingsEntryDouble("store-cap-gib", node, 4.0, "Size cap of the embedding store")
        self.models_folder = QgsSettingsEntryString("models-folder", node, "", "Folder of model weights")
        self.adapters_folder = QgsSettingsEntryString("adapters-folder", node, "", "Folder of adapter files")
        self.engine_interpreter = QgsSettingsEntryString("engine-interpreter", node, "", "Python of the engine")
        self.download_mirror = QgsSettingsEntryString("download-mirror", node, "", "Mirror for model downloads")
        self.level_mode = QgsSettingsEntryString("level-mode", node, AUTO_LEVEL, "Crop level: auto, or a number")
        self.simplify = QgsSettingsEntryDouble("simplify", node, 0.5, "Simplification, pixels of the model's input")
        self.fill_holes = QgsSettingsEntryDouble("fill-holes", node, 8.0, "Fill smaller holes, pixels of side")
        self.hover_preview = QgsSettingsEntryBool("hover-preview", node, True, "Outline under the pointer")
        self.model = QgsSettingsEntryString("model", node, "tiny", "Model last used")
        self.adapter = QgsSettingsEntryString("adapter", node, "", "File of the adapter last used")
        self.class_value = QgsSettingsEntryString("class-value", node, "", "Class last given")
        self.dock_open = QgsSettingsEntryBool("dock-open", node, False, "Whether the panel was open")
        self.output_folder = QgsSettingsEntryString("output-folder", node, "", "Folder of the last GeoPackage")
        self.batch_jobs = QgsSettingsEntryString("batch-jobs", node, "", "Batch jobs known, as JSON")

    def engine_settings(self) -> EngineSettings:
        """Return what an engine that is about to start must know."""
        return EngineSettings(
            device=self.device.value(),
            threads=max(0, int(self.threads.value())),
            store_dir=self.store_folder.value(),
            store_bytes=int(max(0.0, self.store_cap_gib.value()) * GIB),
            models_dir=self.models_folder.value(),
        )

    def fixed_level(self) -> int | None:
        """Return the level that the user has fixed, or None for automatic."""
        text = self.level_mode.value()
        return int(text) if text.lstrip("-").isdigit() else None

    def set_fixed_level(self, level: int | None) -> None:
        """Remember a fixed level, or None for automatic."""
        self.level_mode.setValue(AUTO_LEVEL if level is None else str(level))

    def unload(self) -> None:
        """Take the entries out of the tree. The object is dead afterwards; the stored values stay."""
        if self._own_node:
            QgsSettingsTree.unregisterPluginTreeNode(PLUGIN_KEY)
            return
        for entry in self.node.childrenSettings():
            self.node.unregisterChildSetting(entry)
