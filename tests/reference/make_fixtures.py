"""Tiny seeded models and SAEs in the real file formats, and what numpy says their canonical form is.

Writes tests/fixtures/ (Hugging Face directories through transformers and tokenizers, GGUF twins through the gguf writer, SAELens
and Gemma Scope SAEs) and tiny.json. Every dimension is distinct: d_model 12, 4 heads of 8 over 2 kv heads, d_mlp 20, vocabulary 37,
3 layers, 21 latents. All weights are random; none comes from a published model.

    python make_fixtures.py
"""

import json
import os
import shutil

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    Gemma2Config, Gemma2ForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, LlamaConfig,
    LlamaForCausalLM, PreTrainedTokenizerFast, SiglipVisionConfig,
)

from common import byte_level_map, decode_bytes, moments, softmax, top, write

D, H, KV, DH, M, V, LAYERS, LATENTS = 12, 4, 2, 8, 20, 37, 3, 21
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures")
RNG = np.random.default_rng(12)
DIRECTIONS = np.round(RNG.normal(size=(3, D)), 4)
IDS = [1, 5, 9, 20]


def path(*parts):
    full = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def array(tensor):
    return tensor.detach().to(torch.float64).numpy()


# Tokenizers.


def byte_level(size):
    """GPT-2 style: ordinary words, a piece that is half a character, two control tokens, one added ordinary token."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("Ġ", "and"), ("i", "n"), ("Ġ", "in"), ("â", "Ģ")]
    pieces = ["<|bos|>", "<|eos|>", "!"] + list("abdehinorstu") + ["Ġ", "Ċ", "â", "Ģ", "Ķ", "Ã", "©", "T"]
    pieces += ["".join(pair) for pair in merges]
    pieces += ["B", "O", "x", "<|pad|>", "<tool>"][: size - len(pieces)]
    assert len(pieces) == size == len(set(pieces)), (len(pieces), size)
    added = [p for p in ("<|bos|>", "<|eos|>", "<|pad|>", "<tool>") if p in pieces]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)])
    tokenizer.add_special_tokens([p for p in added if p != "<tool>"])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in added if p == "<tool>"])
    types = [3 if p in added and p != "<tool>" else 4 if p == "<tool>" else 1 for p in pieces]
    table = byte_level_map()
    texts = [p if t != 1 else decode_bytes(bytes(table[c] for c in p)) for p, t in zip(pieces, types)]
    return {"tokenizer": tokenizer, "pieces": pieces, "types": types, "texts": texts, "merges": [" ".join(m) for m in merges]}


SENTENCE_PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<unused0>", "\n", "</h3>",
                   "<0x0A>", "<0xE2>", "<0x80>", "<0x94>", "<0xC3>", "<0xA9>", "▁", "▁▁", *"abdehinorst", "的",
                   "th", "the", "▁the", "an", "and", "▁and", "in", "▁in", "我"]


def sentence_piece(kind):
    """Gemma style, ▁ for a space and byte fallback, as BPE (Gemma's own) or as Unigram (a list of piece and score)."""
    pieces = SENTENCE_PIECES
    assert len(pieces) == V == len(set(pieces)), len(pieces)
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("a", "n"), ("an", "d"), ("▁", "and"), ("i", "n"), ("▁", "in"), ("▁", "▁")]
    scores = [0.0 if i < 14 else -float(i) for i in range(V)]
    if kind == "bpe":
        model = models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges, unk_token="<unk>", fuse_unk=True,
                           byte_fallback=True)
    else:
        model = models.Unigram(list(zip(pieces, scores)), unk_id=3, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    special, user = pieces[:6], pieces[6:8]
    tokenizer.add_special_tokens([AddedToken(p, special=True, normalized=False) for p in special])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in user])
    byte = lambda p: p.startswith("<0x")
    types = [3 if p in special else 4 if p in user else 6 if byte(p) else 1 for p in pieces]
    types[3] = 2
    texts = [p.replace("▁", " ") for p in pieces]
    return {"tokenizer": tokenizer, "pieces": pieces, "types": types, "texts": texts, "scores": scores}


