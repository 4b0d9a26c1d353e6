//! The hub and its cache, against a hub on local ports: what is fetched, resumed, refused, shared with Python and with other
//! processes, and never taken for whole.

use crate::hub_server::{Access, Fault, POOR_TOKEN, Server, TOKEN, bytes, large, sha256, small};
use crate::support::{fixture, reference, work};
use saerepl::Result;
use saerepl::formats::Files;
use saerepl::hub::{Hub, Place, resolve_with};
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_saerepl");
const WHOLE: usize = 300_000;

/// A cache, and the hub that fills it.
struct Home {
    folder: tempfile::TempDir,
    hub: Hub,
}

impl Home {
    fn of(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new(&server.endpoint, folder.path().join("hub"));
        Home { folder, hub }
    }

    fn with_token(server: &Server, token: &str) -> Self {
        let mut home = Self::of(server);
        home.hub.token = Some(token.into());
        home
    }

    fn find(&self, name: &str) -> Result<Place> {
        resolve_with(name, &self.hub, &work())
    }

    fn files(&self, name: &str) -> Arc<dyn Files> {
        match self.find(name).unwrap() {
            Place::Folder(files) => files,
            other => panic!("{other:?}"),
        }
    }

    /// A file of `org/repo`, as bytes.
    fn open(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.files("org/repo").open(path)?.as_slice().to_vec())
    }

    /// The file of `org/repo` that is being written.
    fn part(&self, content: &[u8]) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", sha256(content)))
    }

    fn blobs(&self) -> PathBuf {
        self.hub.cache.join("models--org--repo/blobs")
    }

    /// Fails where anything of `org/repo` looks whole.
    fn assert_nothing_whole(&self) {
        let (files, _) = tree(&self.hub.cache);
        let whole = files.iter().filter(|file| file.contains("/snapshots/") || file.contains("/blobs/"));
        let whole: Vec<_> = whole.filter(|file| !file.ends_with(".incomplete")).collect();
        assert!(whole.is_empty(), "{whole:?}");
    }

    /// Fails where anything of a file of `org/repo` is there, part or whole.
    fn assert_nothing_kept(&self) {
        let (files, links) = tree(&self.hub.cache);
        let kept: Vec<_> = files.iter().filter(|file| !file.contains("/refs/")).collect();
        assert!(kept.is_empty() && links.is_empty(), "{kept:?} {links:?}");
    }

    /// The program with this cache and hub.
    fn command(&self, server: &Server, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY"]
        {
            command.env_remove(name);
        }
        command.args(arguments).env("HF_HOME", self.folder.path()).env("HF_ENDPOINT", &server.endpoint);
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, server: &Server, arguments: &[&str]) -> Child {
        self.command(server, arguments).spawn().unwrap()
    }

    fn run(&self, server: &Server, arguments: &[&str]) -> (String, String, i32) {
        ended(self.start(server, arguments))
    }
}

fn ended(child: Child) -> (String, String, i32) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code().unwrap_or(-1))
}

/// Files below a folder, and its links with what they point at; locks left out.
fn tree(folder: &Path) -> (Vec<String>, Vec<(String, String)>) {
    let (mut files, mut links, mut open) = (Vec::new(), Vec::new(), vec![folder.to_path_buf()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_symlink() {
                links.push((name, fs::read_link(&path).unwrap().display().to_string()));
            } else if path.is_dir() {
                open.push(path);
            } else if !name.starts_with(".locks") {
                files.push(name);
            }
        }
    }
    files.sort();
    links.sort();
    (files, links)
}

/// `org/repo` with one large file that behaves so.
fn one_file(fault: Fault) -> (Server, Home, Vec<u8>) {
    let (server, content) = (Server::start(), bytes(WHOLE));
    server.put("org/repo", Access::Open, &[("model.safetensors", large(&content[..], fault))]);
    let home = Home::of(&server);
    (server, home, content)
}

// ---- the cache ----------------------------------------------------------------------------------------------------------

#[test]
fn only_what_is_opened_is_fetched_and_the_cache_answers_without_a_hub() {
    let (server, mut home, content) = one_file(Fault::None);
    server.put(
        "org/repo",
        Access::Open,
        &[
            ("model.safetensors", large(&content[..], Fault::None)),
            ("config.json", small("{}")),
            ("sub/a:b+c #1.txt", small("odd")),
            ("../../outside", small("x")),
        ],
    );
    let files = home.files("org/repo");
    assert_eq!(files.list().unwrap(), ["config.json", "model.safetensors", "sub/a:b+c #1.txt"]);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(files.open("model.safetensors").unwrap().as_slice(), content);
    assert_eq!(files.open("sub/a:b+c #1.txt").unwrap().as_slice(), b"odd");
    assert!(!server.asked().iter().any(|asked| asked.path.ends_with("config.json")));
    // A second reading asks for the listing alone; offline nothing is asked, and without a network the cache serves too.
    let before = server.asked().len();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_eq!(server.asked().len(), before + 1);
    home.hub.offline = true;
    let files = home.files("org/repo");
    assert_eq!(files.list().unwrap(), ["model.safetensors", "sub/a:b+c #1.txt"]);
    assert_eq!(files.open("model.safetensors").unwrap().as_slice(), content);
    assert_eq!(server.asked().len(), before + 1);
    home.hub.offline = false;
    home.hub.endpoint = "http://127.0.0.1:9".into();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
}

