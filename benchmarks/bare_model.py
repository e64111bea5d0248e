"""Time the bare network: the reference of the other benchmarks. Prints JSON; runs in the engine's environment.

    .venv/bin/python benchmarks/bare_model.py MODEL_FILE [--model tiny] [--runs 20] [--threads 1]

Only ``image_encoder(x)`` and ``prompt_encoder`` + ``mask_decoder`` are timed, on tensors that lie ready: no reading, no
normalisation, no conversion, no message.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make_importable() -> None:
    """Make the checkout importable as ``samtune``."""
    spec = importlib.util.spec_from_file_location("samtune_bootstrap", ROOT / "engine" / "bootstrap.py")
    if spec is None or spec.loader is None:
        raise SystemExit("engine/bootstrap.py is missing")
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    bootstrap.make_importable(ROOT)


def timed(run: Callable[[], object], runs: int) -> list[float]:
    """Return the seconds of each run after one that does not count."""
    run()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Load the model, time it, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    make_importable()
    import torch
    from samtune.models.fast_attention import fastest_precision
    from samtune.models.loading import load
    from samtune.models.registry import cards

    torch.set_num_threads(options.threads)
    network = load(cards()[options.model], options.file, torch.device("cpu")).network
    size = network.image_encoder.img_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    points = (torch.full((1, 1, 2), size / 2), torch.ones(1, 1))
    plane = torch.zeros(1, 1, size // 4, size // 4)
    with torch.inference_mode():

        def encode() -> torch.Tensor:
            with fastest_precision(image.device):
                return network.image_encoder(image)

        embedding = encode().float()
        position = network.prompt_encoder.get_dense_pe()

        def decode() -> object:
            sparse, dense = network.prompt_encoder(points=points, boxes=None, masks=plane)
            return network.mask_decoder(
                image_embeddings=embedding,
                image_pe=position,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )

        result = {
            "encode": timed(encode, options.runs),
            "decode": timed(decode, options.runs),
            "threads": options.threads,
            "size": size,
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