def save_tokenizer(made, folder, **names):
    PreTrainedTokenizerFast(tokenizer_object=made["tokenizer"], **names).save_pretrained(folder)


def tokenizer_facts(made):
    tokenizer, out = made["tokenizer"], []
    for text in ("the and in", " the\nthin <tool>", "é—的", "hands  on </h3>"):
        plain = tokenizer.encode(text, add_special_tokens=False)
        out.append({"text": text, "ids": plain.ids, "ids_bos": tokenizer.encode(text).ids, "decoded": tokenizer.decode(plain.ids)})
    return {"tokens": made["texts"], "types": made["types"], "encode": out}


# Models.


def fill(model, seed, dtype):
    """Seeded values for every parameter in the order of the names; norms get gains well away from 1, one of them negative."""
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        values = rng.normal(size=tuple(parameter.shape))
        if parameter.ndim == 1:
            values = 0.35 * values + (0.0 if "gemma" in type(model).__name__.lower() else 1.0)
        else:
            values = 0.4 * values
        parameter.data = torch.tensor(values, dtype=torch.float32).to(dtype)
    return model.eval()


def base_config(**more):
    return dict(hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=H, num_key_value_heads=KV, head_dim=DH,
                intermediate_size=M, vocab_size=V, max_position_embeddings=256, **more)


