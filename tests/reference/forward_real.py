"""SmolLM2-135M and Gemma-3-270M run on two prompts each: forward_real.json.

The numbers are those of transformers in float32 with eager attention, its weights dequantised from the GGUF file by its own loader.
llama.cpp runs the same prompts from the same file, written again with every tensor in f32 so that it too multiplies in float32 (on
the file as it is, llama.cpp rounds activations to 8 bits); how far its logits are off is part of the output.

    python forward_real.py [FOLDER]
"""

import os
import sys
import tempfile

import numpy as np
import torch
from cyllama.llama import llama_cpp
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from common import rounded, top, write

torch.set_num_threads(1)
logging.disable_progress_bar()
FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/saerepl-real")
NEW = 16
PROMPTS = {
    "english": "The lighthouse keeper had not spoken to anyone for eleven days when the supply boat came around the northern point, and "
               "by then the storm had taken the radio mast. He walked down to the",
    "code": "# Größe in Å, naïve version — 日本語 🙂\ndef mean(xs: list[float]) -> float:\n    total = 0.0\n    for x in xs:\n"
            "        total += x\n    return total /",
}


class Model(llama_cpp.LlamaModel):
    """A model with the `n_vocab` that cyllama's reader of logits asks for and its models lack."""

    @property
    def n_vocab(self):
        return self.get_vocab().n_vocab


class Llama:
    """llama.cpp on an f32 copy of a GGUF file, with f32 keys and values."""

    def __init__(self, path, folder):
        llama_cpp.disable_logging()
        copy = os.path.join(folder, "f32.gguf")
        quantize = llama_cpp.LlamaModelQuantizeParams()
        quantize.ftype, quantize.allow_requantize, quantize.nthread = 0, True, 1
        llama_cpp.model_quantize(path, copy, quantize)
        self.model = Model(path_model=copy)
        self.vocabulary = self.model.get_vocab()

    def ids(self, text):
        return list(self.vocabulary.tokenize(text, True, True))

    def logits(self, ids):
        params = llama_cpp.LlamaContextParams()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 256, 256, 256, 1, 1
        params.type_k, params.type_v, params.flash_attn_type = 0, 0, 0
        context = llama_cpp.LlamaContext(self.model, params)
        batch = llama_cpp.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
        for position, token in enumerate(ids):
            batch.add(token, position, [0], True)
        context.decode(batch)
        return np.array([context.get_logits_ith(i) for i in range(len(ids))], dtype=np.float64)


def transformers_run(model, ids):
    """Logits at every position, the residual after each layer, the greedy continuation and by how much each of its ids leads."""
    residual, handles = [], []
    for layer in model.model.layers:
        handles.append(layer.register_forward_hook(
            lambda _m, _a, out: residual.append((out[0] if isinstance(out, tuple) else out)[0].double().numpy())))
    batch = torch.tensor([ids])
    logits = model(batch, use_cache=False).logits[0].double().numpy()
    for handle in handles:
        handle.remove()
    made = model.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=NEW, do_sample=False, use_cache=True)
    best = model(made, use_cache=False).logits[0, len(ids) - 1:-1].topk(2, dim=-1)
    assert torch.equal(best.indices[:, 0], made[0, len(ids):])
    return logits, residual, made[0, len(ids):], (best.values[:, 0] - best.values[:, 1]).double().numpy()


def prompt(model, llama, text):
    ids = llama.ids(text)
    logits, residual, greedy, greedy_lead = transformers_run(model, ids)
    other = llama.logits(ids)
    largest = np.sort(logits, axis=-1)
    last = top(logits[-1], 10)
    positions = [1, len(ids) // 2, len(ids) - 1]
    return {
        "text": text,
        "ids": ids,
        "arg_max": logits.argmax(-1),
        "lead": rounded(largest[:, -1] - largest[:, -2], 4),
        "last_top": {"ids": last, "logits": logits[-1][last]},
        "last_logits": {"mean": logits[-1].mean(), "std": logits[-1].std()},
        "positions": positions,
        "resid_post": [[{"mean": row[p].mean(), "norm": np.linalg.norm(row[p]), "first": row[p][:8]} for p in positions]
                       for row in residual],
        "greedy": greedy.tolist(),
        "greedy_lead": rounded(greedy_lead, 4),
        "llama_cpp": {
            "largest_difference": np.abs(logits - other).max(),
            "relative_difference": np.linalg.norm(logits - other) / np.linalg.norm(logits),
            "arg_max_differs_at": np.nonzero(logits.argmax(-1) != other.argmax(-1))[0],
        },
    }


def main():
    out = {}
    for name, file in (("smollm2", "smollm2-135m.gguf"), ("gemma3", "gemma3-270m.gguf")):
        model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            llama = Llama(os.path.join(FOLDER, file), folder)
            out[name] = {key: prompt(model, llama, text) for key, text in PROMPTS.items()}
        for key, got in out[name].items():
            print(name, key, len(got["ids"]), "ids;", got["llama_cpp"])
    write("forward_real.json", out, depth=4)


if __name__ == "__main__":
    main()
