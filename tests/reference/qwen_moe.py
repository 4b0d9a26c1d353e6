"""Tiny seeded models of Qwen's mixtures of experts: what can be read of their weights.

Writes ../fixtures/tiny-qwen2_moe/ and ../fixtures/tiny-qwen3_moe/ (layer 0 with one MLP, layers 1 and 2 with experts), and qwen_moe.json:
weights of heads, gains, and the logits of three directions of the residual stream, by transformers' own modules.

    python qwen_moe.py
"""

import os
import shutil

import torch
from safetensors.torch import load_file
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from common import write

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
D, HEADS, KV, LAYER = 24, 4, 2, 1


def made(name, config, kind):
    folder = os.path.join(FIXTURES, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(36)
    model = kind(config).eval()
    for _, parameter in sorted(model.named_parameters()):
        parameter.data = torch.randn(parameter.shape) * (0.3 if parameter.ndim == 1 else 0.5)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    weights = load_file(os.path.join(folder, "model.safetensors"))
    directions, norm = torch.randn(3, D), model.model.norm
    with torch.no_grad():
        # Up to the norm's own scalar.
        logits = model.lm_head(norm(directions) * (directions.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt())
    layer, kept = f"model.layers.{LAYER}.self_attn.", {}
    attention, x = model.model.layers[LAYER].self_attn, torch.randn(1, 6, D)
    with torch.no_grad():
        kept = {part: getattr(attention, f"{part}_proj")(x)[0].numpy() for part in "qkv"}
    return {
        "x": x[0].numpy(), **kept,
        "W_O": [w.T.numpy() for w in weights[layer + "o_proj.weight"].split(attention.head_dim, dim=1)],
        "W_in": weights["model.layers.0.mlp.up_proj.weight"].T.numpy(),
        "ln2": weights[f"model.layers.{LAYER}.post_attention_layernorm.weight"].numpy(),
        "directions": directions.numpy(), "logits": logits.numpy(),
    }


def main():
    common = dict(
        hidden_size=D, intermediate_size=26, num_hidden_layers=3, num_attention_heads=HEADS, num_key_value_heads=KV, vocab_size=41,
        max_position_embeddings=64, moe_intermediate_size=7, num_experts_per_tok=2, tie_word_embeddings=False, mlp_only_layers=[0])
    write("qwen_moe.json", {
        "qwen2_moe": made("tiny-qwen2_moe", Qwen2MoeConfig(num_experts=3, shared_expert_intermediate_size=9, **common), Qwen2MoeForCausalLM),
        "qwen3_moe": made("tiny-qwen3_moe", Qwen3MoeConfig(num_experts=3, head_dim=8, **common), Qwen3MoeForCausalLM),
    })


if __name__ == "__main__":
    main()
