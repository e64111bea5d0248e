"""The algorithms in Processing with a make-believe engine: what they ask it, and what they make of its answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qgis.core", reason="needs QGIS's Python")

from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingAlgorithm,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorLayer,
    QgsProcessingUtils,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QPointF, QTimer
from samtune.engine.messages import EngineSettings
from samtune.models.errors import EnvironmentMissingError
from samtune.plugin.engine_service import EngineConfig
from samtune.plugin.processing import algorithm as algorithm_module
from samtune.plugin.processing.engine import Engines
from samtune.plugin.processing.provider import ALGORITHMS, SamTuneProvider
from samtune.plugin.settings import PluginSettings
from samtune_test_engine_helpers import python, wait_until
from samtune_test_support import LEFT, PIXEL, TOP, Window, spin, write_raster

FAKE = Path(__file__).with_name("fake_processing.py")
Values = dict[str, Any]


class Bench:
    """The provider with a make-believe engine, and what that was asked."""

    def __init__(self, provider: SamTuneProvider, log: Path, behave: Callable[[str], None]) -> None:
        self.provider = provider
        self._log = log
        self.behave = behave
        self.context = QgsProcessingContext()
        self.feedback = QgsProcessingFeedback(False)  # keeps what is pushed, rather than logging it

    def algorithm(self, name: str) -> QgsProcessingAlgorithm:
        found = QgsApplication.processingRegistry().algorithmById(f"samtune:{name}")
        assert found is not None
        return found

    def run(self, name: str, parameters: Values) -> Values:
        """Check and run, as Processing does; an error is raised."""
        algorithm = self.algorithm(name)
        good, message = algorithm.checkParameterValues(parameters, self.context)
        assert good, message
        results, good = algorithm.run(parameters, self.context, self.feedback, {}, False)
        if not good:  # QGIS tells so of what is raised before the work begins
            raise QgsProcessingException(self.feedback.textLog())
        return dict(results)

    def refusal(self, name: str, parameters: Values) -> str:
        """Return why parameters are refused; empty when they are not."""
        good, message = self.algorithm(name).checkParameterValues(parameters, self.context)
        assert good is not bool(message)
        return message

    def layer(self, identifier: str) -> QgsVectorLayer:
        found = QgsProcessingUtils.mapLayerFromString(identifier, self.context)
        assert isinstance(found, QgsVectorLayer)
        return found

    @property
    def asked(self) -> list[tuple[str, Values]]:
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []
        return [(found["method"], found["params"]) for found in map(json.loads, lines)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engines, Path]]:
    """Engines that the tests share, and the file where they write what they were asked."""
    made = Engines(linger=120)
    yield made, tmp_path_factory.mktemp("engine") / "asked.jsonl"
    made.close()


@pytest.fixture
def bench(
    settings: PluginSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: tuple[Engines, Path]
) -> Iterator[Bench]:
    shared, log = engines
    log.unlink(missing_ok=True)
    way = [""]

    def config(_settings: PluginSettings, *, background: bool = False) -> EngineConfig:
        assert background, "clicks have an engine of their own"
        command = [python(), "-B", str(FAKE), str(log)]
        return EngineConfig(lambda: command, EngineSettings(store_dir=way[0]), str(log))

    monkeypatch.setattr(algorithm_module, "engine_config", config)
    settings.adapters_folder.setValue(str(tmp_path / "adapters"))
    provider = SamTuneProvider(settings, shared)
    assert QgsApplication.processingRegistry().addProvider(provider)
    yield Bench(provider, log, lambda kind: way.__setitem__(0, kind))
    provider.engines = Engines()  # the shared ones stay
    QgsApplication.processingRegistry().removeProvider("samtune")


@pytest.fixture
def scene(tmp_path: Path) -> str:
    return str(write_raster(tmp_path / "scene.tif"))


def points(*places: tuple[float, float], kinds: tuple[str, ...] = ()) -> QgsVectorLayer:
    """A memory layer of points, pixels of the scene from its upper left corner."""
    layer = QgsVectorLayer("Point?crs=EPSG:32617&field=kind:string", "prompts", "memory")
    for number, (column, row) in enumerate(places):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(f"Point({LEFT + column * PIXEL} {TOP - row * PIXEL})"))
        feature["kind"] = kinds[number] if kinds else f"k{number}"
        layer.dataProvider().addFeature(feature)
    return layer


def polygons(*wkt: str, crs: str = "EPSG:32617") -> QgsVectorLayer:
    layer = QgsVectorLayer(f"Polygon?crs={crs}&field=kind:string&field=area:double", "labels", "memory")
    for number, text in enumerate(wkt):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(text))
        feature["kind"] = f"k{number}"
        feature["area"] = 7.0 + number
        layer.dataProvider().addFeature(feature)
    return layer


def box(x: float, y: float, side: float = 10.0) -> str:
    return f"Polygon(({x} {y}, {x + side} {y}, {x + side} {y + side}, {x} {y + side}, {x} {y}))"


def adapter(folder: Path, name: str = "roofs", **card: object) -> str:
    """Write a file with the header of an adapter."""
    folder.mkdir(exist_ok=True)
    facts = {"schema": 1, "name": name, "base": {"name": "vit_b"}, "head": "instances", "inputs": {"rgb": [3, 2, 1]}}
    header = {"__metadata__": {"format": "samtune-adapter", "card": json.dumps({**facts, **card})}}
    text = json.dumps(header).encode()
    path = folder / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return str(path)


# ---- the provider


def test_every_algorithm_says_what_it_is(bench: Bench) -> None:
    found = bench.provider.algorithms()
    assert len(found) == len(ALGORITHMS) == len({algorithm.name() for algorithm in found})
    for algorithm in found:
        assert algorithm.displayName() and algorithm.group() and algorithm.groupId()
        assert algorithm.shortHelpString() and algorithm.shortDescription() and algorithm.tags()
        assert not algorithm.icon().pixmap(24, 24).isNull()
        assert Path(algorithm.svgIconPath()).is_file()
        assert algorithm.create().name() == algorithm.name()
        for parameter in algorithm.parameterDefinitions():
            assert parameter.description()
            if parameter.flags() & parameter.Flag.FlagAdvanced:
                required = not parameter.flags() & parameter.Flag.FlagOptional
                assert not required or parameter.defaultValue() is not None, "nobody opens the advanced ones"


def test_the_plugin_brings_and_takes_the_provider(window: Window, without_plugin: None) -> None:
    from samtune import classFactory

    registry = QgsApplication.processingRegistry()
    for _ in range(2):
        plugin = classFactory(window)
        plugin.initGui()
        assert registry.algorithmById("samtune:segmentprompts") is not None
        plugin.unload()
        assert registry.providerById("samtune") is None


def test_without_a_window_the_plugin_brings_the_provider_alone(without_plugin: None) -> None:
    from samtune import classFactory

    plugin = classFactory(None)
    plugin.initProcessing()
    assert QgsApplication.processingRegistry().algorithmById("samtune:finetune") is not None
    plugin.unload()
    assert QgsApplication.processingRegistry().providerById("samtune") is None


# ---- prompts, everything, find all, class map


def test_segment_from_prompts(bench: Bench, scene: str) -> None:
    layer = points((10, 10), (20, 20), (30, 30))
    given = {
        "RASTER": scene,
        "BANDS": [3, 2, 1],
        "PROMPTS": layer,
        "CLASS_FIELD": "kind",
        "MODEL": "vit_b",
        "LEVEL": -1,
        "SIMPLIFY": 0.5,
        "OUTPUT": "memory:",
    }
    results = bench.run("segmentprompts", given)
    ((method, params),) = bench.asked
    spec = params["spec"]
    assert method == "batch/run"
    assert (spec["task"], spec["model"], spec["class_field"]) == ("prompts", "vit_b", "kind")
    assert (spec["rasters"]["paths"], spec["rasters"]["bands"]) == ([scene], [3, 2, 1])
    assert (spec["options"]["level"], spec["options"]["simplify"]) == (-1, 0.5)
    found = bench.layer(results["OUTPUT"])
    assert (results["COUNT"], found.featureCount(), found.crs().authid()) == (2, 2, "EPSG:32617")
    names = [field.name() for field in found.fields()]
    assert names == ["class", "score", "area", "model", "adapter", "prompt", "raster", "bands", "time", "reviewed"]
    assert sorted(feature["class"] for feature in found.getFeatures()) == ["roof", "tree"]
    assert "A note." in bench.feedback.textLog()
    assert not list(Path(spec["prompts"]["path"]).parent.parent.glob(Path(spec["prompts"]["path"]).parent.name))


def test_only_the_features_chosen_are_prompts(
    bench: Bench, scene: str, project: QgsProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samtune.plugin.processing import segmentation

    written: list[int] = []

    def noting(*arguments: Any) -> int:
        written.append(original(*arguments))
        return written[-1]

    original = segmentation.write_source
    monkeypatch.setattr(segmentation, "write_source", noting)
    layer = points((10, 10), (20, 20), (30, 30))
    project.addMapLayer(layer)
    layer.selectByIds([2])
    bench.context.setProject(project)
    source = QgsProcessingFeatureSourceDefinition(layer.id(), True)
    bench.run("segmentprompts", {"RASTER": scene, "PROMPTS": source, "OUTPUT": "memory:"})
    filtered = QgsProcessingFeatureSourceDefinition(layer.id(), False, -1)
    filtered.filterExpression = "kind <> 'k0'"
    bench.run("segmentprompts", {"RASTER": scene, "PROMPTS": filtered, "OUTPUT": "memory:"})
    assert written == [1, 2]
    layer.removeSelection()
    with pytest.raises(QgsProcessingException, match="There are no prompts"):
        bench.run("segmentprompts", {"RASTER": scene, "PROMPTS": source, "OUTPUT": "memory:"})


def test_segment_everything_within_an_area(bench: Bench, scene: str, tmp_path: Path) -> None:
    area = polygons(box(LEFT + 20, TOP - 60, 40))
    given = {
        "RASTER": scene,
        "EXTENT": f"{LEFT + 30},{LEFT + 100},{TOP - 100},{TOP} [EPSG:32617]",
        "AREA": area,
        "POINTS": 8,
        "LEVELS": 2,
        "OUTPUT": str(tmp_path / "out.gpkg"),
        "JOB": str(tmp_path / "job"),
    }
    results = bench.run("segmenteverything", given)
    ((_, params),) = bench.asked
    options = params["spec"]["options"]
    assert (params["spec"]["task"], options["points"], options["levels"]) == ("automatic", 8, 2)
    assert params["spec"]["area"]["path"]
    assert params["job"] == str(tmp_path / "job.samjob")
    assert bench.layer(results["OUTPUT"]).featureCount() == 2
    assert "exists" in bench.refusal("segmenteverything", {**given, "JOB": str(tmp_path / "job.samjob")})


def test_the_area_is_the_polygons_within_the_extent(tmp_path: Path) -> None:
    from qgis.core import QgsRectangle
    from samtune.plugin.processing.vectors import write_area

    crs, context = QgsCoordinateReferenceSystem("EPSG:32617"), QgsProcessingContext()
    path = tmp_path / "area.gpkg"
    layer = polygons(box(0, 0, 40), box(30, 0, 40))
    extent = QgsRectangle(20, 20, 100, 100)
    assert write_area(layer_source(layer), extent, crs, path, context)
    (feature,) = QgsVectorLayer(str(path)).getFeatures()
    assert feature.geometry().area() == pytest.approx(50 * 20)
    assert not write_area(None, QgsRectangle(), crs, tmp_path / "none.gpkg", context)
    assert not (tmp_path / "none.gpkg").exists()
    with pytest.raises(QgsProcessingException, match="empty"):
        write_area(layer_source(layer), QgsRectangle(200, 200, 300, 300), crs, tmp_path / "no.gpkg", context)


def layer_source(layer: QgsVectorLayer) -> object:
    """Return a layer as a source of an algorithm, in its own CRS."""
    from qgis.core import QgsProcessingFeatureSource

    return QgsProcessingFeatureSource(layer, QgsProcessingContext(), False)


def test_find_all_takes_model_and_adapter(bench: Bench, scene: str, tmp_path: Path) -> None:
    path = adapter(tmp_path / "adapters")
    results = bench.run(
        "findall", {"RASTER": scene, "ADAPTER": "roofs.safetensors", "THRESHOLD": 0.4, "OUTPUT": "memory:"}
    )
    ((_, params),) = bench.asked
    spec = params["spec"]
    assert (spec["task"], spec["model"], spec["adapter"]) == ("find", "vit_b", path)
    assert spec["options"]["threshold"] == 0.4
    assert results["COUNT"] == 2


@pytest.mark.parametrize("with_all", [True, False])
def test_class_map(bench: Bench, scene: str, tmp_path: Path, with_all: bool) -> None:
    adapter(tmp_path / "adapters", head="semantic")
    target = tmp_path / "map.tif"
    target.write_bytes(b"what was there before")
    given: Values = {"RASTER": scene, "ADAPTER": "roofs.safetensors", "MAP": str(target)}
    if with_all:
        given.update(CONFIDENCE=str(tmp_path / "sure.tif"), OUTPUT="memory:")
    results = bench.run("classmap", given)
    ((_, params),) = bench.asked
    outputs = params["spec"]["outputs"]
    assert (bool(outputs["vector"]), outputs["confidence"]) == (with_all, with_all)
    assert results["MAP"] == str(target)
    assert target.read_bytes() == b"scene_classes.tif"
    assert ("OUTPUT" in results) is with_all
    if with_all:
        assert (tmp_path / "sure.tif").read_bytes() == b"scene_confidence.tif"
        assert bench.layer(results["OUTPUT"]).featureCount() == 2
    assert ".tif" in bench.refusal("classmap", {**given, "MAP": str(tmp_path / "map.png")})


@pytest.mark.parametrize(("task", "maps"), [("automatic", False), ("map", True), ("embeddings", False)])
def test_resume(bench: Bench, tmp_path: Path, task: str, maps: bool) -> None:
    """What a job can write depends on its task, which its file knows."""
    job = tmp_path / "a.samjob"
    assert "no job file" in bench.refusal("resumejob", {"JOB": str(job), "OUTPUT": "memory:"})
    job.write_text(task)
    results = bench.run("resumejob", {"JOB": str(job), "OUTPUT": "memory:", "ROOT": str(tmp_path)})
    (first, _), (second, params) = bench.asked
    assert (first, second) == ("batch/status", "batch/run")
    assert (params["spec"], params["job"], params["root"]) == (None, str(job), str(tmp_path))
    assert bool(params["outputs"]["maps"]) is maps
    assert ("OUTPUT" in results) is (task != "embeddings")
    if "OUTPUT" in results:
        assert bench.layer(results["OUTPUT"]).featureCount() == results["COUNT"] == 2


def test_resume_with_maps(bench: Bench, tmp_path: Path) -> None:
    job = tmp_path / "a.samjob"
    job.write_text("map")
    results = bench.run("resumejob", {"JOB": str(job), "MAPS": str(tmp_path / "maps")})
    assert results == {"MAPS": str(tmp_path / "maps")}
    assert (tmp_path / "maps" / "scene_classes.tif").is_file()


# ---- change


def test_change_of_objects(bench: Bench, scene: str, tmp_path: Path) -> None:
    """The make-believe objects are the same on both dates."""
    adapter(tmp_path / "adapters")
    other = str(write_raster(tmp_path / "other.tif"))
    given = {
        "RASTER": scene,
        "AFTER": other,
        "WAY": 0,
        "ADAPTER": "roofs.safetensors",
        "AFTER_BANDS": "2",
        "SHIFT": 3.0,
        "OUTPUT": "memory:",
        "OBJECTS_BEFORE": "memory:",
    }
    results = bench.run("detectchange", given)
    first, second, (method, params) = bench.asked
    assert [asked["spec"]["rasters"]["paths"] for _, asked in (first, second)] == [[scene], [other]]
    assert (first[1]["spec"]["task"], second[1]["spec"]["rasters"]["bands"]) == ("find", [2])
    assert (method, params["way"], params["shift"], params["before"]["class_field"]) == (
        "change/detect",
        "objects",
        3.0,
        "class",
    )
    assert [results[name] for name in ("NEW", "GONE", "CHANGED", "UNCHANGED")] == [0, 0, 0, 2]
    changes = list(bench.layer(results["OUTPUT"]).getFeatures())
    objects = {feature["id"]: feature for feature in bench.layer(results["OBJECTS_BEFORE"]).getFeatures()}
    assert len(changes) == len(objects) == 2
    for change in changes:
        linked = objects[int(change["ids_old"])]
        assert linked["class"] == change["class_old"]
        assert linked.geometry().equals(change.geometry())
    assert "OBJECTS_AFTER" not in results


def test_change_without_objects(bench: Bench, scene: str) -> None:
    extent = f"{LEFT + 30},{LEFT + 100},{TOP - 100},{TOP} [EPSG:32617]"
    results = bench.run("detectchange", {"RASTER": scene, "AFTER": scene, "EXTENT": extent, "OUTPUT": "memory:"})
    ((method, params),) = bench.asked
    assert (method, params["way"], params["before"]["objects"]) == ("change/detect", "embeddings", "")
    area = QgsGeometry()
    area.fromWkb(bytes.fromhex(params["area"]))
    assert area.area() == pytest.approx(70 * 100)
    assert (results["CHANGED"], results["NEW"]) == (0, 0)
    assert bench.layer(results["OUTPUT"]).featureCount() == 0


def test_change_refuses_what_cannot_be(bench: Bench, scene: str, tmp_path: Path) -> None:
    given: Values = {"RASTER": scene, "AFTER": scene, "OUTPUT": "memory:"}
    assert bench.refusal("detectchange", given) == ""
    assert "Choose an adapter" in bench.refusal("detectchange", {**given, "WAY": 0})
    roofs = adapter(tmp_path, "roofs")
    assert "leave the adapter out" in bench.refusal("detectchange", {**given, "WAY": 1, "ADAPTER": roofs})


def test_change_takes_a_second_raster_of_each_date(bench: Bench, scene: str, tmp_path: Path) -> None:
    paired = adapter(tmp_path, "paired", inputs={"rgb": [1, 2, 3], "second": {"name": "DSM"}})
    before, after = (str(write_raster(tmp_path / f"{name}.tif")) for name in ("dsm1", "dsm2"))
    given: Values = {"RASTER": scene, "AFTER": scene, "WAY": 0, "ADAPTER": paired, "OUTPUT": "memory:"}
    assert "needs a second raster (DSM). Choose" in bench.refusal("detectchange", given)
    given["SECOND"] = before
    assert "of the date after as well" in bench.refusal("detectchange", given)
    bench.run("detectchange", {**given, "AFTER_SECOND": after})
    first, second, _ = bench.asked
    assert [asked["spec"]["rasters"]["second"] for _, asked in (first, second)] == [before, after]


# ---- tuning and measuring


def test_fine_tune(bench: Bench, scene: str, tmp_path: Path) -> None:
    given = {
        "RASTER": scene,
        "LABELS": polygons(*(box(LEFT + 20 * i, TOP - 40) for i in range(5))),
        "CLASS_FIELD": "kind",
        "TASK": 1,
        "RUNG": "decoder",
        "OPTIONS": "schedule.batch=1\n\nschedule.rate=1e-4",
        "TUNED": str(tmp_path / "mine.safetensors"),
        "FIGURES": "memory:",
    }
    results = bench.run("finetune", given)
    (planned, plan), (ran, params) = bench.asked
    run = params["run"]
    assert (planned, plan["measure"], ran) == ("tune/plan", False, "tune/run")
    assert (run["task"], run["methods"], run["steps"]) == ("instances", ["decoder"], 60)
    assert run["options"] == ["schedule.batch=1", "schedule.rate=1e-4"]
    assert run["inputs"]["labels"]["class_field"] == "kind"
    labels = QgsVectorLayer(run["inputs"]["labels"]["path"])  # with the records, so that the run can be repeated
    assert (labels.featureCount(), Path(labels.source()).parent) == (5, tmp_path / "mine.run")
    assert run["folder"] == str(tmp_path / "mine.run")
    assert (results["BETTER"], results["VERDICT"]) == (True, "Better by 0.2.")
    assert Path(results["TUNED"]).is_file()
    assert Path(results["REPORT"]).is_file()
    rows = [feature.attributes() for feature in bench.layer(results["FIGURES"]).getFeatures()]
    assert rows[0] == ["iou_1_click", "IoU after one click", None, 0.4, 0.6, 0.1, 0.3]
    assert rows[1][2:4] == ["water", None]


def test_fine_tune_refuses_what_cannot_be(bench: Bench, scene: str, tmp_path: Path) -> None:
    given = {"RASTER": scene, "LABELS": polygons(box(LEFT, TOP - 40)), "TUNED": str(tmp_path / "mine.safetensors")}
    with pytest.raises(QgsProcessingException, match=r"streams.*Possible are: decoder"):
        bench.run("finetune", {**given, "RUNG": "streams"})
    assert "schedule" in bench.refusal("finetune", {**given, "OPTIONS": "batch 1"})
    assert "classes" in bench.refusal("finetune", {**given, "TASK": 2})
    assert "no adapter" in bench.refusal("finetune", {**given, "PREVIOUS": "nowhere.safetensors"})


def test_evaluate(bench: Bench, scene: str, tmp_path: Path) -> None:
    path = adapter(tmp_path / "adapters")
    given = {
        "RASTER": scene,
        "LABELS": polygons(box(LEFT, TOP - 40)),
        "ADAPTER": path,
        "FIGURES": "memory:",
        "REPORT": str(tmp_path / "report.html"),
    }
    results = bench.run("evaluate", given)
    ((method, params),) = bench.asked
    assert (method, params["first"], params["second_adapter"]) == ("adapters/compare", "", path)
    assert (params["model"], params["raster"]["bands"]) == ("vit_b", [3, 2, 1])
    assert (results["SENTENCE"], results["OBJECTS"]) == ("The second is better.", 12)
    assert bench.layer(results["FIGURES"]).featureCount() == 2
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "IoU after one click" in page
    assert "<th>vit_b</th><th>roofs</th>" in page
    other = adapter(tmp_path, "other", base={"name": "tiny"})
    assert "compared" in bench.refusal("evaluate", {**given, "AGAINST": other})


# ---- what goes wrong


def test_a_failure_is_its_sentence(bench: Bench, scene: str) -> None:
    bench.behave("fail")
    with pytest.raises(QgsProcessingException, match=r"The raster is gone. Choose another.\ndetails of it"):
        bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})


@pytest.mark.parametrize("behaviour", ["work", "deaf"])
def test_cancel_in_the_background(bench: Bench, scene: str, behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's thread waits, QGIS's does not; an engine that does not heed the cancel is ended."""
    from samtune.plugin.processing import engine

    monkeypatch.setattr(engine, "CANCEL_PATIENCE", 1.0)
    bench.behave(behaviour)
    algorithm = bench.algorithm("segmenteverything")
    ended: list[bool] = []
    task = QgsProcessingAlgRunnerTask(algorithm, {"RASTER": scene, "OUTPUT": "memory:"}, bench.context, bench.feedback)
    task.executed.connect(lambda good, _results: ended.append(good))
    QgsApplication.taskManager().addTask(task)
    wait_until(lambda: bench.feedback.progress() > 2)
    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(10)
    bench.feedback.cancel()
    wait_until(lambda: bool(ended))
    assert ended == [False]
    assert "step" in bench.feedback.textLog()