/// tests/reference/hub_cache.py: what Python's huggingface_hub made of the same repository.
#[test]
fn the_cache_has_the_layout_of_pythons() {
    let expected = reference("hub_cache.json");
    let server = Server::start();
    let files: Vec<_> = expected["files"].as_array().unwrap().iter().collect();
    let files: Vec<_> = files
        .iter()
        .map(|file| {
            let content = file["content"].as_str().unwrap();
            (file["path"].as_str().unwrap(), if file["large"] == true { large(content, Fault::None) } else { small(content) })
        })
        .collect();
    server.put("org/repo", Access::Open, &files);
    let home = Home::of(&server);
    let commit = server.commit("org/repo");
    files.iter().for_each(|(path, _)| drop(home.open(path).unwrap()));
    let (ours, links) = tree(&home.hub.cache);
    let text = |value: &Json| value.as_str().unwrap().replace("COMMIT", &commit);
    assert_eq!(ours, expected["tree"].as_array().unwrap().iter().map(text).collect::<Vec<_>>());
    let pairs = expected["links"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), text(&pair[1])));
    assert_eq!(links, pairs.collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(home.hub.cache.join("models--org--repo/refs/main")).unwrap(), commit);
}

#[test]
fn revisions_folders_and_files_inside() {
    let server = Server::start();
    server.put("org/repo", Access::Open, &[("sub/cfg.json", small("{}")), ("sub/w.npz", small("w")), ("a.txt", small("a"))]);
    let home = Home::of(&server);
    let commit = server.commit("org/repo");
    let inside = home.files("org/repo/sub");
    assert_eq!((inside.name(), inside.list().unwrap()), ("org/repo/sub".into(), vec!["cfg.json".into(), "w.npz".to_string()]));
    // A commit is a revision, and no branch.
    let pinned = home.files(&format!("org/repo@{commit}"));
    assert_eq!(pinned.revision(), Some(commit.clone()));
    assert!(!home.hub.cache.join(format!("models--org--repo/refs/{commit}")).exists());
    // A file that is named keeps its neighbours, which are fetched when they are asked for.
    let Place::File { folder, file } = home.find("org/repo/sub/w.npz").unwrap() else { panic!("no file") };
    assert_eq!((file.as_str(), folder.list().unwrap().len()), ("w.npz", 2));
    assert_eq!(folder.open("cfg.json").unwrap().as_slice(), b"{}");
    let error = home.find("org/repo/sub/cgf.json").unwrap_err();
    assert_eq!(error.to_string(), "org/repo: there is no file `sub/cgf.json`");
    assert_eq!(error.helps(), ["the nearest name is `sub/cfg.json`"]);
}

#[test]
fn content_that_two_commits_share_is_fetched_once() {
    let (server, home, content) = one_file(Fault::None);
    home.open("model.safetensors").unwrap();
    let old = server.commit("org/repo");
    let files = [("model.safetensors", large(&content[..], Fault::None)), ("new.txt", small("new"))];
    server.put("org/repo", Access::Open, &files);
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_ne!(server.commit("org/repo"), old);
    assert_eq!(server.ranges(&content).len(), 1);
}

// ---- the token ----------------------------------------------------------------------------------------------------------

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let server = Server::start();
    let content = bytes(WHOLE);
    let files = [("model.safetensors", large(&content[..], Fault::None)), ("config.json", small("{}")), ("a.txt", small("a"))];
    server.put("org/repo", Access::Gated, &files);
    server.rename("old/name", "org/repo");
    let home = Home::with_token(&server, TOKEN);
    let opened = home.files("old/name");
    for (path, file) in &files {
        assert_eq!(opened.open(path).unwrap().as_slice(), file.content);
    }
    let (stored, asked): (Vec<_>, Vec<_>) = server.asked().into_iter().partition(|asked| asked.to_store);
    assert!(!stored.is_empty() && stored.iter().all(|asked| asked.token.is_none()), "{stored:?}");
    let files: Vec<_> = asked.iter().filter(|asked| !asked.path.starts_with("/api/models")).collect();
    assert!(files.len() > 6 && files.iter().all(|asked| asked.token.as_deref() == Some(TOKEN)), "{files:?}");
}

// ---- what goes wrong on the way -----------------------------------------------------------------------------------------

#[test]
fn a_dropped_connection_is_taken_up_where_it_broke() {
    let (server, home, content) = one_file(Fault::Drop { at: 123_456, times: 1 });
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_eq!(server.ranges(&content), ["", "bytes=123456-"]);
}

#[test]
fn an_interrupted_download_is_never_whole_and_the_next_one_resumes_it() {
    let (server, home, content) = one_file(Fault::Drop { at: 200_000, times: 100 });
    let error = home.open("model.safetensors").unwrap_err();
    assert!(error.message().contains("cannot fetch `model.safetensors` of `org/repo`"), "{error}");
    assert!(error.helps()[0].contains("what came is kept"), "{error:?}");
    home.assert_nothing_whole();
    assert_eq!(fs::read(home.part(&content)).unwrap(), content[..200_000]);
    let before = server.ranges(&content).len();
    server.fault("org/repo", "model.safetensors", Fault::None);
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_eq!(server.ranges(&content)[before..], ["bytes=200000-"]);
    assert!(!home.part(&content).exists());
}

