"""Messages about tuning: what there is to learn from, what a run would take, the run itself, and what came of it.

As :mod:`.messages`: plain dataclasses, standard library only, Python 3.9. Registered in :mod:`.wire`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

OFFER = "offer.json"
"""The file in a run's folder with its TuneReport, as long as the adapter has not been kept."""


class TuneTask(str, Enum):
    """What an adapter is for: better clicks, finding all objects, or a class map. The values are those of the cards."""

    PROMPTABLE = "promptable"
    INSTANCES = "instances"
    SEMANTIC = "semantic"


class Parting(str, Enum):
    """How labelled objects are parted into those to learn from and those to measure on.

    BLOCKS: some blocks of ground are held out. EACH_BLOCK: too few objects for that, so every block is held out once
    and the figures are of all of them. NONE: too few objects for either; nothing can be measured.
    """

    BLOCKS = "blocks"
    EACH_BLOCK = "each block"
    NONE = "none"


class RunState(str, Enum):
    """Where a run is. KEPT ones can be gone on with: PAUSED, and RUNNING where the engine died."""

    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    MEASURING = "measuring"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


class TuneAction(str, Enum):
    """What the user wants of the run under way.

    PAUSE holds it after a checkpoint, RESUME goes on, FINISH ends the training now and keeps the best weights so far.
    Giving a run up is cancelling its request; the checkpoint stays in its folder.
    """

    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"


class PictureKind(str, Enum):
    """What a picture shows: a crop with its labels, a prediction on the hold-out, or a large gain or loss."""

    CROP = "crop"
    PREDICTION = "prediction"
    GAIN = "gain"
    LOSS = "loss"


@dataclass(frozen=True)
class LabelSource:
    """Labelled polygons in a vector file, in any CRS.

    Attributes:
        path: of the file; QGIS writes the features that the user chose to a GeoPackage first.
        layer: in it; empty for its only or first one.
        class_field: attribute with the class; empty when all polygons are of one class.
        class_name: name of the class where there is no field.
    """

    path: str
    layer: str = ""
    class_field: str = ""
    class_name: str = ""


@dataclass(frozen=True)
class TuneInputs:
    """What to learn from.

    Attributes:
        rasters: paths or GDAL URIs, at least one, all of the same kind.
        labels: the polygons.
        rgb: one or three band numbers shown to the model; empty for the rasters' defaults.
        further: band numbers given besides, for methods that take bands; empty for none.
        second: path of a second raster (height, radar, ...); empty for none.
        extent: vector file with polygons within which everything is labelled; empty: only the surroundings of each
            object are known.
        level: fixed level of detail; None: by each object's size.
        model: base model.
    """

    rasters: tuple[str, ...]
    labels: LabelSource
    rgb: tuple[int, ...] = ()
    further: tuple[int, ...] = ()
    second: str = ""
    extent: str = ""
    level: Optional[int] = None
    model: str = "tiny"


@dataclass(frozen=True)
class InspectParams:
    """Ask what there is to learn from.

    Attributes:
        inputs: what to look at.
        task: what the adapter is to do; decides which crops training sees.
        hold_out: share of the objects to hold out.
        seed: of the parting.
        pictures: how many of the crops that training will see to send as pictures.
        side: longest side of a picture, pixels.
    """

    inputs: TuneInputs
    task: TuneTask = TuneTask.PROMPTABLE
    hold_out: float = 0.2
    seed: int = 0
    pictures: int = 8
    side: int = 224


@dataclass(frozen=True)
class ClassCount:
    """One class of the labels.

    Attributes:
        name: of the class.
        objects: usable ones.
        train: of them to learn from.
        held_out: of them to measure on.
        colour: ``#rrggbb``, the same everywhere for this class.
    """

    name: str
    objects: int
    train: int
    held_out: int
    colour: str


@dataclass(frozen=True)
class SizeBin:
    """One bar of the histogram of sizes: objects whose longer side is from ``low`` to ``high`` raster pixels."""

    low: float
    high: float
    objects: int


