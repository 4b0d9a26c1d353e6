"""The cache that Python's huggingface_hub makes of a repository, for tests/it/hub.rs: `pip install huggingface_hub` (2.4.0),
then `python tests/reference/hub_cache.py`. With the path of the program as an argument it also checks that what each of the
two has fetched the other opens offline, and that Python finds nothing wrong with the program's cache."""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
SAE = HERE.parent / "fixtures" / "sae-v6-jumprelu"
FILES = [
    ("config.json", b'{"a": 1}', False),
    ("a/deeper/notes:1.txt", b"notes", False),
    ("model.safetensors", b"weights of a model", True),
    ("a/copy.bin", b"weights of a model", True),
]
SAE_FILES = [("cfg.json", (SAE / "cfg.json").read_bytes(), False), ("sae_weights.safetensors", (SAE / "sae_weights.safetensors").read_bytes(), True)]
COMMIT = "c" * 40


def etag(content, large):
    return hashlib.sha256(content).hexdigest() if large else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    repos = {"org/repo": FILES, "org/sae": SAE_FILES}

    def do_GET(self):
        path = self.path.replace("%3A", ":").split("?")[0].strip("/")
        if path.startswith("api/models/"):
            org, repo = path.split("/")[2:4]
            names = [{"rfilename": name} for name, *_ in self.repos[f"{org}/{repo}"]]
            return self.send(200, json.dumps({"id": f"{org}/{repo}", "sha": COMMIT, "siblings": names}).encode(), {})
        if path.startswith("store/"):
            digest = path.split("/")[1]
            contents = [content for files in self.repos.values() for _, content, large in files if large and etag(content, large) == digest]
            return self.send(200, contents[0], {"etag": '"of-the-store"'})
        org, repo, _, _, name = path.split("/", 4)
        content, large = next((content, large) for known, content, large in self.repos[f"{org}/{repo}"] if known == name)
        headers = {"x-repo-commit": COMMIT, "x-linked-size": str(len(content))}
        if large:
            digest = etag(content, large)
            store = f"http://localhost:{self.server.server_port}/store/{digest}"
            return self.send(302, b"", headers | {"x-linked-etag": f'"{digest}"', "location": store})
        self.send(200, content, headers | {"etag": f'"{etag(content, large)}"'})

    do_HEAD = do_GET

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def tree(cache):
    files, links = [], []
    for path in sorted(cache.rglob("*")):
        name = str(path.relative_to(cache))
        if path.is_symlink():
            links.append([name, os.readlink(path)])
        elif path.is_file() and not name.startswith(".locks") and name != "CACHEDIR.TAG":
            files.append(name)
    return files, links


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"
os.environ["HF_HUB_DISABLE_XET"] = "1"
import huggingface_hub as hub  # noqa: E402: it reads the environment

theirs = pathlib.Path(tempfile.mkdtemp())
for name, *_ in FILES:
    hub.hf_hub_download("org/repo", name, cache_dir=theirs / "hub", endpoint=endpoint)
files, links = tree(theirs / "hub")
out = {
    "files": [{"path": name, "content": content.decode(), "large": large} for name, content, large in FILES],
    "tree": [name.replace(COMMIT, "COMMIT") for name in sorted(files)],
    "links": sorted([name.replace(COMMIT, "COMMIT"), target] for name, target in links),
}
(HERE / "hub_cache.json").write_text(json.dumps(out, indent=1) + "\n")

if len(sys.argv) > 1:
    ours = pathlib.Path(tempfile.mkdtemp())
    run = lambda home, *arguments, **more: subprocess.run(
        [sys.argv[1], *arguments], env=os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint} | more, check=True, capture_output=True, text=True
    ).stdout
    print(run(ours, "pull", "org/sae"))
    report = hub.scan_cache_dir(ours / "hub")
    assert not report.warnings, report.warnings
    (repo,) = report.repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, set(revision.refs)) == ("org/sae", COMMIT, {"main"})
    assert {file.file_name for file in revision.files} == {"cfg.json", "sae_weights.safetensors"}
    for name, content, _ in SAE_FILES:
        found = hub.try_to_load_from_cache("org/sae", name, cache_dir=ours / "hub")
        assert pathlib.Path(found).read_bytes() == content
        assert hub.hf_hub_download("org/sae", name, cache_dir=ours / "hub", local_files_only=True) == found
        hub.hf_hub_download("org/sae", name, cache_dir=theirs / "hub", endpoint=endpoint)
    print(run(theirs, "info", "org/sae", HF_HUB_OFFLINE="1"))
    print("both read both")
