"""What `activation_stats` must say of a JumpReLU SAE on given activations, by NumPy in float64.

    python activation_stats.py
"""

import numpy as np

from common import write

RNG = np.random.default_rng(31)
D, LATENTS, LENGTH, SEQUENCES = 5, 7, 6, 4


def main():
    x = np.round(RNG.normal(size=(LENGTH * SEQUENCES, D)), 3)
    x[::LENGTH] *= 100.0
    w_enc, w_dec = np.round(RNG.normal(size=(D, LATENTS)), 3), np.round(RNG.normal(size=(LATENTS, D)), 3)
    b_enc, threshold = np.round(RNG.normal(size=LATENTS), 3), np.round(RNG.uniform(0.2, 1.0, size=LATENTS), 3)
    threshold[3] = 50.0

    def stats(rows):
        before = rows @ w_enc + b_enc
        acts = np.where(before > threshold, before, 0.0)
        fired = acts != 0
        count = np.maximum(fired.sum(axis=0), 1)
        shares = acts * np.linalg.norm(w_dec, axis=1) / np.linalg.norm(rows, axis=1, keepdims=True)
        return {"density": fired.mean(axis=0), "mean_act": acts.sum(axis=0) / count, "max_act": acts.max(axis=0),
                "mean_share": shares.sum(axis=0) / count}

    kept = np.arange(len(x)) % LENGTH != 0
    write("activation_stats.json", {
        "length": LENGTH, "x": x, "W_enc": w_enc, "W_dec": w_dec, "b_enc": b_enc, "threshold": threshold,
        "without_first": stats(x[kept]), "all": stats(x), "first_8": stats(x[kept][:8]),
    })


main()
