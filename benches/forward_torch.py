"""The forward pass that ours is measured against: transformers + PyTorch in float32 on the CPU.

Loads SmolLM2-135M from its GGUF file (dequantised by transformers), runs 512 token ids through it with SDPA attention (transformers'
default), without gradients or a cache, logits at every position, once to warm up and then --runs times. Prints one JSON object:
threads, tokens, runs, best_s and median_s (wall-clock seconds of one pass), peak_rss_mb of the process (loading included), rss_mb after the
last pass, and the versions. The ids are (7919 i + 13) mod d_vocab for i = 0, 1, …; the time does not depend on them.

    python forward_torch.py [--threads N] [--tokens 512] [--runs 3] [--model ~/.cache/saerepl-real/smollm2-135m.gguf]
"""

import argparse
import json
import os
import resource
import statistics
import time

import psutil
import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--tokens", type=int, default=512)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--model", default=os.path.expanduser("~/.cache/saerepl-real/smollm2-135m.gguf"))
options = parser.parse_args()

torch.set_num_threads(options.threads)
transformers.utils.logging.disable_progress_bar()
folder, file = os.path.split(os.path.abspath(options.model))
model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
ids = (7919 * torch.arange(options.tokens) + 13) % model.config.vocab_size
seconds = []
with torch.no_grad():
    for _ in range(options.runs + 1):
        start = time.perf_counter()
        logits = model(ids[None], use_cache=False).logits
        seconds.append(time.perf_counter() - start)
        assert logits.shape == (1, options.tokens, model.config.vocab_size)
print(json.dumps({
    "threads": options.threads,
    "tokens": options.tokens,
    "runs": options.runs,
    "best_s": round(min(seconds[1:]), 4),
    "median_s": round(statistics.median(seconds[1:]), 4),
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "rss_mb": psutil.Process().memory_info().rss // 2**20,
    "attention": model.config._attn_implementation,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}))
