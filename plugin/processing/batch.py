"""Algorithms that are batch jobs: one raster, an area, a job file that survives, objects into a sink."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qgis.core import (
    Qgis,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
)

from ...engine.batch_messages import (
    BatchOptions,
    BatchOutputs,
    BatchRasters,
    BatchResult,
    BatchRunParams,
    BatchSpec,
    BatchState,
    BatchTask,
    VectorSource,
)
from ...engine.messages import Method
from ..layers import unusable_reason
from .algorithm import OUTPUT, RASTER, SECOND, EngineAlgorithm, Values, tell, work_folder
from .rasters import RasterInput, exported
from .vectors import open_result, pour, without_fid, write_area

EXTENT = "EXTENT"
AREA = "AREA"
SIMPLIFY = "SIMPLIFY"
MIN_HOLE = "MIN_HOLE"
MIN_AREA = "MIN_AREA"
JOB = "JOB"
COUNT = "COUNT"
JOB_SUFFIX = ".samjob"
LAYER = "objects"
RESULT = "result.gpkg"


@dataclass(frozen=True)
class Run:
    """One run of an algorithm.

    Attributes:
        parameters: as given.
        context: of the run.
        feedback: of the run.
        folder: for files; goes away with the run.
        job: the job file that the user wants to keep; None for none.
    """

    parameters: Values
    context: QgsProcessingContext
    feedback: QgsProcessingFeedback
    folder: Path
    job: Path | None = None

    @property
    def job_file(self) -> Path:
        """Return the job file."""
        return self.job or self.folder / f"job{JOB_SUFFIX}"


class BatchAlgorithm(EngineAlgorithm):
    """A batch job over one raster.

    Attributes:
        task: what is done with it.
    """

    task = BatchTask.AUTOMATIC

    def group(self) -> str:
        """Return the group's title."""
        return self.tr("Segmentation")

    def groupId(self) -> str:
        """Return the group's name that stays the same in all languages."""
        return "segmentation"

    # ---- parameters

    def add_area(self) -> None:
        """Add the area of interest."""
        self.add(
            QgsProcessingParameterExtent(EXTENT, self.tr("Extent"), optional=True),
            self.tr("Where to look. Empty: the whole raster."),
        )
        self.add(
            QgsProcessingParameterFeatureSource(
                AREA, self.tr("Area of interest"), [QgsProcessing.SourceType.TypeVectorPolygon], optional=True
            ),
            self.tr("Polygons within which to look. With an extent as well: within both."),
            advanced=True,
        )

    def add_outline(self) -> None:
        """Add how outlines are cleaned."""
        for name, title, text in (
            (SIMPLIFY, self.tr("Simplify (m)"), self.tr("Largest distance by which simplification may move outlines.")),
            (MIN_HOLE, self.tr("Fill holes smaller than (m²)"), self.tr("Holes with less area are filled.")),
            (MIN_AREA, self.tr("Drop objects smaller than (m²)"), self.tr("Objects and parts with less are dropped.")),
        ):
            number = QgsProcessingParameterNumber(
                name, title, QgsProcessingParameterNumber.Type.Double, defaultValue=0.0, minValue=0.0
            )
            self.add(
                number, f"{text} {self.tr('Pixels instead of metres where the raster has no CRS.')}", advanced=True
            )

    def add_outputs(self, title: str) -> None:
        """Add job file and sink, and how many objects there are."""
        self.add(
            QgsProcessingParameterFileDestination(
                JOB, self.tr("Job file"), self.tr("SamTune jobs (*.samjob)"), optional=True, createByDefault=False
            ),
            self.tr(
                "Remembers what is done, so that “Resume job” can go on after a cancel or a crash. Empty: a run that "
                "is cancelled begins anew."
            ),
            advanced=True,
        )
        self.add_sink(title)
        self.addOutput(QgsProcessingOutputNumber(COUNT, self.tr("Number of objects")))

    def add_sink(self, title: str) -> None:
        """Add where the objects go."""
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, title, QgsProcessing.SourceType.TypeVectorPolygon))

    # ---- the run

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        job = parameters.get(JOB)
        if isinstance(job, str) and job and job != QgsProcessing.TEMPORARY_OUTPUT and Path(job).exists():
            return self.tr(
                "The job file {path} exists. Go on with it by “Resume job”, or give this run a file of its own."
            ).format(path=job)
        layer = self.parameterAsRasterLayer(parameters, RASTER, context)
        if job and layer is not None and unusable_reason(layer):
            return self.tr(
                "“{name}” can be read by QGIS only, so a job with it could not be resumed. Save it as a GeoTIFF and "
                "choose that, or leave the job file out."
            ).format(name=layer.name())
        return super().problem(parameters, context)

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Do the job and hand over its objects. Called by QGIS."""
        with work_folder() as folder:
            run = Run(parameters, context, feedback, folder, self._kept_job(parameters, context))
            asked = BatchRunParams(job=str(run.job_file), spec=self._spec(run))
            result = cast("BatchResult", self.ask_engine(Method.BATCH_RUN, asked, feedback))
            self.check(result, feedback)
            return self.hand_over(run, result)

    def options(self, run: Run) -> BatchOptions:
        """Return how the job is done."""
        lengths = {
            name: self.parameterAsDouble(run.parameters, name, run.context) if self.has(name) else 0.0
            for name in (SIMPLIFY, MIN_HOLE, MIN_AREA)
        }
        level = self.level(run.parameters, run.context)
        return BatchOptions(level, lengths[SIMPLIFY], lengths[MIN_HOLE], lengths[MIN_AREA])

    def outputs(self, run: Run) -> BatchOutputs:
        """Return where the engine shall write."""
        return BatchOutputs(vector=str(run.folder / RESULT), layer=LAYER)

    def prompts(self, run: Run) -> tuple[VectorSource, str]:  # noqa: ARG002 - for those tasks that have some
        """Return the prompts and the field with their class; none here."""
        return VectorSource(), ""

    def hand_over(self, run: Run, result: BatchResult) -> Values:  # noqa: ARG002 - for those tasks that need it
        """Put what the engine has written where the user wants it.

        Args:
            run: of the algorithm.
            result: what came of the job.

        Returns:
            Outputs by name.

        Raises:
            QgsProcessingException: it cannot be read or written.
        """
        return self.pour_objects(run)

    def pour_objects(self, run: Run) -> Values:
        """Pour the objects that the engine has written into the sink.

        Returns:
            The sink's layer and the number of objects, as outputs.
        """
        layer = open_result(run.folder / RESULT, LAYER)
        fields = without_fid(layer.fields())
        kind, crs = Qgis.WkbType.MultiPolygon, layer.crs()
        sink, identifier = self.parameterAsSink(run.parameters, OUTPUT, run.context, fields, kind, crs)
        if sink is None:
            raise QgsProcessingException(self.invalidSinkError(run.parameters, OUTPUT))
        return {OUTPUT: identifier, COUNT: pour(layer, sink, fields, run.feedback)}

    def check(self, result: BatchResult, feedback: QgsProcessingFeedback) -> None:
        """Tell what the engine noted.

        Raises:
            QgsProcessingException: no raster could be used.
        """
        status = result.status
        problems = tuple(f"{raster.name}: {raster.problem}" for raster in status.rasters if raster.problem)
        if status.rasters and all(raster.state is BatchState.FAILED for raster in status.rasters):
            raise QgsProcessingException("\n".join(problems))
        tell((*status.notes, *problems), feedback)
        feedback.pushInfo(
            self.tr("{objects} objects, {seconds:.0f} s.").format(objects=status.objects, seconds=result.seconds)
        )

    def _kept_job(self, parameters: Values, context: QgsProcessingContext) -> Path | None:
        named = self.parameterAsFileOutput(parameters, JOB, context)
        if not named:
            return None
        path = Path(named)
        return path if path.suffix == JOB_SUFFIX else path.with_name(path.name + JOB_SUFFIX)

    def _spec(self, run: Run) -> BatchSpec:
        parameters, context = run.parameters, run.context
        raster = exported(self.required_raster(parameters, RASTER), run.folder, run.feedback)
        second = self.raster(SECOND)
        adapter = self.adapter(parameters, context)
        prompts, class_field = self.prompts(run)
        return BatchSpec(
            task=self.task,
            rasters=BatchRasters(
                paths=(raster.uri,),
                bands=self.bands(parameters, context),
                second=exported(second, run.folder, run.feedback).uri if second is not None else "",
            ),
            model=self.model(parameters, context),
            adapter=str(adapter.path) if adapter is not None else "",
            area=self._area(run, raster),
            prompts=prompts,
            class_field=class_field,
            outputs=self.outputs(run),
            options=self.options(run),
        )

    def _area(self, run: Run, raster: RasterInput) -> VectorSource:
        if not self.has(EXTENT):
            return VectorSource()
        extent = self.parameterAsExtent(run.parameters, EXTENT, run.context, raster.crs)
        polygons = self.parameterAsSource(run.parameters, AREA, run.context)
        path = run.folder / "area.gpkg"
        return (
            VectorSource(str(path)) if write_area(polygons, extent, raster.crs, path, run.context) else VectorSource()
        )


def moved(path: Path, target: Path) -> str:
    """Move a file that the engine has written to where the user wants it, in one step where that is possible.

    Returns:
        The target's path.

    Raises:
        QgsProcessingException: it cannot be moved there.
    """
    beside = target.with_name(f".{target.name}.part")
    try:
        shutil.move(str(path), str(beside))
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise QgsProcessingException(str(error)) from error
    return str(target)
