//! Names to files: local paths, the built-in demo, the Hugging Face hub and its cache.
//!
//! `demo[/path]` is the built-in demo; any other name is looked up as a local path, then among the suites of SAEs, then as
//! `org/repo[@revision][/path]` on the hub, where a revision is a tag, a commit, `refs/pr/N`, `refs/convert/NAME` or a branch, with
//! `%2F` for each slash in its name. What looks like a path and is not there is a mistyped path, never a question to the hub.
//!
//! * `remote`: a repository, its cache and its refusals. * `fetch`: one file of it. * `suites`: short names. * `demo`.

mod demo;
mod fetch;
mod remote;
mod suites;

pub use remote::Hub;
pub use suites::{average_l0, names as suites, near as near_suites, nearest_l0};

use crate::error::{Error, Kind, Result, nearest};
use crate::files::expand_home;
use crate::formats::{Files, Folder};
use crate::tensor::Bytes;
use crate::work::Work;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a name leads.
#[derive(Clone)]
pub enum Place {
    /// A single file, and the folder that holds it with what belongs to it.
    File {
        /// Its folder.
        folder: Arc<dyn Files>,
        /// Its path there: its name, after `checkpoints/` where it lies in such a folder of it.
        file: String,
    },
    /// A folder, a repository of the hub, or the demo.
    Folder(Arc<dyn Files>),
}

impl Place {
    /// The same with a record of the files that are opened there.
    pub fn watched(self) -> (Self, Arc<Opened>) {
        let opened = Arc::<Opened>::default();
        let watch = |files| Arc::new(Watched { files, opened: Arc::clone(&opened) });
        let place = match self {
            Place::File { folder, file } => Place::File { folder: watch(folder), file },
            Place::Folder(files) => Place::Folder(watch(files)),
        };
        (place, opened)
    }

    /// The folder, or the one where the file lies.
    pub fn files(&self) -> &Arc<dyn Files> {
        let (Place::File { folder: files, .. } | Place::Folder(files)) = self;
        files
    }
}

/// Which files of a place were opened.
#[derive(Default)]
pub struct Opened(Mutex<Vec<OpenedFile>>);

/// A file that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedFile {
    /// In its place.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// True where it had to be fetched.
    pub fetched: bool,
}

impl Opened {
    /// The files, each once, in the order in which they were opened.
    pub fn files(&self) -> Vec<OpenedFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Watched {
    files: Arc<dyn Files>,
    opened: Arc<Opened>,
}

impl Files for Watched {
    fn name(&self) -> String {
        self.files.name()
    }
    fn list(&self) -> Result<Vec<String>> {
        self.files.list()
    }
    fn list_folder(&self, folder: &str) -> Result<Vec<String>> {
        self.files.list_folder(folder)
    }
    fn open(&self, path: &str) -> Result<Bytes> {
        let fetched = self.on_disk(path).is_some_and(|there| !there.exists());
        let bytes = self.files.open(path)?;
        let mut opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.iter().all(|file| file.path != path) {
            opened.push(OpenedFile { path: path.to_string(), size: bytes.len() as u64, fetched });
        }
        Ok(bytes)
    }
    fn path_of(&self, path: &str) -> PathBuf {
        self.files.path_of(path)
    }
    fn on_disk(&self, path: &str) -> Option<PathBuf> {
        self.files.on_disk(path)
    }
    fn revision(&self) -> Option<String> {
        self.files.revision()
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File { folder, file } => write!(f, "File({})", folder.path_of(file).display()),
            Place::Folder(files) => write!(f, "Folder({})", files.name()),
        }
    }
}

/// A folder between an SAE's own and its weights (Llama Scope, dictionary_learning). The place of a file that lies in one is
/// the folder above, which holds its configuration.
pub const CHECKPOINTS: &str = "checkpoints";

/// Endings of the files that are named directly.
const ENDINGS: [&str; 9] = ["gguf", "safetensors", "npz", "npy", "pt", "pth", "bin", "json", "zip"];
/// Endings of downloads that have not finished.
const UNFINISHED: [&str; 4] = ["incomplete", "part", "crdownload", "download"];

/// Finds what a name means: `demo[/path]` (a folder of that name is `./demo`), a local path, a suite of SAEs, or
/// `org/repo[@revision][/path]` on the hub, with the hub's usual environment variables (see [`Hub::from_env`]).
///
/// # Errors
/// There is no such file, or no such repository, or it cannot be had.
pub fn resolve(name: &str, work: &Work) -> Result<Place> {
    resolve_with(name, &Hub::from_env(), work)
}

