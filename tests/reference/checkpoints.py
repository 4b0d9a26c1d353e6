"""Checkpoints as training scripts leave them: weights beside numbers of NumPy, paths, classes and whole modules.

Writes ../fixtures/checkpoints/ with torch.save, and checkpoints.json: the weights, and what the numbers are in Python.

    python checkpoints.py
"""

import argparse
import collections
import dataclasses
import datetime
import os
import pathlib
import sys

import numpy as np
import torch

from common import write

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures", "checkpoints")
D, N, K = 6, 10, 3
RNG = np.random.default_rng(43)


@dataclasses.dataclass
class Config:
    k: int = K
    lr: float = 3e-4
    path: pathlib.Path = pathlib.PurePosixPath("/data/run")
    betas: tuple = (0.9, 0.999)


class Bag(dict):
    """A class of dicts, as many configurations are."""


class SAE(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(D, N), torch.nn.Linear(N, D)
        self.load_state_dict(weights)


def normal(*shape):
    return torch.from_numpy(np.round(RNG.normal(size=shape), 3).astype(np.float32))


def save(value, name):
    torch.save(value, os.path.join(OUT, name))


def main():
    os.makedirs(OUT, exist_ok=True)
    # Classes of this script are of the module that a training script is.
    for of in (Config, Bag, SAE):
        of.__module__ = "training.sae"
    sys.modules["training.sae"] = sys.modules[__name__]
    sys.modules["training"] = sys.modules[__name__]

    weights = {"encoder.weight": normal(N, D), "encoder.bias": normal(N), "decoder.weight": normal(D, N), "decoder.bias": normal(D)}
    tied = {**{key: value for key, value in weights.items() if key != "decoder.bias"}, "b_dec": weights["decoder.bias"]}
    numbers = {
        "f64": np.float64(0.1), "f32": np.float32(0.25), "f16": np.float16(-1.5), "i64": np.int64(-7), "i32": np.int32(1 << 20),
        "u8": np.uint8(200), "bool": np.bool_(True), "big": np.array([513], dtype=">i2")[0],
    }
    cfg = {
        **numbers, "int": 5, "float": 1e-3, "text": "gelu", "flag": False, "nothing": None, "long": 1 << 80,
        "array": np.arange(4, dtype=np.float32), "shape": torch.Size([2, 3]), "dtype": torch.bfloat16,
        "device": torch.device("cuda:0"), "path": pathlib.PurePosixPath("/data/run"), "date": datetime.date(2024, 5, 6),
        "ordered": collections.OrderedDict(a=1, b=collections.OrderedDict(c=2)), "default": collections.defaultdict(list, x=[1]),
        "names": {"one"}, "args": argparse.Namespace(seed=np.int64(42), out=pathlib.PurePosixPath("x")), "config": Config(k=9),
        "bag": Bag(width=12), "complex": 1 + 2j, "function": torch.nn.functional.relu, "history": [np.float64(1.0), Config()],
    }
    save({"state_dict": weights, "cfg": cfg, "step": np.int64(1000)}, "objects.pt")
    save({**tied, "k": K}, "k-number.pt")
    save({**tied, "k": np.int64(K)}, "k-numpy.pt")
    save({"state_dict": weights, "cfg": Config()}, "k-config.pt")
    save(SAE(weights), "module.pt")
    save({**weights, "decoder.weight": weights["decoder.weight"].numpy()}, "numpy-weight.pt")
    save(Config(), "no-weights.pt")
    write("checkpoints.json", {
        "source": "checkpoints.py",
        "weights": {key: value.numpy() for key, value in weights.items()},
        "metadata": {
            **{f"cfg.{key}": value.item() for key, value in numbers.items()},
            "cfg.int": 5, "cfg.float": 1e-3, "cfg.ordered.b.c": 2, "cfg.args.seed": 42, "cfg.config.k": 9, "cfg.bag.width": 12, "step": 1000,
        },
    }, depth=2)


if __name__ == "__main__":
    main()
