"""One small SAE in every published format, and what the formats' own libraries compute with it.

Writes ../fixtures/saes/ and sae_formats.json. Dimensions are distinct (d 6, 10 latents, z of 8), so that any transposition
shows; one fixture is square. Where the library is on PyPI (sae-lens, dictionary-learning, eai-sparsify), it writes the files
and computes activations and reconstructions; where it is not, NumPy does, by the formula of the format's own code, in float64.

    pip install sae-lens==6.54.12 dictionary-learning==0.1.0 eai-sparsify==1.3.3
    python sae_formats.py

Every run gives the same bytes, but for the order of keys in two cfg.json, which SAELens takes from a set. nnsight, which
dictionary-learning imports to collect activations, is not needed: a stand-in takes its place where it is missing.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import types

import numpy as np
import torch
from safetensors.torch import save_file

from common import write

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures", "saes")
D, N, Z, K, LAYERS = 6, 10, 8, 3, 4
RNG = np.random.default_rng(41)
FIXTURES = {}


def normal(*shape, scale=1.0):
    return np.round(scale * RNG.normal(size=shape), 3).astype(np.float32)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


LOGICAL = {
    "W_enc": normal(D, N), "W_dec": unit(normal(N, D)), "b_enc": normal(N, scale=0.3), "b_dec": normal(D, scale=0.4),
    "threshold": np.abs(normal(N, scale=0.4)) + np.float32(0.01), "W_skip": normal(D, D, scale=0.3),
    "b_gate": normal(N, scale=0.3), "b_mag": normal(N, scale=0.3), "r_mag": normal(N, scale=0.2),
}
THETA = np.float32(0.25)
X = normal(3, D)


def path(*parts):
    full = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def t(name):
    return torch.from_numpy(LOGICAL[name].copy())


def write_json(value, *parts):
    with open(path(*parts), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)


def record(folder, acts, out, activation, sub=False, x=None, by="numpy", file=None, canonical=True, **facts):
    """`file` is what load_sae is given when the folder holds several; `canonical`: the tensors are LOGICAL's as stored."""
    entry = {"by": by, "activation": activation, "subtract_b_dec": sub, "acts": array(acts), "out": array(out), "canonical": canonical}
    if x is not None:
        entry["x"] = array(x)
    FIXTURES[f"{folder}/{file}" if file else folder] = {**entry, **facts}


def array(value):
    return value.detach().double().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, dtype=np.float64)


def f64(weights):
    return {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}


def formula(act, sub=False, w=LOGICAL, x=X, theta=None, k=K, skip=None):
    """Activations and reconstruction by the plain formula."""
    w, x = f64(w), np.asarray(x, dtype=np.float64)
    pre = (x - w["b_dec"] if sub else x) @ w["W_enc"] + w["b_enc"]
    if act == "relu":
        acts = np.maximum(pre, 0)
    elif act == "jumprelu":
        acts = np.where(pre > (w["threshold"] if theta is None else theta), np.maximum(pre, 0), 0)
    else:
        acts = np.zeros_like(pre)
        for i, row in enumerate(pre):
            kept = np.argsort(-row, kind="stable")[:k]
            acts[i, kept] = np.maximum(row[kept], 0)
    out = acts @ w["W_dec"] + w["b_dec"]
    return acts, out if skip is None else out + x @ np.asarray(skip, dtype=np.float64).T


# ---- SAELens --------------------------------------------------------------------------------------------------------