/// As [`resolve`], with a path inside, which in a suite may be the suite's own name of an SAE: gives the place and the path
/// that is still to be found in it.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_inside(name: &str, path: Option<&str>, work: &Work) -> Result<(Place, Option<String>)> {
    let path = path.map(|path| path.trim_end_matches('/')).filter(|path| !path.is_empty());
    match path {
        Some(path) if suites::meaning(name).is_some() && !expand_home(name).exists() => {
            Ok((resolve(&format!("{name}/{}", path.trim_start_matches('/')), work)?, None))
        }
        path => Ok((resolve(name, work)?, path.map(str::to_string))),
    }
}

/// A name that means the same from any folder: local paths absolute, the others as they are.
pub fn absolute(name: &str) -> String {
    if name == "demo" || name.starts_with("demo/") {
        return name.into();
    }
    let path = expand_home(name);
    let found = path.exists().then(|| std::path::absolute(path).ok()).flatten();
    found.map_or_else(|| name.into(), |path| path.display().to_string())
}

/// As [`resolve`], with a hub given by the caller.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(name: &str, hub: &Hub, work: &Work) -> Result<Place> {
    if name == "demo" || name.starts_with("demo/") {
        return match demo::files(name.trim_start_matches("demo").trim_start_matches('/'))? {
            Some(files) => Ok(Place::Folder(Arc::new(files))),
            None => Err(Error::input("this build has no demo").help("build with the feature `demo`, which is on by default")),
        };
    }
    let path = expand_home(name);
    if let Ok(meta) = std::fs::metadata(&path) {
        if meta.is_dir() {
            return Ok(Place::Folder(Arc::new(Folder::new(path)?)));
        }
        if has_ending(&path, &UNFINISHED) {
            return Err(Error::input("is a download that has not finished").file(path).help("finish or repeat the download"));
        }
        if !meta.is_file() {
            return Err(Error::input("is not a regular file").file(path));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let above =
            if folder == Path::new(".") { in_checkpoints().then_some(Path::new("..")) } else { above_checkpoints(folder) };
        let (folder, file) = above.map_or((folder, file.clone()), |above| (above, format!("{CHECKPOINTS}/{file}")));
        return Ok(Place::File { folder: Arc::new(Folder::new(folder)?), file });
    }
    match suites::meaning(name).as_deref().or(Some(name)).and_then(RepoName::parse) {
        Some(repo) if !looks_like_a_path(name, &repo) => hub.find(&repo, work),
        _ => Err(no_such_file(name, &path)),
    }
}

/// The folder above one that is called [`CHECKPOINTS`].
fn above_checkpoints(folder: &Path) -> Option<&Path> {
    let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == CHECKPOINTS))?;
    Some(if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// True where the program was started in a folder of that name.
fn in_checkpoints() -> bool {
    std::env::current_dir().is_ok_and(|folder| folder.file_name().is_some_and(|name| name == CHECKPOINTS))
}

/// A parsed `org/repo[@revision][/path]`. A slash in a revision is written `%2F`, but in `refs/pr/N` and `refs/convert/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepoName {
    /// `org/repo`.
    id: String,
    revision: String,
    /// A file or folder inside, or empty.
    path: String,
}

impl RepoName {
    /// `None` when the name has not the form of one.
    fn parse(name: &str) -> Option<Self> {
        let (org, rest) = name.trim_end_matches('/').split_once('/')?;
        let slashes = if rest.split('/').next().is_some_and(|first| first.ends_with("@refs")) { 2 } else { 0 };
        let end = rest.match_indices('/').nth(slashes).map_or(rest.len(), |(at, _)| at);
        let (repo, revision) = rest[..end].split_once('@').unwrap_or((&rest[..end], "main"));
        let path = rest[end..].strip_prefix('/').unwrap_or_default();
        let revision = revision.replace("%2F", "/").replace("%2f", "/");
        let plain = |s: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !s.is_empty() && !s.starts_with('.') && s.chars().all(allowed)
        };
        let inside = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let plain_revision = revision.split('/').all(plain);
        (plain(org) && plain(repo) && plain_revision && inside).then(|| RepoName {
            id: format!("{org}/{repo}"),
            revision,
            path: path.to_string(),
        })
    }
}

/// True for a name that was meant as a local path: `org/model.gguf`, or one that begins in a folder that is here.
fn looks_like_a_path(name: &str, repo: &RepoName) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    (repo.path.is_empty() && has_ending(Path::new(&repo.id), &ENDINGS)) || Path::new(first).is_dir()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