#[test]
fn content_that_changed_starts_anew() {
    let (server, home, old) = one_file(Fault::Drop { at: 100_000, times: 100 });
    home.open("model.safetensors").unwrap_err();
    let new: Vec<u8> = old.iter().map(|byte| !byte).collect();
    server.put("org/repo", Access::Open, &[("model.safetensors", large(&new[..], Fault::None))]);
    assert_eq!(home.open("model.safetensors").unwrap(), new);
    assert_eq!(server.ranges(&new), [""]);
}

#[test]
fn a_part_that_is_complete_damaged_or_too_long() {
    let (server, home, content) = one_file(Fault::None);
    fs::create_dir_all(home.blobs()).unwrap();
    // Killed between the last byte and the name.
    fs::write(home.part(&content), &content).unwrap();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert!(server.ranges(&content).is_empty());
    // Something else under the part's name: the checksum shows it, and the next attempt begins anew.
    let home = Home::of(&server);
    fs::create_dir_all(home.blobs()).unwrap();
    fs::write(home.part(&content), vec![0; 1000]).unwrap();
    let error = home.open("model.safetensors").unwrap_err();
    assert!(error.message().contains("came damaged") && error.message().contains("checksum"), "{error}");
    home.assert_nothing_whole();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    // Longer than the file.
    let home = Home::of(&server);
    fs::create_dir_all(home.blobs()).unwrap();
    fs::write(home.part(&content), vec![0; WHOLE + 1]).unwrap();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
}

#[test]
fn a_wrong_size_or_checksum_is_refused_and_nothing_of_it_kept() {
    for (fault, said) in [
        (Fault::Promise { size: WHOLE + 1 }, "300001 bytes are promised, and 300000 are there"),
        (Fault::Promise { size: WHOLE - 1 }, "299999 bytes are promised, and 300000 are there"),
        (Fault::Changed, "checksum"),
        (Fault::Page, "300000 bytes are promised, and 51 are there"),
        (Fault::Loop, "redirects without end"),
    ] {
        let (_server, home, _) = one_file(fault);
        let error = home.open("model.safetensors").unwrap_err();
        assert!(error.message().contains(said), "{error}");
        home.assert_nothing_kept();
    }
    // What a part was continued by is not what it began as.
    let (_server, home, content) = one_file(Fault::Promise { size: WHOLE + 1 });
    fs::create_dir_all(home.blobs()).unwrap();
    fs::write(home.part(&content), &content[..1000]).unwrap();
    home.open("model.safetensors").unwrap_err();
    home.assert_nothing_kept();
}

/// The names of the blobs are what `git hash-object` says of their contents.
#[test]
fn small_files_are_held_against_gits_checksum() {
    let server = Server::start();
    let mut changed = small("{\"a\": 1}");
    changed.fault = Fault::Changed;
    server.put("org/repo", Access::Open, &[("config.json", changed), ("empty.txt", small(""))]);
    let home = Home::of(&server);
    let error = home.open("config.json").unwrap_err();
    assert!(error.message().contains("came damaged") && error.message().contains("checksum"), "{error}");
    home.assert_nothing_kept();
    server.fault("org/repo", "config.json", Fault::None);
    assert_eq!(home.open("config.json").unwrap(), b"{\"a\": 1}");
    assert!(home.open("empty.txt").unwrap().is_empty());
    for sum in ["4a036f56bb619924ec4189bd84ed716c766971ae", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"] {
        assert!(home.blobs().join(sum).exists(), "{sum}");
    }
}

#[test]
fn a_login_page_is_not_the_hub() {
    let (server, home, content) = one_file(Fault::None);
    home.open("model.safetensors").unwrap();
    server.capture();
    // What is in the cache serves as it does without a network.
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    let fresh = Home::of(&server);
    let error = fresh.find("org/repo").unwrap_err();
    assert!(error.message().ends_with("answers with a page that is not the hub's (a proxy or a login page?)"), "{error}");
    let (server, home, _) = one_file(Fault::None);
    let files = home.files("org/repo");
    server.capture();
    let error = files.open("model.safetensors").unwrap_err();
    assert!(error.message().ends_with("(a proxy or a login page?)"), "{error}");
    home.assert_nothing_kept();
}

#[test]
fn revisions_whose_names_have_slashes() {
    let server = Server::start();
    server.put("org/repo", Access::Open, &[("sub/cfg.json", small("{}"))]);
    let home = Home::of(&server);
    for (name, revision) in [("org/repo@refs/pr/1", "refs/pr/1"), ("org/repo@new%2Fidea", "new/idea")] {
        assert_eq!(home.files(name).list().unwrap(), ["sub/cfg.json"]);
        assert_eq!(home.files(&format!("{name}/sub")).list().unwrap(), ["cfg.json"]);
        let recorded = home.hub.cache.join("models--org--repo/refs").join(revision);
        assert_eq!(fs::read_to_string(recorded).unwrap(), server.commit("org/repo"));
    }
    let error = home.find("org/repo@refs/pr/2").unwrap_err();
    assert_eq!(error.message(), "`org/repo` has no revision `refs/pr/2`");
}