def test_engines_are_used_again(bench: Bench, scene: str) -> None:
    bench.provider.engines = Engines(linger=120)
    bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})
    (idle,) = bench.provider.engines._idle
    bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})
    (again,) = bench.provider.engines._idle
    assert again.engine.pid == idle.engine.pid
    bench.behave("fail")  # other settings: another engine
    with pytest.raises(QgsProcessingException):
        bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})
    assert len(bench.provider.engines._idle) == 2
    bench.provider.engines.close()
    assert again.engine.wait(10)


def test_idle_engines_end(bench: Bench, scene: str) -> None:
    bench.provider.engines = Engines(linger=0.2)
    bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})
    (idle,) = bench.provider.engines._idle
    assert idle.engine.wait(10)
    assert bench.provider.engines._idle == []


def test_without_an_environment_it_says_how_to_get_one(
    bench: Bench, scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command() -> list[str]:
        raise EnvironmentMissingError("There is no environment. Make one.")

    monkeypatch.setattr(
        algorithm_module, "engine_config", lambda _settings, background: EngineConfig(command, EngineSettings())
    )
    with pytest.raises(QgsProcessingException, match=r"There is no environment.*SAMTUNE_ENGINE_PYTHON"):
        bench.run("segmenteverything", {"RASTER": scene, "OUTPUT": "memory:"})


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("segmentprompts", {"BANDS": [1, 2]}, "one or three bands"),
        ("segmentprompts", {"BANDS": [1, 2, 9]}, "has 3 bands"),
        ("segmentprompts", {"ADAPTER": "nowhere.safetensors"}, "no adapter “nowhere.safetensors”"),
        ("segmentprompts", {"ADAPTER": "semantic.safetensors"}, "another use"),
        ("findall", {"ADAPTER": "promptable.safetensors"}, "another use"),
        ("classmap", {"ADAPTER": "promptable.safetensors"}, "another use"),
        ("findall", {"ADAPTER": "wide.safetensors"}, "needs the bands 5"),
        ("findall", {"ADAPTER": "paired.safetensors"}, "needs a second raster (DSM)"),
        ("findall", {"ADAPTER": "broken.safetensors"}, "damaged"),
    ],
)
def test_bad_parameters_are_refused_in_words(
    bench: Bench, scene: str, tmp_path: Path, name: str, change: Values, says: str
) -> None:
    folder = tmp_path / "adapters"
    for head in ("semantic", "promptable", "instances"):
        adapter(folder, head, head=head)
    adapter(folder, "wide", inputs={"rgb": [1, 2, 3], "bands": [{"number": 5}]})
    adapter(folder, "paired", inputs={"rgb": [1, 2, 3], "second": {"name": "DSM"}})
    (folder / "broken.safetensors").write_bytes(b"x")
    given: Values = {"RASTER": scene, "OUTPUT": "memory:", "MAP": str(tmp_path / "m.tif"), "PROMPTS": points((1, 1))}
    good = {"findall": "instances", "classmap": "semantic"}.get(name)
    if good:
        given["ADAPTER"] = f"{good}.safetensors"
    assert bench.refusal(name, given) == ""
    assert says in bench.refusal(name, {**given, **change})


