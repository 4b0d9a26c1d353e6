"""Reference numbers for two real models, from their GGUF files alone.

Reads SmolLM2-135M (Q4_1) and Gemma-3-270M (Q4_K_M) with the `gguf` package (its own dequantisation), puts the weights into
canonical orientation and computes every analysis in float64 by its plain formula, with the whole matrices in memory. The
dictionary is the model's own MLP neurons: write = column of down_proj (Gemma: times the post-feed-forward norm's gain), read =
row of gate_proj times the pre-MLP norm's gain.

    python real_models.py [FOLDER]      FOLDER holds smollm2-135m.gguf and gemma3-270m.gguf
"""

import os
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from common import (
    byte_level_map, decode_bytes, entropy, mean_cosine, mean_levenshtein, moments, softmax, top, write,
)


class Model:
    """A GGUF model in canonical orientation, float64."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.cache = {}
        field = lambda key, default=None: reader.fields[key].contents() if key in reader.fields else default
        arch = field("general.architecture")
        at = lambda key, default=None: field(f"{arch}.{key}", default)
        self.arch, self.gemma = arch, arch == "gemma3"
        self.L, self.d, self.m = at("block_count"), at("embedding_length"), at("feed_forward_length")
        self.H = at("attention.head_count")
        self.KV = at("attention.head_count_kv")
        self.dh = at("attention.key_length", self.d // self.H)
        self.eps = at("attention.layer_norm_rms_epsilon")
        self.theta = at("rope.freq_base")
        self.window = at("attention.sliding_window")
        self.scale = self.dh**-0.5
        self.token_types = field("tokenizer.ggml.token_type")
        self.raw_tokens = field("tokenizer.ggml.tokens")
        self.kind = field("tokenizer.ggml.model")
        self.W_E = self.tensor("token_embd.weight")
        assert "output.weight" not in self.tensors, "tied"
        self.V = len(self.W_E)
        self.g_final = self.tensor("output_norm.weight")
        self.byte_map = byte_level_map()

    def tensor(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    def heads(self, layer, which, count):
        """`[count, d_head, d_model]`, rows in Hugging Face order: the llama converter interleaves the two rotary halves."""
        key = (layer, which)
        if key not in self.cache:
            weight = self.tensor(f"blk.{layer}.attn_{which}.weight")
            if self.arch == "llama" and which in "qk":
                weight = weight.reshape(count, self.dh // 2, 2, self.d).swapaxes(1, 2)
            self.cache[key] = weight.reshape(count, self.dh, self.d)
        return self.cache[key]

    def W_Q(self, layer, head):
        return self.heads(layer, "q", self.H)[head].T

    def W_K(self, layer, head):
        return self.heads(layer, "k", self.KV)[head // (self.H // self.KV)].T

    def W_V(self, layer, head):
        return self.heads(layer, "v", self.KV)[head // (self.H // self.KV)].T

    def W_O(self, layer, head):
        weight = self.tensor(f"blk.{layer}.attn_output.weight")
        return weight[:, head * self.dh : (head + 1) * self.dh].T

    def W_in(self, layer):
        return self.tensor(f"blk.{layer}.ffn_up.weight").T

    def W_gate(self, layer):
        return self.tensor(f"blk.{layer}.ffn_gate.weight").T

    def W_out(self, layer):
        return self.tensor(f"blk.{layer}.ffn_down.weight").T

    def gain(self, layer, name):
        stored = {
            "ln1": "attn_norm", "ln1_post": "post_attention_norm", "ln2": "ffn_norm", "ln2_post": "post_ffw_norm",
            "attn.q_norm": "attn_q_norm", "attn.k_norm": "attn_k_norm",
        }[name]
        return self.tensor(f"blk.{layer}.{stored}.weight")

    def post(self, layer, name):
        return self.gain(layer, name) if self.gemma else np.ones(self.d)

    def write(self, layer):
        return self.W_out(layer) * self.post(layer, "ln2_post")

    def read(self, layer):
        return self.W_gate(layer).T * self.gain(layer, "ln2")

    def rope_base(self, layer):
        return 1e4 if self.gemma and (layer + 1) % 6 else self.theta

    def text(self, token):
        raw = self.raw_tokens[token]
        if self.token_types[token] == 3:
            return raw
        if self.kind == "gpt2":
            return decode_bytes(bytes(self.byte_map[c] for c in raw)) if all(c in self.byte_map for c in raw) else raw
        return raw.replace("\u2581", " ")


def facts(model):
    out = {
        "arch": model.arch, "n_layers": model.L, "d_model": model.d, "n_heads": model.H, "n_kv_heads": model.KV,
        "d_head": model.dh, "d_mlp": model.m, "d_vocab": model.V, "tied": True, "eps": model.eps, "rope_theta": model.theta,
        "rope_theta_local": 1e4 if model.gemma else None, "sliding_window": model.window, "attn_scale": model.scale,
        "embed_scale": model.d**0.5 if model.gemma else 1.0, "qk_norm": model.gemma, "post_norms": model.gemma,
        "norm": "rms", "gain": "as stored in the GGUF (Gemma: +1 already added by the converter)",
    }
    if model.gemma:
        out["full_attention_layers"] = [layer for layer in range(model.L) if (layer + 1) % 6 == 0]
    return out


def spots(matrix, positions):
    matrix = np.asarray(matrix)
    return {
        "shape": list(matrix.shape),
        "norm": np.linalg.norm(matrix),
        "entries": [[i, j, matrix[i, j]] for i, j in positions],
    }


def weights(model, heads, layers):
    out = {}
    last, d, dh, m = model.V - 1, model.d, model.dh, model.m
    out["W_E"] = spots(model.W_E, [(0, 1), (17, 3), (338, 200), (1000, d - 1), (last, 5), (20001, 77)])
    out["W_U"] = spots(model.W_E.T, [(1, 0), (3, 17), (200, 338), (d - 1, 1000), (5, last)])
    for layer, head in heads:
        square = [(0, 1), (1, 0), (2, dh // 2), (11, dh - 1), (d - 1, 3), (100, 33)]
        for name in ("W_Q", "W_K", "W_V"):
            out[f"{name}({layer},{head})"] = spots(getattr(model, name)(layer, head), square)
        out[f"W_O({layer},{head})"] = spots(model.W_O(layer, head), [(j, i) for i, j in square])
    for layer in layers:
        for name in ("W_in", "W_gate"):
            out[f"{name}({layer})"] = spots(getattr(model, name)(layer), [(0, 1), (1, 0), (5, m - 1), (d - 1, 2), (77, 300)])
        out[f"W_out({layer})"] = spots(model.W_out(layer), [(1, 0), (0, 1), (m - 1, 5), (2, d - 1), (300, 77)])
    return out


def gains(model, layers):
    out = {"ln_final": {"first": model.g_final[:6], "norm": np.linalg.norm(model.g_final), "min": model.g_final.min()}}
    names = ["ln1", "ln2"] + (["ln1_post", "ln2_post", "attn.q_norm", "attn.k_norm"] if model.gemma else [])
    for layer in layers:
        for name in names:
            gain = model.gain(layer, name)
            out[f"blocks.{layer}.{name}"] = {"first": gain[:6], "norm": np.linalg.norm(gain), "min": gain.min()}
    return out


def listed(model, scores, k=10):
    high, low = top(scores, k), top(-scores, k)
    return moments(scores) | {
        "top_ids": high, "top_scores": scores[high], "top_tokens": [model.text(t) for t in high],
        "bottom_ids": low, "bottom_scores": scores[low], "bottom_tokens": [model.text(t) for t in low],
    }


class Vocabulary:
    """Token vectors as rows (W_E; tied, so also the columns of W_U) and what is derived from them once."""

    def __init__(self, model):
        self.rows = model.W_E
        self.mean = self.rows.mean(axis=0)
        self.norms = np.linalg.norm(self.rows, axis=1)
        # ‖row − mean‖² without a second copy of the matrix.
        self.centred_norms = np.sqrt(self.norms**2 - 2 * (self.rows @ self.mean) + self.mean @ self.mean)


def tokens(model, vocabulary, neurons, embed_neurons, other_scales, unfolded):
    unembed, embed, semantics = {}, {}, []
    for layer, neuron in neurons:
        key = f"{layer}/{neuron}"
        write_direction = model.write(layer)[neuron]
        folded = model.g_final * write_direction
        raw = vocabulary.rows @ folded
        entry = {"raw": listed(model, raw)}
        if (layer, neuron) in other_scales:
            centred = raw - vocabulary.mean @ folded
            length = np.linalg.norm(folded)
            entry["raw_center"] = listed(model, centred)
            entry["cosine"] = listed(model, raw / (length * vocabulary.norms))
            entry["cosine_center"] = listed(model, centred / (length * vocabulary.centred_norms))
            by_token = np.linalg.norm(write_direction) * np.linalg.norm(vocabulary.rows * model.g_final, axis=1)
            entry["cosine_gain_on_token"] = listed(model, raw / by_token)
            entry["zscore"] = listed(model, (raw - raw.mean()) / raw.std())
            entry["zscore_center"] = listed(model, (centred - centred.mean()) / centred.std())
        if (layer, neuron) in unfolded:
            entry["raw_no_fold"] = listed(model, vocabulary.rows @ write_direction)
        unembed[key] = entry
        semantics.append(ingredients(model, vocabulary, "unembed", layer, neuron, write_direction, model.g_final))
    for layer, neuron in embed_neurons:
        read_direction = model.read(layer)[neuron]
        raw = vocabulary.rows @ read_direction
        cosine = raw / (np.linalg.norm(read_direction) * vocabulary.norms)
        embed[f"{layer}/{neuron}"] = {"raw": listed(model, raw), "cosine": listed(model, cosine)}
        semantics.append(ingredients(model, vocabulary, "embed", layer, neuron, read_direction, 1.0))
    return unembed, embed, semantics


def ingredients(model, vocabulary, phase, layer, neuron, direction, gain):
    """The three semantics metrics of the top 10 and of the bottom 10, no token masked."""
    scores = vocabulary.rows @ (gain * direction)
    z = (scores - scores.mean()) / scores.std()
    scaled = scores * (model.d**0.5 / np.linalg.norm(direction))
    out = {"phase": phase, "layer": layer, "neuron": neuron}
    for side, sign in (("top", 1.0), ("bottom", -1.0)):
        ids = top(sign * scores, 10)
        out[side] = {
            "ids": ids,
            "levenshtein": mean_levenshtein([model.text(t) for t in ids]),
            "cosine": mean_cosine(vocabulary.rows[ids] - vocabulary.mean),
            "entropy": entropy(softmax(sign * z)),
            "entropy_sqrt_d": entropy(softmax(sign * scaled)),
        }
    return out


def rotate(x, angle):
    """Hugging Face rotary embedding: x cos + rotate_half(x) sin; `angle` `[d_head / 2]`."""
    half = x.shape[1] // 2
    cos, sin = np.cos(np.tile(angle, 2)), np.sin(np.tile(angle, 2))
    return x * cos + np.concatenate([-x[:, half:], x[:, :half]], axis=1) * sin


def attention(model, layer, head, qk_norm="linear", distances=(0,), temperature="sqrt_d"):
    """Scores `[query, key]` of the neurons of layer−1 read by (layer, head), and both sides' strengths.

    With distances the query sits `distance` positions after the key; the scores of several are averaged.
    """
    directions = model.write(layer - 1)
    if temperature == "sqrt_d":
        directions = directions * (model.d**0.5 / np.linalg.norm(directions, axis=1, keepdims=True))
    read = model.gain(layer, "ln1") * directions
    q, k = read @ model.W_Q(layer, head), read @ model.W_K(layer, head)
    strengths = np.linalg.norm(q, axis=1), np.linalg.norm(k, axis=1)
    scalars = None
    if model.gemma and qk_norm != "none":
        gains = model.gain(layer, "attn.q_norm"), model.gain(layer, "attn.k_norm")
        if qk_norm == "linear":
            scalars = 1 / np.sqrt((q**2).mean()), 1 / np.sqrt((k**2).mean())
        else:
            scalars = tuple(1 / np.sqrt((x**2).mean(axis=1, keepdims=True) + model.eps) for x in (q, k))
        q, k = q * scalars[0] * gains[0], k * scalars[1] * gains[1]
    inverse = model.rope_base(layer) ** (-np.arange(0, model.dh, 2) / model.dh)
    scores = np.mean([(rotate(q, distance * inverse) @ k.T) * model.scale for distance in distances], axis=0)
    return scores, strengths, scalars if qk_norm == "linear" else None


def column_statistics(values, axis):
    return {
        "mean": values.mean(axis=axis), "std": values.std(axis=axis), "median": np.median(values, axis=axis),
        "p75": np.quantile(values, 0.75, axis=axis), "max": values.max(axis=axis),
    }


def attention_entry(model, layer, head, query_ids, key_ids, absolute=False, **options):
    scores, (query_strength, key_strength), scalars = attention(model, layer, head, **options)
    n_keys = scores.shape[1]
    values = np.abs(scores) if absolute else scores
    weights = softmax(scores)
    ranked = -np.sort(-weights, axis=1)
    row_entropy = entropy(weights)
    query = {"feature": query_ids, "strength": query_strength[query_ids]}
    query |= {name: column[query_ids] for name, column in column_statistics(values, 1).items()}
    query |= {
        "top1": ranked[query_ids, 0], "top5": ranked[query_ids, :5].sum(axis=1), "entropy": row_entropy[query_ids],
        "entropy_deficit": np.log(n_keys) - row_entropy[query_ids],
    }
    key = {"feature": key_ids, "strength": key_strength[key_ids]}
    key |= {name: column[key_ids] for name, column in column_statistics(values, 0).items()}
    mean_weight = weights.mean(axis=0)[key_ids]
    key |= {
        "mean_weight": mean_weight, "mean_weight_rel": n_keys * mean_weight, "max_weight": weights.max(axis=0)[key_ids],
    }
    flat = values.ravel()
    summary = {"n": flat.size, "mean": flat.mean(), "std": flat.std(), "median": np.median(flat),
               "p75": np.quantile(flat, 0.75), "min": flat.min(), "max": flat.max()}
    best = np.argsort(-flat, kind="stable")[:10]
    pairs = [[int(p // n_keys), int(p % n_keys), scores.flat[p]] for p in best]
    corner = {"query_features": query_ids[:5], "key_features": key_ids[:7],
              "scores": scores[np.ix_(query_ids[:5], key_ids[:7])]}
    given = {"layer": layer, "head": head, "absolute": absolute, "distance": list(options.get("distances", (0,))),
             "temperature": options.get("temperature", "sqrt_d")}
    if model.gemma:
        given["qk_norm"] = options.get("qk_norm", "linear")
    return {"options": given, "qk_scalars": list(scalars) if scalars else None, "query": query, "key": key,
            "summary": summary, "pairs": pairs, "matrix": corner}


def ov_write(model, directions, layer, head):
    value = (model.gain(layer, "ln1") * directions) @ model.W_V(layer, head)
    return value @ model.W_O(layer, head) * model.post(layer, "ln1_post")


def ov(model, layer, head, ids):
    """Neurons of layer−1 through (layer, head) into what the neurons of layer+1 read by their gates."""
    written = ov_write(model, model.write(layer - 1), layer, head)
    read = model.read(layer + 1)
    raw = written @ read.T
    norms = np.linalg.norm(written, axis=1), np.linalg.norm(read, axis=1)
    cosine = raw / np.outer(*norms)
    writes = [{"feature": i, "first": written[i, :6], "norm": norms[0][i]} for i in ids[:3]]
    out = {"layer": layer, "head": head, "source_layer": layer - 1, "target_layer": layer + 1, "ov_write": writes}
    for name, scores in (("raw", raw), ("cosine", cosine)):
        for form, values in (("signed", scores), ("absolute", np.abs(scores))):
            best = np.argsort(-values.ravel(), kind="stable")[:5]
            rows, columns = column_statistics(values, 1), column_statistics(values, 0)
            out[f"{name}_{form}"] = {
                "source": {"feature": ids} | {k: v[ids] for k, v in rows.items()},
                "target": {"feature": ids} | {k: v[ids] for k, v in columns.items()},
                "summary": {"n": values.size, "mean": values.mean(), "std": values.std(), "median": np.median(values),
                            "p75": np.quantile(values, 0.75), "min": values.min(), "max": values.max()},
                "pairs": [[int(p // raw.shape[1]), int(p % raw.shape[1]), scores.flat[p]] for p in best],
            }
    out["read_norm"] = {"feature": ids, "norm": norms[1][ids]}
    out["write_norm"] = {"feature": ids, "norm": norms[0][ids]}
    return out


def eigen_share(matrix):
    values = np.linalg.eigvals(matrix)
    return float(values.real.sum() / np.abs(values).sum())


def copying(model, layer):
    directions = model.write(layer - 1)
    lengths = np.linalg.norm(directions, axis=1)
    gain, post = model.gain(layer, "ln1"), model.post(layer, "ln1_post")
    gram = model.W_E.T @ model.W_E
    rows = []
    for head in range(model.H):
        written = ov_write(model, directions, layer, head)
        out_lengths = np.linalg.norm(written, axis=1)
        W_V, W_O = model.W_V(layer, head), model.W_O(layer, head)
        rows.append({
            "head": head,
            "mean_cosine": ((written * directions).sum(axis=1) / (out_lengths * lengths)).mean(),
            "mean_gain": (out_lengths / lengths).mean(),
            "eig_copying": eigen_share((W_O * (post * gain)) @ W_V),
            "eig_tokens": eigen_share((W_O * post) @ gram @ (gain[:, None] * W_V)),
            "eig_tokens_final_gain": eigen_share((W_O * (post * model.g_final)) @ gram @ (gain[:, None] * W_V)),
        })
    return {
        "layer": layer, "dictionary": f"mlp_neurons(model, {layer - 1})",
        "eig_copying": "eigenvalues of diag(g_ln1) W_V W_O diag(post), as those of W_O diag(post g_ln1) W_V [d_head, d_head]",
        "eig_tokens": "eigenvalues of W_E diag(g_ln1) W_V W_O diag(post) W_U, as those of "
                      "W_O diag(post) W_U W_E diag(g_ln1) W_V; no final gain, no embedding scale (it cancels)",
        "eig_tokens_final_gain": "the same with diag(post g_final) before W_U",
        "heads": rows,
    }


def self_checks(model, layer, head):
    """Two other routes to the same numbers: interleaved rotary pairs on the file's own row order, and plain loops."""
    scores, _, _ = attention(model, layer, head, qk_norm="none", distances=(16,))
    directions = model.write(layer - 1)
    directions = directions * (model.d**0.5 / np.linalg.norm(directions, axis=1, keepdims=True))
    read = model.gain(layer, "ln1") * directions
    if model.arch == "llama":
        q_rows = model.tensor(f"blk.{layer}.attn_q.weight").reshape(model.H, model.dh, model.d)[head]
        kv = head // (model.H // model.KV)
        k_rows = model.tensor(f"blk.{layer}.attn_k.weight").reshape(model.KV, model.dh, model.d)[kv]
        q, k = read[3] @ q_rows.T, read[8] @ k_rows.T
        total = 0.0
        for pair in range(model.dh // 2):
            angle = 16 * model.rope_base(layer) ** (-2 * pair / model.dh)
            q_complex = complex(q[2 * pair], q[2 * pair + 1]) * np.exp(1j * angle)
            total += (q_complex * complex(k[2 * pair], k[2 * pair + 1]).conjugate()).real
        assert np.isclose(total * model.scale, scores[3, 8], rtol=1e-10)


def text_samples(model, ids):
    return [{"id": int(i), "text": model.text(i), "type": int(model.token_types[i])} for i in ids]


def smollm2(folder):
    model = Model(os.path.join(folder, "smollm2-135m.gguf"))
    self_checks(model, 12, 5)
    vocabulary = Vocabulary(model)
    neurons = [(25, 1318), (0, 7), (5, 100), (12, 777), (20, 1500), (29, 3)]
    unembed, embed, semantics = tokens(model, vocabulary, neurons, [(2, 40), (18, 1001)], neurons[:2], neurons[:1])
    queries, keys = [3, 1318, 77, 500, 901, 1200, 1535, 0], [8, 1000, 3, 64, 333, 1111, 1534, 1]
    entry = lambda *args, **kw: attention_entry(model, *args, queries, keys, **kw)
    ids = [0, 1, 2, 5, 16, 17, 20, 33, 100, 126, 150, 197, 198, 199, 216, 220, 253, 260, 281, 338, 500, 1000, 2000, 3333,
           5000, 7777, 10000, 15000, 20000, 25000, 30000, 35000, 40000, 45000, 49000, 49151]
    partial = [i for i in range(model.V) if "<0x" in model.text(i) and model.token_types[i] == 1]
    cjk = [i for i in range(model.V) if any("\u3000" < c < "\uffef" for c in model.text(i))]
    ids = sorted(set(ids + partial[:8] + partial[100:106] + cjk[:6]))
    write("smollm2.json", {
        "source": "smollm2-135m.gguf, dequantised by the gguf package, float64; made by real_models.py",
        "cfg": facts(model),
        "weights": weights(model, [(12, 5), (0, 7)], [25, 3]),
        "gains": gains(model, [0, 12]),
        "tokens": text_samples(model, ids),
        "partial_utf8_tokens": len(partial),
        "unembed": unembed, "embed": embed, "semantics": semantics,
        "attention": {
            "a": entry(12, 5), "b": entry(20, 7), "absolute": entry(12, 5, absolute=True),
            "distance16": entry(12, 5, distances=(16,)), "distances": entry(20, 7, distances=(1, 2, 4)),
            "temperature_none": entry(12, 5, temperature="none"),
        },
        "ov": ov(model, 12, 5, queries), "copying": copying(model, 12),
    })


def gemma3(folder):
    model = Model(os.path.join(folder, "gemma3-270m.gguf"))
    vocabulary = Vocabulary(model)
    neurons = [(14, 1355), (0, 7), (5, 100), (9, 777), (12, 2000), (17, 3)]
    unembed, embed, semantics = tokens(model, vocabulary, neurons, [(2, 40), (13, 1001)], neurons[:2], neurons[:1])
    queries, keys = [3, 1355, 77, 500, 901, 1200, 2047, 0], [8, 1000, 3, 64, 333, 1111, 2046, 1]
    entry = lambda *args, **kw: attention_entry(model, *args, queries, keys, **kw)
    ids = [0, 1, 2, 3, 4, 5, 6, 50, 105, 106, 107, 108, 109, 137, 138, 139, 140, 168, 200, 236, 237, 238, 239, 240, 255, 256, 300,
           400, 464, 493, 494, 500, 529, 1000, 2000, 3333, 5000, 7777, 10000, 20000, 40000, 80000, 120000, 160000, 200000,
           236743, 236744, 236745, 237000, 238000, 240000, 250000, 255999, 256000, 258883, 262143]
    cjk = [i for i in range(model.V) if any("\u4e00" <= c <= "\u9fff" for c in model.text(i))]
    ids = sorted(set(ids + cjk[:4] + cjk[5000:5004]))
    write("gemma3.json", {
        "source": "gemma3-270m.gguf, dequantised by the gguf package, float64; made by real_models.py",
        "cfg": facts(model),
        "weights": weights(model, [(9, 2), (11, 3)], [14, 3]),
        "gains": gains(model, [0, 11]),
        "tokens": text_samples(model, ids),
        "unembed": unembed, "embed": embed, "semantics": semantics,
        "attention": {
            "sliding": entry(9, 2), "full": entry(11, 3), "each": entry(9, 2, qk_norm="each"),
            "none": entry(9, 2, qk_norm="none"), "absolute": entry(11, 3, absolute=True),
            "distance16_sliding": entry(9, 2, distances=(16,)), "distance16_full": entry(11, 3, distances=(16,)),
        },
        "ov": ov(model, 9, 2, queries), "copying": copying(model, 9),
    })


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/saerepl-real")
    smollm2(folder)
    gemma3(folder)
