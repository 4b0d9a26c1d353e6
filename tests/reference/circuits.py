#!/usr/bin/env python3
"""Heads as maps of the residual stream, by whole [d_model, d_model] matrices: singular values and composition. Writes circuits.json."""

import os

import numpy as np
from safetensors.numpy import load_file

from common import write

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")


def gemma2():
    """Per layer and head: what a head makes of a residual row, (QK, OV), with (1 + w) gains before and after attention."""
    tensors = {name: t.astype(np.float64) for name, t in load_file(f"{FIXTURES}/tiny-gemma2/model.safetensors").items()}
    layers, heads, groups, width = 3, 4, 2, 8
    for layer in range(layers):
        get = lambda name: tensors[f"model.layers.{layer}.{name}.weight"]
        before, after = np.diag(1 + get("input_layernorm")), np.diag(1 + get("post_attention_layernorm"))
        for head in range(heads):
            own, shared = slice(head * width, (head + 1) * width), head // (heads // groups)
            shared = slice(shared * width, (shared + 1) * width)
            q, k, v = get("self_attn.q_proj")[own].T, get("self_attn.k_proj")[shared].T, get("self_attn.v_proj")[shared].T
            o = get("self_attn.o_proj")[:, own].T
            yield (layer, head), before @ q @ k.T @ before, before @ v @ o @ after


def gpt2():
    """LayerNorm: the mean over d_model is taken off before the gain."""
    tensors = {name: t.astype(np.float64) for name, t in load_file(f"{FIXTURES}/forward/gpt2/model.safetensors").items()}
    layers, heads, d = 3, 3, 24
    width = d // heads
    centre = np.eye(d) - np.ones((d, d)) / d
    for layer in range(layers):
        read = centre @ np.diag(tensors[f"h.{layer}.ln_1.weight"])
        weight, out = tensors[f"h.{layer}.attn.c_attn.weight"], tensors[f"h.{layer}.attn.c_proj.weight"]
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            q, k, v = (weight[:, part * d :][:, own] for part in range(3))
            yield (layer, head), read @ q @ k.T @ read.T, read @ v @ out[own]


def entry(maps):
    maps = list(maps)
    rank = {"singular_qk": [], "singular_ov": []}
    for _, qk, ov in maps:
        rank["singular_qk"].append(np.linalg.svd(qk, compute_uv=False)[:8])
        rank["singular_ov"].append(np.linalg.svd(ov, compute_uv=False)[:8])
    size = np.linalg.norm
    matrices = {name: np.full((len(maps), len(maps)), np.nan) for name in "qkv"}
    for i, ((wrote, _), _, ov) in enumerate(maps):
        for j, ((reads, _), qk, later) in enumerate(maps):
            for name, to in (("q", qk), ("k", qk.T), ("v", later)):
                if reads > wrote:
                    matrices[name][i, j] = size(ov @ to) / size(ov) / size(to) - 1 / np.sqrt(len(ov))
    # What the singular directions give back: the map of the last head itself.
    return {**rank, **matrices, "last_qk": maps[-1][1], "last_ov": maps[-1][2]}


write("circuits.json", {"tiny-gemma2": entry(gemma2()), "forward/gpt2": entry(gpt2())})