#[test]
fn a_store_that_knows_no_ranges_or_is_busy_for_a_moment() {
    let (server, home, content) = one_file(Fault::NoRanges);
    fs::create_dir_all(home.blobs()).unwrap();
    fs::write(home.part(&content), &content[..1000]).unwrap();
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_eq!(server.ranges(&content), ["bytes=1000-"]);
    let (server, home, content) = one_file(Fault::Busy { times: 2 });
    assert_eq!(home.open("model.safetensors").unwrap(), content);
    assert_eq!(server.ranges(&content).len(), 3);
}

#[test]
fn ctrl_c_ends_a_download_at_once_and_frees_its_lock() {
    let (server, home, content) = one_file(Fault::Slow { piece: 100 });
    let work = work();
    let Place::Folder(files) = resolve_with("org/repo", &home.hub, &work).unwrap() else { panic!("no folder") };
    let cancel = work.cancel_flag();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let start = Instant::now();
    assert!(files.open("model.safetensors").unwrap_err().is_interrupted());
    assert!(start.elapsed() < Duration::from_secs(20));
    home.assert_nothing_whole();
    work.reset_cancel();
    server.fault("org/repo", "model.safetensors", Fault::None);
    assert_eq!(files.open("model.safetensors").unwrap().as_slice(), content);
    assert!(server.ranges(&content)[1].starts_with("bytes="));
}

// ---- refusals -----------------------------------------------------------------------------------------------------------

/// A page in place of a file, whatever etag it has: by its type, by the lack of what only a hub says, by its first bytes.
#[test]
fn a_page_is_never_kept_as_weights() {
    for headers in [
        &[("etag", "\"page-7\""), ("content-type", "text/html; charset=utf-8"), ("x-repo-commit", "abc")][..],
        &[("etag", "\"page-7\"")],
        &[("etag", "\"page-7\""), ("x-repo-commit", "abc")],
    ] {
        let (server, home, content) = one_file(Fault::Portal(headers));
        let error = home.open("model.safetensors").unwrap_err();
        assert!(error.message().contains("(a proxy or a login page?)"), "{headers:?}: {error}");
        assert!(error.helps()[0].contains("HF_ENDPOINT"), "{error:?}");
        home.assert_nothing_kept();
        server.fault("org/repo", "model.safetensors", Fault::None);
        assert_eq!(home.open("model.safetensors").unwrap(), content);
    }
}

#[test]
fn a_token_that_no_header_takes_is_named() {
    let server = Server::start();
    server.put("org/repo", Access::Open, &[("config.json", small("{}"))]);
    for token in ["hf_sécret", "hf_a\nb", "hf_x y"] {
        let error = Home::with_token(&server, token).find("org/repo").unwrap_err();
        assert!(error.message().contains("HF_TOKEN") && !error.to_string().contains(token), "{error}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::start();
    server.put("org/gated", Access::Gated, &[("config.json", small("{}"))]);
    server.put("org/hidden", Access::Private, &[("config.json", small("{}"))]);
    server.put("org/repo", Access::Open, &[("config.json", small("{}"))]);
    let home = Home::of(&server);
    let gated = home.files("org/gated").open("config.json").unwrap_err();
    assert_eq!(gated.message(), "access to `config.json` of `org/gated` is restricted");
    assert!(gated.helps()[0].contains(&format!("accept its licence at {}/org/gated", server.endpoint)), "{gated:?}");
    assert!(gated.helps()[0].contains("set HF_TOKEN"), "{gated:?}");
    for name in ["org/hidden", "org/absent"] {
        let error = home.find(name).unwrap_err();
        assert!(error.message().contains("or it is private or gated"), "{error}");
    }
    let revision = home.find("org/repo@v9").unwrap_err();
    assert_eq!(revision.message(), "`org/repo` has no revision `v9`");
    let mistyped = home.find("gemma-scope-2b-pt-rse/layer_1").unwrap_err();
    assert!(mistyped.helps().iter().any(|help| help.ends_with("`gemma-scope-2b-pt-res`")), "{mistyped:?}");

    let poor = Home::with_token(&server, POOR_TOKEN);
    let gated = poor.files("org/gated").open("config.json").unwrap_err();
    assert!(gated.helps()[0].contains("belongs to the account that has access"), "{gated:?}");
    assert!(poor.find("org/absent").unwrap_err().message().starts_with("there is no `org/absent` at revision `main`"));
    let wrong = Home::with_token(&server, "hf_expired").find("org/repo").unwrap_err();
    assert!(wrong.message().ends_with("does not accept the access token"), "{wrong}");
    assert!(Home::with_token(&server, TOKEN).files("org/hidden").open("config.json").is_ok());

    let mut offline = Home::of(&server);
    offline.hub.offline = true;
    let error = offline.find("org/repo").unwrap_err();
    assert!(error.message().contains("is not in the cache, and HF_HUB_OFFLINE is set"), "{error}");
    assert!(error.helps()[0].contains("unset HF_HUB_OFFLINE"));
    // What the cache lacks of a repository that was begun.
    let index = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    server.put(
        "org/shards",
        Access::Open,
        &[("config.json", small("{}")), ("model.safetensors.index.json", small(std::str::from_utf8(index).unwrap()))],
    );
    for (fetched, missing) in
        [("config.json", "shards, of which 2 are missing"), ("model.safetensors.index.json", "no config.json")]
    {
        let mut home = Home::of(&server);
        let files = home.files("org/shards");
        files.open(fetched).unwrap();
        if fetched == "config.json" {
            files.open("model.safetensors.index.json").unwrap();
        }
        home.hub.offline = true;
        let error = saerepl::formats::huggingface::read(home.files("org/shards").as_ref()).unwrap_err();
        assert!(error.message().contains(missing), "{error}");
        assert!(error.helps()[0].starts_with("HF_HUB_OFFLINE is set"), "{error:?}");
    }
    let mut unplugged = Home::of(&server);
    unplugged.hub.endpoint = "http://127.0.0.1:9".into();
    let error = unplugged.find("org/repo").unwrap_err();
    assert!(error.message().contains("http://127.0.0.1:9 cannot be reached"), "{error}");
    assert!(error.helps()[0].starts_with("name a local file or folder"), "{error:?}");
}

// ---- the program --------------------------------------------------------------------------------------------------------

/// The files of a fixture as those of a repository, below `folder`.
fn repository(fixture_name: &str, folder: &str) -> Vec<(String, crate::hub_server::HubFile)> {
    let files = fs::read_dir(fixture(fixture_name)).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let content = fs::read(&path).unwrap();
            let name = format!("{folder}{}", path.file_name().unwrap().to_string_lossy());
            let heavy = !name.ends_with(".json");
            (name, if heavy { large(content, Fault::None) } else { small(content) })
        })
        .collect()
}

