//! The Hugging Face hub and its cache, in the cache's standard layout (FORMATS 6.5), so that what Python has fetched is
//! not fetched again.
//!
//! `hf-hub` downloads. What it leaves open is ours: a repository is pinned to the commit that its listing names, so that
//! files of two commits never mix; the cache alone answers when the user is offline; errors say what to do.

use super::{Place, RepoName};
use crate::error::{Error, Kind, Result, nearest};
use crate::formats::{Files, Folder};
use crate::tensor::Bytes;
use crate::work::{Steps, Work};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// Which hub is asked, as whom, and where files are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror.
    pub endpoint: String,
    /// The folder that holds `models--org--repo`.
    pub cache: PathBuf,
    /// The user's access token.
    pub token: Option<String>,
    /// Only the cache is asked.
    pub offline: bool,
}

impl Hub {
    /// A hub without a token.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Hub { endpoint: endpoint.into(), cache: cache.into(), token: None, offline: false }
    }

    /// The hub as the environment describes it, as for Python's `huggingface_hub`: `HF_ENDPOINT`; the cache at
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`; the token in `HF_TOKEN`, else in the file
    /// `HF_HOME/token`; `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let path = |name: &str| var(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            let cache = path("XDG_CACHE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
            cache.unwrap_or_else(std::env::temp_dir).join("huggingface")
        });
        let token_file = || std::fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok();
        Hub {
            endpoint: var("HF_ENDPOINT").map_or("https://huggingface.co".into(), |e| e.trim_end_matches('/').to_string()),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: var("HF_TOKEN").or_else(token_file).map(|t| t.trim().to_string()).filter(|t| !t.is_empty()),
            offline: var("HF_HUB_OFFLINE")
                .is_some_and(|v| matches!(v.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")),
        }
    }

    /// Repositories of models in the cache, as `org/repo`.
    pub fn cached(&self) -> Vec<String> {
        // Their folders are named `models--org--repo`.
        let folders = std::fs::read_dir(&self.cache).into_iter().flatten().flatten();
        folders.filter_map(|f| f.file_name().to_str()?.strip_prefix("models--").map(|id| id.replacen("--", "/", 1))).collect()
    }

    /// The folder that holds what the cache has of a repository's main revision.
    pub fn cached_folder(&self, repo: &str) -> Option<PathBuf> {
        let name = RepoName::parse(repo)?;
        self.cached_commit(&name).map(|commit| self.snapshot(&name, &commit))
    }

    /// Finds a repository, or a file or folder in it.
    pub(super) fn find(&self, name: &RepoName, work: &Work) -> Result<Place> {
        let repo = self.pin(name, work)?;
        if name.path.is_empty() {
            return Ok(Place::Folder(Arc::new(repo)));
        }
        if repo.files.contains(&name.path) {
            return repo.fetch(&name.path).map(Place::File);
        }
        let below = format!("{}/", name.path);
        if repo.files.iter().any(|f| f.starts_with(&below)) {
            return Ok(Place::Folder(Arc::new(HubFiles { folder: below, ..repo })));
        }
        Err(repo.no_file(&name.path))
    }

    /// The repository at the commit that its revision names now, or did when it was last cached.
    fn pin(&self, name: &RepoName, work: &Work) -> Result<HubFiles> {
        let cached = self.cached_commit(name);
        let (commit, files) = if self.offline {
            let commit = cached.ok_or_else(|| self.not_cached(name))?;
            let files = self.cached_files(name, &commit)?;
            (commit, files)
        } else {
            match (self.ask(name, work), cached) {
                (Ok(found), _) => found,
                // No network: what was fetched before is good enough, and the user is told.
                (Err(Refusal::Network(_)), Some(commit)) => {
                    let files = self.cached_files(name, &commit)?;
                    work.note(&format!("{} cannot be reached; taking {} from the cache", self.endpoint, name.id));
                    (commit, files)
                }
                (Err(refusal), _) => return Err(self.explain(refusal, name, None)),
            }
        };
        Ok(HubFiles { hub: self.clone(), repo: name.clone(), commit, files, folder: String::new(), work: work.clone() })
    }

    /// Asks the hub for the commit and the files of a revision.
    fn ask(&self, name: &RepoName, work: &Work) -> std::result::Result<(String, Vec<String>), Refusal> {
        let repo = Repo::with_revision(name.id.clone(), RepoType::Model, name.revision.clone());
        let (hub, asked) = (self.clone(), repo.clone());
        let info = work.detached(move || Ok(hub.api().and_then(|api| api.repo(asked).info()))).map_err(Refusal::Ours)??;
        if !info.sha.bytes().all(|b| b.is_ascii_hexdigit()) || info.sha.is_empty() {
            return Err(Refusal::Other(format!("it names the commit `{}`", info.sha)));
        }
        // The cache's own record of what the revision means: hf-hub writes it only for revisions it downloads by name.
        let _ = Cache::new(self.cache.clone()).repo(repo).create_ref(&info.sha);
        // These names become paths in the cache.
        let stays_inside = |path: &String| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let mut files: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).filter(stays_inside).collect();
        files.sort_unstable();
        Ok((info.sha, files))
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_retries(2)
            .with_user_agent("saerepl", env!("CARGO_PKG_VERSION"))
            .build()
    }

    fn repo_folder(&self, name: &RepoName) -> PathBuf {
        self.cache.join(Repo::model(name.id.clone()).folder_name())
    }

    fn snapshot(&self, name: &RepoName, commit: &str) -> PathBuf {
        self.repo_folder(name).join("snapshots").join(commit)
    }

    /// The commit of a revision that has a snapshot in the cache.
    fn cached_commit(&self, name: &RepoName) -> Option<String> {
        let recorded = std::fs::read_to_string(self.repo_folder(name).join("refs").join(&name.revision)).ok();
        let commit = recorded.map_or_else(|| name.revision.clone(), |c| c.trim().to_string());
        self.snapshot(name, &commit).is_dir().then_some(commit)
    }

    fn cached_files(&self, name: &RepoName, commit: &str) -> Result<Vec<String>> {
        Folder::new(self.snapshot(name, commit))?.list()
    }

    fn not_cached(&self, name: &RepoName) -> Error {
        Error::new(
            Kind::Io,
            format!("`{}` at revision `{}` is not in the cache, and HF_HUB_OFFLINE is set", name.id, name.revision),
        )
        .help(format!("the cache is {}; unset HF_HUB_OFFLINE to download", self.cache.display()))
    }

    /// The error for the user. `file` is the file that was being fetched.
    fn explain(&self, refusal: Refusal, name: &RepoName, file: Option<&str>) -> Error {
        let RepoName { id, revision, .. } = name;
        let what = file.map_or(format!("`{id}`"), |file| format!("`{file}` of `{id}`"));
        let access = match self.token {
            None => "set HF_TOKEN to your access token (https://huggingface.co/settings/tokens)",
            Some(_) => "check that HF_TOKEN belongs to the account that has access",
        };
        match refusal {
            Refusal::Ours(error) => error,
            Refusal::Status(401 | 403) if file.is_some() => Error::new(Kind::Io, format!("access to {what} is restricted"))
                .help(format!("accept its licence at {}/{id}, and {access}", self.endpoint)),
            // Without a token the hub does not say which of these it is.
            Refusal::Status(401 | 403) => {
                Error::new(Kind::Io, format!("there is no {what} on {}, or it is private or gated", self.endpoint))
                    .help(format!("check the spelling; if it exists, accept its licence at {}/{id}, and {access}", self.endpoint))
            }
            Refusal::Status(404) => Error::new(
                Kind::Io,
                format!("there is no {what} at revision `{revision}` on {}", self.endpoint),
            )
            .help(
                "check the spelling of the repository and the revision; a local file or folder of this name is not there either",
            ),
            Refusal::Status(429) => Error::new(Kind::Io, format!("{} asks to wait: too many requests", self.endpoint))
                .help("wait a minute, or set HF_TOKEN, which raises the limit"),
            Refusal::Status(status) => {
                Error::new(Kind::Io, format!("{} answers {what} with HTTP status {status}", self.endpoint))
            }
            Refusal::Network(cause) => {
                Error::new(Kind::Io, format!("cannot fetch {what}: {} cannot be reached ({cause})", self.endpoint))
                    .help("name a local file or folder instead, or set HF_ENDPOINT to a mirror that can be reached")
            }
            Refusal::Other(cause) => Error::new(Kind::Io, format!("cannot fetch {what} from {}: {cause}", self.endpoint)),
        }
    }
}

