"""Boxes around objects and counts per zone: QGIS's own algorithms, made to fit SamTune's objects."""

from __future__ import annotations

from qgis.core import (
    QgsApplication,
    QgsFields,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterString,
)

from .algorithm import OUTPUT, SamTuneAlgorithm, Values

INPUT = "INPUT"
ZONES = "ZONES"
FIELD = "FIELD"
SUM_OF = "SUM_OF"
PREFIX = "obj_"
_KIND = QgsProcessing.SourceType.TypeVectorPolygon


class ObjectsAlgorithm(SamTuneAlgorithm):
    """An algorithm on objects that were outlined before; needs no engine."""

    def group(self) -> str:
        """Return the group's title."""
        return self.tr("Objects")

    def groupId(self) -> str:
        """Return the group's name that stays the same in all languages."""
        return "objects"

    def child(
        self, name: str, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Run one of QGIS's algorithms as a part of this one.

        Args:
            name: such as ``native:boundingboxes``.
            parameters: of it.
            context: of the run.
            feedback: of the run.

        Returns:
            Its outputs.

        Raises:
            QgsProcessingException: it failed, or this QGIS has not got it.
        """
        algorithm = QgsApplication.processingRegistry().algorithmById(name)
        if algorithm is None:
            raise QgsProcessingException(self.tr("This QGIS has no algorithm {name}.").format(name=name))
        results, _good = algorithm.run(parameters, context, feedback, {}, False)
        return dict(results)


class BoxAlgorithm(ObjectsAlgorithm):
    """Boxes around objects.

    Attributes:
        native: QGIS's algorithm.
        adds: attributes that it adds. An object's own of the same name would be in its way, and is renamed.
    """

    native = ""
    adds: tuple[str, ...] = ()

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("bounding box,envelope,rectangle,extent,obb,detection").split(",")

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add(QgsProcessingParameterFeatureSource(INPUT, self.tr("Objects"), [_KIND]))
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, self.tr("Boxes"), _KIND))

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Rename what is in the way, then make the boxes. Called by QGIS."""
        source = self.parameterAsSource(parameters, INPUT, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, INPUT))
        given = parameters[INPUT]
        for name in self._in_the_way(source.fields()):
            renaming = {"INPUT": given, "FIELD": name, "NEW_NAME": f"{PREFIX}{name}", "OUTPUT": "memory:"}
            given = self.child("native:renametablefield", renaming, context, feedback)["OUTPUT"]
        made = self.child(self.native, {"INPUT": given, "OUTPUT": parameters[OUTPUT]}, context, feedback)
        return {OUTPUT: made["OUTPUT"]}

    def _in_the_way(self, fields: QgsFields) -> list[str]:
        return [field.name() for field in fields if field.name().lower() in self.adds]


class OrientedBoxes(BoxAlgorithm):
    """The smallest box of any direction around each object."""

    key = "orientedboxes"
    icon_name = "processing-oriented"
    native = "native:orientedminimumboundingbox"
    adds = ("width", "height", "angle", "area", "perimeter")

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Oriented boxes")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("The smallest box of any direction around each object.")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "The smallest box of any direction around each object, with its width, height, angle, area and perimeter "
            "in units of the layer. The object's own attributes of these names are kept with “obj_” before them."
        )


class AxisBoxes(BoxAlgorithm):
    """The box along the axes around each object."""

    key = "axisboxes"
    icon_name = "processing-boxes"
    native = "native:boundingboxes"
    adds = ("width", "height", "area", "perimeter")

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Axis-aligned boxes")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("The box along the axes of the layer's CRS around each object.")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "The box along the axes of the layer's CRS around each object, with its width, height, area and perimeter "
            "in units of the layer. The object's own attributes of these names are kept with “obj_” before them."
        )


class CountPerZone(ObjectsAlgorithm):
    """How many objects lie in each zone."""

    key = "countperzone"
    icon_name = "processing-count"

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Count per zone")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("How many objects lie in each zone, and where wanted the sum of an attribute.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("count,number,sum,statistics,districts,density").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Adds to each zone the number of objects in it, and where wanted the sum of one of their attributes, such "
            "as the area. An object on a border counts once: in the zone that its point on surface lies in."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add(QgsProcessingParameterFeatureSource(INPUT, self.tr("Objects"), [_KIND]))
        self.add(QgsProcessingParameterFeatureSource(ZONES, self.tr("Zones"), [_KIND]))
        self.add(
            QgsProcessingParameterField(
                SUM_OF,
                self.tr("Sum of"),
                parentLayerParameterName=INPUT,
                type=QgsProcessingParameterField.DataType.Numeric,
                optional=True,
            ),
            self.tr("An attribute of the objects, such as the area; each counts with all of it."),
        )
        self.add(
            QgsProcessingParameterString(FIELD, self.tr("Field for the number"), "objects"),
            self.tr("The sum goes into a field of this name with “_sum” behind it."),
            advanced=True,
        )
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, self.tr("Zones with counts"), _KIND))

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Turn the objects into points and count those. Called by QGIS."""
        to_points = {"INPUT": parameters[INPUT], "ALL_PARTS": False, "OUTPUT": "memory:"}
        points = self.child("native:pointonsurface", to_points, context, feedback)["OUTPUT"]
        field = self.parameterAsString(parameters, FIELD, context)
        weights = self.parameterAsStrings(parameters, SUM_OF, context)
        counting = {"POLYGONS": parameters[ZONES], "POINTS": points, "FIELD": field}
        counting["OUTPUT"] = "memory:" if weights else parameters[OUTPUT]
        counted = self.child("native:countpointsinpolygon", counting, context, feedback)["OUTPUT"]
        if weights:
            counting.update(POLYGONS=counted, WEIGHT=weights[0], FIELD=f"{field}_sum", OUTPUT=parameters[OUTPUT])
            counted = self.child("native:countpointsinpolygon", counting, context, feedback)["OUTPUT"]
        return {OUTPUT: counted}
