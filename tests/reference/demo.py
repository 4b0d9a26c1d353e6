"""The built-in demo in other people's programs: transformers loads its model, SAELens each of its SAEs; demo.json is what they compute.

EXCERPT is tests/fixtures/demo/held_out.txt, sections of the text that the demo was not trained on. Activations are taken by hooks on
transformers' model and given to SAELens in float32; nothing of saerepl's is called. Needs sae-lens beside the requirements.

    python demo.py
"""

import os

import torch
from safetensors.torch import load_file
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import write

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "..", "..", "examples", "demo")
EXCERPT = os.path.join(HERE, "..", "fixtures", "demo", "held_out.txt")
CONTEXT = 128
PROMPT = "And the king said unto the woman, What is thy name?"
# Positions of the prompt at which SAEs are compared.
POSITIONS = [1, 5, 9]

torch.set_num_threads(2)


def sites(layer):
    """Hook names with the module whose output (or, for z, input) they are."""
    return {
        "hook_resid_post": (layer, "output"),
        "attn.hook_z": (layer.self_attn.o_proj, "input"),
        "hook_mlp_out": (layer.mlp, "output"),
    }


def activations(model, ids):
    """Logits and the activations at all sites, flat rows of float32."""
    kept, hooks = {}, []

    def keep(name, side):
        def hook(_, inputs, output):
            value = inputs[0] if side == "input" else output[0] if isinstance(output, tuple) else output
            kept[name] = value.detach().float().reshape(-1, value.shape[-1])
        return hook

    for number, layer in enumerate(model.model.layers):
        for site, (module, side) in sites(layer).items():
            hooks.append(module.register_forward_hook(keep(f"blocks.{number}.{site}", side)))
    with torch.no_grad():
        logits = model(torch.tensor(ids)).logits.float()
    for hook in hooks:
        hook.remove()
    return logits, kept


def changed(model, name, change):
    """A handle under which the activation at a hook is `change`d: [batch, position, width] in and out."""
    number, site = name.removeprefix("blocks.").split(".", 1)
    layer = model.model.layers[int(number)]
    if site == "mlp.hook_post":
        module, side = layer.mlp.down_proj, "input"
    elif site == "attn.hook_v":
        module, side = layer.self_attn.v_proj, "output"
    else:
        module, side = sites(layer)[site]
    if side == "input":
        return module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0].clone()), *inputs[1:]))
    def hook(_, __, output):
        return (change(output[0].clone()), *output[1:]) if isinstance(output, tuple) else change(output.clone())
    return module.register_forward_hook(hook)


def edits(model, saes, kept):
    """Changes by hook as saerepl's tests make them: name, hook, function."""
    width = model.config.hidden_size
    vector = torch.tensor([(i % 7 - 3) / 4 for i in range(width)])
    sae = saes["blocks.2.hook_resid_post"]
    acts = sae.encode(kept["blocks.2.hook_resid_post"])
    feature = int(acts[5].argmax())

    def replace(x):
        x[:, 3] = vector
        return x
    def scale(x):
        return 2 * x
    def head(x):
        x[..., 4 * 16 : 5 * 16] = 0
        return x
    def values(x):
        x[:, 1:4, 16:32] *= -0.5
        return x
    def neuron(x):
        x[..., 7] = 0
        return x
    def add(x):
        return x + 3 * vector
    def without_feature(x):
        return x - sae.encode(x[0])[:, feature, None] * sae.W_dec[feature]
    cases = [("replace", "blocks.2.hook_resid_post", replace), ("scale", "blocks.1.hook_mlp_out", scale),
             ("head", "blocks.3.attn.hook_z", head), ("values", "blocks.1.attn.hook_v", values),
             ("neuron", "blocks.1.mlp.hook_post", neuron), ("add", "blocks.0.hook_resid_post", add),
             ("feature", "blocks.2.hook_resid_post", without_feature)]
    return feature, cases


def main():
    tokenizer = AutoTokenizer.from_pretrained(os.path.join(DEMO, "model"))
    model = AutoModelForCausalLM.from_pretrained(os.path.join(DEMO, "model"), dtype=torch.float32, attn_implementation="eager").eval()
    names = sorted(os.listdir(os.path.join(DEMO, "saes")))
    saes = {}
    for name in names:
        saes[name] = SAE.load_from_disk(os.path.join(DEMO, "saes", name), dtype="float32")
        if saes[name].cfg.reshape_activations == "hook_z":
            saes[name].turn_off_forward_pass_hook_z_reshaping()

    ids = tokenizer(PROMPT)["input_ids"]
    logits, kept = activations(model, [ids])
    out = {
        "prompt": PROMPT,
        "ids": ids,
        "parameters": sum(p.numel() for p in model.parameters()),
        "last_logits": logits[0, -1, :64].tolist(),
        "top": logits[0].argmax(-1).tolist(),
        "greedy": model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids):].tolist(),
        "edits": {},
        "saes": {},
    }
    with torch.no_grad():
        out["feature"], cases = edits(model, saes, kept)
        for name, hook, change in cases:
            handle = changed(model, hook, change)
            out["edits"][name] = model(torch.tensor([ids])).logits[0, -1, :64].tolist()
            handle.remove()
    with torch.no_grad():
        for name in names:
            acts = saes[name].encode(kept[name][POSITIONS])
            rows = [[[j, round(float(row[j]), 6)] for j in row.nonzero().flatten().tolist()] for row in acts]
            out["saes"][name] = {"positions": POSITIONS, "active": rows, "out": saes[name].decode(acts)[:, :8].tolist()}

    # The excerpt as one stream in windows that begin with the begin-of-text token; first positions do not count.
    stream = tokenizer(open(EXCERPT, encoding="utf-8").read(), add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    windows = [[bos] + stream[i : i + CONTEXT - 1] for i in range(0, len(stream) - CONTEXT + 2, CONTEXT - 1)]
    logits, kept = activations(model, windows)
    ids = torch.tensor(windows)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    inner = (torch.arange(ids.numel()) % CONTEXT) != 0
    out["excerpt"] = {"context": CONTEXT, "windows": len(windows), "loss": float(loss), "saes": {}}
    with torch.no_grad():
        for name in names:
            x = kept[name][inner]
            acts = saes[name].encode(x)
            missed = (x - saes[name].decode(acts)).double().pow(2).sum()
            total = (x - x.mean(0)).double().pow(2).sum()
            out["excerpt"]["saes"][name] = {
                "l0": float((acts > 0).sum(-1).double().mean()),
                "explained_variance": float(1 - missed / total),
                "dead_share": float((acts > 0).sum(0).eq(0).double().mean()),
            }
    # The loss with an SAE's reconstruction, or zeros, in place of all but first positions.
    ids = torch.tensor(windows)
    with torch.no_grad():
        for name in ["blocks.2.hook_resid_post", "blocks.3.attn.hook_z"]:
            for what, change in [("sae", lambda x: saes[name].decode(saes[name].encode(x))), ("zero", torch.zeros_like)]:
                handle = changed(model, name, lambda x: torch.cat([x[:, :1], change(x[:, 1:])], 1))
                logits = model(ids).logits[:, :-1]
                handle.remove()
                loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
                out["excerpt"]["saes"][name][f"ce_{what}"] = float(loss)
    write("demo.json", out)
    print(f"loss {out['excerpt']['loss']:.4f} on {len(windows)} windows")
    for name, figures in out["excerpt"]["saes"].items():
        print(f"{name:26} {figures}")


main()