fn put(server: &Server, id: &str, parts: &[(&str, &str)]) {
    let files: Vec<_> = parts.iter().flat_map(|(name, folder)| repository(name, folder)).collect();
    let files: Vec<_> = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
    server.put(id, Access::Open, &files);
}

#[test]
fn pull_fetches_what_a_model_needs_and_offline_it_opens() {
    let server = Server::start();
    put(&server, "org/tiny", &[("tiny-llama", ""), ("gs-f16", "unneeded/")]);
    let home = Home::of(&server);
    let (out, error, status) = home.run(&server, &["pull", "org/tiny"]);
    assert_eq!((error.as_str(), status), ("", 0));
    let snapshot = home.folder.path().join("hub/models--org--tiny/snapshots").join(server.commit("org/tiny"));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["fetched", "714", "B", "org/tiny/config.json"]);
    assert_eq!(lines.len(), 5, "{out}");
    let end = format!("4 files, 33.3 kB, of which 33.3 kB came now, in {}", snapshot.display());
    assert_eq!(lines[4], end);
    assert!(!out.contains("unneeded") && !out.contains("generation_config"), "{out}");
    let (again, _, _) = home.run(&server, &["pull", "org/tiny"]);
    assert!(again.contains("of which 0 B came now") && again.starts_with("there "), "{again}");
    let offline = home.command(&server, &["info", "org/tiny"]).env("HF_HUB_OFFLINE", "1").spawn().unwrap();
    let before = server.asked().len();
    let (out, error, status) = ended(offline);
    assert_eq!((error.as_str(), status, server.asked().len()), ("", 0, before));
    assert!(out.contains("architecture") && out.contains(&server.commit("org/tiny")), "{out}");
}

#[test]
fn pull_fetches_saes_by_path_and_says_what_a_collection_holds() {
    let server = Server::start();
    put(&server, "org/saes", &[("sae-v6-jumprelu", "a/"), ("sae-v6-topk", "b/"), ("sae-v6-gated", "c/")]);
    let home = Home::of(&server);
    let (out, error, status) = home.run(&server, &["pull", "org/saes", "a", "c/sae_weights.safetensors"]);
    assert_eq!((error.as_str(), status), ("", 0));
    assert!(out.contains("org/saes/a/cfg.json") && out.contains("org/saes/c/cfg.json") && !out.contains("/b/"), "{out}");
    let (out, error, status) = home.run(&server, &["pull", "org/saes/b"]);
    assert!(out.contains("org/saes/b/sae_weights.safetensors") && status == 0, "{error}");
    let (_, error, status) = home.run(&server, &["pull", "org/saes"]);
    assert!(status == 1 && error.contains("there are 3 SAEs: name one by its path"), "{error}");
    let (_, error, status) = home.run(&server, &["pull", "demo"]);
    assert!(status == 1 && error.contains("nothing to fetch"), "{error}");
    // The listing reads configurations, not weights.
    let fresh = Home::of(&server);
    fs::write(
        fresh.folder.path().join("s.rhai"),
        "let t = list_saes(\"org/saes\"); print(t[\"path\"]); print(t[\"d_sae\"].to_array());",
    )
    .unwrap();
    let (out, error, status) = fresh.run(&server, &["run", "s.rhai"]);
    assert_eq!((out.as_str(), status), ("[\"a\", \"b\", \"c\"]\n[21, 21, 21]\n", 0), "{error}");
    assert!(tree(&fresh.hub.cache).1.iter().all(|(name, _)| name.ends_with("cfg.json")));
}