def saelens():
    from sae_lens import __version__
    from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE, MatchingPursuitSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
    from sae_lens.saes.transcoder import (
        JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, JumpReLUTranscoder, JumpReLUTranscoderConfig, SkipTranscoder,
        SkipTranscoderConfig, Transcoder, TranscoderConfig,
    )
    from sae_lens.saes.sae import SAE

    by = f"sae-lens {__version__}"
    hook = "blocks.2.hook_resid_post"

    def metadata(out=None):
        facts = {"hook_name": hook if out is None else "blocks.2.ln2.hook_normalized", "model_name": "gpt2", "prepend_bos": True}
        return SAEMetadata(**facts, **({"hook_name_out": out} if out else {}))

    def fill(sae, names):
        state = {name: t(name) for name in names}
        sae.load_state_dict({**{k: v for k, v in sae.state_dict().items() if k not in state}, **state})

    def save(folder, sae, activation, sub, x=X, training=False, **facts):
        if training:
            sae.save_inference_model(path(folder, ""))
            sae = SAE.load_from_disk(path(folder, ""))
        else:
            sae.save_model(path(folder, ""))
            sae = SAE.load_from_disk(path(folder, ""))
        with torch.no_grad():
            x = torch.from_numpy(np.asarray(x, dtype=np.float32))
            record(folder, sae.encode(x), sae(x), activation, sub, by=by, hook=facts.pop("hook", hook), layer=2, **facts)

    base = {"d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu"}
    plain = ["W_enc", "W_dec", "b_enc", "b_dec"]
    for norm in ["none", "layer_norm", "constant_norm_rescale"]:
        sae = StandardSAE(StandardSAEConfig(**base, normalize_activations=norm, apply_b_dec_to_input=True, metadata=metadata()))
        fill(sae, plain)
        save("saelens-standard" + ("" if norm == "none" else f"-{norm}"), sae, "relu", True)
    sae = JumpReLUSAE(JumpReLUSAEConfig(**base, apply_b_dec_to_input=False, metadata=metadata()))
    fill(sae, plain + ["threshold"])
    save("saelens-jumprelu", sae, "jumprelu", False)
    sae = GatedSAE(GatedSAEConfig(**base, apply_b_dec_to_input=True, metadata=metadata()))
    fill(sae, ["W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"])
    save("saelens-gated", sae, "gated", True)
    sae = TopKSAE(TopKSAEConfig(**base, k=K, apply_b_dec_to_input=True, metadata=metadata()))
    fill(sae, plain)
    save("saelens-topk", sae, "topk", True, k=K)
    sae = TopKSAE(TopKSAEConfig(**base, k=K, apply_b_dec_to_input=True, rescale_acts_by_decoder_norm=True, metadata=metadata()))
    fill(sae, plain)
    lengths = torch.from_numpy(np.linspace(0.5, 2.0, N, dtype=np.float32))
    sae.W_dec.data *= lengths[:, None]
    save("saelens-topk-rescaled", sae, "topk", True, k=K, canonical=False)
    sae = AbsTopKSAE(AbsTopKSAEConfig(**base, k=K, apply_b_dec_to_input=False, metadata=metadata()))
    fill(sae, plain)
    save("saelens-abstopk", sae, "abstopk", False, k=K)
    sae = MatchingPursuitSAE(MatchingPursuitSAEConfig(**base, max_iterations=4, residual_threshold=0.6, metadata=metadata()))
    sae.load_state_dict({"W_dec": t("W_dec"), "b_dec": t("b_dec")}, strict=False)
    save("saelens-matching-pursuit", sae, "matching_pursuit", True, canonical=False)
    for name, config, kind in [
        ("batchtopk", BatchTopKTrainingSAEConfig(**base, k=K, metadata=metadata()), BatchTopKTrainingSAE),
        ("matryoshka", MatryoshkaBatchTopKTrainingSAEConfig(**base, k=K, matryoshka_widths=[4, N], metadata=metadata()),
         MatryoshkaBatchTopKTrainingSAE),
    ]:
        sae = kind(config)
        sae.load_state_dict({**sae.state_dict(), **{n: t(n) for n in plain}})
        sae.topk_threshold = torch.tensor(float(THETA), dtype=sae.topk_threshold.dtype)
        save(f"saelens-{name}", sae, "jumprelu", True, training=True)
    out = "blocks.2.hook_mlp_out"
    transcoder = {**base, "d_out": D, "apply_b_dec_to_input": False, "metadata": metadata(out)}
    places = {"hook": "blocks.2.ln2.hook_normalized", "hook_out": out}
    for name, kind, config, names, activation in [
        ("transcoder", Transcoder, TranscoderConfig, plain, "relu"),
        ("skip-transcoder", SkipTranscoder, SkipTranscoderConfig, plain + ["W_skip"], "relu"),
        ("jumprelu-transcoder", JumpReLUTranscoder, JumpReLUTranscoderConfig, plain + ["threshold"], "jumprelu"),
        ("jumprelu-skip-transcoder", JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, plain + ["threshold", "W_skip"], "jumprelu"),
    ]:
        sae = kind(config(**transcoder))
        fill(sae, names)
        save(f"saelens-{name}", sae, activation, False, **places)

    # As the trainer's own checkpoints hold them: with a scalar topk_threshold, which the inference file spreads over features.
    lengths = torch.from_numpy(np.linspace(0.5, 2.0, N, dtype=np.float32))
    for name, config, kind in [
        ("batchtopk", BatchTopKTrainingSAEConfig(**base, k=K, metadata=metadata()), BatchTopKTrainingSAE),
        ("matryoshka", MatryoshkaBatchTopKTrainingSAEConfig(**base, k=K, matryoshka_widths=[4, N], metadata=metadata()),
         MatryoshkaBatchTopKTrainingSAE),
    ]:
        sae = kind(config)
        sae.load_state_dict({**sae.state_dict(), **{n: t(n) for n in plain}})
        sae.W_dec.data *= lengths[:, None]
        sae.topk_threshold = torch.tensor(float(THETA), dtype=sae.topk_threshold.dtype)
        folder = f"saelens-{name}-training"
        sae.save_model(path(folder, ""))
        with tempfile.TemporaryDirectory() as inference, torch.no_grad():
            sae.save_inference_model(inference)
            served = SAE.load_from_disk(inference)
            x = torch.from_numpy(X)
            record(folder, served.encode(x), served(x), "batchtopk", True, by=by, hook=hook, layer=2, k=K, canonical=False)
    config = MatchingPursuitSAEConfig(**base, max_iterations=4, residual_threshold=0.6, apply_b_dec_to_input=False, metadata=metadata())
    sae = MatchingPursuitSAE(config)
    sae.load_state_dict({"W_dec": t("W_dec"), "b_dec": t("b_dec")}, strict=False)
    save("saelens-matching-pursuit-uncentred", sae, "matching_pursuit", False, canonical=False)
    # Version 2: flat, other names, booleans. SAELens 6 reads it as it does a file of that time.
    folder = "saelens-v2"
    save_file({n: t(n) for n in plain}, path(folder, "sae_weights.safetensors"))
    write_json({
        "model_name": "gpt2-small", "hook_point": hook, "hook_point_layer": 2, "hook_point_head_index": None, "d_in": D, "d_sae": N,
        "activation_fn": "relu", "normalize_activations": False, "expansion_factor": 2, "dtype": "torch.float32", "device": "cpu",
        "context_size": 128, "l1_coefficient": 8e-05,
    }, folder, "cfg.json")
    sae = SAE.load_from_disk(path(folder, ""))
    with torch.no_grad():
        x = torch.from_numpy(X)
        record(folder, sae.encode(x), sae(x), "relu", True, by=by, hook=hook, layer=2)


