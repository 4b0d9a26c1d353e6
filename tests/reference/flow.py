"""Matches between dictionaries, origin scores and head attribution (Laptev et al. 2025; Kissane et al. 2024), in float64.

Needs the fixtures of make_fixtures.py and forward.py, and for the real models the folder of real_models.py.

    python flow.py [FOLDER]
"""

import os
import sys

import numpy as np
from safetensors.numpy import load_file

from common import write
from real_models import Model

RNG = np.random.default_rng(29)
FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")


def draw(*shape):
    return np.round(RNG.normal(size=shape), 3)


def unit(rows):
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def matches(a, b, k, absolute=False, sources=None):
    """[source, target, rank, cosine], equal cosines by target."""
    cosines = unit(a) @ unit(b).T
    out = []
    for source in range(len(a)) if sources is None else sources:
        row = cosines[source]
        order = np.lexsort((np.arange(len(row)), -np.round(np.abs(row) if absolute else row, 12)))[:k]
        out += [[source, int(target), rank + 1, row[target]] for rank, target in enumerate(order)]
    return out


def shares(norms):
    total = norms.sum(axis=1, keepdims=True)
    return norms / np.where(total > 0, total, 1.0)


def gemma2():
    """d_model 12, 4 heads of 8, 20 neurons; layer 1."""
    weights = {name.removeprefix("model."): w.astype(np.float64)
               for name, w in load_file(os.path.join(FIXTURES, "tiny-gemma2", "model.safetensors")).items()}
    heads, d_head, layer = 4, 8, 1
    at = lambda name: weights[f"layers.{layer}.{name}.weight"]
    post_attention, post_mlp = 1 + at("post_attention_layernorm"), 1 + at("post_feedforward_layernorm")
    w_o = at("self_attn.o_proj").T
    target, res, res_read, z = draw(9, 12), draw(14, 12), draw(14, 12), draw(11, heads * d_head)
    target[4] = 0.0
    res[3] = target[1] * 2.0 + 0.05
    z[6] = 0.0
    z_write = (z @ w_o) * post_attention
    neurons = at("mlp.down_proj").T * post_mlp
    found = {}
    for name, write_directions, absolute in [("res", res, False), ("mlp", neurons, True), ("att", z_write, False)]:
        best = matches(target, write_directions, 1, absolute)
        found[f"id_{name}"] = [row[1] for row in best]
        found[f"s_{name}"] = [abs(row[3]) if absolute else row[3] for row in best]
    cut = 0.6
    groups = ["&".join(name.upper() for name in ("res", "mlp", "att") if found[f"s_{name}"][i] >= cut) or "nowhere"
              for i in range(len(target))]
    parts = z.reshape(len(z), heads, d_head)
    written = np.stack([parts[:, h] @ w_o[h * d_head : (h + 1) * d_head] * post_attention for h in range(heads)], axis=1)
    return {
        "layer": layer, "target": target, "res": res, "res_read": res_read, "z": z,
        "write_3": matches(target, res, 3), "write_absolute_2": matches(target, res, 2, True),
        "write_absolute_all": matches(target, res, 14, True, [2]),
        "write_read_2": matches(target, res_read, 2), "read_1": matches(target, res_read, 1),
        "with_z_2": matches(target, z_write, 2),
        "origins": found | {"cut": cut, "group": groups},
        "head_attribution": {"z": shares(np.linalg.norm(parts, axis=2)), "residual": shares(np.linalg.norm(written, axis=2))},
    }


def gpt2():
    """LayerNorm: neurons read what the norm lets through, the direction after the gain without its mean."""
    weights = {name.removeprefix("transformer."): w.astype(np.float64)
               for name, w in load_file(os.path.join(FIXTURES, "forward", "gpt2", "model.safetensors")).items()}

    def read(layer):
        rows = weights[f"h.{layer}.mlp.c_fc.weight"].T * weights[f"h.{layer}.ln_2.weight"]
        return rows - rows.mean(axis=1, keepdims=True)

    write_directions = weights["h.0.mlp.c_proj.weight"]
    return {"read_2": matches(read(0), read(1), 2), "write_read_2": matches(write_directions, read(1), 2)}


def real(file, folder, layer):
    model = Model(os.path.join(folder, file))
    sources = [0, 7, 100, 555, model.m - 1]
    return {"layer": layer, "sources": sources,
            "write_absolute_3": matches(model.write(layer), model.write(layer + 1), 3, True, sources),
            "write_read_absolute_3": matches(model.write(layer), model.read(layer + 1), 3, True, sources)}


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/saerepl-real")
    write("flow.json", {
        "tiny-gemma2": gemma2(), "gpt2": gpt2(),
        "smollm2-135m.gguf": real("smollm2-135m.gguf", folder, 5), "gemma3-270m.gguf": real("gemma3-270m.gguf", folder, 3),
    })
