"""The classes of a job's prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from samtune.engine.batch.features import read_prompts
from samtune.engine.batch_messages import VectorSource
from samtune.engine.class_names import name_of_class
from samtune.engine.tuning.settings import Labels
from samtune.engine.tuning.vectors import read_shapes

from .jobs import prompts


def test_a_class_given_by_a_number_is_called_the_same_in_jobs_and_in_training(tmp_path: Path) -> None:
    squares = [shapely.box(x, 0, x + 5, 5) for x in (0, 10, 20)]
    path = prompts(tmp_path / "a.gpkg", squares, kind=[3.0, 2.5, np.nan])
    found = read_prompts(VectorSource(str(path)), "kind", "").features
    assert [feature.label for feature in found] == ["3", "2.5", ""]
    learnt = read_shapes(Labels(path, class_field="kind"), "").items
    assert [shape.label for shape in learnt] == ["3", "2.5", "unnamed"]
    assert found[0].values[1] == 3.0, "the attribute itself stays as it is"


def test_names_of_classes() -> None:
    values = (None, float("nan"), 3, 3.0, np.float32(4.0).item(), 0.5, " roof ", "")
    assert [name_of_class(value) for value in values] == ["", "", "3", "3", "4", "0.5", "roof", ""]