# ---- dictionary_learning ------------------------------------------------------------------------------------------------


def dictionary_learning():
    try:
        import nnsight  # noqa: F401
    except ImportError:
        stand_in = types.ModuleType("nnsight")
        stand_in.LanguageModel = object
        sys.modules["nnsight"] = stand_in
    from importlib.metadata import version

    from dictionary_learning.dictionary import AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    by = f"dictionary-learning {version('dictionary-learning')}"
    linear = {"encoder.weight": t("W_enc").T.contiguous(), "decoder.weight": t("W_dec").T.contiguous()}
    biased = {**linear, "encoder.bias": t("b_enc")}
    k, theta = torch.tensor(K, dtype=torch.int), torch.tensor(float(THETA))
    parameters = {"W_enc": t("W_enc"), "b_enc": t("b_enc"), "W_dec": t("W_dec"), "b_dec": t("b_dec")}
    top_k = {**biased, "b_dec": t("b_dec"), "k": k}
    groups = torch.tensor([4, 6])
    for name, model, state, activation, sub in [
        ("AutoEncoder", AutoEncoder(D, N), {**biased, "bias": t("b_dec")}, "relu", True),
        ("AutoEncoderNew", AutoEncoderNew(D, N), {**biased, "decoder.bias": t("b_dec")}, "relu", False),
        ("GatedAutoEncoder", GatedAutoEncoder(D, N),
         {**linear, "decoder_bias": t("b_dec"), "r_mag": t("r_mag"), "gate_bias": t("b_gate"), "mag_bias": t("b_mag")}, "gated", True),
        ("AutoEncoderTopK", AutoEncoderTopK(D, N, K), {**top_k, "threshold": theta}, "topk", True),
        ("BatchTopKSAE", BatchTopKSAE(D, N, K), {**top_k, "threshold": theta}, "batchtopk", True),
        ("BatchTopKSAE-unset", BatchTopKSAE(D, N, K), {**top_k, "threshold": torch.tensor(-1.0)}, "topk", True),
        ("MatryoshkaBatchTopKSAE", MatryoshkaBatchTopKSAE(D, N, K, [4, 6]),
         {**parameters, "k": k, "threshold": theta, "group_sizes": groups}, "batchtopk", True),
        ("JumpReluAutoEncoder", JumpReluAutoEncoder(D, N), {**parameters, "threshold": t("threshold")}, "jumprelu", False),
    ]:
        model.load_state_dict(state)
        folder = f"dl-{name}/resid_post_layer_2/trainer_0"
        torch.save(model.state_dict(), path(folder, "ae.pt"))
        write_json({
            "trainer": {"dict_class": name.split("-")[0], "trainer_class": "Trainer", "activation_dim": D, "dict_size": N, "k": K,
                        "layer": 2, "lm_name": "EleutherAI/pythia-70m-deduped", "submodule_name": "resid_post_layer_2"},
            "buffer": {"d_submodule": D, "io": "out", "ctx_len": 128},
        }, folder, "config.json")
        with torch.no_grad():
            x = torch.from_numpy(X)
            # Its own batch top-k without a threshold keeps everything; here each input keeps its k largest (trap 5).
            acts = model.encode(x) if not name.endswith("unset") else AutoEncoderTopK.encode(model, x)
            out = model.decode(acts)
        facts = {"k": K} if activation in ("topk", "batchtopk") else {}
        record(folder, acts, out, activation, sub, by=by, hook="blocks.2.hook_resid_post", layer=2, **facts)