@dataclass(frozen=True)
class Picture:
    """A picture for the user.

    Attributes:
        kind: what it shows.
        title: one line.
        png: base64 PNG. Labels are drawn as outlines in their class's colour; what is not known is dimmed.
        before: of gains and losses: IoU of the base; negative where it does not apply.
        after: of gains and losses: IoU of the adapter.
    """

    kind: PictureKind
    title: str
    png: str
    before: float = -1.0
    after: float = -1.0


@dataclass(frozen=True)
class Inspection:
    """What there is to learn from.

    Attributes:
        classes: with their numbers.
        sizes: histogram of the objects' sizes, raster pixels.
        parting: how the hold-out is made.
        blocks: how many blocks of ground there are, and
        held_blocks: how many of them are held out.
        repaired: numbers of label features that were invalid and were repaired.
        left_out: numbers of label features that cannot be used (no polygon, beyond the raster, too small).
        overlapping: numbers of label features that overlap another one by more than half of the smaller.
        too_small: objects too small for the level at which they are seen.
        level: the level (the fixed one, or the commonest), and
        fitting_level: the level at which the small ones would be large enough; equal to ``level`` when none is small.
        pictures: crops as training will see them.
        notes: what the user should know, as sentences.
        problem: why these labels cannot be learnt from, a sentence; empty when they can.
    """

    classes: tuple[ClassCount, ...] = ()
    sizes: tuple[SizeBin, ...] = ()
    parting: Parting = Parting.NONE
    blocks: int = 0
    held_blocks: int = 0
    repaired: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    overlapping: tuple[int, ...] = ()
    too_small: int = 0
    level: int = 0
    fitting_level: int = 0
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class TuneParams:
    """A run as the user wants it.

    Attributes:
        inputs: what to learn from.
        task: what the adapter is to do.
        output: adapter file to write.
        folder: of the run's records and checkpoint.
        methods: names as ``samtune tune --method`` takes them; empty: the recommended rung.
        options: ``METHOD.KEY=VALUE`` and ``schedule.KEY=VALUE``, as ``samtune tune --set`` takes them.
        steps: of the optimiser; 0: the rung's own number.
        hold_out: share of the objects to hold out.
        seed: of everything drawn by chance.
        keep_general: also keep what the base outlines well elsewhere.
        previous: adapter file to go on with; empty to begin a separate one.
        notes: text for the card.
    """

    inputs: TuneInputs
    task: TuneTask
    output: str
    folder: str
    methods: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    steps: int = 0
    hold_out: float = 0.2
    seed: int = 0
    keep_general: bool = False
    previous: str = ""
    notes: str = ""


