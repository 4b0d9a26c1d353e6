"""SAELens beside saerepl on one SAE: `python saelens.py FOLDER ACTIVATIONS` (needs sae-lens, see README.md).

FOLDER is what `save(sae, "folder")` wrote; ACTIVATIONS a .safetensors with `x` [rows, d_in] and saerepl's `acts` [rows, d_sae]
and `out` [rows, d_in] for it, as

    save(#{ x: x, acts: sae.encode(x), out: sae.reconstruct(x) }, "acts.safetensors");

writes it. Prints the largest differences; fails when a set of active latents or a number differs.
"""

import sys

import torch
from safetensors.torch import load_file
from sae_lens import SAE


def main(folder, activations):
    sae = SAE.load_from_disk(folder)
    # Flat rows, as in training.
    if sae.cfg.reshape_activations == "hook_z":
        sae.turn_off_forward_pass_hook_z_reshaping()
    ours = load_file(activations)
    with torch.no_grad():
        acts = sae.encode(ours["x"])
        out = sae.decode(acts)
    scale = acts.abs().max()
    differ = ((acts > 0) != (ours["acts"] > 0)).sum().item()
    worst = ((acts - ours["acts"]).abs().max() / scale).item()
    worst_out = ((out - ours["out"]).abs().max() / out.abs().max()).item()
    print(f"{folder}: {sae.cfg.architecture()}, d_sae {sae.cfg.d_sae}, L0 {(acts > 0).sum(-1).float().mean():.3f}")
    print(f"  hook {sae.cfg.metadata.hook_name}, model {sae.cfg.metadata.model_name}")
    print(f"  activations differ by {worst:.2e} of their largest, reconstructions by {worst_out:.2e}; active in one only: {differ}")
    sys.exit(differ > 0 or worst > 1e-5 or worst_out > 1e-5)


main(*sys.argv[1:])