# ---- sparsify -----------------------------------------------------------------------------------------------------------


def sparsify():
    from importlib.metadata import version

    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    from sparsify import SparseCoder, SparseCoderConfig

    by = f"eai-sparsify {version('eai-sparsify')}"
    for folder, hook, out, config, dtype in [
        ("sparsify/layers.2.mlp", "blocks.2.hook_mlp_out", None, {}, torch.float32),
        ("sparsify/layers.2", "blocks.2.hook_resid_post", None, {"activation": "groupmax", "k": 5}, torch.float32),
        ("sparsify-transcoder/layers.2.mlp", "blocks.2.mlp.hook_in", "blocks.2.hook_mlp_out",
         {"transcode": True, "skip_connection": True}, torch.float32),
        ("sparsify-bf16/layers.2", "blocks.2.hook_resid_post", None, {}, torch.bfloat16),
    ]:
        # The number of latents in the file decides: expansion_factor is wrong on purpose (trap 39).
        config = SparseCoderConfig(**{"num_latents": N, "expansion_factor": 32, "k": K, **config})
        coder = SparseCoder(D, config, dtype=dtype)
        state = {"encoder.weight": t("W_enc").T.contiguous(), "encoder.bias": t("b_enc"), "W_dec": t("W_dec"), "b_dec": t("b_dec")}
        if config.skip_connection:
            state["W_skip"] = t("W_skip")
        coder.load_state_dict(state)
        coder.save_to_disk(path(folder, ""))
        exact = SparseCoder.load_from_disk(path(folder, "")).float()
        with torch.no_grad():
            x = torch.from_numpy(X)
            top, indices, _ = exact.encode(x)
            acts = torch.zeros(len(X), N).scatter(1, indices, top)
            result = exact(x).sae_out
        record(folder, acts, result, config.activation, not config.transcode, by=by, hook=hook, hook_out=out, layer=2, k=config.k,
               canonical=dtype == torch.float32)


# ---- what no library on PyPI writes --------------------------------------------------------------------------------------