def test_a_layer_that_only_qgis_reads_is_exported(bench: Bench, project: QgsProject, tmp_path: Path) -> None:
    from osgeo import gdal

    gdal.FileFromMemBuffer("/vsimem/scene.tif", write_raster(tmp_path / "scene.tif").read_bytes())
    layer = QgsRasterLayer("/vsimem/scene.tif", "in memory")
    project.addMapLayer(layer)
    bench.context.setProject(project)
    given = {"RASTER": layer.id(), "OUTPUT": "memory:"}
    try:
        bench.run("segmenteverything", given)
        assert "could not be resumed" in bench.refusal("segmenteverything", {**given, "JOB": str(tmp_path / "j")})
    finally:
        project.removeAllMapLayers()
        gdal.Unlink("/vsimem/scene.tif")
    ((_, params),) = bench.asked
    (path,) = params["spec"]["rasters"]["paths"]
    assert path.endswith(".tif")
    assert not path.startswith("/vsimem")
    assert "temporary GeoTIFF" in bench.feedback.textLog()


def test_a_service_is_refused_in_words(bench: Bench, project: QgsProject) -> None:
    layer = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png&zmax=3&zmin=0", "tiles", "wms")
    project.addMapLayer(layer)
    bench.context.setProject(project)
    with pytest.raises(QgsProcessingException, match="Save the area you need as a GeoTIFF"):
        bench.run("segmenteverything", {"RASTER": layer.id(), "OUTPUT": "memory:"})


