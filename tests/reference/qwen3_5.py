"""A tiny seeded model of Qwen3.5's kind, whose layers 0 to 2 and 4 have linear attention: what can be read of its weights.

Writes ../fixtures/tiny-qwen3_5/, as a multimodal checkpoint stores it, and qwen3_5.json: weights of the one layer with heads, gains, and
the logits of three directions of the residual stream. transformers' own modules are held against both.

    python qwen3_5.py
"""

import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from common import write

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "tiny-qwen3_5")
D, HEADS, KV, D_HEAD, FULL = 20, 3, 1, 8, 3


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    config = Qwen3_5TextConfig(
        hidden_size=D, intermediate_size=26, num_hidden_layers=5, num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=D_HEAD,
        vocab_size=41, max_position_embeddings=64, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=6,
        linear_value_head_dim=5, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]})
    torch.manual_seed(35)
    model = Qwen3_5ForCausalLM(config).eval()
    for _, parameter in sorted(model.named_parameters()):
        parameter.data = torch.randn(parameter.shape) * (0.3 if parameter.ndim == 1 else 0.5)
    model.save_pretrained(FOLDER)
    file = os.path.join(FOLDER, "model.safetensors")
    weights = load_file(file)
    assert list(config.layer_types).index("full_attention") == FULL
    stored = {key.replace("model.", "model.language_model.", 1): value for key, value in weights.items()}
    stored["mtp.fc.weight"] = torch.randn(D, 2 * D)
    stored["model.visual.pos_embed.weight"] = torch.randn(4, 6)
    save_file(stored, file, metadata={"format": "pt"})
    os.remove(os.path.join(FOLDER, "generation_config.json"))

    attention, norm = model.model.layers[FULL].self_attn, model.model.norm
    directions = torch.randn(3, D)
    x = torch.randn(1, 6, D)
    with torch.no_grad():
        # The gain is 1 + w: what the norm gives is the direction times it, up to the norm's own scalar.
        scaled = norm(directions) * (directions.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps).sqrt()
        logits = model.lm_head(scaled)
        torch.testing.assert_close(scaled, directions * (1 + weights["model.norm.weight"]))
        # A head's rows of q_proj are its queries, then its gate.
        kept = []
        handle = attention.q_norm.register_forward_pre_hook(lambda _m, args: kept.append(args[0]))
        positions = model.model.rotary_emb(x, torch.arange(6).expand(3, 1, 6))
        attention(x, position_embeddings=positions, attention_mask=None)
        handle.remove()
        w_q = weights[f"model.layers.{FULL}.self_attn.q_proj.weight"].reshape(HEADS, 2, D_HEAD, D)[:, 0]
        torch.testing.assert_close(torch.einsum("bnd,hed->bnhe", x, w_q), kept[0])
    layer = f"model.layers.{FULL}.self_attn."
    write("qwen3_5.json", {
        "W_Q": [w.T.numpy() for w in w_q],
        "W_K": weights[layer + "k_proj.weight"].T.numpy(),
        "W_O": [w.T.numpy() for w in weights[layer + "o_proj.weight"].split(D_HEAD, dim=1)],
        "gains": {
            "ln_final": (1 + weights["model.norm.weight"]).numpy(),
            f"blocks.{FULL}.attn.q_norm": (1 + weights[layer + "q_norm.weight"]).numpy(),
            "blocks.0.ln2": (1 + weights["model.layers.0.post_attention_layernorm.weight"]).numpy(),
        },
        "directions": directions.numpy(), "logits": logits.numpy(),
    })


if __name__ == "__main__":
    main()
