"""Segment from prompts, segment everything, find all, class map: batch jobs over one raster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
)

from ...engine.batch_messages import BatchOptions, BatchOutputs, BatchResult, BatchTask, VectorSource
from ...engine.tune_messages import TuneTask
from .algorithm import OUTPUT, Values
from .batch import BatchAlgorithm, Run, moved
from .vectors import write_source

PROMPTS = "PROMPTS"
CLASS_FIELD = "CLASS_FIELD"
THRESHOLD = "THRESHOLD"
POINTS = "POINTS"
IOU = "IOU"
STABILITY = "STABILITY"
LEVELS = "LEVELS"
MAP = "MAP"
CONFIDENCE = "CONFIDENCE"
DOUBLE = QgsProcessingParameterNumber.Type.Double


class SegmentPrompts(BatchAlgorithm):
    """Each feature of a layer becomes one outlined object."""

    key = "segmentprompts"
    icon_name = "processing-prompts"
    task = BatchTask.PROMPTS
    heads = (TuneTask.PROMPTABLE.value, TuneTask.INSTANCES.value)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Segment from prompts layer")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Outlines one object for each point, box or polygon of a layer.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("sam,segment anything,outline,digitize,points,boxes,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Outlines one object of the raster for each feature of the prompts layer: a point lies on its object, a "
            "box encloses it, and a polygon is a rough outline of it. The outlines get the attributes of the prompts "
            "besides SamTune's own (score, area in m², model …).\n\nRasters of any size can be given; only the places "
            "of the prompts are looked at."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        kinds = [QgsProcessing.SourceType.TypeVectorPoint, QgsProcessing.SourceType.TypeVectorPolygon]
        self.add(QgsProcessingParameterFeatureSource(PROMPTS, self.tr("Prompts: points, boxes or polygons"), kinds))
        self.add(
            QgsProcessingParameterField(
                CLASS_FIELD, self.tr("Field with the class"), parentLayerParameterName=PROMPTS, optional=True
            ),
            self.tr("Goes into the attribute “class” of the outlines."),
        )
        self.add_model()
        self.add_adapter(optional=True)
        self.add_level()
        self.add_outline()
        self.add_outputs(self.tr("Outlines"))

    def prompts(self, run: Run) -> tuple[VectorSource, str]:
        """Write the features that the user chose to a file for the engine."""
        source = self.parameterAsSource(run.parameters, PROMPTS, run.context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(run.parameters, PROMPTS))
        path = run.folder / "prompts.gpkg"
        if write_source(source, path, run.context, run.feedback) == 0:
            raise QgsProcessingException(self.tr("There are no prompts. Draw some, or clear selection and filter."))
        fields = self.parameterAsStrings(run.parameters, CLASS_FIELD, run.context)
        return VectorSource(str(path)), fields[0] if fields else ""


class SegmentEverything(BatchAlgorithm):
    """Outline everything that the model takes for an object."""

    key = "segmenteverything"
    icon_name = "processing-everything"
    task = BatchTask.AUTOMATIC
    heads = (TuneTask.PROMPTABLE.value, TuneTask.INSTANCES.value)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Segment everything")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Outlines everything that the model takes for an object.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("sam,segment anything,automatic,outline,superpixels,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Asks the model for an object at each point of a grid, and keeps the sure and stable ones without doubles. "
            "Objects are not named: use “Find all” with an adapter for objects of one kind.\n\nThe grid is laid over "
            "each view of the model. Small objects need a denser grid, large ones more levels."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        self.add_area()
        self.add_model()
        self.add_adapter(optional=True)
        defaults = BatchOptions()
        self.add(
            QgsProcessingParameterNumber(
                POINTS, self.tr("Points per side of the grid"), defaultValue=defaults.points, minValue=1, maxValue=128
            ),
            self.tr("More points find smaller objects, and take longer: 32 takes four times as long as 16."),
        )
        self.add(
            QgsProcessingParameterNumber(
                LEVELS, self.tr("Number of levels"), defaultValue=defaults.levels, minValue=1, maxValue=4
            ),
            self.tr("Each is twice as coarse as the one before; large objects need more than one."),
        )
        shares = (
            (
                IOU,
                self.tr("Least predicted IoU"),
                defaults.iou,
                self.tr("How sure the model must be of an outline; 0: what suits the model."),
            ),
            (
                STABILITY,
                self.tr("Least stability"),
                defaults.stability,
                self.tr(
                    "How little an outline may change when the threshold of its mask is moved; 0: what suits the model."
                ),
            ),
        )
        for name, title, default, text in shares:
            share = QgsProcessingParameterNumber(name, title, DOUBLE, default, minValue=0.0, maxValue=1.0)
            self.add(share, text, advanced=True)
        self.add_level()
        self.add_outline()
        self.add_outputs(self.tr("Outlines"))

    def options(self, run: Run) -> BatchOptions:
        """Return how the job is done."""
        return replace(
            super().options(run),
            points=self.parameterAsInt(run.parameters, POINTS, run.context),
            levels=self.parameterAsInt(run.parameters, LEVELS, run.context),
            iou=self.parameterAsDouble(run.parameters, IOU, run.context),
            stability=self.parameterAsDouble(run.parameters, STABILITY, run.context),
        )


class FindAll(BatchAlgorithm):
    """Find all objects of the kinds that an adapter has learnt."""

    key = "findall"
    icon_name = "processing-find"
    task = BatchTask.FIND
    heads = (TuneTask.INSTANCES.value,)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Find all")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Finds and outlines all objects of the kinds that an adapter has learnt.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("sam,instances,detection,objects,adapter,count,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Finds and outlines all objects of the kinds that an adapter has learnt, over a whole raster or an area. "
            "The adapter must have been tuned to find objects (“Fine-tune”, for: finding all objects)."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        self.add_adapter(optional=False)
        self.add_area()
        self.add(
            QgsProcessingParameterNumber(
                THRESHOLD, self.tr("Least score"), DOUBLE, BatchOptions().threshold, minValue=0.0, maxValue=1.0
            ),
            self.tr("Lower finds more objects, and more false ones."),
        )
        self.add_level()
        self.add_outline()
        self.add_outputs(self.tr("Objects"))

    def options(self, run: Run) -> BatchOptions:
        """Return how the job is done."""
        threshold = self.parameterAsDouble(run.parameters, THRESHOLD, run.context)
        return replace(super().options(run), threshold=threshold)


class ClassMap(BatchAlgorithm):
    """Make a class map with an adapter."""

    key = "classmap"
    icon_name = "processing-map"
    task = BatchTask.MAP
    heads = (TuneTask.SEMANTIC.value,)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Class map")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Maps the classes that an adapter has learnt, as a raster and as polygons.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("semantic,land cover,classification,segmentation,adapter,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Maps the classes that an adapter has learnt: a cloud-optimised GeoTIFF with palette and class names, and "
            "where wanted the sureness per pixel (0 to 100 %) and the classes' polygons. The adapter must have been "
            "tuned for class maps (“Fine-tune”, for: a class map)."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        self.add_adapter(optional=False)
        self.add_area()
        self.add_level()
        self.add_outline()
        self.add(QgsProcessingParameterRasterDestination(MAP, self.tr("Class map")))
        confidence = QgsProcessingParameterRasterDestination(
            CONFIDENCE, self.tr("Confidence"), optional=True, createByDefault=False
        )
        self.add(confidence, self.tr("How sure the model is, in percent."), advanced=True)
        self.add_outputs(self.tr("Polygons"))

    def add_sink(self, title: str) -> None:
        """Add the polygons, which are made only where they are wanted."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, title, kind, optional=True, createByDefault=False))

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        for name in (MAP, CONFIDENCE):
            path = self.parameterAsOutputLayer(parameters, name, context) if parameters.get(name) else ""
            if path and Path(path).suffix.lower() not in (".tif", ".tiff"):
                return self.tr("Class maps are written as GeoTIFF. Give {path} a name that ends in .tif.").format(
                    path=path
                )
        return super().problem(parameters, context)

    def outputs(self, run: Run) -> BatchOutputs:
        """Return where the engine shall write."""
        vector = super().outputs(run) if run.parameters.get(OUTPUT) is not None else BatchOutputs()
        maps = run.folder / "maps"
        maps.mkdir()
        return replace(vector, maps=str(maps), confidence=bool(run.parameters.get(CONFIDENCE)))

    def hand_over(self, run: Run, result: BatchResult) -> Values:
        """Move the maps to where the user wants them, and pour the polygons."""
        found = {raster.output for raster in result.status.rasters if raster.output}
        others = {path for path in result.status.outputs if Path(path).suffix.lower() in (".tif", ".tiff")} - found
        values: Values = {}
        for name, paths in ((MAP, found), (CONFIDENCE, others)):
            if run.parameters.get(name):
                values[name] = self._moved(run, name, paths)
        return {**values, **self.pour_objects(run)} if run.parameters.get(OUTPUT) is not None else values

    def _moved(self, run: Run, name: str, paths: set[str]) -> str:
        if len(paths) != 1:
            raise QgsProcessingException(self.tr("The engine wrote no map. Look at its messages above."))
        target = self.parameterAsOutputLayer(run.parameters, name, run.context)
        return moved(Path(paths.pop()), Path(target))