@dataclass(frozen=True)
class PlanParams:
    """Ask what a run would take.

    Attributes:
        run: as the user wants it.
        measure: time a few real steps (some seconds); False: only recommend, at once.
    """

    run: TuneParams
    measure: bool = True


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder of methods.

    Attributes:
        name: a key: ``instant``, ``decoder``, ``late-lora``, ``lora``, ``bands``, ``streams``, ``head``, ``head-lora``.
        title: for the user.
        methods: names as in :attr:`TuneParams.methods`.
        steps: its own number of steps.
        reason: for whom it is, one sentence.
        possible: whether it can be chosen with these inputs and this task.
    """

    name: str
    title: str
    methods: tuple[str, ...]
    steps: int
    reason: str
    possible: bool = True


@dataclass(frozen=True)
class TunePlan:
    """What a run would take.

    Attributes:
        rungs: all that there are for this task, the lightest first.
        recommended: name of the rung recommended, and
        reason: why, a sentence.
        chosen: name of the rung that the run's methods are; empty when they are no rung.
        methods: what the run would use, as method names.
        steps: how many.
        device: device in use, and
        device_reason: why this one.
        seconds: of the whole run; negative where it was not measured, as below.
        per_step: seconds of a step.
        memory: bytes at the peak.
        available: bytes there are; 0 where not known.
        disk: bytes of temporary files, and
        disk_free: bytes free where they go.
        file_bytes: size of the adapter's file.
        trainable: numbers that are trained.
        measured: whether the figures above come from real steps.
        problem: why this run cannot be started (not enough memory or disk, methods that do not fit), a sentence; empty.
        notes: what the user should know, as sentences.
    """

    rungs: tuple[Rung, ...]
    recommended: str
    reason: str
    chosen: str
    methods: tuple[str, ...]
    steps: int
    device: str
    device_reason: str
    seconds: float = -1.0
    per_step: float = -1.0
    memory: int = -1
    available: int = 0
    disk: int = -1
    disk_free: int = 0
    file_bytes: int = -1
    trainable: int = -1
    measured: bool = False
    problem: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TuneRunParams:
    """Do a run.

    Attributes:
        run: as the user wants it. Its folder gets ``run.json`` first (these parameters, the state and the steps done).
        resume: go on from the folder's checkpoint; False begins anew, and refuses where there is one.
    """

    run: TuneParams
    resume: bool = False


@dataclass(frozen=True)
class WatchParams:
    """Ask how the run under way is doing; answered while the model is busy.

    Attributes:
        folder: of the run.
        steps_after: send the curve of steps after this one.
        pictures_after: send pictures only if they are of a later step than this one.
    """

    folder: str
    steps_after: int = 0
    pictures_after: int = -1


@dataclass(frozen=True)
class CurvePoint:
    """Figures at a step: ``loss`` and others while training; ``iou``, ``f1`` or ``miou`` on the hold-out."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class TuneWatch:
    """How a run is doing.

    Attributes:
        state: where it is; CANCELLED when no such run is under way.
        step: steps done, and
        steps: of how many.
        seconds_left: for training and measuring; negative where not known yet.
        training: new points of the training's curve.
        held_out: all points of the hold-out's curve so far (main figure under ``value`` too).
        best_step: step of the best weights so far; 0 where none was measured.
        pictures: predictions on two crops of the hold-out, with the labels.
        pictures_step: step that they are of; -1 for none.
        notes: what happened, as sentences.
    """

    state: RunState
    step: int = 0
    steps: int = 0
    seconds_left: float = -1.0
    training: tuple[CurvePoint, ...] = ()
    held_out: tuple[CurvePoint, ...] = ()
    best_step: int = 0
    pictures: tuple[Picture, ...] = ()
    pictures_step: int = -1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ControlParams:
    """Pause, resume or finish the run under way in a folder."""

    folder: str
    action: TuneAction


@dataclass(frozen=True)
class FigureRow:
    """One figure before and after.

    Attributes:
        name: a key such as ``iou_1_click``.
        title: for the user.
        before: of the base; negative where it has none.
        after: with the adapter.
        low: of the 95 % interval of the difference, and
        high: its upper end; both 0 where there is none.
        group: class that it is of; empty for all; ``general`` for the check on unrelated imagery.
        higher_is_better: False for numbers of clicks, missed and false objects.
    """

    name: str
    title: str
    before: float
    after: float
    low: float = 0.0
    high: float = 0.0
    group: str = ""
    higher_is_better: bool = True


@dataclass(frozen=True)
class TuneReport:
    """What came of a run.

    Attributes:
        adapter: its file.
        folder: of the records.
        verdict: ``better``, ``not better`` or ``not measured``.
        sentence: the verdict with its interval, for the user.
        figures: before and after.
        general: one sentence on whether generality is kept; empty where it was not checked.
        parting: how the hold-out was made, and
        held_out: how many objects (crops, for maps) were in it.
        pictures: the largest gains and losses.
        steps: done.
        seconds: of training and measuring.
        report: path of the HTML report.
        command: command line that repeats the run.
        notes: what the user should know, as sentences.
    """

    adapter: str
    folder: str
    verdict: str
    sentence: str
    figures: tuple[FigureRow, ...] = ()
    general: str = ""
    parting: Parting = Parting.NONE
    held_out: int = 0
    pictures: tuple[Picture, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    report: str = ""
    command: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeepAdapterParams:
    """Put a finished run's adapter into the folder of adapters, under a name.

    Attributes:
        path: of the run's adapter file, which stays.
        name: for the card and the file.
        notes: text for the card; replaces what the user wrote before, keeps SamTune's own notes.
        folder: of adapters; made if it is not there. A file of this name is never replaced: the copy gets a number.
        model: base that it must fit.
    """

    path: str
    name: str
    notes: str
    folder: str
    model: str


@dataclass(frozen=True)
class DescribeAdapterParams:
    """Rename an adapter in place and change its notes; tensors and hashes stay as they are."""

    path: str
    name: str
    notes: str
