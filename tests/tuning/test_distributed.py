"""Two processes on the processor learn what one with twice the batch does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samtune.engine.progress import NullProgress
from samtune.engine.tuning.distributed import Group, joined
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import Schedule
from samtune.models.peft.adapter_file import load_adapter
from samtune.models.peft.contract import MethodConfig
from samtune.models.peft.gate_config import GateConfig
from samtune.models.peft.lora import LoraConfig

from .ground import make_ground, service

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import importlib.util, json, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("bootstrap", Path(sys.argv[1]) / "engine" / "bootstrap.py")
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)
bootstrap.make_importable(Path(sys.argv[1]))
from dataclasses import replace

import torch
from samtune.engine.device import DeviceChoice
from samtune.engine.model_service import ModelService
from samtune.engine.progress import NullProgress
from samtune.engine.tuning.run import tune
from samtune.engine.tuning.settings import TuneSettings
from samtune.models import registry

torch.set_num_threads(1)
settings = TuneSettings.from_json(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
card = replace(registry.card("tiny"), input_size=128)
models = ModelService(Path("nowhere"), DeviceChoice("cpu", "", 1), {"tiny": card})
tune(settings, models, NullProgress())
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("method", [LoraConfig(rank=2, start=0.5), GateConfig()], ids=["lora", "gate"])
def test_two_processes_learn_what_one_does(tmp_path: Path, method: MethodConfig) -> None:

    ground = make_ground(tmp_path, size=384, each=3)
    schedule = Schedule(steps=2, batch=2, objects=1, prompts=1, checks=1)
    # With so few objects each part of the ground would be held out in turn, which is for one process.
    output = tmp_path / "alone.safetensors"
    alone = ground.settings(output, methods=(method,), schedule=schedule, hold_out=0.0, amp=False)
    tune(alone, service(), NullProgress())
    together = replace(alone, output=tmp_path / "both.safetensors", schedule=replace(schedule, batch=1))
    (tmp_path / "settings.json").write_text(json.dumps(together.to_json()), encoding="utf-8")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    program = [str(tmp_path / "program.py"), str(ROOT), str(tmp_path / "settings.json")]
    subprocess.run([*launcher, *program], env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=280, check=True)
    model = service().get("tiny")
    one, other = (
        load_adapter(settings.output, model.network, model.card.sha256)[0].state_dict()
        for settings in (alone, together)
    )
    assert max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name or "delta" in name) > 0
    if "gate.index" in one:
        # Adam's first steps go by signs, and a gradient of next to nothing may get either sign.
        chosen, again = (set(state["gate.index"].tolist()) for state in (one, other))
        assert len(chosen & again) > 0.98 * len(chosen)
        return
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=1e-4), name


def test_one_process_is_a_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = joined()
    assert (group.rank, group.size, group.first) == (0, 1, True)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    group.add_gradients([parameter])
    assert parameter.grad.tolist() == [3.0, 3.0]
    assert Group().agree(0.5, torch.device("cpu")) == 0.5