/// Why the hub gave nothing.
enum Refusal {
    Status(u16),
    Network(String),
    Other(String),
    /// Not the hub's fault: interrupted.
    Ours(Error),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::TooManyRetries(error) => Refusal::from(*error),
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status) => Refusal::Status(status),
                ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                    Refusal::Network(error.to_string())
                }
                _ => Refusal::Other(error.to_string()),
            },
            ApiError::LockAcquisition(_) => Refusal::Other("another process is downloading it".into()),
            ApiError::InvalidResume => Refusal::Other("an earlier, unfinished download of it in the cache is damaged".into()),
            _ => Refusal::Other(error.to_string()),
        }
    }
}

/// The files of a repository at one commit; each is fetched when first opened.
struct HubFiles {
    hub: Hub,
    repo: RepoName,
    commit: String,
    /// Paths in the repository, sorted.
    files: Vec<String>,
    /// The folder that is looked at, with a final `/`, or empty.
    folder: String,
    work: Work,
}

impl HubFiles {
    /// The local path of a file, downloaded if the cache lacks it.
    fn fetch(&self, path: &str) -> Result<PathBuf> {
        let local = self.hub.snapshot(&self.repo, &self.commit).join(path);
        if local.exists() {
            return Ok(local);
        }
        if !self.files.iter().any(|f| f == path) {
            return Err(self.no_file(path));
        }
        if self.hub.offline {
            let message = format!("`{path}` of `{}` is not in the cache, and HF_HUB_OFFLINE is set", self.repo.id);
            return Err(Error::new(Kind::Io, message).help("unset HF_HUB_OFFLINE to download it"));
        }
        self.download(path).map_err(|refusal| self.hub.explain(refusal, &self.repo, Some(path)))
    }