def gemma_scope_2():
    names = {"w_enc": t("W_enc"), "w_dec": t("W_dec"), "b_enc": t("b_enc"), "b_dec": t("b_dec"), "threshold": t("threshold")}
    root = "gemma-scope-2-270m-pt"
    model = {"model": "gemma-3-270m"}
    # No config.json: the path says it.
    folder = f"{root}/resid_post/layer_2_width_10_l0_small"
    save_file(names, path(folder, "params.safetensors"))
    record(folder, *formula("jumprelu"), "jumprelu", hook="blocks.2.hook_resid_post", layer=2, **model)
    # `attn_out` holds SAEs of z, of another width than the residual stream.
    z = {"W_enc": normal(Z, N), "W_dec": unit(normal(N, Z)), "b_enc": LOGICAL["b_enc"], "b_dec": normal(Z),
         "threshold": LOGICAL["threshold"]}
    folder = f"{root}/attn_out_all/layer_2_width_10_l0_small"
    save_file({k.lower() if k.startswith("W") else k: torch.from_numpy(v) for k, v in z.items()}, path(folder, "params.safetensors"))
    x = normal(3, Z)
    record(folder, *formula("jumprelu", w=z, x=x), "jumprelu", x=x, hook="blocks.2.attn.hook_z", layer=2, canonical=False, **model)
    # A transcoder with an affine part, stored as it acts on rows.
    folder = f"{root}/transcoder/layer_2_width_10_l0_big_affine"
    save_file({**names, "affine_skip_connection": t("W_skip").T.contiguous()}, path(folder, "params.safetensors"))
    write_json({
        "hf_hook_point_in": "model.layers.2.pre_feedforward_layernorm.output", "architecture": "jump_relu", "affine_connection": True,
        "hf_hook_point_out": "model.layers.2.post_feedforward_layernorm.output", "width": N, "model_name": "gemma-v3-270m-pt", "l0": 91,
        "type": "transcoder",
    }, folder, "config.json")
    record(folder, *formula("jumprelu", skip=LOGICAL["W_skip"]), "jumprelu", hook="blocks.2.mlp.hook_in",
           hook_out="blocks.2.hook_mlp_out", layer=2, **model)

    # A cross-layer transcoder, a file for each source layer; targets are counted from the model's first layer.
    decoders = unit(normal(N, LAYERS, D))
    folder = f"{root}/clt/width_10_l0_big"
    save_file({**names, "w_dec": torch.from_numpy(decoders)}, path(folder, "params_layer_1.safetensors"))
    save_file({**names, "w_dec": torch.from_numpy(unit(normal(N, LAYERS, D)))}, path(folder, "params_layer_2.safetensors"))
    for to in (1, 3):
        weights = {**LOGICAL, "W_dec": decoders[:, to], "b_dec": LOGICAL["b_dec"] if to == 1 else np.zeros(D)}
        acts, out = formula("jumprelu", w=weights)
        key = {} if to == 1 else {"options": {"to_layer": to}}
        record(folder, acts, out, "jumprelu", file="params_layer_1.safetensors" + ("" if to == 1 else "#3"), hook="blocks.1.mlp.hook_in",
               hook_out=f"blocks.{to}.hook_mlp_out", layer=1, w_dec=decoders[:, to], **key, **model)
    # All layers in one file.
    stacked = {"w_enc": normal(2, D, N), "w_dec": unit(normal(2, N, 2, D)), "b_enc": normal(2, N), "b_dec": normal(2, D),
               "threshold": np.abs(normal(2, N))}
    folder = f"{root}/crosscoder/layer_5_9_width_10_l0_medium"
    save_file({k: torch.from_numpy(v) for k, v in stacked.items()}, path(folder, "params.safetensors"))
    write_json({"hf_hook_point_in": "model.layers.5.output", "hf_hook_point_out": "model.layers.5.output"}, folder, "config.json")
    weights = {"W_enc": stacked["w_enc"][0], "W_dec": stacked["w_dec"][0, :, 1], "b_enc": stacked["b_enc"][0],
               "b_dec": stacked["b_dec"][1], "threshold": stacked["threshold"][0]}
    record(folder, *formula("jumprelu", w=weights), "jumprelu", hook="blocks.5.hook_resid_post", hook_out="blocks.9.hook_resid_post",
           layer=5, canonical=False, w_dec=weights["W_dec"], options={"layer": 5, "to_layer": 9}, **model)