/// Of Gemma Scope 2 the paths say what a listing shows: none of its hundreds of configurations is fetched, but that of a crosscoder,
/// whose path names no place.
#[test]
fn a_listing_of_paths_that_say_all_fetches_nothing() {
    let server = Server::start();
    let config =
        |hook: &str| small(format!("{{\"hf_hook_point_in\": \"model.layers.{hook}\", \"architecture\": \"jump_relu\"}}"));
    let files: Vec<(String, _)> = (0..40)
        .flat_map(|layer| {
            let folder = format!("resid_post/layer_{layer}_width_16k_l0_small");
            [
                (format!("{folder}/config.json"), config(&format!("{layer}.output"))),
                (format!("{folder}/params.safetensors"), large(b"not fetched".to_vec(), Fault::None)),
            ]
        })
        .chain([
            ("crosscoder/layer_5_9_width_65k_l0_big/config.json".to_string(), config("5.output")),
            ("crosscoder/layer_5_9_width_65k_l0_big/params.safetensors".to_string(), large(b"not fetched".to_vec(), Fault::None)),
        ])
        .collect();
    let files: Vec<_> = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
    server.put("google/gemma-scope-2-1b-pt", Access::Open, &files);
    let home = Home::of(&server);
    let script = "let t = list_saes(\"google/gemma-scope-2-1b-pt\"); print(t.len); let w = t[\"d_sae\"].to_array(); print(w[0]); print(w[40]); \
                  print(t[\"hook\"][40]);";
    fs::write(home.folder.path().join("s.rhai"), script).unwrap();
    let (out, error, status) = home.run(&server, &["run", "s.rhai"]);
    assert_eq!(status, 0, "{error}");
    assert!(out.starts_with("41\n65536\n16384\nblocks."), "{out}");
    let fetched = tree(&home.hub.cache).1.into_iter().filter(|(name, _)| name.ends_with("config.json")).count();
    assert_eq!(fetched, 1, "{:?}", tree(&home.hub.cache).1);
}

#[test]
fn a_file_of_checkpoints_comes_with_the_configuration_above_it() {
    let server = Server::start();
    let read = |path: &str| fs::read(fixture(&format!("saes/Llama3_1-8B-Base-L2R-8x/{path}"))).unwrap();
    let files = [
        ("L/hyperparams.json", small(read("hyperparams.json"))),
        ("L/checkpoints/final.safetensors", large(read("checkpoints/final.safetensors"), Fault::None)),
    ];
    server.put("org/scope", Access::Open, &files);
    let home = Home::of(&server);
    let (out, error, status) = home.run(&server, &["pull", "org/scope/L/checkpoints/final.safetensors"]);
    assert_eq!((error.as_str(), status), ("", 0));
    assert!(files.iter().all(|(name, _)| out.contains(&format!("org/scope/{name}"))), "{out}");
}

#[test]
fn weights_of_an_architecture_that_is_not_known_are_not_fetched() {
    let server = Server::start();
    let config = small("{\"model_type\": \"perceiver\"}");
    server.put("org/repo", Access::Open, &[("config.json", config), ("model.safetensors", large(bytes(WHOLE), Fault::None))]);
    let (_, error, status) = Home::of(&server).run(&server, &["pull", "org/repo"]);
    assert!(status == 1 && error.contains("perceiver"), "{error}");
    assert!(!server.asked().iter().any(|asked| asked.to_store), "{:?}", server.asked());
}

#[test]
fn all_parts_of_a_split_model_are_fetched() {
    let server = Server::start();
    let part = |i: usize| format!("forward/llama_bias-split-0000{i}-of-00003.gguf");
    let read = |i: usize| large(fs::read(fixture(&part(i))).unwrap(), Fault::None);
    let names = [1, 2, 3].map(part);
    let files =
        [(names[0].as_str(), read(1)), (&names[1], read(2)), (&names[2], read(3)), ("forward/n-00001-of-00003.gguf", read(2))];
    server.put("org/gguf", Access::Open, &files);
    let home = Home::of(&server);
    let named = format!("org/gguf/{}", names[1]);
    let (out, error, status) = home.run(&server, &["pull", &named]);
    assert_eq!(status, 0, "{error}");
    assert!(out.contains(&names[0]) && out.contains("\n3 files, ") && !out.contains("n-00001"), "{out}");
    let (out, error, status) = ended(home.command(&server, &["info", &named]).env("HF_HUB_OFFLINE", "1").spawn().unwrap());
    assert!(status == 0 && out.contains("architecture"), "{error}");
}

#[test]
fn two_processes_at_once_fetch_a_file_once() {
    let server = Server::start();
    put(&server, "org/tiny", &[("tiny-llama", "")]);
    let content = fs::read(Path::new(&fixture("tiny-llama")).join("model.safetensors")).unwrap();
    server.fault("org/tiny", "model.safetensors", Fault::Slow { piece: 500 });
    let home = Home::of(&server);
    let running = [0, 1].map(|_| home.start(&server, &["pull", "org/tiny"]));
    for child in running {
        let (_, error, status) = ended(child);
        assert_eq!(status, 0, "{error}");
    }
    assert_eq!(server.ranges(&content), [""]);
    let blob = home.folder.path().join("hub/models--org--tiny/blobs").join(sha256(&content));
    assert_eq!(fs::read(blob).unwrap(), content);
}

