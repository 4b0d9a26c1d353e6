"""The models of ../fixtures/forward/ once more as GGUF files, converted as llama.cpp's converter does it (its `conversion/` folder:
llama.py, qwen.py, gemma.py, gpt2.py, gpt_neox.py), with the names of gguf's own table.

Writes ../fixtures/forward/NAME.gguf, without tokens, one of them in parts too, and gguf_twins.json: the logits of the last position. They are transformers' on the
safetensors twin, whose configuration first loses what a GGUF file cannot say. llama.cpp must give the same from the GGUF file; how
far it is off is part of the output. forward.py comes first.

    python gguf_twins.py
"""

import os
import tempfile

import gguf
import numpy as np
import torch
from cyllama.llama import llama_cpp
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from common import write

torch.set_num_threads(1)
logging.disable_progress_bar()
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "forward")
ARCHITECTURES = {
    "llama": "llama", "llama_bias": "llama", "gemma1": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "qwen2": "qwen2",
    "qwen3": "qwen3", "gpt2": "gpt2", "gpt_neox": "gptneox", "gpt_neox_serial": "gptneox",
}
# This one once more in parts.
SPLIT = "llama_bias"


def without_unsaid(config, arch):
    """llama.cpp has its own scale of Gemma's queries and its own base of Gemma-3's local layers, whatever the configuration said."""
    if arch in ("gemma2", "gemma3"):
        config.query_pre_attn_scalar = config.head_dim
    if arch == "gemma3":
        config.rope_parameters["sliding_attention"]["rope_theta"] = 1e4
    return config


def thirds(tensor, heads):
    """GPT-NeoX's rows (head, {q, k, v}, d_head) as ({q, k, v}, head, d_head)."""
    return tensor.reshape(heads, 3, -1, *tensor.shape[1:]).swapaxes(0, 1).reshape(tensor.shape)


def interleaved(tensor, heads):
    """Llama's rows (head, half, i) as (head, i, half)."""
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def converted(name, tensor, arch, config):
    if arch == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return tensor.T
    if arch == "gptneox" and "query_key_value" in name:
        return thirds(tensor, config.num_attention_heads)
    if arch == "llama" and ".q_proj." in name:
        return interleaved(tensor, config.num_attention_heads)
    if arch == "llama" and ".k_proj." in name:
        return interleaved(tensor, config.num_key_value_heads)
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return tensor.float() + 1
    return tensor


def metadata(out, arch, config):
    rope = config.rope_parameters if arch != "gpt2" else {}
    rope = rope.get("full_attention", rope)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner)
    out.add_head_count(config.num_attention_heads)
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("none")
    if arch == "gpt2":
        out.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    out.add_rope_freq_base(rope["rope_theta"])
    if arch == "gptneox":
        out.add_layer_norm_eps(config.layer_norm_eps)
        out.add_rope_dimension_count(int(rope["partial_rotary_factor"] * d_head))
        out.add_parallel_residual(config.use_parallel_residual)
        return
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_head_count_kv(config.num_key_value_heads)
    if arch != "qwen2":
        out.add_key_length(d_head)
        out.add_value_length(d_head)
    if arch == "llama":
        out.add_rope_dimension_count(d_head)
    if arch == "gemma2":
        out.add_attn_logit_softcapping(config.attn_logit_softcapping)
        out.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch in ("gemma2", "gemma3"):
        out.add_sliding_window(config.sliding_window)
    if arch == "gemma3":
        out.add_sliding_window_pattern(config.layer_types.index("full_attention") + 1)
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(rope["factor"])


def llama3_divisors(config):
    """What llama.cpp divides the frequencies by, for Llama 3's scaling."""
    rope, d_head = config.rope_parameters, config.head_dim
    plain = rope["rope_theta"] ** (-np.arange(0, d_head, 2) / d_head)
    original, low, high = (rope[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    share = np.clip((original * plain / (2 * np.pi) - low) / (high - low), 0, 1)
    return (1 / ((1 - share) / rope["factor"] + share)).astype(np.float32)


def convert(name, arch, config, path, whole, parts_of=0):
    """Writes the twin; `whole` with every tensor in f32, else matrices in bf16 where they are stored so. `parts_of` so many tensors."""
    out = gguf.GGUFWriter(path, arch, split_max_tensors=parts_of)
    metadata(out, arch, config)
    kind = gguf.MODEL_ARCH(next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch))
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for stored, tensor in load_file(os.path.join(FOLDER, name, "model.safetensors")).items():
        if stored.endswith((".attn.bias", ".attention.bias", ".masked_bias", ".inv_freq")) or (
                stored == "lm_head.weight" and config.tie_word_embeddings):
            continue
        tensor = converted(stored, tensor, arch, config).contiguous()
        short = names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if tensor.dtype == torch.bfloat16 and tensor.ndim > 1 and not whole:
            out.add_tensor(short, tensor.view(torch.uint16).numpy().view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            out.add_tensor(short, tensor.float().numpy())
    if arch == "llama" and config.rope_parameters["rope_type"] == "llama3":
        out.add_tensor("rope_freqs.weight", llama3_divisors(config))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class Model(llama_cpp.LlamaModel):
    """A model with the `n_vocab` that cyllama's reader of logits asks for and its models lack."""

    @property
    def n_vocab(self):
        return self.get_vocab().n_vocab


def llama_logits(path, ids):
    model = Model(path_model=path)
    params = llama_cpp.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 256, 256, 256, 1, 1
    params.type_k, params.type_v, params.flash_attn_type = 0, 0, 0
    context = llama_cpp.LlamaContext(model, params)
    batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
    for position, token in enumerate(ids):
        batch.add(token, position, [0], True)
    context.decode(batch)
    return np.array(context.get_logits_ith(len(ids) - 1), dtype=np.float64)


def main():
    out = {}
    llama_cpp.disable_logging()
    for name, arch in ARCHITECTURES.items():
        folder = os.path.join(FOLDER, name)
        expected = load_file(os.path.join(folder, "expected.safetensors"))
        config = without_unsaid(AutoConfig.from_pretrained(folder), arch)
        path = os.path.join(FOLDER, f"{name}.gguf")
        convert(name, arch, config, path, whole=False)
        model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            logits = model(expected["ids"][None], use_cache=False).logits[0, -1].double().numpy()
        # Beside bf16 matrices llama.cpp rounds activations to bf16 too.
        with tempfile.TemporaryDirectory() as temporary:
            copy = os.path.join(temporary, "f32.gguf")
            convert(name, arch, config, copy, whole=True)
            far = np.abs(llama_logits(copy, expected["ids"].tolist()) - logits).max() / np.abs(logits).max()
        print(f"{name}: {os.path.getsize(path)} bytes, llama.cpp is off by {far:.1e} of the largest logit")
        out[name] = {"logits_last": logits, "llama_cpp": far}
    folder = os.path.join(FOLDER, SPLIT)
    config = AutoConfig.from_pretrained(folder)
    convert(SPLIT, ARCHITECTURES[SPLIT], config, os.path.join(FOLDER, f"{SPLIT}-split.gguf"), whole=False, parts_of=17)
    write("gguf_twins.json", out)


if __name__ == "__main__":
    main()