def authors_conversion(raw, s_in, s_out):
    """Llama Scope's inference code: scales into weights, then a decoder of unit norm."""
    w = f64(raw)
    w["b_enc"], w["b_dec"], w["W_dec"] = w["b_enc"] / s_in, w["b_dec"] / s_out, w["W_dec"] * s_in / s_out
    norm = np.linalg.norm(w["W_dec"], axis=1)
    w["W_dec"], w["W_enc"], w["b_enc"] = w["W_dec"] / norm[:, None], w["W_enc"] * norm, w["b_enc"] * norm
    return w


def linear(weights):
    return {
        "encoder.weight": torch.from_numpy(np.ascontiguousarray(weights["W_enc"].T)), "encoder.bias": torch.from_numpy(weights["b_enc"]),
        "decoder.weight": torch.from_numpy(np.ascontiguousarray(weights["W_dec"].T)), "decoder.bias": torch.from_numpy(weights["b_dec"]),
    }


def llama_scope():
    def hyperparams(hook, out, norm_in, norm_out):
        return {
            "hook_point_in": hook, "hook_point_out": out, "d_model": D, "d_sae": N, "expansion_factor": N / D, "act_fn": "jumprelu",
            "jump_relu_threshold": float(THETA), "norm_activation": "dataset-wise", "top_k": 50, "use_decoder_bias": True,
            "dataset_average_activation_norm": {"in": norm_in, "out": norm_out}, "sparsity_include_decoder_norm": True,
            "apply_decoder_bias_to_pre_encoder": False, "dtype": "torch.bfloat16",
        }

    lengths = np.linspace(0.4, 1.9, N).astype(np.float32)
    for name, hook, out, norms, lengths, canonical in [
        ("L2R-8x", "blocks.2.hook_resid_post", "blocks.2.hook_resid_post", (10.8125, 10.8125), np.ones(N, np.float32), True),
        ("L2R-32x", "blocks.2.hook_resid_post", "blocks.2.hook_resid_post", (10.8125, 10.8125), lengths, False),
        ("L2TC-8x", "blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out", (math.sqrt(D), 3.390625), lengths, False),
    ]:
        s_in, s_out = (math.sqrt(D) / norm for norm in norms)
        raw = {
            "W_enc": LOGICAL["W_enc"] / lengths, "b_enc": (LOGICAL["b_enc"] / lengths * s_in).astype(np.float32),
            "W_dec": (LOGICAL["W_dec"] * lengths[:, None] * s_out / s_in).astype(np.float32),
            "b_dec": (LOGICAL["b_dec"] * s_out).astype(np.float32),
        }
        folder = f"Llama3_1-8B-Base-{name}"
        save_file(linear(raw), path(folder, "checkpoints", "final.safetensors"))
        write_json(hyperparams(hook, out, *norms), folder, "hyperparams.json")
        converted = authors_conversion(raw, s_in, s_out)
        same = hook == out
        record(folder, *formula("jumprelu", w=converted, theta=float(THETA)), "jumprelu", hook=hook, hook_out=None if same else out,
               layer=2, canonical=canonical)

    # R1-Distill and OpenMOSS 2: a threshold for each feature, as a logarithm, against the scaled pre-activation times the decoder's norm.
    norm = 7.25
    s = math.sqrt(D) / norm
    hook = "blocks.2.hook_resid_post"
    lengths = np.linspace(0.4, 1.9, N).astype(np.float32)
    raw = {"W_enc": LOGICAL["W_enc"], "b_enc": LOGICAL["b_enc"], "W_dec": LOGICAL["W_dec"] * lengths[:, None], "b_dec": LOGICAL["b_dec"]}
    config = {"hook_point_in": hook, "hook_point_out": hook, "d_model": D, "expansion_factor": N / D, "act_fn": "jumprelu",
              "norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True, "use_decoder_bias": True, "sae_type": "sae"}
    average = {f"dataset_average_activation_norm.{hook}": torch.tensor(norm)}
    w = f64(raw)
    pre = X.astype(np.float64) * s @ w["W_enc"] + w["b_enc"]
    active = pre * np.linalg.norm(w["W_dec"], axis=1) > f64(LOGICAL)["threshold"]
    acts = np.where(active, np.maximum(pre, 0), 0)
    out = (acts @ w["W_dec"] + w["b_dec"]) / s
    # In units of the model: what each feature adds to it.
    in_units = acts * np.linalg.norm(w["W_dec"], axis=1) / s
    log = {"log_jumprelu_threshold": t("threshold").log()}
    folder = "Llama-Scope-R1-Distill/800M-Slimpajama-0-OpenR1-Math-220k/L2R"
    save_file({**linear(raw), **log, **average}, path(folder, "sae_weights.safetensors"))
    write_json(config, folder, "config.json")
    record(folder, in_units, out, "jumprelu", hook=hook, layer=2, canonical=False)
    folder = "openmoss-2"
    save_file({"W_E": torch.from_numpy(raw["W_enc"]), "b_E": torch.from_numpy(raw["b_enc"]), "W_D": torch.from_numpy(raw["W_dec"]),
               "b_D": torch.from_numpy(raw["b_dec"]), **{f"activation_function.{k}": v for k, v in log.items()}, **average},
              path(folder, "sae_weights.safetensors"))
    write_json(config, folder, "config.json")
    record(folder, in_units, out, "jumprelu", hook=hook, layer=2, canonical=False)
    folder = "openmoss-2-pt"
    torch.save({"sae": {"W_E": t("W_enc"), "b_E": t("b_enc"), "W_D": t("W_dec"), "b_D": t("b_dec")}, "version": "2.1.0"},
               path(folder, "sae_weights.pt"))
    write_json({**config, "act_fn": "topk", "top_k": K, "norm_activation": "inference"}, folder, "config.json")
    record(folder, *formula("topk"), "topk", hook=hook, layer=2, k=K)


def others():
    # OpenAI: the input is centred and scaled, the encoder is a transposed view of the decoder's storage's shape.
    x = X.astype(np.float64)
    mean, std = x.mean(-1, keepdims=True), x.std(-1, ddof=1, keepdims=True)
    acts, out = formula("topk", sub=True, x=(x - mean) / (std + 1e-5))
    folder = "openai/resid_post_mlp_v5_32k/autoencoders"
    state = {
        "pre_bias": t("b_dec"), "encoder.weight": t("W_enc").T, "latent_bias": t("b_enc"), "decoder.weight": t("W_dec").T,
        "stats_last_nonzero": torch.zeros(N, dtype=torch.int64), "latents_activation_frequency": torch.zeros(N, dtype=torch.int64),
        "latents_mean_square": torch.zeros(N), "activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"},
    }
    torch.save(state, path(folder, "2.pt"))
    record(folder, acts, out * std + mean, "topk", True, file="2.pt", hook="blocks.2.hook_resid_post", layer=2, k=K)
    folder = "openai/resid_delta_mlp_v1/autoencoders"
    torch.save({**{k: v for k, v in state.items() if not k.startswith("activation_state")}, "activation": "ReLU"}, path(folder, "2.pt"))
    record(folder, *formula("relu", sub=True), "relu", True, file="2.pt", hook="blocks.2.hook_mlp_out", layer=2)

    folder = "Llama-3.1-8B-Instruct-SAE-l19"
    torch.save({key.replace("coder.", "coder_linear."): v for key, v in linear(LOGICAL).items()},
               path(folder, "Llama-3.1-8B-Instruct-SAE-l19.pth"))
    record(folder, *formula("relu"), "relu", hook="blocks.19.hook_resid_post", layer=19, model="Llama-3.1-8B-Instruct")
    folder = "DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    rounded = {k: v.to(torch.bfloat16) for k, v in linear(LOGICAL).items()}
    torch.save(rounded, path(folder, "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"))
    back = {k: v.float().numpy() for k, v in rounded.items()}
    weights = {"W_enc": back["encoder.weight"].T, "b_enc": back["encoder.bias"],
               "W_dec": back["decoder.weight"].T, "b_dec": back["decoder.bias"]}
    record(folder, *formula("relu", w=weights), "relu", hook="blocks.19.hook_resid_post", layer=19, canonical=False)

    folder = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    torch.save({"W_enc": t("W_enc").T.contiguous(), "W_dec": t("W_dec").T.contiguous(), "b_enc": t("b_enc"), "b_dec": t("b_dec")},
               path(folder, "layer2.sae.pt"))
    record(folder, *formula("topk"), "topk", hook="blocks.2.hook_resid_post", layer=2, k=K, model="Qwen3-1.7B-Base")

    folder = "attn-saes-gpt2-small-all-layers"
    z = {"W_enc": normal(Z, N), "W_dec": unit(normal(N, Z)), "b_enc": LOGICAL["b_enc"], "b_dec": normal(Z)}
    stem = "gpt2-small_L2_Hcat_z_lr1.20e-03_l11.00e+00_ds10_bs4096_dc1.00e-06_rsanthropic_rie25000_nr4_v4"
    torch.save({k: torch.from_numpy(v) for k, v in z.items()}, path(folder, f"{stem}.pt"))
    write_json({"act_name": "blocks.2.attn.hook_z", "act_size": Z, "dict_size": N, "layer": 2, "l1_coeff": 1.0, "enc_dtype": "fp32"},
               folder, f"{stem}_cfg.json")
    x = normal(3, Z)
    record(folder, *formula("relu", sub=True, w=z, x=x), "relu", True, x=x, hook="blocks.2.attn.hook_z", layer=2, canonical=False)

    folder = "mwhanna--qwen3-0.6b-transcoders"
    tensors = {"W_enc": t("W_enc").T.contiguous(), "W_dec": t("W_dec"), "b_enc": t("b_enc"), "b_dec": t("b_dec")}
    save_file(tensors, path(folder, "layer_2.safetensors"))
    with open(path(folder, "config.yaml"), "w", encoding="utf-8") as file:
        file.write('model_name: "Qwen/Qwen3-0.6B"\nmodel_kind: transcoder_set\nfeature_input_hook: "mlp.hook_in"\n'
                   'feature_output_hook: "mlp.hook_out"\nscan: qwen3-0.6b\ntranscoders:\n  - hf://mwhanna/x/layer_2.safetensors\n')
    record(folder, *formula("relu"), "relu", hook="blocks.2.mlp.hook_in", hook_out="blocks.2.hook_mlp_out", layer=2,
           model="Qwen/Qwen3-0.6B")
    folder = "skip-transcoder-Llama-3.2-1B-131k"
    save_file({**tensors, "W_dec": t("W_dec").T.contiguous(), "W_skip": t("W_skip"), "activation_function.threshold": t("threshold")},
              path(folder, "layer_2.safetensors"))
    record(folder, *formula("jumprelu", skip=LOGICAL["W_skip"]), "jumprelu", hook="blocks.2.hook_resid_mid",
           hook_out="blocks.2.hook_mlp_out", layer=2)

    # A cross-layer transcoder: targets are counted from the source's layer.
    folder = "clt-gemma-2-2b-426k"
    decoders = unit(normal(N, LAYERS - 1, D))
    save_file({"W_enc_1": t("W_enc").T.contiguous(), "b_enc_1": t("b_enc"), "b_dec_1": t("b_dec"), "threshold_1": t("threshold")},
              path(folder, "W_enc_1.safetensors"))
    save_file({"W_dec_1": torch.from_numpy(decoders)}, path(folder, "W_dec_1.safetensors"))
    for to in (1, 3):
        weights = {**LOGICAL, "W_dec": decoders[:, to - 1], "b_dec": LOGICAL["b_dec"] if to == 1 else np.zeros(D)}
        facts = {} if to == 1 else {"options": {"to_layer": to}}
        record(folder, *formula("jumprelu", w=weights), "jumprelu", hook="blocks.1.hook_resid_mid", hook_out=f"blocks.{to}.hook_mlp_out",
               layer=1, file="W_enc_1.safetensors" + ("" if to == 1 else "#3"), w_dec=decoders[:, to - 1], **facts)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    saelens()
    dictionary_learning()
    sparsify()
    gemma_scope_2()
    llama_scope()
    others()
    write("sae_formats.json", {
        "source": "sae_formats.py: `by` names what computed acts and out; W_skip maps rows by its transpose",
        "inputs": X, "logical": LOGICAL, "fixtures": FIXTURES,
    }, depth=2)


if __name__ == "__main__":
    main()