    fn download(&self, path: &str) -> std::result::Result<PathBuf, Refusal> {
        let (hub, file, work) = (self.hub.clone(), path.to_string(), self.work.clone());
        let repo = Repo::with_revision(self.repo.id.clone(), RepoType::Model, self.commit.clone());
        // The helper thread stops when the call that waits for it is gone.
        let wanted = Arc::new(());
        let watch = Arc::downgrade(&wanted);
        let fetch = move || {
            let progress = Download { work, watch, steps: None };
            hub.api()?.repo(repo).download_with_progress(&file, progress)
        };
        // hf-hub asserts where it might fail; that must not end the session.
        self.work
            .detached(move || {
                Ok(catch_unwind(AssertUnwindSafe(fetch)).map_err(|_| Refusal::Other("hf-hub stopped half-way".into())))
            })
            .map_err(Refusal::Ours)??
            .map_err(Refusal::from)
    }

    fn no_file(&self, path: &str) -> Error {
        let error = Error::new(Kind::Io, format!("there is no file `{path}`")).file(&self.repo.id);
        match nearest(path, self.files.iter().map(String::as_str)) {
            Some(near) => error.help(format!("the nearest name is `{near}`")),
            None => error,
        }
    }
}

impl Files for HubFiles {
    fn name(&self) -> String {
        let folder = self.folder.trim_end_matches('/');
        if folder.is_empty() { self.repo.id.clone() } else { format!("{}/{folder}", self.repo.id) }
    }

    fn list(&self) -> Result<Vec<String>> {
        Ok(self.files.iter().filter_map(|f| f.strip_prefix(&self.folder)).map(str::to_string).collect())
    }