# ---- boxes and counts


def test_oriented_boxes_keep_the_objects_own_area(bench: Bench) -> None:
    layer = polygons("Polygon((0 0, 4 4, 3 5, -1 1, 0 0))")
    found = bench.layer(bench.run("orientedboxes", {"INPUT": layer, "OUTPUT": "memory:"})["OUTPUT"])
    (feature,) = found.getFeatures()
    assert (feature["kind"], feature["obj_area"]) == ("k0", 7.0)
    assert feature["area"] == pytest.approx(8.0)
    assert feature["perimeter"] == pytest.approx(2 * (32**0.5 + 2**0.5))


def test_axis_aligned_boxes(bench: Bench) -> None:
    layer = polygons("Polygon((0 0, 4 4, 3 5, -1 1, 0 0))")
    found = bench.layer(bench.run("axisboxes", {"INPUT": layer, "OUTPUT": "memory:"})["OUTPUT"])
    (feature,) = found.getFeatures()
    assert (feature["width"], feature["height"], feature["area"], feature["obj_area"]) == (5.0, 5.0, 25.0, 7.0)


def test_count_per_zone(bench: Bench) -> None:
    """An object over two zones counts once."""
    objects = polygons(box(0, 0), box(20, 0), box(94, 0), box(300, 0))
    zones = polygons(box(0, 0, 100), box(100, 0, 100), box(0, 500, 50))
    given = {"INPUT": objects, "ZONES": zones, "SUM_OF": "area", "OUTPUT": "memory:"}
    found = list(bench.layer(bench.run("countperzone", given)["OUTPUT"]).getFeatures())
    assert [(feature["objects"], feature["objects_sum"]) for feature in found] == [(3, 24.0), (0, 0.0), (0, 0.0)]
    del given["SUM_OF"]
    found = list(bench.layer(bench.run("countperzone", given)["OUTPUT"]).getFeatures())
    assert [feature["objects"] for feature in found] == [3, 0, 0]
    assert "objects_sum" not in found[0].fields().names()


