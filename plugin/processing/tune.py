"""Fine-tune a model on labelled polygons: an adapter file, and the answer to whether it is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputBoolean,
    QgsProcessingOutputFolder,
    QgsProcessingOutputHtml,
    QgsProcessingOutputString,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsRasterLayer,
)

from ...engine.messages import Method
from ...engine.tune_messages import (
    PlanParams,
    Rung,
    TuneInputs,
    TuneParams,
    TunePlan,
    TuneReport,
    TuneRunParams,
    TuneTask,
)
from ..adapter_files import SUFFIX
from ..engine_process import EngineProcess
from .algorithm import RASTER, SECOND, Values, speaking, tell
from .batch import Run
from .engine import ask
from .learning import LearningAlgorithm
from .rasters import RasterInput, exported, raster_input
from .vectors import write_source

TASK = "TASK"
RUNG = "RUNG"
CLASS_NAME = "CLASS_NAME"
MORE_RASTERS = "MORE_RASTERS"
FURTHER = "FURTHER_BANDS"
EXTENT = "LABELLED_EXTENT"
STEPS = "STEPS"
HOLD_OUT = "HOLD_OUT"
SEED = "SEED"
OPTIONS = "OPTIONS"
KEEP_GENERAL = "KEEP_GENERAL"
PREVIOUS = "PREVIOUS"
NOTES = "NOTES"
RESUME = "RESUME"
TUNED = "TUNED"
REPORT = "REPORT"
RECORDS = "RECORDS"
BETTER = "BETTER"
VERDICT = "VERDICT"

TASKS = (TuneTask.PROMPTABLE, TuneTask.INSTANCES, TuneTask.SEMANTIC)
RECOMMENDED = "recommended"
RUNGS = (RECOMMENDED, "instant", "decoder", "late-lora", "lora", "bands", "streams", "head", "head-lora")


class FineTune(LearningAlgorithm):
    """Tune a model on labelled polygons."""

    key = "finetune"
    icon_name = "processing-tune"
    adapter_names = (PREVIOUS,)

    def __init__(self) -> None:
        """Know nothing of the run to come."""
        super().__init__()
        self._more: list[RasterInput] = []

    def displayName(self) -> str:
        """Return the title."""
        return self.tr("Fine-tune")

    def shortDescription(self) -> str:
        """Return one line."""
        return self.tr("Tunes a model on labelled polygons and says whether it is better on ground it did not see.")

    def tags(self) -> list[str]:
        """Return words to search by."""
        return self.tr("train,adapter,lora,peft,learning,labels,sam,ai").split(",")

    def shortHelpString(self) -> str:
        """Return the help."""
        return self.tr(
            "Tunes a model on labelled polygons and writes an adapter: a small file that makes the model better at "
            "such objects and can be taken off again. Some polygons are kept away from the training, and the model is "
            "measured on them before and after.\n\nThe output BETTER says whether the adapter is better than the model "
            "on ground it never saw; the report has the figures and pictures. “Not better” is an answer too.\n\nOf a "
            "run that was cancelled the checkpoint stays in the folder beside the adapter; “Go on” continues it."
        )

    # ---- parameters

    def initAlgorithm(self, configuration: Values | None = None) -> None:  # noqa: ARG002 - QGIS's signature
        """Add the parameters. Called by QGIS."""
        self.add_raster()
        self.add_labels()
        uses = [self.tr("Better outlines for clicks"), self.tr("Finding all objects"), self.tr("A class map")]
        self.add(QgsProcessingParameterEnum(TASK, self.tr("What it is for"), uses, defaultValue=0))
        self.add(
            QgsProcessingParameterEnum(
                RUNG, self.tr("How"), list(RUNGS), defaultValue=RECOMMENDED, usesStaticStrings=True
            ),
            self.tr(
                "How much of the model is tuned. “recommended” goes by the number of polygons and by what the machine "
                "can do: from two numbers (instant) to low-rank updates of the whole encoder (lora)."
            ),
        )
        self.add_model()
        self._add_inputs()
        self._add_training()
        self.add(
            QgsProcessingParameterFileDestination(
                TUNED, self.tr("Adapter"), self.tr("SamTune adapters (*.safetensors)")
            ),
            self.tr("The records of the run go into a folder of the same name that ends in .run."),
        )
        self.add_figures()
        self.addOutput(QgsProcessingOutputHtml(REPORT, self.tr("Report")))
        self.addOutput(QgsProcessingOutputFolder(RECORDS, self.tr("Records of the run")))
        self.addOutput(QgsProcessingOutputBoolean(BETTER, self.tr("Better than before")))
        self.addOutput(QgsProcessingOutputString(VERDICT, self.tr("Verdict")))

    def _add_inputs(self) -> None:
        self.add(
            QgsProcessingParameterString(CLASS_NAME, self.tr("Name of the class"), optional=True),
            self.tr("Where no field has it."),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterMultipleLayers(
                MORE_RASTERS, self.tr("More rasters"), QgsProcessing.SourceType.TypeRaster, optional=True
            ),
            self.tr("Of the same kind, with polygons on them as well."),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBand(
                FURTHER, self.tr("Further bands"), parentLayerParameterName=RASTER, optional=True, allowMultiple=True
            ),
            self.tr("Given besides the picture, to methods that take bands."),
            advanced=True,
        )
        self.add_second()
        kind = QgsProcessing.SourceType.TypeVectorPolygon
        self.add(
            QgsProcessingParameterFeatureSource(EXTENT, self.tr("Labelled extent"), [kind], optional=True),
            self.tr(
                "Polygons within which everything of the classes was drawn: the rest of them counts as background. "
                "Without, only the surroundings of each object are known."
            ),
            advanced=True,
        )
        self.add_level()

    def _add_training(self) -> None:
        double = QgsProcessingParameterNumber.Type.Double
        steps = QgsProcessingParameterNumber(STEPS, self.tr("Steps"), defaultValue=0, minValue=0)
        self.add(steps, self.tr("0: as many as suit the way chosen above."), advanced=True)
        share = QgsProcessingParameterNumber(HOLD_OUT, self.tr("Hold-out"), double, 0.2, minValue=0.0, maxValue=0.9)
        self.add(share, self.tr("Share of the polygons to measure on, in blocks of ground."), advanced=True)
        seed = QgsProcessingParameterNumber(SEED, self.tr("Seed"), defaultValue=0, minValue=0)
        self.add(seed, self.tr("Of everything that is drawn by chance."), advanced=True)
        self.add(
            QgsProcessingParameterString(OPTIONS, self.tr("Settings"), multiLine=True, optional=True),
            self.tr("METHOD.KEY=VALUE or schedule.KEY=VALUE, one a line, as `samtune tune --set` takes them."),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean(KEEP_GENERAL, self.tr("Keep what it outlines well elsewhere"), False),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFile(
                PREVIOUS,
                self.tr("Previous adapter"),
                optional=True,
                fileFilter=self.tr("SamTune adapters (*.safetensors)"),
            ),
            self.tr("Goes on with this one and protects what it learnt."),
            advanced=True,
        )
        self.add(QgsProcessingParameterString(NOTES, self.tr("Notes"), optional=True), advanced=True)
        self.add(
            QgsProcessingParameterBoolean(RESUME, self.tr("Go on"), False),
            self.tr("With the checkpoint of a run that was interrupted, in the folder beside the adapter."),
            advanced=True,
        )

    def problem(self, parameters: Values, context: QgsProcessingContext) -> str:
        """Say what is wrong with the parameters, see :meth:`.EngineAlgorithm.problem`."""
        wrong = [line for line in self._options(parameters, context) if "=" not in line or "." not in line]
        if wrong:
            return self.tr("“{line}” is no setting. Write METHOD.KEY=VALUE or schedule.KEY=VALUE.").format(
                line=wrong[0]
            )
        with_class = self.parameterAsStrings(parameters, "CLASS_FIELD", context)
        if not with_class and TASKS[self.parameterAsEnum(parameters, TASK, context)] is TuneTask.SEMANTIC:
            name = self.parameterAsString(parameters, CLASS_NAME, context)
            if not name:
                return self.tr("A class map needs classes: choose the field with the class, or give the class a name.")
        return super().problem(parameters, context)

    # ---- the run

    def prepareAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        """Look at the other rasters as well, on the main thread. Called by QGIS."""
        with speaking():
            layers = self.parameterAsLayerList(parameters, MORE_RASTERS, context)
            self._more = [raster_input(layer) for layer in layers if isinstance(layer, QgsRasterLayer)]
        return bool(super().prepareAlgorithm(parameters, context, feedback))

    def processAlgorithm(
        self, parameters: Values, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Values:
        """Tune and measure. Called by QGIS."""
        output = self._output(parameters, context)
        records = output.with_suffix(".run")
        with self.engine() as engine:
            # What the run reads lies with its records, so that it can be gone on with, and repeated.
            run = self._params(Run(parameters, context, feedback, self._made(records)), output)
            run = self._with_rung(run, parameters, context, feedback, engine)
            resume = self.parameterAsBoolean(parameters, RESUME, context)
            report = cast("TuneReport", ask(engine, Method.TUNE_RUN, TuneRunParams(run, resume), feedback))
        tell(report.notes, feedback)
        feedback.pushInfo(report.sentence)
        return {
            TUNED: report.adapter,
            REPORT: report.report,
            RECORDS: report.folder,
            BETTER: report.verdict == "better",
            VERDICT: report.sentence,
            **self.write_figures(report.figures, parameters, context, feedback),
        }

    def _output(self, parameters: Values, context: QgsProcessingContext) -> Path:
        output = Path(self.parameterAsFileOutput(parameters, TUNED, context))
        return output if output.suffix == SUFFIX else output.with_name(output.name + SUFFIX)

    def _made(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QgsProcessingException(
                self.tr("The folder {folder} for the records of the run cannot be made. Choose another place.").format(
                    folder=folder
                )
                + f"\n{error}"
            ) from error
        return folder

    def _params(self, run: Run, output: Path) -> TuneParams:
        parameters, context = run.parameters, run.context
        previous = self.adapter(parameters, context, PREVIOUS)
        return TuneParams(
            inputs=self._inputs(run),
            task=TASKS[self.parameterAsEnum(parameters, TASK, context)],
            output=str(output),
            folder=str(run.folder),
            options=self._options(parameters, context),
            steps=self.parameterAsInt(parameters, STEPS, context),
            hold_out=self.parameterAsDouble(parameters, HOLD_OUT, context),
            seed=self.parameterAsInt(parameters, SEED, context),
            keep_general=self.parameterAsBoolean(parameters, KEEP_GENERAL, context),
            previous=str(previous.path) if previous is not None else "",
            notes=self.parameterAsString(parameters, NOTES, context),
        )

    def _inputs(self, run: Run) -> TuneInputs:
        parameters, context = run.parameters, run.context
        rasters = [self.required_raster(parameters, RASTER), *self._more]
        second = self.raster(SECOND)
        extent = self.parameterAsSource(parameters, EXTENT, context)
        extent_path = run.folder / "extent.gpkg"
        if extent is not None:
            write_source(extent, extent_path, context, run.feedback)
        return TuneInputs(
            rasters=tuple(exported(raster, run.folder, run.feedback).uri for raster in rasters),
            labels=self.labels(run, self.parameterAsString(parameters, CLASS_NAME, context)),
            rgb=self.bands(parameters, context),
            further=self.bands(parameters, context, FURTHER),
            second=exported(second, run.folder, run.feedback).uri if second is not None else "",
            extent=str(extent_path) if extent is not None else "",
            level=self.level(parameters, context),
            model=self.model(parameters, context),
        )

    def _with_rung(
        self,
        run: TuneParams,
        parameters: Values,
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
        engine: EngineProcess,
    ) -> TuneParams:
        name = self.parameterAsEnumString(parameters, RUNG, context)
        plan = cast("TunePlan", ask(engine, Method.TUNE_PLAN, PlanParams(run, measure=False), feedback))
        if plan.problem:
            raise QgsProcessingException(plan.problem)
        tell(plan.notes, feedback)
        if name == RECOMMENDED:
            feedback.pushInfo(plan.reason)
            return run
        rung = self._rung(name, plan)
        return replace(run, methods=rung.methods, steps=run.steps or rung.steps)

    def _rung(self, name: str, plan: TunePlan) -> Rung:
        rung = next((rung for rung in plan.rungs if rung.name == name), None)
        if rung is None or not rung.possible:
            possible = ", ".join(rung.name for rung in plan.rungs if rung.possible)
            raise QgsProcessingException(
                self.tr("“{name}” cannot be done with these inputs for this use. Possible are: {possible}.").format(
                    name=name, possible=possible
                )
            )
        return rung

    def _options(self, parameters: Values, context: QgsProcessingContext) -> tuple[str, ...]:
        lines = self.parameterAsString(parameters, OPTIONS, context).splitlines()
        return tuple(line.strip() for line in lines if line.strip())