    fn open(&self, path: &str) -> Result<Bytes> {
        Bytes::map(&self.fetch(&format!("{}{path}", self.folder))?)
    }
}

/// Shows a download's progress, and ends it when nobody waits for it any more.
struct Download {
    work: Work,
    watch: Weak<()>,
    steps: Option<Box<dyn Steps>>,
}

impl hf_hub::api::Progress for Download {
    /// Called again at each resumption, which then counts from the beginning.
    fn init(&mut self, size: usize, filename: &str) {
        self.steps = Some(self.work.begin(&format!("downloading {filename}"), size as u64));
    }

    fn update(&mut self, size: usize) {
        if self.watch.strong_count() == 0 {
            // hf-hub knows no other way out; its lock is released and the part already there is kept.
            resume_unwind(Box::new("interrupted"));
        }
        if let Some(steps) = &self.steps {
            steps.advance(size as u64);
        }
    }

    fn finish(&mut self) {
        self.steps = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::huggingface;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const CONFIG: &[u8] = br#"{"model_type": "llama"}"#;

    /// A hub on a local port that knows `org/tiny` (open), `org/gated` (its files are refused) and `org/slow` (a file
    /// that never ends), and notes what it is asked.
    struct Server {
        endpoint: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (notes, own) = (Arc::clone(&asked), endpoint.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (notes, own) = (Arc::clone(&notes), own.clone());
                    std::thread::spawn(move || answer(stream, &own, &notes));
                }
            });
            Server { endpoint, asked }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn weights() -> Vec<u8> {
        let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header, &1.5f32.to_le_bytes(), &(-2f32).to_le_bytes()].concat()
    }

    fn answer(mut stream: TcpStream, own: &str, notes: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_string());
        }
        let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)).map(str::to_string) else { return };
        let header = |name: &str| lines.iter().find_map(|l| l.to_lowercase().strip_prefix(name).map(str::to_string));
        let token = header("authorization: bearer ").unwrap_or_default();
        notes.lock().unwrap().push(if token.is_empty() { path.clone() } else { format!("{path} as {token}") });
        let mut send = |status: &str, more: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{more}\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        };
        let info = |files: &str| format!(r#"{{"sha": "{COMMIT}", "siblings": [{files}]}}"#).into_bytes();
        let tiny = r#"{"rfilename": "sub/notes.txt"}, {"rfilename": "model.safetensors"}, {"rfilename": "config.json"},
            {"rfilename": "pytorch_model.bin"}, {"rfilename": "../../outside"}"#;
        let range = header("range: bytes=").unwrap_or_default();
        let part = |body: &[u8]| {
            let (from, to) = range.split_once('-').unwrap();
            let (from, to) = (from.parse::<usize>().unwrap(), to.parse::<usize>().map_or(body.len(), |to| to + 1));
            let more = format!(
                "content-range: bytes {from}-{}/{}\r\netag: \"e{}\"\r\nx-repo-commit: {COMMIT}\r\n",
                to - 1,
                body.len(),
                body.len()
            );
            (more, body[from..to].to_vec())
        };
        let resolved = |repo: &str, file: &str| format!("/{repo}/resolve/{COMMIT}/{file}");
        match path.as_str() {
            "/api/models/org/tiny/revision/main" | "/api/models/org/tiny/revision/v2" => send("200 OK", "", &info(tiny)),
            "/api/models/org/gated/revision/main" | "/api/models/org/slow/revision/main" => {
                send("200 OK", "", &info(r#"{"rfilename": "config.json"}"#));
            }
            "/api/models/org/private/revision/main" => send("401 Unauthorized", "", b"{}"),
            p if p == resolved("org/tiny", "config.json") => {
                let (more, body) = part(CONFIG);
                send("206 Partial Content", &more, &body);
            }
            // As the hub does with large files: sent on to a store, its checksum in a header of the first answer.
            p if p == resolved("org/tiny", "model.safetensors") => {
                let more =
                    format!("location: {own}/store/w\r\nx-linked-etag: \"w0\"\r\netag: \"x\"\r\nx-repo-commit: {COMMIT}\r\n");
                send("302 Found", &more, b"");
            }
            "/store/w" => {
                let (more, body) = part(&weights());
                send("206 Partial Content", &more, &body);
            }
            p if p == resolved("org/gated", "config.json") => send("403 Forbidden", "", b"gated"),
            p if p == resolved("org/slow", "config.json") => {
                if range == "0-0" {
                    let (more, body) = part(&[b' '; 100_000]);
                    return send("206 Partial Content", &more, &body);
                }
                let head = "HTTP/1.1 206 Partial Content\r\ncontent-length: 100000\r\n\r\n";
                let mut going = stream.write_all(head.as_bytes()).is_ok();
                while going {
                    std::thread::sleep(Duration::from_millis(20));
                    going = stream.write_all(b"          ").is_ok();
                }
            }
            _ => send("404 Not Found", "", b"{}"),
        }
    }

    fn hub(server: &Server) -> (tempfile::TempDir, Hub, Work) {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::new(&server.endpoint, dir.path().join("hub"));
        (dir, hub, Work::silent(1).unwrap())
    }

    fn find(hub: &Hub, name: &str, work: &Work) -> Result<Place> {
        hub.find(&RepoName::parse(name).unwrap(), work)
    }

    fn folder(hub: &Hub, name: &str, work: &Work) -> Arc<dyn Files> {
        match find(hub, name, work).unwrap() {
            Place::Folder(files) => files,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_repository_is_listed_and_only_what_is_opened_is_fetched() {
        let server = Server::start();
        let (_dir, hub, work) = hub(&server);
        let files = folder(&hub, "org/tiny", &work);
        assert_eq!(files.list().unwrap(), ["config.json", "model.safetensors", "pytorch_model.bin", "sub/notes.txt"]);
        assert_eq!(server.asked().len(), 1);
        let checkpoint = huggingface::read(files.as_ref()).unwrap();
        assert_eq!(checkpoint.tensors.get("w").unwrap().to_f32(), [1.5, -2.0]);
        assert!(!server.asked().iter().any(|path| path.contains("pytorch_model") || path.contains("notes")));
        // The standard layout: a second reading asks for the listing alone, and offline for nothing.
        assert_eq!(std::fs::read_to_string(hub.cache.join("models--org--tiny/refs/main")).unwrap(), COMMIT);
        assert!(hub.cache.join("models--org--tiny/blobs/w0").is_file());
        let before = server.asked().len();
        huggingface::read(folder(&hub, "org/tiny", &work).as_ref()).unwrap();
        assert_eq!(server.asked().len(), before + 1);
        let offline = Hub { offline: true, ..hub.clone() };
        let files = folder(&offline, "org/tiny", &work);
        assert_eq!(files.list().unwrap(), ["config.json", "model.safetensors"]);
        huggingface::read(files.as_ref()).unwrap();
        assert_eq!(server.asked().len(), before + 1);
        // Without a network the cache serves too.
        let unplugged = Hub { endpoint: "http://127.0.0.1:9".into(), ..hub };
        huggingface::read(folder(&unplugged, "org/tiny", &work).as_ref()).unwrap();
    }

    #[test]
    fn revisions_files_and_folders_inside() {
        let server = Server::start();
        let (_dir, mut hub, work) = hub(&server);
        hub.token = Some("hf_secret".into());
        let Place::File(path) = find(&hub, "org/tiny@v2/config.json", &work).unwrap() else { panic!("no file") };
        assert_eq!(std::fs::read(path).unwrap(), CONFIG);
        assert_eq!(server.asked()[0], "/api/models/org/tiny/revision/v2 as hf_secret");
        assert!(hub.cache.join("models--org--tiny/refs/v2").is_file());
        let inside = folder(&hub, "org/tiny/sub", &work);
        assert_eq!((inside.name(), inside.list().unwrap()), ("org/tiny/sub".into(), vec!["notes.txt".to_string()]));
        let error = find(&hub, "org/tiny/confg.json", &work).unwrap_err();
        assert_eq!(error.to_string(), "org/tiny: there is no file `confg.json`");
        assert_eq!(error.helps(), ["the nearest name is `config.json`"]);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let server = Server::start();
        let (_dir, hub, work) = hub(&server);
        let gated = folder(&hub, "org/gated", &work).open("config.json").unwrap_err();
        assert!(gated.message().contains("access to `config.json` of `org/gated` is restricted"), "{gated}");
        assert!(gated.helps()[0].contains("accept its licence") && gated.helps()[0].contains("HF_TOKEN"));
        let private = find(&hub, "org/private", &work).unwrap_err();
        assert!(private.message().contains("private or gated"), "{private}");
        let absent = find(&hub, "org/absent@v9", &work).unwrap_err();
        assert!(absent.message().contains("there is no `org/absent` at revision `v9`"), "{absent}");
        let missing = folder(&hub, "org/tiny", &work).open("pytorch_model.bin").unwrap_err();
        assert!(missing.message().contains("there is no `pytorch_model.bin` of `org/tiny`"), "{missing}");
        let unplugged = Hub { endpoint: "http://127.0.0.1:9".into(), ..hub.clone() };
        let error = find(&unplugged, "org/never", &work).unwrap_err();
        assert!(error.message().contains("http://127.0.0.1:9 cannot be reached"), "{error}");
        assert!(error.helps()[0].contains("local file or folder"));
        let offline = Hub { offline: true, ..hub };
        assert!(find(&offline, "org/never", &work).unwrap_err().message().contains("HF_HUB_OFFLINE"));
    }

    #[test]
    fn a_download_can_be_interrupted() {
        let server = Server::start();
        let (_dir, hub, work) = hub(&server);
        let files = folder(&hub, "org/slow", &work);
        let cancel = work.cancel_flag();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let start = Instant::now();
        assert!(files.open("config.json").unwrap_err().is_interrupted());
        assert!(start.elapsed() < Duration::from_secs(5));
        // The helper thread gives up its lock, or the next attempt would fail with "another process is downloading".
        work.reset_cancel();
        std::thread::sleep(Duration::from_millis(200));
        let lock = std::fs::File::open(hub.cache.join("models--org--slow/blobs/e100000.lock")).unwrap();
        assert!(lock.try_lock().is_ok());
    }

    #[test]
    fn the_environment_is_read_as_python_does() {
        let with = |vars: &[(&str, &str)]| {
            let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            Hub::from_vars(move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let hub = with(&[("HF_HOME", &home)]);
        assert_eq!((hub.cache, hub.token.as_deref()), (dir.path().join("hub"), Some("hf_file")));
        assert_eq!((hub.endpoint.as_str(), hub.offline), ("https://huggingface.co", false));
        let hub = with(&[
            ("HF_HOME", &home),
            ("HF_HUB_CACHE", "/c"),
            ("HF_TOKEN", "hf_var"),
            ("HF_HUB_OFFLINE", "1"),
            ("HF_ENDPOINT", "http://mirror/"),
        ]);
        assert_eq!((hub.cache, hub.token.as_deref()), (PathBuf::from("/c"), Some("hf_var")));
        assert_eq!((hub.endpoint.as_str(), hub.offline), ("http://mirror", true));
        assert!(with(&[("XDG_CACHE_HOME", "/x")]).cache.ends_with("huggingface/hub"));
    }

    #[test]
    fn the_cache_says_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("models--org--some-model");
        std::fs::create_dir_all(repo.join("snapshots/abc")).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc").unwrap();
        std::fs::create_dir_all(dir.path().join("datasets--org--texts")).unwrap();
        let hub = Hub::new("http://nowhere", dir.path());
        assert_eq!(hub.cached(), ["org/some-model"]);
        assert_eq!(hub.cached_folder("org/some-model"), Some(repo.join("snapshots/abc")));
        assert_eq!(hub.cached_folder("org/other"), None);
    }
}