# ---- models and batch


def test_a_model_chains_two(bench: Bench, scene: str, project: QgsProject) -> None:
    """Segment from prompts, then oriented boxes, in the graphical modeler's terms."""
    model = QgsProcessingModelAlgorithm("chain", "tests")
    for parameter in (QgsProcessingParameterRasterLayer("raster"), QgsProcessingParameterVectorLayer("prompts")):
        component = QgsProcessingModelParameter(parameter.name())
        component.setPosition(QPointF(0, 0))
        model.addModelParameter(parameter, component)
    source = QgsProcessingModelChildParameterSource
    first = QgsProcessingModelChildAlgorithm("samtune:segmentprompts")
    first.setChildId("segment")
    first.addParameterSources("RASTER", [source.fromModelParameter("raster")])
    first.addParameterSources("PROMPTS", [source.fromModelParameter("prompts")])
    model.addChildAlgorithm(first)
    second = QgsProcessingModelChildAlgorithm("samtune:orientedboxes")
    second.setChildId("boxes")
    second.addParameterSources("INPUT", [source.fromChildOutput("segment", "OUTPUT")])
    output = QgsProcessingModelOutput("boxes")
    output.setChildId("boxes")
    output.setChildOutputName("OUTPUT")
    second.setModelOutputs({"boxes": output})
    model.addChildAlgorithm(second)
    model.updateDestinationParameters()
    prompts = points((10, 10))
    project.addMapLayers([prompts])
    bench.context.setProject(project)
    (name,) = [parameter.name() for parameter in model.destinationParameterDefinitions()]
    results, good = model.run(
        {"raster": scene, "prompts": prompts.id(), name: "memory:"}, bench.context, bench.feedback
    )
    assert good, bench.feedback.textLog()
    assert bench.layer(results[name]).featureCount() == 2


