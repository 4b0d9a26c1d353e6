"""Large files to measure with, of random numbers: an archive of Gemma Scope's size (302 MB) and a model of Gemma-2-2B's shapes (5.2 GB of
bf16 in three shards). They are no fixtures: remove them afterwards.

    python large.py FOLDER
"""

import json
import os
import sys

import numpy as np

D, LAYERS, HEADS, KV, D_HEAD, D_MLP, VOCABULARY, LATENTS = 2304, 26, 8, 4, 256, 9216, 256000, 16384
SHARDS = 3


def archive(folder):
    rng = np.random.default_rng(1)
    f32 = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    w_dec = f32(LATENTS, D)
    w_dec /= np.linalg.norm(w_dec, axis=1, keepdims=True)
    path = os.path.join(folder, "gemma-scope-2b-pt-res", "layer_12", "width_16k", "average_l0_82")
    os.makedirs(path, exist_ok=True)
    np.savez(os.path.join(path, "params.npz"), W_enc=np.ascontiguousarray(w_dec.T), W_dec=w_dec, b_enc=f32(LATENTS),
             b_dec=f32(D), threshold=np.abs(f32(LATENTS)))


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, D)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{prefix}{norm}_layernorm.weight", (D,)
        for name, rows, columns in (("self_attn.q_proj", HEADS * D_HEAD, D), ("self_attn.k_proj", KV * D_HEAD, D),
                                    ("self_attn.v_proj", KV * D_HEAD, D), ("self_attn.o_proj", D, HEADS * D_HEAD),
                                    ("mlp.gate_proj", D_MLP, D), ("mlp.up_proj", D_MLP, D), ("mlp.down_proj", D, D_MLP)):
            yield f"{prefix}{name}.weight", (rows, columns)
    yield "model.norm.weight", (D,)


def model(folder):
    folder = os.path.join(folder, "gemma-2-2b-shapes")
    os.makedirs(folder, exist_ok=True)
    # The upper halves of f32 numbers; 8 million of them over and over.
    block = (0.02 * np.random.default_rng(2).standard_normal(1 << 23, dtype=np.float32)).view(np.uint16)[1::2].tobytes()
    parts, whole = [[] for _ in range(SHARDS)], list(shapes())
    total = sum(2 * int(np.prod(shape)) for _, shape in whole)
    size = 0
    for name, shape in whole:
        parts[min(SHARDS * size // total, SHARDS - 1)].append((name, shape))
        size += 2 * int(np.prod(shape))
    places = {}
    for index, part in enumerate(parts):
        file, header, offset = f"model-{index + 1:05}-of-{SHARDS:05}.safetensors", {}, 0
        for name, shape in part:
            end = offset + 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
            places[name], offset = file, end
        text = json.dumps(header).encode()
        with open(os.path.join(folder, file), "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for left in range(offset, 0, -len(block)):
                out.write(block[:left])
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as out:
        json.dump({"metadata": {"total_size": total}, "weight_map": places}, out)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "hidden_size": D, "num_hidden_layers": LAYERS,
                   "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": D_HEAD, "intermediate_size": D_MLP,
                   "vocab_size": VOCABULARY, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "sliding_window": 4096,
                   "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192}, out)
    print(f"{total} bytes of weights")


if __name__ == "__main__":
    archive(sys.argv[1])
    model(sys.argv[1])
