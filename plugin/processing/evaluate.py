"""Measure a model, with or without an adapter, on labelled polygons."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import cast

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
)

from ...engine.area_messages import CompareParams, CompareResult
from ...engine.messages import Method, RasterSpec
from .algorithm import ADAPTER, RASTER, SECOND, Values, tell, work_folder
from .batch import Run
from .learning import LearningAlgorithm
from .rasters import exported

AGAINST = "AGAINST"
MOST = "MOST"
REPORT = "REPORT"
SENTENCE = "SENTENCE"
OBJECTS = "OBJECTS"


class Evaluate(LearningAlgorithm):
    """Measure an adapter against the model as it is, or against another adapter."""

    key = "evaluate"
    icon_name = "processing-evaluate"
    adapter_names = (ADAPTER, AGAINST)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Evaluate")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Measures a model, with and without an adapter, on labelled polygons.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("accuracy,iou,precision,recall,validation,compare,adapter").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Measures an adapter on labelled polygons, beside the model as it is or beside another adapter. Without an "
            "adapter the model alone is measured. Take polygons that took no part in the training; only then do the "
            "figures tell how good it is elsewhere."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        self.add_labels()
        self.add_adapter(optional=True)
        self.add(
            QgsProcessingParameterFile(
                AGAINST,
                self.tr("Beside this adapter"),
                optional=True,
                fileFilter=self.tr("SamTune adapters (*.safetensors)"),
            ),
            self.tr("None: beside the model as it is."),
        )
        self.add_model()
        most = QgsProcessingParameterNumber(MOST, self.tr("Objects at most"), defaultValue=200, minValue=1)
        self.add(most, self.tr("Spread evenly over the polygons."), advanced=True)
        self.add_figures()
        self.add(
            QgsProcessingParameterFileDestination(
                REPORT, self.tr("Report"), self.tr("HTML files (*.html)"), optional=True
            ),
            self.tr("Figures and pictures of the largest differences."),
        )
        self.addOutput(QgsProcessingOutputString(SENTENCE, self.tr("In one sentence")))
        self.addOutput(QgsProcessingOutputNumber(OBJECTS, self.tr("Objects measured")))

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        found = super().problem(parameters, context)
        if found:
            return found
        first, second = self.adapter(parameters, context, AGAINST), self.adapter(parameters, context)
        if first is not None and second is None:
            return self.tr("Choose the adapter to be measured; the one that it is measured beside comes second.")
        if first is not None and second is not None and (first.base, first.head) != (second.base, second.head):
            return self.tr(
                "Only adapters of one model and one use can be compared; these are of {first} and {second}."
            ).format(first=f"{first.base}/{first.head}", second=f"{second.base}/{second.head}")
        return ""

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Measure. Called by QGIS."""
        adapter = self.adapter(parameters, context)
        with work_folder() as folder:
            asked = self._params(Run(parameters, context, feedback, folder))
            result = cast("CompareResult", self.ask_engine(Method.COMPARE_ADAPTERS, asked, feedback))
        tell(result.notes, feedback)
        feedback.pushInfo(result.sentence)
        values = {SENTENCE: result.sentence, OBJECTS: result.objects}
        values.update(self.write_figures(result.figures, parameters, context, feedback))
        report = self.parameterAsFileOutput(parameters, REPORT, context)
        if report:
            values[REPORT] = report
            against = self.adapter(parameters, context, AGAINST)
            names = (against.name if against else asked.model, adapter.name if adapter else asked.model)
            write_report(Path(report), self.displayName(), names, result)
        return values

    def _params(self, run: Run) -> CompareParams:
        parameters, context = run.parameters, run.context
        raster = exported(self.required_raster(parameters, RASTER), run.folder, run.feedback)
        adapter, against = self.adapter(parameters, context), self.adapter(parameters, context, AGAINST)
        bands = self.bands(parameters, context) or (adapter.rgb if adapter is not None else ())
        second = self.raster(SECOND)
        return CompareParams(
            raster=RasterSpec(raster.uri, bands),
            model=self.model(parameters, context),
            first=str(against.path) if against is not None else "",
            second_adapter=str(adapter.path) if adapter is not None else "",
            labels=self.labels(run),
            second=exported(second, run.folder, run.feedback).uri if second is not None else "",
            most=self.parameterAsInt(parameters, MOST, context),
        )


def write_report(path: Path, title: str, names: tuple[str, str], result: CompareResult) -> None:
    """Write figures and pictures as one HTML file.

    Args:
        path: to write.
        title: heading.
        names: of the two that were measured.
        result: what the engine answered.

    Raises:
        QgsProcessingException: it cannot be written.
    """
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{html.escape(row.title)}</td><td>{html.escape(row.group)}</td>"
        f"<td>{_number(row.before)}</td><td>{_number(row.after)}</td></tr>"
        for row in result.figures
    )
    pictures = "".join(
        f"<figure><img src='data:image/png;base64,{_checked(picture.png)}'>"
        f"<figcaption>{html.escape(picture.title)}</figcaption></figure>"
        for picture in result.pictures
    )
    page = (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}"
        "figure{display:inline-block;margin:1em}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(result.sentence)}</p>"
        f"<table><tr><th></th><th></th>{heads}</tr>{rows}</table>{pictures}</body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise QgsProcessingException(str(error)) from error


def _number(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else "-"


def _checked(png: str) -> str:
    """Return base64 text as such; anything else could end the attribute that it stands in."""
    return base64.b64encode(base64.b64decode(png)).decode("ascii")
