"""Detect change between two rasters: objects of both dates, matched; or what the model sees, without objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsField,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingMultiStepFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterBand,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QMetaType

from ...engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchTask,
    VectorSource,
)
from ...engine.change_messages import ChangeParams, ChangeResult, ChangeWay, DateInput
from ...engine.messages import Method, RasterSpec
from ...engine.provenance import CLASS
from ...engine.tune_messages import TuneTask
from ..engine_process import EngineProcess
from .algorithm import ADAPTER, BANDS, OUTPUT, RASTER, SECOND, Values, tell, work_folder
from .batch import AREA, EXTENT, LAYER, MIN_AREA, BatchAlgorithm, Run
from .engine import ask
from .rasters import RasterInput, exported
from .vectors import area_geometry, open_result, pour, without_fid, write_area

AFTER = "AFTER"
AFTER_BANDS = "AFTER_BANDS"
AFTER_SECOND = "AFTER_SECOND"
WAY = "WAY"
SHIFT = "SHIFT"
MATCH = "MATCH"
STABLE = "STABLE"
FLOOR = "FLOOR"
OLD_OBJECTS = "OBJECTS_BEFORE"
NEW_OBJECTS = "OBJECTS_AFTER"
COUNTS = ("NEW", "GONE", "CHANGED", "UNCHANGED")
KINDS = ("new", "gone", "changed", "stable")
OBJECTS, EVERYTHING, WITHOUT = range(3)
_DEFAULTS = ChangeParams(ChangeWay.OBJECTS, DateInput(), DateInput(), "")
_MARGIN = 0.1
"""How much wider than the area objects are outlined, of its side: those on its border must be there on both dates."""

_DOUBLE = QgsProcessingParameterNumber.Type.Double


@dataclass(frozen=True)
class _Date:
    """One date: its raster, its bands, the second raster (or an empty text), and the files of its objects."""

    raster: RasterInput
    bands: tuple[int, ...]
    second: str
    objects: Path
    job: Path


class DetectChange(BatchAlgorithm):
    """What is new, gone, changed or stable between two rasters of the same ground."""

    key = "detectchange"
    icon_name = "processing-change"
    heads = (TuneTask.INSTANCES.value, TuneTask.SEMANTIC.value)

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Detect change between two rasters")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("What is new, gone, changed or stable between two dates of the same ground.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("change,difference,new,gone,dates,time,monitoring,update,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Compares two rasters of the same ground.\n\n“Objects of an adapter” and “Everything” outline the objects "
            "of both dates and match them: one may lie a little beside the other (misregistration), and may be "
            "outlined in two halves. Each change has the numbers of the objects that it links; the objects themselves "
            "are further outputs. An adapter that needs a second raster needs one of each "
            "date.\n\n“Without objects” compares what the model sees of each place. It needs no adapter "
            "and tells where something changed, not what."
        )

    # ---- parameters

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add(QgsProcessingParameterRasterLayer(RASTER, self.tr("Raster before")))
        self.add(QgsProcessingParameterRasterLayer(AFTER, self.tr("Raster after")))
        ways = [self.tr("Objects of an adapter"), self.tr("Everything"), self.tr("Without objects")]
        self.add(QgsProcessingParameterEnum(WAY, self.tr("What is compared"), ways, defaultValue=WITHOUT))
        self.add_adapter(optional=True)
        self.add(
            QgsProcessingParameterNumber(SHIFT, self.tr("Misregistration (m)"), _DOUBLE, 0.0, minValue=0.0),
            self.tr("By which the two rasters may be shifted against each other. Of objects only."),
        )
        self.add(
            QgsProcessingParameterRasterLayer(AFTER_SECOND, self.tr("Second raster after"), optional=True),
            self.tr("As the second raster, which is of the date before: height, radar, slope … of the date after."),
            advanced=True,
        )
        self.add_area()
        self.add_model()
        for name, layer, title in (
            (BANDS, RASTER, self.tr("Bands before")),
            (AFTER_BANDS, AFTER, self.tr("Bands after")),
        ):
            bands = QgsProcessingParameterBand(
                name, title, parentLayerParameterName=layer, optional=True, allowMultiple=True
            )
            self.add(bands, self.tr("One or three bands, shown to the model as red, green and blue."), advanced=True)
        self._add_numbers()
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, self.tr("Changes"), kind))
        for name, title in ((OLD_OBJECTS, self.tr("Objects before")), (NEW_OBJECTS, self.tr("Objects after"))):
            self.add(QgsProcessingParameterFeatureSink(name, title, kind, optional=True, createByDefault=False))
        for name, title in zip(COUNTS, (self.tr("New"), self.tr("Gone"), self.tr("Changed"), self.tr("Stable"))):
            self.addOutput(QgsProcessingOutputNumber(name, title))

    def _add_numbers(self) -> None:
        self.add_level()
        shares = (
            (MATCH, self.tr("Least agreement of one object"), _DEFAULTS.match),
            (STABLE, self.tr("Least agreement of what did not change"), _DEFAULTS.stable),
            (FLOOR, self.tr("Least distance of what changed"), _DEFAULTS.floor),
        )
        texts = (
            self.tr("How far two outlines must lie within each other to be of one object."),
            self.tr("Below it, an object changed."),
            self.tr("Without objects: less is taken for weather, season and sensor."),
        )
        for (name, title, default), text in zip(shares, texts):
            share = QgsProcessingParameterNumber(name, title, _DOUBLE, default, minValue=0.0, maxValue=1.0)
            self.add(share, text, advanced=True)
        least = QgsProcessingParameterNumber(MIN_AREA, self.tr("Least area (m²)"), _DOUBLE, 0.0, minValue=0.0)
        self.add(least, self.tr("Objects and changes with less are left out."), advanced=True)

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        way = self.parameterAsEnum(parameters, WAY, context)
        if way != OBJECTS and self.parameterAsFile(parameters, ADAPTER, context):
            return self.tr("Only “Objects of an adapter” uses an adapter. Choose that, or leave the adapter out.")
        problem = super().problem(parameters, context)
        if problem or way != OBJECTS:
            return problem
        adapter = self.adapter(parameters, context)
        if adapter is None:
            return self.tr("Choose an adapter that finds objects or maps classes, or compare something else.")
        if adapter.second and self.parameterAsRasterLayer(parameters, AFTER_SECOND, context) is None:
            return self.tr(
                "“{name}” needs a second raster ({second}) of the date after as well. Choose it under the advanced "
                "parameters."
            ).format(name=adapter.name, second=adapter.second)
        return ""

    # ---- the run

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Compare. Called by QGIS."""
        steps = QgsProcessingMultiStepFeedback(3, feedback)
        with work_folder() as folder, self.engine() as engine:
            run = Run(parameters, context, steps, folder)
            dates = [self._date(run, RASTER, BANDS, SECOND), self._date(run, AFTER, AFTER_BANDS, AFTER_SECOND)]
            result = self._compared(run, dates, engine)
            tell(result.notes, steps)
            counts = {count.kind: count for count in result.counts}
            for count in result.counts:
                steps.pushInfo(self.tr("{kind}: {count}, {area:.1f} m²").format(**vars(count)))
            values: Values = {name: counts[kind].count if kind in counts else 0 for name, kind in zip(COUNTS, KINDS)}
            values[OUTPUT] = self._poured(run, OUTPUT, Path(result.output), "changes")
            for name, date in zip((OLD_OBJECTS, NEW_OBJECTS), dates):
                if parameters.get(name) is not None and date.objects.is_file():
                    values[name] = self._poured(run, name, date.objects, LAYER, numbered=True)
            return values

    def _date(self, run: Run, name: str, bands: str, second: str) -> _Date:
        raster = exported(self.required_raster(run.parameters, name), run.folder, run.feedback)
        chosen = self.bands(run.parameters, run.context, bands)
        other = self.raster(second)
        beside = exported(other, run.folder, run.feedback).uri if other is not None else ""
        return _Date(raster, chosen, beside, run.folder / f"{name}.gpkg", run.folder / f"{name}.samjob")

    def _compared(self, run: Run, dates: list[_Date], engine: EngineProcess) -> ChangeResult:
        way = self.parameterAsEnum(run.parameters, WAY, run.context)
        if way != WITHOUT:
            for number, date in enumerate(dates):
                run.feedback.setCurrentStep(number)
                spec = self._outlining(run, date, way)
                asked = BatchRunParams(str(date.job), spec)
                self.check(cast("BatchResult", ask(engine, Method.BATCH_RUN, asked, run.feedback)), run.feedback)
        run.feedback.setCurrentStep(2)
        asked = self._comparing(run, dates, way)
        return cast("ChangeResult", ask(engine, Method.CHANGE, asked, run.feedback))

    def _outlining(self, run: Run, date: _Date, way: int) -> BatchSpec:
        adapter = self.adapter(run.parameters, run.context)
        area = run.folder / f"{date.objects.stem}-area.gpkg"
        task = BatchTask.AUTOMATIC
        if adapter is not None and way == OBJECTS:
            task = BatchTask.MAP if adapter.head == TuneTask.SEMANTIC.value else BatchTask.FIND
        extent = self.parameterAsExtent(run.parameters, EXTENT, run.context, date.raster.crs)
        polygons = self.parameterAsSource(run.parameters, AREA, run.context)
        limited = write_area(polygons, extent, date.raster.crs, area, run.context, margin=_MARGIN)
        return BatchSpec(
            task=task,
            rasters=BatchRasters((date.raster.uri,), bands=date.bands, second=date.second),
            model=self.model(run.parameters, run.context),
            adapter=str(adapter.path) if adapter is not None else "",
            area=VectorSource(str(area)) if limited else VectorSource(),
            outputs=BatchOutputs(vector=str(date.objects), layer=LAYER),
            options=BatchOptions(level=self.level(run.parameters, run.context)),
        )

    def _comparing(self, run: Run, dates: list[_Date], way: int) -> ChangeParams:
        parameters, context = run.parameters, run.context
        inputs = []
        for date in dates:
            spec = RasterSpec(date.raster.uri, date.bands)
            with_class = CLASS if way == OBJECTS else ""
            inputs.append(
                DateInput(raster=spec) if way == WITHOUT else DateInput(str(date.objects), LAYER, with_class, spec)
            )
        crs = dates[0].raster.crs
        extent = self.parameterAsExtent(parameters, EXTENT, context, crs)
        area = area_geometry(self.parameterAsSource(parameters, AREA, context), extent, crs, context)
        number = self.parameterAsDouble
        return ChangeParams(
            way=ChangeWay.EMBEDDINGS if way == WITHOUT else ChangeWay.OBJECTS,
            before=inputs[0],
            after=inputs[1],
            output=str(run.folder / "changes.gpkg"),
            area="" if area is None else bytes(area.asWkb()).hex(),
            shift=number(parameters, SHIFT, context),
            match=number(parameters, MATCH, context),
            stable=number(parameters, STABLE, context),
            least=number(parameters, MIN_AREA, context),
            model=self.model(parameters, context),
            level=self.level(parameters, context) or 0,
            floor=number(parameters, FLOOR, context),
        )

    def _poured(self, run: Run, name: str, path: Path, layer: str, *, numbered: bool = False) -> str:
        """Pour a file of the engine into a sink; objects with the numbers that changes link them by."""
        found = open_result(path, layer)
        fields = without_fid(found.fields())
        if numbered:
            fields.append(QgsField("id", QMetaType.Type.LongLong))
            number_features(found)
        crs: QgsCoordinateReferenceSystem = found.crs()
        sink, identifier = self.parameterAsSink(
            run.parameters, name, run.context, fields, Qgis.WkbType.MultiPolygon, crs
        )
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(run.parameters, name))
        pour(found, sink, fields, run.feedback)
        return str(identifier)


def number_features(layer: QgsVectorLayer) -> None:
    """Add the numbers of a file's features as the attribute ``id``."""
    layer.addExpressionField("$id", QgsField("id", QMetaType.Type.LongLong))
