"""Go on with a batch job that was cancelled, or that a crash has ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
)

from ...engine.batch_messages import (
    BatchOutputs,
    BatchResult,
    BatchRunParams,
    BatchStatus,
    BatchStatusParams,
    BatchTask,
)
from ...engine.messages import Method
from .algorithm import OUTPUT, Values, work_folder
from .batch import COUNT, JOB, RESULT, BatchAlgorithm, Run
from .engine import ask

ROOT = "ROOT"
MAPS = "MAPS"


class ResumeJob(BatchAlgorithm):
    """Go on with a job, in Processing or elsewhere begun, and hand over its results."""

    key = "resumejob"
    icon_name = "processing-resume"

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Resume job")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Goes on with a batch job that was cancelled or interrupted.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("batch,continue,interrupted,samjob").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Goes on with a batch job: one that was cancelled, whose machine went down, or that was begun by `samtune "
            "batch run`. What is done already is not done again. Of a finished job the results are written anew.\n\n"
            "If the rasters are no longer where they were, name the folder where they are now."
        )

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add(QgsProcessingParameterFile(JOB, self.tr("Job file"), fileFilter=self.tr("SamTune jobs (*.samjob)")))
        self.add(
            QgsProcessingParameterFile(
                ROOT, self.tr("Folder of the rasters"), QgsProcessingParameterFile.Behavior.Folder, optional=True
            ),
            self.tr("If not where they were, nor beside the job file."),
            advanced=True,
        )
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        self.add(QgsProcessingParameterFeatureSink(OUTPUT, self.tr("Objects"), kind, optional=True))
        self.add(
            QgsProcessingParameterFolderDestination(
                MAPS, self.tr("Folder of class maps"), optional=True, createByDefault=False
            ),
            self.tr("Of jobs that make class maps: where they go."),
            advanced=True,
        )
        self.addOutput(QgsProcessingOutputNumber(COUNT, self.tr("Number of objects")))

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        path = Path(self.parameterAsFile(parameters, JOB, context))
        return "" if path.is_file() else self.tr("There is no job file {path}.").format(path=path)

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Go on with the job and hand over what it gives. Called by QGIS."""
        with work_folder() as folder, self.engine() as engine:
            run = Run(parameters, context, feedback, folder, Path(self.parameterAsFile(parameters, JOB, context)))
            root = self.parameterAsFile(parameters, ROOT, context)
            job = str(run.job_file)
            status = cast("BatchStatus", ask(engine, Method.BATCH_STATUS, BatchStatusParams(job), feedback))
            asked = BatchRunParams(job=job, outputs=self._outputs(run, status.task), root=root)
            result = cast("BatchResult", ask(engine, Method.BATCH_RUN, asked, feedback))
            self.check(result, feedback)
            return self.hand_over(run, result)

    def _outputs(self, run: Run, task: BatchTask) -> BatchOutputs:
        """Return where the engine shall write, in place of where the job says. Polygons of maps are made from maps."""
        if task is BatchTask.EMBEDDINGS:
            return BatchOutputs()
        vector = self.outputs(run) if run.parameters.get(OUTPUT) is not None else BatchOutputs()
        maps = self.parameterAsString(run.parameters, MAPS, run.context)
        return replace(vector, maps=maps or (str(run.folder / "maps") if task is BatchTask.MAP else ""))

    def hand_over(self, run: Run, result: BatchResult) -> Values:  # noqa: ARG002 - the maps are in place already
        """Pour the objects where they are wanted."""
        maps = self.parameterAsString(run.parameters, MAPS, run.context)
        values: Values = {MAPS: maps} if maps else {}
        return {**values, **self.pour_objects(run)} if (run.folder / RESULT).is_file() else values