#[test]
fn a_killed_process_leaves_a_part_that_the_next_one_completes() {
    let server = Server::start();
    put(&server, "org/tiny", &[("tiny-llama", "")]);
    let content = fs::read(Path::new(&fixture("tiny-llama")).join("model.safetensors")).unwrap();
    server.fault("org/tiny", "model.safetensors", Fault::Slow { piece: 100 });
    let home = Home::of(&server);
    let mut child = home.start(&server, &["pull", "org/tiny"]);
    let part = home.folder.path().join("hub/models--org--tiny/blobs").join(format!("{}.incomplete", sha256(&content)));
    let length = || fs::metadata(&part).map_or(0, |there| there.len());
    let start = Instant::now();
    while length() < 2000 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = length();
    assert!((2000..content.len() as u64).contains(&left), "{left}");
    let weights = |(name, _): &&(String, String)| name.ends_with("model.safetensors");
    assert!(tree(&home.hub.cache).1.iter().find(weights).is_none());
    server.fault("org/tiny", "model.safetensors", Fault::None);
    let (_, error, status) = home.run(&server, &["pull", "org/tiny"]);
    assert_eq!(status, 0, "{error}");
    assert_eq!(server.ranges(&content)[1..], [format!("bytes={left}-")]);
    assert_eq!(fs::read(part.with_extension("")).unwrap(), content);
}

