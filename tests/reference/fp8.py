"""8-bit floats: what torch reads from every byte, and a tiny model of ../fixtures/forward/ stored as the FP8 checkpoints of the hub are.

Writes ../fixtures/f8.safetensors (every byte as e4m3 and as e5m2), ../fixtures/fp8/{tensor,row,block}/ (one scale a matrix, a row, a
block of 16 x 16) and fp8.json: the values of the bytes, and transformers' logits at the last position from the dequantised weights.

    python fp8.py
"""

import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from common import write

torch.set_num_threads(1)
logging.disable_progress_bar()
FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
SOURCE, BLOCK, LARGEST = "qwen3", 16, 448.0


def whole(scales, shape, kind):
    """The scale of every element."""
    if kind == "block":
        scales = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        return scales[: shape[0], : shape[1]]
    return scales.expand(shape)


def scales_of(weight, kind):
    size = weight.abs()
    if kind == "tensor":
        return size.max().reshape(1, 1) / LARGEST
    if kind == "row":
        return size.amax(1, keepdim=True) / LARGEST
    rows, columns = (-(-n // BLOCK) for n in weight.shape)
    padded = torch.zeros(rows * BLOCK, columns * BLOCK)
    padded[: weight.shape[0], : weight.shape[1]] = size
    return padded.reshape(rows, BLOCK, columns, BLOCK).amax((1, 3)) / LARGEST


def store(kind, weights, config, ids):
    folder = os.path.join(FIXTURES, "fp8", kind)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    stored, plain = {}, {}
    for name, weight in weights.items():
        if "_proj.weight" not in name:
            stored[name] = plain[name] = weight
            continue
        scales = scales_of(weight.float(), kind)
        if kind == "row":
            scales = scales.bfloat16().float()
        each = whole(scales, weight.shape, kind)
        small = (weight.float() / each).clamp(-LARGEST, LARGEST).to(torch.float8_e5m2 if kind == "tensor" else torch.float8_e4m3fn)
        stored[name] = small
        stored[name + ("_scale_inv" if kind == "block" else "_scale")] = (
            scales.reshape(()) if kind == "tensor" else scales.bfloat16() if kind == "row" else scales)
        stored[name.replace(".weight", ".input_scale")] = torch.tensor(0.5)
        plain[name] = small.float() * each
    if kind == "block":
        config = config | {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [BLOCK, BLOCK]}}
    else:
        config = config | {"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}}
    save_file(stored, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps(config, indent=1, sort_keys=True) + "\n")
    model = AutoModelForCausalLM.from_pretrained(
        os.path.join(FIXTURES, "forward", SOURCE), state_dict=None, dtype=torch.float32, attn_implementation="eager").eval()
    missing, unexpected = model.load_state_dict({name: weight.float() for name, weight in plain.items()}, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    with torch.no_grad():
        return model(ids[None], use_cache=False).logits[0, -1].numpy()


def main():
    every = torch.arange(256, dtype=torch.uint8)
    bytes_of = {"e4m3": every.view(torch.float8_e4m3fn), "e5m2": every.clone().view(torch.float8_e5m2)}
    save_file(bytes_of, os.path.join(FIXTURES, "f8.safetensors"))
    folder = os.path.join(FIXTURES, "forward", SOURCE)
    weights = load_file(os.path.join(folder, "model.safetensors"))
    ids = load_file(os.path.join(folder, "expected.safetensors"))["ids"]
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    write("fp8.json", {
        "note": "null is NaN or infinite",
        "values": {name: tensor.float().numpy() for name, tensor in bytes_of.items()},
        "logits_last": {kind: store(kind, weights, config, ids) for kind in ("tensor", "row", "block")},
    })


if __name__ == "__main__":
    main()