class Canonical:
    """Canonical weights, float64, from a dict of Hugging Face names (prefix stripped)."""

    def __init__(self, weights, gemma, cfg):
        self.weights, self.gemma, self.cfg = weights, gemma, cfg
        self.W_E = weights["embed_tokens.weight"]
        self.W_U = weights.get("lm_head.weight", self.W_E).T
        self.qk_norm = "layers.0.self_attn.q_norm.weight" in weights
        self.inverse = {layer: rotary_frequencies(cfg, layer) for layer in range(LAYERS)}

    def layer(self, layer, name):
        return self.weights[f"layers.{layer}.{name}.weight"]

    def W_Q(self, layer, head):
        return self.layer(layer, "self_attn.q_proj")[head * DH : (head + 1) * DH].T

    def kv(self, layer, name, head):
        group = head // (H // KV)
        return self.layer(layer, f"self_attn.{name}_proj")[group * DH : (group + 1) * DH].T

    def W_K(self, layer, head):
        return self.kv(layer, "k", head)

    def W_V(self, layer, head):
        return self.kv(layer, "v", head)

    def W_O(self, layer, head):
        return self.layer(layer, "self_attn.o_proj")[:, head * DH : (head + 1) * DH].T

    def gain(self, name, layer=None):
        llama = {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
        gemma = {"ln1": "input_layernorm", "ln1_post": "post_attention_layernorm", "ln2": "pre_feedforward_layernorm",
                 "ln2_post": "post_feedforward_layernorm", "attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm"}
        stored = self.weights["norm.weight"] if name == "ln_final" else self.layer(layer, (gemma if self.gemma else llama)[name])
        return stored + 1 if self.gemma else stored

    def gain_names(self):
        return ["ln1", "ln2"] + (["ln1_post", "ln2_post"] if self.gemma else []) + (
            ["attn.q_norm", "attn.k_norm"] if self.qk_norm else [])

    def post(self, name, layer):
        return self.gain(name, layer) if self.gemma else np.ones(D)

    def unembed(self, directions, k=5):
        out = []
        for direction in directions:
            scores = self.W_U.T @ (self.gain("ln_final") * direction)
            high, low = top(scores, k), top(-scores, k)
            out.append(moments(scores) | {"top_ids": high, "top_scores": scores[high], "bottom_ids": low, "bottom_scores": scores[low]})
        return out

    def attention(self, directions, layer, head, distance=0):
        """All options at their defaults: sqrt_d, gain folded, q/k norm linear over these directions, softcap."""
        x = self.gain("ln1", layer) * directions * (D**0.5 / np.linalg.norm(directions, axis=1, keepdims=True))
        q, k = x @ self.W_Q(layer, head), x @ self.W_K(layer, head)
        if self.qk_norm:
            q = q / np.sqrt((q**2).mean()) * self.gain("attn.q_norm", layer)
            k = k / np.sqrt((k**2).mean()) * self.gain("attn.k_norm", layer)
        angle = np.tile(distance * self.inverse[layer], 2)
        rotated = np.concatenate([-q[:, DH // 2 :], q[:, : DH // 2]], axis=1)
        scores = (q * np.cos(angle) + rotated * np.sin(angle)) @ k.T * self.cfg["attn_scale"]
        cap = self.cfg["attn_softcap"]
        return cap * np.tanh(scores / cap) if cap else scores

    def ov_write(self, directions, layer, head):
        value = (self.gain("ln1", layer) * directions) @ self.W_V(layer, head)
        return value @ self.W_O(layer, head) * self.post("ln1_post", layer)

    def neurons(self, layer, ids):
        write = self.layer(layer, "mlp.down_proj").T * self.post("ln2_post", layer)
        read = self.layer(layer, "mlp.gate_proj") * self.gain("ln2", layer)
        return {"layer": layer, "ids": ids, "write": write[ids], "read": read[ids]}

    def forward(self, ids):
        """Logits at the last position by a plain forward pass: what the canonical pieces must add up to."""
        cfg, eps = self.cfg, self.cfg["eps"]
        rms = lambda x: x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
        post = lambda x, name, layer: rms(x) * self.gain(name, layer) if self.gemma else x
        silu = lambda x: x / (1 + np.exp(-x))
        gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        half = DH // 2
        turn = lambda x, angle: x * np.cos(angle) + np.concatenate([-x[:, half:], x[:, :half]], axis=1) * np.sin(angle)
        x = self.W_E[ids] * cfg["embed_scale"]
        n = len(ids)
        for layer in range(LAYERS):
            read, written = rms(x) * self.gain("ln1", layer), np.zeros_like(x)
            angle = np.arange(n)[:, None] * np.tile(self.inverse[layer], 2)
            for head in range(H):
                q, k = read @ self.W_Q(layer, head), read @ self.W_K(layer, head)
                if self.qk_norm:
                    q, k = rms(q) * self.gain("attn.q_norm", layer), rms(k) * self.gain("attn.k_norm", layer)
                scores = turn(q, angle) @ turn(k, angle).T * cfg["attn_scale"]
                if cfg["attn_softcap"]:
                    scores = cfg["attn_softcap"] * np.tanh(scores / cfg["attn_softcap"])
                pattern = softmax(np.where(np.tri(n, dtype=bool), scores, -1e30))
                written += pattern @ (read @ self.W_V(layer, head)) @ self.W_O(layer, head)
            x = x + post(written, "ln1_post", layer)
            read = rms(x) * self.gain("ln2", layer)
            act = silu if cfg["act"] == "silu" else gelu
            hidden = act(read @ self.layer(layer, "mlp.gate_proj").T) * (read @ self.layer(layer, "mlp.up_proj").T)
            x = x + post(hidden @ self.layer(layer, "mlp.down_proj").T, "ln2_post", layer)
        out = (rms(x) * self.gain("ln_final"))[-1] @ self.W_U
        return cfg["final_softcap"] * np.tanh(out / cfg["final_softcap"]) if cfg["final_softcap"] else out

    def expected(self):
        whole = {"W_E": self.W_E, "W_U_shape": list(self.W_U.shape), "W_U_column_3": self.W_U[:, 3]}
        for layer, head in ((1, 2), (2, 1)):
            for name in ("W_Q", "W_K", "W_V", "W_O"):
                whole[f"{name}({layer},{head})"] = getattr(self, name)(layer, head)
        whole["W_in(1)"] = self.layer(1, "mlp.up_proj").T
        whole["W_gate(1)"] = self.layer(1, "mlp.gate_proj").T
        whole["W_out(1)"] = self.layer(1, "mlp.down_proj").T
        gains = {f"blocks.{layer}.{name}": self.gain(name, layer) for layer in (0, 1) for name in self.gain_names()}
        gains["ln_final"] = self.gain("ln_final")
        sites = [(1, 3), (1, 2), (2, 1)]
        return {
            "cfg": self.cfg, "weights": whole, "gains": gains, "unembed": self.unembed(DIRECTIONS),
            "attention_matrix": {f"{l},{h}": self.attention(DIRECTIONS, l, h) for l, h in sites},
            "attention_matrix_distance7": {f"{l},{h}": self.attention(DIRECTIONS, l, h, 7) for l, h in sites},
            "ov_write": {f"{l},{h}": self.ov_write(DIRECTIONS, l, h) for l, h in sites},
            "mlp_neurons": self.neurons(1, [0, 7, M - 1]),
        }


def rotary_frequencies(cfg, layer):
    """Rotary frequencies `[d_head / 2]`: the layer's own base, then Llama 3's scaling where the config has it."""
    theta = cfg["rope_theta"][layer]
    frequencies = theta ** (-np.arange(0, DH, 2) / DH)
    scaling = cfg.get("rope_scaling")
    if scaling:
        original, low, high, factor = (scaling[k] for k in (
            "original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "factor"))
        for i, frequency in enumerate(frequencies):
            wavelength = 2 * np.pi / frequency
            if wavelength > original / low:
                frequencies[i] = frequency / factor
            elif wavelength > original / high:
                smooth = (original / wavelength - low) / (high - low)
                frequencies[i] = frequency * ((1 - smooth) / factor + smooth)
    return frequencies


def facts(arch, tied, act, eps, thetas, scale, **more):
    return {"arch": arch, "n_layers": LAYERS, "d_model": D, "n_heads": H, "n_kv_heads": KV, "d_head": DH, "d_mlp": M, "d_vocab": V,
            "tied": tied, "act": act, "eps": eps, "rope_theta": thetas, "attn_scale": scale, "attn_softcap": None,
            "final_softcap": None, "qk_norm": False, "norm_offset": 0, "embed_scale": 1.0} | more


def stripped(model):
    """The text model's weights by their bare names; a tied head is left out."""
    out = {}
    for name, tensor in model.state_dict().items():
        if "vision" in name or "multi_modal" in name:
            continue
        bare = name
        for prefix in ("model.language_model.", "language_model.model.", "model.", "language_model."):
            bare = bare.removeprefix(prefix)
        out[bare] = array(tensor)
    if model.config.tie_word_embeddings:
        out.pop("lm_head.weight", None)
    return out


def logits(model, canonical):
    """Transformers' logits at the last position, which the canonical weights must give too."""
    with torch.no_grad():
        out = array(model.float()(torch.tensor([IDS])).logits)[0, -1]
    own = canonical.forward(IDS)
    assert np.allclose(own, out, rtol=1e-3, atol=1e-4), np.abs(own - out).max()
    return out


def edit_json(file, change):
    with open(file, encoding="utf-8") as handle:
        value = json.load(handle)
    change(value)
    with open(file, "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=2)
        handle.write("\n")


def llama():
    config = LlamaConfig(**base_config(rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1,
                                       rope_parameters={"rope_type": "default", "rope_theta": 20000.0}))
    model = fill(LlamaForCausalLM(config), 1, torch.float32)
    folder = path("tiny-llama", "")
    model.save_pretrained(folder)
    tokenizer = byte_level(V)
    save_tokenizer(tokenizer, folder, bos_token="<|bos|>", eos_token="<|eos|>", pad_token="<|pad|>")
    weights = stripped(model)
    canonical = Canonical(weights, False, facts("llama", False, "silu", 1e-5, [20000.0] * LAYERS, DH**-0.5))
    expected = canonical.expected() | {"tokenizer": tokenizer_facts(tokenizer), "logits_last": logits(model, canonical)}
    return expected, weights, tokenizer


def llama_sharded():
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}
    config = LlamaConfig(**base_config(rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
                                       rope_parameters={"rope_theta": 500000.0} | scaling))
    model = fill(LlamaForCausalLM(config), 2, torch.bfloat16)
    model.tie_weights()
    folder = path("tiny-llama-sharded", "")
    model.save_pretrained(folder, max_shard_size=5000)

    def older(value):
        """Transformers 4 wrote the base and the scaling as two keys, and the dtype as torch_dtype."""
        value.pop("rope_parameters")
        value["rope_theta"], value["rope_scaling"] = 500000.0, scaling
        value["torch_dtype"] = value.pop("dtype", "bfloat16")
        value["transformers_version"] = "4.47.0"

    edit_json(os.path.join(folder, "config.json"), older)
    tokenizer = byte_level(V - 2)
    save_tokenizer(tokenizer, folder, bos_token="<|bos|>", eos_token="<|eos|>")
    weights = stripped(model)
    cfg = facts("llama", True, "silu", 1e-5, [500000.0] * LAYERS, DH**-0.5, rope_scaling=scaling)
    canonical = Canonical(weights, False, cfg)
    # Far enough apart that the scaled, slow planes show.
    far = {"1,3": canonical.attention(DIRECTIONS, 1, 3, 3000)}
    frequencies = array(model.model.rotary_emb.inv_freq)
    assert np.allclose(canonical.inverse[1], frequencies, rtol=1e-6), (canonical.inverse[1], frequencies)
    return canonical.expected() | {"attention_matrix_distance3000": far, "tokenizer": tokenizer_facts(tokenizer),
                                   "logits_last": logits(model, canonical), "note": "tokenizer has 35 tokens, the embedding 37 rows"}


def gemma2():
    config = Gemma2Config(**base_config(query_pre_attn_scalar=6, attn_logit_softcapping=5.0, final_logit_softcapping=3.0,
                                        sliding_window=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
                                        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}))
    config._attn_implementation = "eager"
    model = fill(Gemma2ForCausalLM(config), 3, torch.float32)
    model.tie_weights()
    folder = path("tiny-gemma2", "")
    model.save_pretrained(folder)
    tokenizer = sentence_piece("unigram")
    save_tokenizer(tokenizer, folder, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    cfg = facts("gemma2", True, "gelu_pytorch_tanh", 1e-6, [10000.0] * LAYERS, 6**-0.5, attn_softcap=5.0, final_softcap=3.0,
                norm_offset=1, embed_scale=D**0.5, sliding_window=32, layer_types=config.layer_types)
    canonical = Canonical(stripped(model), True, cfg)
    return canonical.expected() | {"tokenizer": tokenizer_facts(tokenizer), "logits_last": logits(model, canonical)}


def gemma3():
    layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    text = Gemma3TextConfig(**base_config(query_pre_attn_scalar=DH, sliding_window=32, layer_types=layer_types, pad_token_id=0,
                                          eos_token_id=1, bos_token_id=2))
    vision = SiglipVisionConfig(hidden_size=6, intermediate_size=5, num_hidden_layers=1, num_attention_heads=2, image_size=4,
                                patch_size=2)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=5, boi_token_index=4,
                          eoi_token_index=5)
    config._attn_implementation = "eager"
    model = fill(Gemma3ForConditionalGeneration(config), 4, torch.float16)
    model.tie_weights()
    folder = path("tiny-gemma3", "")
    model.save_pretrained(folder)
    tokenizer = sentence_piece("bpe")
    save_tokenizer(tokenizer, folder, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    weights = stripped(model)
    thetas = [1e6 if kind == "full_attention" else 1e4 for kind in layer_types]
    cfg = facts("gemma3", True, "gelu_pytorch_tanh", 1e-6, thetas, DH**-0.5, norm_offset=1, qk_norm=True, embed_scale=D**0.5,
                embed_scale_f16=float(np.float16(D**0.5)), sliding_window=32, layer_types=layer_types)
    canonical = Canonical(weights, True, cfg)
    expected = canonical.expected()
    # A GGUF does not say which layers are full; by the family's rule none of these three is.
    local = Canonical(weights, True, cfg | {"rope_theta": [1e4] * LAYERS})
    expected["attention_matrix_distance7_gguf"] = {"1,3": local.attention(DIRECTIONS, 1, 3, 7)}
    return expected | {"tokenizer": tokenizer_facts(tokenizer), "logits_last": logits(model, canonical)}, weights, tokenizer


def permuted(weight, heads):
    """Rows as llama.cpp's converter stores them: the two rotary halves of every head interleaved."""
    return weight.reshape(heads, 2, DH // 2, D).swapaxes(1, 2).reshape(heads * DH, D)


def gguf_twin(file, arch, weights, tokenizer, theta, eps):
    """The same weights as a GGUF in F32, but for one Q8_0 tensor; returns that tensor as it reads back."""
    out = gguf.GGUFWriter(path(file), arch)
    out.add_name(file.removesuffix(".gguf"))
    out.add_block_count(LAYERS)
    out.add_context_length(256)
    out.add_embedding_length(D)
    out.add_feed_forward_length(M)
    out.add_head_count(H)
    out.add_head_count_kv(KV)
    out.add_key_length(DH)
    out.add_value_length(DH)
    out.add_layer_norm_rms_eps(eps)
    out.add_rope_freq_base(theta)
    out.add_rope_dimension_count(DH)
    out.add_vocab_size(V)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    if arch == "gemma3":
        out.add_sliding_window(32)
        out.add_tokenizer_model("llama")
        out.add_token_scores(tokenizer["scores"])
        out.add_bos_token_id(2)
        out.add_eos_token_id(1)
        out.add_add_bos_token(True)
    else:
        out.add_tokenizer_model("gpt2")
        out.add_tokenizer_pre("smollm")
        out.add_token_merges(tokenizer["merges"])
        out.add_bos_token_id(0)
        out.add_eos_token_id(1)
        out.add_add_bos_token(True)
    out.add_token_list(tokenizer["pieces"])
    out.add_token_types(tokenizer["types"])
    gemma = arch == "gemma3"
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    } | ({
        "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    } if gemma else {"post_attention_layernorm": "ffn_norm"})
    tensors = {"token_embd.weight": weights["embed_tokens.weight"], "output_norm.weight": weights["norm.weight"]}
    if "lm_head.weight" in weights:
        tensors["output.weight"] = weights["lm_head.weight"]
    for layer in range(LAYERS):
        for stored, short in names.items():
            weight = weights[f"layers.{layer}.{stored}.weight"]
            if not gemma and short in ("attn_q", "attn_k"):
                weight = permuted(weight, H if short == "attn_q" else KV)
            tensors[f"blk.{layer}.{short}.weight"] = weight
    q8 = None
    for name, weight in tensors.items():
        weight = np.ascontiguousarray(weight + 1 if gemma and weight.ndim == 1 else weight, dtype=np.float32)
        if name == "blk.2.attn_output.weight":
            kind = gguf.GGMLQuantizationType.Q8_0
            blocks = quantize(weight, kind)
            q8 = dequantize(blocks, kind).astype(np.float64)
            out.add_tensor(name, blocks, raw_dtype=kind)
        else:
            out.add_tensor(name, weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return {f"W_O(2,{head})": q8[:, head * DH : (head + 1) * DH].T for head in (1, 3)}


def quantised_blocks():
    """One [2, 256] tensor of random blocks a type in blocks.gguf, and what gguf's own dequantisation makes of them.

    The random bytes stand for every nibble and sub-scale; the f16 scales, at the offsets given, are drawn sane.
    """
    scales = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
              "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "F16": None, "BF16": None}
    rng, expected = np.random.default_rng(99), {}
    out = gguf.GGUFWriter(path("blocks.gguf"), "llama")
    spots = [0, 1, 15, 16, 31, 32, 63, 64, 100, 127, 128, 200, 255]
    for name, offsets in scales.items():
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        if offsets is None:
            data = quantize(rng.normal(size=(2, 256)).astype(np.float32), kind)
        else:
            blocks = rng.integers(0, 256, size=(2 * 256 // elements, size), dtype=np.uint8)
            for offset in offsets:
                blocks[:, offset : offset + 2] = rng.normal(0, 0.02, size=(len(blocks), 1)).astype(np.float16).view(np.uint8)
            data = blocks.reshape(2, -1)
        values = dequantize(data, kind).astype(np.float64)
        assert values.shape == (2, 256)
        out.add_tensor(name, data, raw_dtype=kind)
        expected[name] = {"row_sums": values.sum(axis=1), "row_sums_weighted": values @ np.arange(1, 257),
                          "spots": spots, "row0": values[0, spots], "row1": values[1, spots]}
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return {"shape": [2, 256], "row_sums_weighted": "sum of value times (column + 1)", "types": expected}


# SAEs.


def saes():
    rng = np.random.default_rng(21)
    f32 = lambda *shape: rng.normal(size=shape).astype(np.float32)
    W_dec = f32(LATENTS, D)
    logical = {
        "W_enc": 0.5 * f32(D, LATENTS), "b_enc": 0.3 * f32(LATENTS), "W_dec": W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True),
        "b_dec": 0.4 * f32(D), "threshold": (0.4 + 0.3 * np.abs(f32(LATENTS))),
        "b_gate": 0.3 * f32(LATENTS), "b_mag": 0.3 * f32(LATENTS), "r_mag": 0.2 * f32(LATENTS),
    }
    logical = {name: value.astype(np.float32) for name, value in logical.items()}
    inputs = np.round(rng.normal(size=(3, D)) * 1.5, 4)
    fixtures = {}

    def record(name, activation, subtract, weights=logical, **more):
        w = {k: v.astype(np.float64) for k, v in weights.items()}
        x = inputs[:, : w["b_dec"].size] - (w["b_dec"] if subtract else 0)
        pre = x @ w["W_enc"] + w["b_enc"]
        if activation == "relu":
            acts = np.maximum(pre, 0)
        elif activation == "jumprelu":
            acts = np.where(pre > w["threshold"], np.maximum(pre, 0), 0)
        elif activation == "topk":
            acts = np.zeros_like(pre)
            for row, values in zip(acts, pre):
                keep = top(values, more["k"])
                row[keep] = np.maximum(values[keep], 0)
        else:
            gate = x @ w["W_enc"] + w["b_gate"] > 0
            acts = gate * np.maximum(x @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"], 0)
        fixtures[name] = {"activation": activation, "subtract_b_dec": subtract, **more, "acts": acts,
                          "reconstruct": acts @ w["W_dec"] + w["b_dec"]}

    def saelens(name, cfg, names, weights=logical, sparsity=False):
        save_file({k: np.ascontiguousarray(weights[k]) for k in names}, path(name, "sae_weights.safetensors"))
        if sparsity:
            density = (-1.0 - np.arange(LATENTS) / 7).astype(np.float32)
            save_file({"sparsity": density}, path(name, "sparsity.safetensors"))
            fixtures[name]["density"] = 10.0 ** density.astype(np.float64)
        with open(path(name, "cfg.json"), "w", encoding="utf-8") as handle:
            json.dump(cfg, handle, indent=2)
            handle.write("\n")

    def v6(architecture, d_in=D, d_sae=LATENTS, apply=True, **more):
        return {"d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": apply,
                "normalize_activations": "none", "reshape_activations": "none", "metadata": {
                    "sae_lens_version": "6.5.1", "sae_lens_training_version": "6.5.1", "model_name": "tiny-llama",
                    "hook_name": "blocks.1.hook_resid_post", "hook_head_index": None, "prepend_bos": True, "context_size": 128,
                    "model_from_pretrained_kwargs": {}, "neuronpedia_id": None}, "architecture": architecture, **more}

    def v3(architecture, activation, apply=True, kwargs=None):
        return {"architecture": architecture, "d_in": D, "d_sae": LATENTS, "activation_fn_str": activation,
                "activation_fn_kwargs": kwargs or {}, "apply_b_dec_to_input": apply, "finetuning_scaling_factor": False,
                "context_size": 128, "model_name": "tiny-llama", "hook_name": "blocks.1.hook_resid_post", "hook_layer": 1,
                "hook_head_index": None, "prepend_bos": True, "dataset_path": "none", "dataset_trust_remote_code": True,
                "normalize_activations": "none", "dtype": "torch.float32", "device": "cpu",
                "sae_lens_training_version": "3.22.2", "neuronpedia_id": None, "model_from_pretrained_kwargs": {}}

    plain, gated = ["W_enc", "b_enc", "W_dec", "b_dec"], ["W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"]
    record("sae-v6-standard", "relu", True)
    saelens("sae-v6-standard", v6("standard"), plain, sparsity=True)
    record("sae-v6-jumprelu", "jumprelu", False)
    saelens("sae-v6-jumprelu", v6("jumprelu", apply=False), plain + ["threshold"])
    record("sae-v6-topk", "topk", True, k=4)
    saelens("sae-v6-topk", v6("topk", k=4, rescale_acts_by_decoder_norm=False), plain)
    record("sae-v6-gated", "gated", True)
    saelens("sae-v6-gated", v6("gated"), gated)
    record("sae-v3-standard", "relu", True)
    saelens("sae-v3-standard", v3("standard", "relu"), plain)
    record("sae-v3-jumprelu", "jumprelu", False)
    saelens("sae-v3-jumprelu", v3("jumprelu", "relu", apply=False), plain + ["threshold"])
    record("sae-v3-topk", "topk", True, k=4, note="saved as architecture standard with activation_fn_str topk")
    saelens("sae-v3-topk", v3("standard", "topk", kwargs={"k": 4}), plain)
    record("sae-v3-gated", "gated", True)
    saelens("sae-v3-gated", v3("gated", "relu"), gated)

    scope = {k: logical[k] for k in (*plain, "threshold")}
    first = "gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5"
    np.savez(path(first, "params.npz"), **scope)
    record(first, "jumprelu", False, layer=1, site="resid_post")
    np.savez(path("gs-fortran", "params.npz"), **{k: np.asfortranarray(v) for k, v in scope.items()})
    record("gs-fortran", "jumprelu", False)
    np.savez_compressed(path("gs-deflated", "params.npz"), **scope)
    record("gs-deflated", "jumprelu", False)
    half = {k: v.astype(np.float16) for k, v in scope.items()}
    np.savez(path("gs-f16", "params.npz"), **half)
    record("gs-f16", "jumprelu", False, weights=half)
    square = {"W_enc": 0.5 * f32(D, D), "b_enc": 0.3 * f32(D), "W_dec": f32(D, D), "b_dec": 0.4 * f32(D), "threshold": np.abs(f32(D))}
    square = {k: v.astype(np.float32) for k, v in square.items()}
    np.savez(path("gs-square", "params.npz"), **square)
    record("gs-square", "jumprelu", False, weights=square)

    misfit = {"W_enc": f32(14, 19), "b_enc": f32(19), "W_dec": f32(19, 14), "b_dec": f32(14)}
    saelens("sae-misfit", v6("standard", d_in=14, d_sae=19), plain, weights=misfit)
    return {"logical": logical, "logical_f16_W_enc": half["W_enc"], "inputs": inputs, "fixtures": fixtures}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    llama_expected, llama_weights, llama_tokenizer = llama()
    sharded = llama_sharded()
    gemma2_expected = gemma2()
    gemma3_expected, gemma3_weights, gemma3_tokenizer = gemma3()
    llama_q8 = gguf_twin("tiny-llama.gguf", "llama", llama_weights, llama_tokenizer, 20000.0, 1e-5)
    gemma3_q8 = gguf_twin("tiny-gemma3.gguf", "gemma3", gemma3_weights, gemma3_tokenizer, 1e6, 1e-6)
    write("tiny.json", {
        "source": "numpy on the weights that make_fixtures.py put into tests/fixtures; logits_last by transformers in float32",
        "directions": DIRECTIONS, "logits_ids": IDS,
        "models": {
            "tiny-llama": llama_expected, "tiny-llama-sharded": sharded, "tiny-gemma2": gemma2_expected, "tiny-gemma3": gemma3_expected,
        },
        "gguf": {
            "note": "canonical weights equal the twin's but for q8_0, the tensor blk.2.attn_output stored as Q8_0",
            "tiny-llama.gguf": {"twin": "tiny-llama", "q8_0": llama_q8},
            "tiny-gemma3.gguf": {"twin": "tiny-gemma3", "q8_0": gemma3_q8},
        },
        "blocks.gguf": quantised_blocks(),
        "sae": saes(),
    }, depth=4)


if __name__ == "__main__":
    main()