#[test]
fn the_token_of_the_environment_or_of_the_file_opens_what_is_gated() {
    let server = Server::start();
    let files = repository("tiny-llama", "");
    let files: Vec<_> = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
    server.put("org/gated", Access::Gated, &files);
    let home = Home::of(&server);
    let (_, error, status) = home.run(&server, &["pull", "org/gated"]);
    assert_eq!(status, 1);
    assert!(error.contains("access to `config.json` of `org/gated` is restricted") && error.contains("set HF_TOKEN"), "{error}");
    let (_, error, status) = ended(home.command(&server, &["pull", "org/gated"]).env("HF_TOKEN", TOKEN).spawn().unwrap());
    assert_eq!(status, 0, "{error}");
    let other = Home::of(&server);
    fs::write(other.folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    assert_eq!(other.run(&server, &["pull", "org/gated"]).2, 0);
}

#[test]
fn the_fault_of_an_sae_is_the_error_where_there_is_no_model() {
    let server = Server::start();
    let files = repository("sae-v6-jumprelu", "");
    let files: Vec<_> = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
    server.put("org/gated", Access::Gated, &files);
    server.put("org/one", Access::Open, &files);
    put(&server, "org/saes", &[("sae-v6-jumprelu", "a/"), ("sae-v6-topk", "b/")]);
    let home = Home::of(&server);
    let first = |error: &str| error.lines().next().unwrap_or_default().to_string();
    for command in ["info", "pull"] {
        let (_, error, status) = home.run(&server, &[command, "org/gated"]);
        assert!(status == 1 && first(&error).contains("of `org/gated` is restricted"), "{error}");
        assert!(error.contains("accept its licence at") && error.contains("set HF_TOKEN"), "{error}");
        let (_, error, _) = home.run(&server, &[command, "org/saes"]);
        assert!(first(&error).contains("there are 2 SAEs") && error.contains("they are: a, b"), "{error}");
        for absent in ["nothere", "/an/absolute/path"] {
            let (_, error, _) = home.run(&server, &[command, "org/one", absent]);
            assert!(first(&error).contains(&format!("there is no SAE at `{absent}`")), "{error}");
            assert!(error.contains("there are: sae_weights.safetensors"), "{error}");
        }
    }
    // An LFS pointer, in a folder and by its name.
    let local = home.folder.path().join("sae");
    fs::create_dir(&local).unwrap();
    fs::write(local.join("params.npz"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
    for name in ["sae", "sae/params.npz"] {
        let (_, error, status) = home.run(&server, &["info", name]);
        assert!(status == 1 && first(&error).contains("git-LFS pointer") && error.contains("git lfs pull"), "{error}");
        assert!(!error.contains("config.json"), "{error}");
    }
}

// ---- suites -------------------------------------------------------------------------------------------------------------

/// tests/reference/suites.py: SAELens's releases.
#[test]
fn suites_mean_what_they_mean_in_saelens() {
    let server = Server::start();
    let expected = reference("suites.json");
    let mut repos: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
    for row in expected["paths"].as_array().unwrap() {
        repos.entry(row[1].as_str().unwrap()).or_default().push(row[2].as_str().unwrap().into());
    }
    for row in expected["canonical"].as_array().unwrap() {
        let repo = row[0].as_str().unwrap().split("-canonical").next().unwrap();
        let folders = row[2].as_array().unwrap().iter().map(|l0| format!("{}/average_l0_{l0}", row[1].as_str().unwrap()));
        repos.entry(server_name(repo)).or_default().extend(folders);
    }
    for (id, paths) in &repos {
        let is_file = |path: &str| [".pt", ".pth", ".safetensors"].iter().any(|ending| path.ends_with(ending));
        // Folders of one suite end in .pt.
        let inside = |path: &String| if is_file(path) && !id.contains("OAI-v5") { path.clone() } else { format!("{path}/w.npz") };
        let files: Vec<_> = paths.iter().map(|path| (inside(path), small("w"))).collect();
        let files: Vec<_> = files.iter().map(|(path, file)| (path.as_str(), file.clone())).collect();
        server.put(id, Access::Open, &files);
    }
    let home = Home::of(&server);
    for row in expected["paths"].as_array().unwrap() {
        let [name, id, path] = [0, 1, 2].map(|i| row[i].as_str().unwrap());
        if name.ends_with("/canonical") {
            continue;
        }
        let found = match home.find(name).unwrap_or_else(|e| panic!("{name}: {e:?}")) {
            Place::Folder(files) => files.name(),
            Place::File { folder, file } => folder.path_of(&file).display().to_string(),
        };
        assert_eq!(found, format!("{id}/{path}"), "{name}");
    }
    for row in expected["canonical"].as_array().unwrap() {
        let name = row[0].as_str().unwrap();
        let list = home.files(name).list().unwrap();
        let near = saerepl::hub::average_l0(&list, "", 100).unwrap();
        let l0: u64 = near.strip_prefix("average_l0_").unwrap().parse().unwrap();
        // Of two that are as near SAELens has now the one, now the other.
        assert_eq!(l0.abs_diff(100), row[3].as_u64().unwrap().abs_diff(100), "{name}");
    }
}

fn server_name(suite: &str) -> &'static str {
    const REPOS: [&str; 9] = [
        "google/gemma-scope-2b-pt-res",
        "google/gemma-scope-2b-pt-mlp",
        "google/gemma-scope-2b-pt-att",
        "google/gemma-scope-2b-pt-transcoders",
        "google/gemma-scope-9b-pt-res",
        "google/gemma-scope-9b-pt-mlp",
        "google/gemma-scope-9b-pt-att",
        "google/gemma-scope-9b-it-res",
        "google/gemma-scope-27b-pt-res",
    ];
    REPOS.into_iter().find(|repo| repo.ends_with(suite)).unwrap()
}

#[test]
fn trap_27_the_nearest_average_l0_is_found_by_listing() {
    let server = Server::start();
    let at = |l0: u32| format!("layer_1/width_16k/average_l0_{l0}/");
    let folders = [at(22), at(41), at(82), at(176)];
    let parts: Vec<_> = folders.iter().map(|folder| ("gs-f16", folder.as_str())).collect();
    put(&server, "google/gemma-scope-2b-pt-res", &parts);
    let home = Home::of(&server);
    for (arguments, l0, said) in [
        (vec!["gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_82"], 82, ""),
        (vec!["gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_80"], 82, "taking average_l0_82, the nearest"),
        (vec!["gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_30"], 22, "taking average_l0_22, the nearest"),
        (vec!["google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_999"], 176, "taking average_l0_176, the nearest"),
        (vec!["gemma-scope-2b-pt-res/layer_1/width_16k"], 82, "nearest to 100"),
        (vec!["gemma-scope-2b-pt-res-canonical", "layer_1/width_16k/canonical"], 82, "nearest to 100"),
        (vec!["google/gemma-scope-2b-pt-res/layer_1/width_16k"], 82, "nearest to 100"),
    ] {
        let (out, error, status) = home.run(&server, &[&["info"], &arguments[..]].concat());
        assert_eq!(status, 0, "{arguments:?}: {error}");
        let file = format!("google/gemma-scope-2b-pt-res/{}params.npz", at(l0));
        assert!(out.lines().any(|line| line.starts_with("file ") && line.ends_with(&file)), "{arguments:?}: {out}");
        assert!(out.contains("blocks.1.hook_resid_post") && out.contains("trained on gemma-2-2b"), "{out}");
        assert!(error.contains(said) && error.is_empty() == said.is_empty(), "{arguments:?}: {error}");
    }
    // All of them are listed.
    let script = "print(list_saes(\"gemma-scope-2b-pt-res/layer_1/width_16k\").len);";
    fs::write(home.folder.path().join("s.rhai"), script).unwrap();
    assert_eq!(home.run(&server, &["run", "s.rhai"]).0, "4\n");
    let (_, error, status) = home.run(&server, &["info", "gemma-scope-2b-pt-res/layer_1"]);
    assert!(status == 1 && error.contains("there are 4 SAEs"), "{error}");
}

// ---- what belongs together ----------------------------------------------------------------------------------------------

#[test]
fn an_sae_of_another_model_is_doubted_once_for_each_model() {
    let server = Server::start();
    put(&server, "google/gemma-scope-2b-pt-res", &[("gs-f16", "layer_1/width_16k/average_l0_82/")]);
    let home = Home::of(&server);
    let models = ["gemma-2-2b", "gemma-2-2b-it", "gemma-2-9b"];
    for model in models {
        fs::create_dir(home.folder.path().join(model)).unwrap();
        for file in fs::read_dir(fixture("tiny-gemma2")).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, home.folder.path().join(model).join(file.file_name().unwrap())).unwrap();
        }
    }
    let script = "let sae = load_sae(\"gemma-scope-2b-pt-res/layer_1/width_16k\");
        for name in [\"gemma-2-2b\", \"gemma-2-2b-it\", \"gemma-2-9b\"] {
            let model = load_model(name);
            sae.write(model); sae.read(model); unembed(sae, model);
        }";
    fs::write(home.folder.path().join("s.rhai"), script).unwrap();
    let (_, error, status) = home.run(&server, &["run", "s.rhai"]);
    assert_eq!(status, 0, "{error}");
    let doubts: Vec<&str> = error.lines().filter(|line| line.contains("was trained on gemma-2-2b")).collect();
    assert_eq!(doubts.len(), 2, "{error}");
    assert!(doubts[0].ends_with("but gemma-2-2b-it is instruction-tuned"), "{error}");
    assert!(doubts[1].ends_with("not on gemma-2-9b"), "{error}");
}
