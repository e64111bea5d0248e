"""What fine-tuning and measuring share: labelled polygons out of QGIS, figures as a table."""

from __future__ import annotations

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsGeometry,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
)

from ...engine.tune_messages import FigureRow, LabelSource
from .algorithm import EngineAlgorithm, Values
from .batch import Run
from .results import FIGURE_FIELDS, feature, fields_of, figure_values
from .vectors import put, write_source

LABELS = "LABELS"
CLASS_FIELD = "CLASS_FIELD"
FIGURES = "FIGURES"


class LearningAlgorithm(EngineAlgorithm):
    """An algorithm that reads labelled polygons and gives figures."""

    def group(self) -> str:
        """Return the group's title."""
        return self.tr("Fine-tuning")

    def groupId(self) -> str:
        """Return the group's name that stays the same in all languages."""
        return "finetuning"

    def add_labels(self) -> None:
        """Add the labelled polygons and their classes."""
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        self.add(QgsProcessingParameterFeatureSource(LABELS, self.tr("Labelled polygons"), [kind]))
        self.add(
            QgsProcessingParameterField(
                CLASS_FIELD, self.tr("Field with the class"), parentLayerParameterName=LABELS, optional=True
            ),
            self.tr("None: all polygons are of one class."),
        )

    def add_figures(self) -> None:
        """Add the table of figures."""
        self.add(
            QgsProcessingParameterFeatureSink(
                FIGURES, self.tr("Figures"), QgsProcessing.SourceType.TypeVector, optional=True, createByDefault=False
            ),
            self.tr("A table: each figure before and after, with the 95 % interval of the difference."),
        )

    def labels(self, run: Run, class_name: str = "") -> LabelSource:
        """Write the polygons that the user chose to a file for the engine.

        Args:
            run: of the algorithm.
            class_name: where there is no field.

        Raises:
            QgsProcessingException: there are none, or they cannot be written.
        """
        source = self.parameterAsSource(run.parameters, LABELS, run.context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(run.parameters, LABELS))
        path = run.folder / "labels.gpkg"
        if write_source(source, path, run.context, run.feedback) == 0:
            raise QgsProcessingException(
                self.tr("There are no labelled polygons. Draw some, or clear selection and filter.")
            )
        fields = self.parameterAsStrings(run.parameters, CLASS_FIELD, run.context)
        return LabelSource(str(path), class_field=fields[0] if fields else "", class_name=class_name)

    def write_figures(
        self,
        figures: tuple[FigureRow, ...],
        parameters: Values,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> Values:
        """Tell the figures, and write the table where it is wanted.

        Returns:
            The table's layer as an output; empty without one.
        """
        for row in figures:
            name = f"{row.title} ({row.group})" if row.group else row.title
            before = f"{row.before:.3f}" if row.before >= 0 else "-"
            feedback.pushInfo(f"{name}: {before} → {row.after:.3f}")
        fields = fields_of(FIGURE_FIELDS)
        none, crs = Qgis.WkbType.NoGeometry, QgsCoordinateReferenceSystem()
        sink, identifier = self.parameterAsSink(parameters, FIGURES, context, fields, none, crs)
        if sink is None:
            return {}
        for row in figures:
            put(sink, feature(fields, QgsGeometry(), figure_values(row)))
        return {FIGURES: identifier}