fn no_such_file(name: &str, path: &Path) -> Error {
    if name.is_empty() {
        return Error::input("the name is empty").help("name a file or folder, a model of the hub (`org/repo`), or `demo`");
    }
    if let Some((link, target)) =
        path.ancestors().find_map(|at| Some((at, std::fs::read_link(at).ok().filter(|_| !at.exists())?)))
    {
        return Error::new(Kind::Io, format!("is a link to `{}`, which is not there", target.display())).file(link);
    }
    let error = Error::new(Kind::Io, "no such file or folder").file(path);
    if let Some((_, rest)) = name.split_once("huggingface.co/") {
        return error.help(format!("a model of the hub is named `org/repo`, without the address: `{rest}`"));
    }
    // The deepest folder that is there, and the first part below it that is not.
    let mut missing = path;
    let folder = loop {
        match missing.parent() {
            Some(parent) if parent.as_os_str().is_empty() => break Path::new("."),
            Some(parent) if parent.is_dir() => break parent,
            Some(parent) => missing = parent,
            None => break Path::new("."),
        }
    };
    let wanted = missing.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut entries: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    entries.sort_unstable();
    let whose = if folder == Path::new(".") { "the working folder".to_string() } else { format!("`{}`", folder.display()) };
    let error = match nearest(&wanted, entries.iter().map(String::as_str)) {
        Some(near) => error.help(format!("the nearest name in {whose} is `{near}`")),
        None if missing != path => error.help(format!("{whose} has no folder `{wanted}`")),
        None => error,
    };
    if name.contains('/') { error } else { error.help("a model of the hub is named `org/repo`, the model built in is `demo`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names() {
        let parsed = |name| RepoName::parse(name).map(|r| (r.id, r.revision, r.path));
        let some = |id: &str, revision: &str, path: &str| Some((id.to_string(), revision.to_string(), path.to_string()));
        assert_eq!(parsed("google/gemma-2-2b"), some("google/gemma-2-2b", "main", ""));
        assert_eq!(parsed("a/b@v1.0/layer_1/params.npz"), some("a/b", "v1.0", "layer_1/params.npz"));
        assert_eq!(parsed("a/b@refs/pr/1"), some("a/b", "refs/pr/1", ""));
        assert_eq!(parsed("a/b@refs/convert/parquet/c/d.npz"), some("a/b", "refs/convert/parquet", "c/d.npz"));
        assert_eq!(parsed("a/b@new%2Fidea%2f2/c"), some("a/b", "new/idea/2", "c"));
        for name in [
            "gpt2",
            "./a/b",
            "/a/b",
            "../b",
            "a/b/../c",
            "a//b",
            "a b/c",
            "a/b@",
            "a/b@..%2Fc",
            "a/b@%2Fc",
            "https://huggingface.co/a/b",
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    #[test]
    fn local_names_come_first_and_mistyped_ones_stay_local() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(dir.path().join("model")).unwrap();
        std::fs::write(dir.path().join("tiny.gguf"), "GGUF").unwrap();
        std::fs::write(dir.path().join("big.gguf.part"), "GGUF").unwrap();
        let work = Work::silent(1).unwrap();
        // Any question to this hub would be answered by a refused connection, which the messages below would show.
        let hub = Hub::new("http://127.0.0.1:9", dir.path().join("cache"));
        let find = |name: &str| resolve_with(name, &hub, &work);
        assert!(matches!(find(&at("tiny.gguf")), Ok(Place::File { file, .. }) if file == "tiny.gguf"));
        assert!(matches!(find(&at("model")), Ok(Place::Folder(_))));
        assert!(matches!(find("demo"), Ok(Place::Folder(files)) if files.name() == "demo"));
        assert!(find(&at("big.gguf.part")).unwrap_err().to_string().contains("has not finished"));
        let error = find(&at("tiny.ggu")).unwrap_err();
        assert!(error.to_string().ends_with("tiny.ggu: no such file or folder"), "{error}");
        assert!(error.helps()[0].ends_with("is `tiny.gguf`"), "{error:?}");
        assert!(find(&at("modle/config.json")).unwrap_err().helps()[0].ends_with("is `model`"));
        for name in ["models/absent.gguf", "src/absent", "./absent/model", "absent"] {
            assert!(find(name).unwrap_err().message().contains("no such file"), "{name}");
        }
        #[cfg(unix)]
        {
            let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
            link("gone", "dangling");
            link("b", "a");
            link("a", "b");
            for (name, said) in [
                ("dangling", "dangling: is a link to `gone`, which is not there"),
                ("dangling/config.json", "dangling: is a link to `gone`, which is not there"),
                ("a", "a: is a link to `b`, which is not there"),
            ] {
                let error = find(&at(name)).unwrap_err();
                assert!(error.to_string().ends_with(said) && error.helps().is_empty(), "{error:?}");
            }
        }
        assert_eq!(find("").unwrap_err().message(), "the name is empty");
        let pasted = find("https://huggingface.co/google/gemma-2-2b").unwrap_err();
        assert!(pasted.helps()[0].ends_with("`google/gemma-2-2b`"));
    }
}
