"""What SAELens's list of releases says of the names of SAEs, for tests/it/hub.rs: `pip install sae-lens` (6.54.12), then
`python tests/reference/suites.py`. Each release's first, middle and last SAE; and of Gemma Scope's folders the average L0s
that are there, with the one that SAELens calls canonical."""

import collections
import importlib.resources
import json
import pathlib

import yaml

text = (importlib.resources.files("sae_lens") / "pretrained_saes.yaml").read_text()
releases = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
# Its decoders are read for each layer by a loader of SAELens's own, from files that carry no such names.
del releases["mntss-gemma-2-2b-2.5m-clt-as-per-layer"]

paths = []
for name, release in releases.items():
    saes = release["saes"]
    for sae in {sae["id"]: sae for sae in (saes[0], saes[len(saes) // 2], saes[-1])}.values():
        paths.append([f"{name}/{sae['id']}", release["repo_id"], sae["path"]])

canonical = []
for name in releases:
    if not name.endswith("-canonical"):
        continue
    there = collections.defaultdict(set)
    for sae in releases[name.removesuffix("-canonical")]["saes"]:
        folder, l0 = sae["path"].rsplit("/average_l0_", 1)
        there[folder].add(int(l0))
    for sae in releases[name]["saes"]:
        folder, l0 = sae["path"].rsplit("/average_l0_", 1)
        canonical.append([f"{name}/{sae['id']}", folder, sorted(there[folder]), int(l0)])

out = pathlib.Path(__file__).with_name("suites.json")
row = lambda rows: "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]"
out.write_text(f'{{"paths": {row(paths)},\n"canonical": {row(canonical)}}}\n')
