#!/usr/bin/env python3
"""Reference values for analysis::enrichment: GSEA's running sum (Subramanian et al. 2005), step by step over the ranking.

Writes enrichment.json beside this file. Needs: pip install numpy.
"""
import json, pathlib
import numpy as np

rng = np.random.default_rng(11)
V = 60
unmasked = np.array([i for i in range(V) if i % 13 != 5])


def enrichment(scores, members, weight):
    inside = scores[unmasked]
    z = np.abs((inside - inside.mean()) / inside.std())
    order = np.argsort(-inside, kind="stable")
    hit = np.isin(unmasked[order], members)
    rises = np.where(hit, z[order] ** weight, 0.0)
    steps = rises / rises.sum() - np.where(hit, 0.0, 1.0 / (~hit).sum())
    walk = np.cumsum(steps)
    # Also before the first step and between equal places the sum is 0 at the start.
    return float(walk[np.argmax(np.abs(walk))])


rows = []
for kind in range(3):
    scores = np.float32(rng.normal(size=V) * [1, 5, 0.1][kind] + kind)
    top = unmasked[np.argsort(-scores[unmasked])]
    cases = []
    for members in (rng.choice(unmasked, 7, replace=False), top[:6], top[-9:], np.concatenate([top[:3], top[-2:]])):
        for weight in (0.0, 1.0, 2.0):
            cases.append({"set": sorted(int(i) for i in members), "weight": weight, "es": enrichment(np.float64(scores), members, weight)})
    rows.append({"scores": scores.tolist(), "cases": cases})
out = {"unmasked": unmasked.tolist(), "rows": rows}
pathlib.Path(__file__).with_name("enrichment.json").write_text(json.dumps(out) + "\n")
