"""Puts the results of a batch job into the project: one group per job, polygons in the colours of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsFeatureRenderer,
    QgsFillSymbol,
    QgsLayerTreeGroup,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QColor

from ..engine.batch_messages import BatchStatus
from ..engine.provenance import CLASS
from ..models.errors import OutputError, TuningError
from .adapter_files import read_summary
from .batch_book import JobRecord

translate = QCoreApplication.translate

JOB_PROPERTY = "samtune/batch-job"
"""Custom property of a group in the layer tree: path of the job file."""

RASTERS = (".tif", ".tiff")
MOST_CLASSES = 60
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
"""For classes that have none: told apart by colour-blind people as well (Okabe and Ito)."""

FILL_ALPHA = 50
ONE_ALPHA = 20
"""Where there are no classes objects may lie within others, many times over."""

ONE_COLOUR = "#cc79a7"


def show_results(record: JobRecord, status: BatchStatus, project: QgsProject) -> QgsLayerTreeGroup:
    """Add what a job has written to the project; what is there already stays as it is.

    Args:
        record: the job.
        status: of it, finished.
        project: gets the layers, in a group on top.

    Returns:
        The group.

    Raises:
        OutputError: QGIS cannot open some of it; what it can is there.
    """
    group = _group(record, project)
    known = {_file(layer) for layer in (node.layer() for node in group.findLayers()) if layer is not None}
    colours, failed = _class_colours(record.adapter), []
    for output in sorted(status.outputs, key=_is_raster):  # polygons above maps
        if Path(output) in known:
            continue
        layer = _open(output, record, colours)
        if layer.isValid():
            project.addMapLayer(layer, False)
            node = group.addLayer(layer)
            classes = isinstance(layer.renderer(), (QgsFeatureRenderer, QgsPalettedRasterRenderer))
            node.setExpanded(classes)
            node.setItemVisibilityChecked(classes)  # how sure a map is would lie over others
        else:
            failed.append(output)
    if failed:
        text = translate("BatchResults", "{name} was written, but QGIS cannot open it. It lies in {folder}.")
        if failed[0].endswith(".parquet"):
            text = translate(
                "BatchResults",
                "{name} was written to {folder}, but this QGIS cannot read GeoParquet. To see it here, write the "
                "results elsewhere, to a GeoPackage.",
            )
        raise OutputError(text.format(name=Path(failed[0]).name, folder=Path(failed[0]).parent), "\n".join(failed))
    return group


def class_renderer(layer: QgsVectorLayer, colours: Mapping[str, str]) -> QgsFeatureRenderer:
    """Return how polygons are drawn: by class where they have some, translucent, so that the imagery shows through.

    Args:
        layer: of polygons.
        colours: of the classes known, as ``#rrggbb``.
    """
    index = layer.fields().lookupField(CLASS)
    found = layer.uniqueValues(index, MOST_CLASSES) if index >= 0 else set()
    names = [str(value) for value in found if isinstance(value, str) and value]
    if not names:
        return QgsSingleSymbolRenderer(_symbol(ONE_COLOUR, ONE_ALPHA))
    order = list(colours)
    names.sort(key=lambda name: (order.index(name) if name in colours else len(order), name.casefold()))
    palette = [colours.get(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(names)]
    categories = [QgsRendererCategory(name, _symbol(colour), name) for name, colour in zip(names, palette)]
    if len(names) < len(found) or len(found) == MOST_CLASSES:
        categories.append(QgsRendererCategory(None, _symbol("#999999"), translate("BatchResults", "other")))
    return QgsCategorizedSymbolRenderer(CLASS, categories)


def _group(record: JobRecord, project: QgsProject) -> QgsLayerTreeGroup:
    root = project.layerTreeRoot()
    for group in root.findGroups(True):
        if group.customProperty(JOB_PROPERTY) == record.path:
            return group
    made = root.insertGroup(0, record.name)
    made.setCustomProperty(JOB_PROPERTY, record.path)
    return made


def _open(output: str, record: JobRecord, colours: Mapping[str, str]) -> QgsMapLayer:
    name = Path(output).stem
    if _is_raster(output):
        layer = QgsRasterLayer(output, name)  # its palette and class names come with the file
        if isinstance(layer.renderer(), QgsPalettedRasterRenderer):
            layer.setRenderer(_named_classes(layer))
        return layer
    source = f"{output}|layername={record.outputs.layer}" if output.endswith(".gpkg") else output
    layer = QgsVectorLayer(source, name, "ogr")
    if not layer.isValid() and source != output:
        layer = QgsVectorLayer(output, name, "ogr")  # a job from elsewhere: the name of its layer is not known here
    if layer.isValid():
        layer.setRenderer(class_renderer(layer, colours))
    return layer


def _named_classes(layer: QgsRasterLayer) -> QgsPalettedRasterRenderer:
    """Return how a class map is drawn: as its palette says, without the values that have no name, most of 256."""
    renderer = layer.renderer()
    named = [entry for entry in renderer.classes() if entry.label and entry.label != f"{entry.value:.0f}"]
    return QgsPalettedRasterRenderer(layer.dataProvider(), renderer.inputBand(), named or renderer.classes())


def _is_raster(output: str) -> bool:
    return Path(output).suffix.lower() in RASTERS


def _file(layer: QgsMapLayer) -> Path:
    return Path(layer.source().split("|")[0])


def _class_colours(adapter: str) -> dict[str, str]:
    """Return the colours of an adapter's classes, in its order; none where its file has gone meanwhile."""
    if not adapter:
        return {}
    try:
        summary = read_summary(Path(adapter))
    except TuningError:
        return {}
    names = [name for name, _count in summary.classes]
    return dict(zip(names, summary.colours))


def _symbol(colour: str, alpha: int = FILL_ALPHA) -> QgsFillSymbol:
    fill = QColor(colour)
    text = f"{fill.red()},{fill.green()},{fill.blue()},{alpha}"
    return QgsFillSymbol.createSimple({"color": text, "outline_color": colour, "outline_width": "0.4"})