def test_batch_mode(bench: Bench, scene: str, tmp_path: Path) -> None:
    """Processing's batch mode runs an algorithm over and over with other values, which must be texts."""
    algorithm = bench.algorithm("segmenteverything")
    second = str(write_raster(tmp_path / "other.tif"))
    rows = [
        {"RASTER": scene, "BANDS": "1", "MODEL": "tiny", "OUTPUT": str(tmp_path / "1.gpkg")},
        {"RASTER": second, "BANDS": "3,2,1", "MODEL": "vit_b", "OUTPUT": str(tmp_path / "2.gpkg")},
    ]
    results, good = QgsProcessingAlgorithm.run, []
    for row in rows:
        assert bench.refusal("segmenteverything", row) == ""
        _, done = results(algorithm, row, bench.context, bench.feedback)
        good.append(done)
    assert good == [True, True]
    specs = [params["spec"] for _, params in bench.asked]
    assert [(spec["rasters"]["bands"], spec["model"]) for spec in specs] == [([1], "tiny"), ([3, 2, 1], "vit_b")]
    assert all((tmp_path / f"{number}.gpkg").is_file() for number in (1, 2))


def test_what_is_asked_for_can_be_written_as_a_command(bench: Bench, scene: str) -> None:
    """The history, Python and ``qgis_process`` all live on texts of parameters."""
    algorithm = bench.algorithm("segmentprompts")
    given = {"RASTER": scene, "PROMPTS": "prompts.gpkg", "OUTPUT": QgsProcessingOutputLayerDefinition("out.gpkg")}
    command, good = algorithm.asQgisProcessCommand(given, bench.context)
    assert good
    assert command.startswith("qgis_process run samtune:segmentprompts")
    spin()
