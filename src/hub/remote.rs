//! The Hugging Face hub and its cache, in the cache's standard layout (FORMATS 6.5), so that what Python has fetched is
//! not fetched again.
//!
//! `hf-hub` lists a repository. What it leaves open is ours: a repository is pinned to the commit that its listing names, so
//! that files of two commits never mix; files are fetched by [`Fetch`]; the cache alone answers when the user is offline;
//! errors say what to do.

use super::fetch::{Fetch, agent};
use super::{CHECKPOINTS, Place, RepoName, suites};
use crate::error::{Error, Kind, Result, nearest};
use crate::files;
use crate::formats::{Files, Folder};
use crate::tensor::Bytes;
use crate::work::Work;
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A listing that takes longer is given up.
const LISTING: Duration = Duration::from_secs(60);
/// Bytes of a listing at most.
const LISTING_SIZE: u64 = 1 << 27;
/// What is said of an answer that no hub gives.
const NO_HUB: &str = "answers with a page that is not the hub's (a proxy or a login page?)";

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
    /// `HF_TOKEN_PATH` or `HF_HOME/token`; `HF_HUB_OFFLINE`.
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

    /// The repositories of models in the cache, sorted.
    pub fn cached(&self) -> Vec<String> {
        let folders = std::fs::read_dir(&self.cache).into_iter().flatten().flatten();
        let ids = folders.filter_map(|f| f.file_name().to_str()?.strip_prefix("models--").map(|id| id.replacen("--", "/", 1)));
        let mut ids: Vec<String> = ids.collect();
        ids.sort_unstable();
        ids
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
        let path = suites::found(&repo.files, &name.path, work).unwrap_or_else(|| name.path.clone());
        let own = |path: &str| path.rfind('/').map_or(0, |slash| slash + 1);
        let start = own(&path);
        let folder = path[..start].trim_end_matches('/');
        let start = if folder.rsplit('/').next() == Some(CHECKPOINTS) { own(folder) } else { start };
        let (folder, file) = (path[..start].to_string(), &path[start..]);
        if repo.files.contains(&path) {
            return Ok(Place::File { file: file.to_string(), folder: Arc::new(HubFiles { folder, ..repo }) });
        }
        let below = format!("{path}/");
        if repo.files.iter().any(|f| f.starts_with(&below)) {
            return Ok(Place::Folder(Arc::new(HubFiles { folder: below, ..repo })));
        }
        Err(repo.no_file(&path))
    }

    /// The repository at the commit that its revision names now, or did when it was last cached.
    fn pin(&self, name: &RepoName, work: &Work) -> Result<HubFiles> {
        let cached = self.cached_commit(name);
        let (commit, files) = if self.offline {
            let commit = cached.ok_or_else(|| self.not_cached(name))?;
            let files = self.cached_files(name, &commit)?;
            (commit, files)
        } else {
            self.check_token()?;
            match (self.ask(name, work), cached) {
                (Ok(found), _) => found,
                // No network: what was fetched before is good enough, and the user is told.
                (Err(refusal), Some(commit)) if refusal.may_pass() => {
                    let files = self.cached_files(name, &commit)?;
                    let why = if matches!(refusal, Refusal::Page) { NO_HUB } else { "cannot be reached" };
                    work.note(&format!("{} {why}; taking {} from the cache", self.endpoint, name.id));
                    (commit, files)
                }
                (Err(refusal), _) => return Err(self.explain(refusal, name, None)),
            }
        };
        let (hub, repo, work) = (self.clone(), name.clone(), work.clone());
        Ok(HubFiles { agent: agent(), hub, repo, commit, files, folder: String::new(), work })
    }

    /// Fails for a token that cannot be sent.
    fn check_token(&self) -> Result<()> {
        let sendable = |token: &String| token.bytes().all(|b| b.is_ascii_graphic());
        if self.token.as_ref().is_none_or(sendable) {
            return Ok(());
        }
        Err(Error::input(
            "the access token in HF_TOKEN (or in the file that `hf auth login` has stored) has characters that no token has",
        )
        .help(format!("copy it again from {}/settings/tokens, or unset HF_TOKEN for what is public", self.endpoint)))
    }

    /// Asks the hub for the commit and the files of a revision.
    fn ask(&self, name: &RepoName, work: &Work) -> std::result::Result<(String, Vec<String>), Refusal> {
        let (hub, repo) = (self.clone(), Repo::with_revision(name.id.clone(), RepoType::Model, name.revision.clone()));
        let info = work.detached(move |_| Ok(hub.listing(repo))).map_err(Refusal::Ours)??;
        if !info.sha.bytes().all(|b| b.is_ascii_hexdigit()) || info.sha.is_empty() {
            return Err(Refusal::Other(format!("it names the commit `{}`", info.sha)));
        }
        if name.revision != info.sha {
            // The cache's own record of what the revision means. A cache that cannot be written may still be read.
            let _ = files::write_atomic(&self.repo_folder(name).join("refs").join(&name.revision), info.sha.as_bytes());
        }
        // These names become paths in the cache.
        let stays_inside = |path: &String| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let mut files: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).filter(stays_inside).collect();
        files.sort_unstable();
        Ok((info.sha, files))
    }

    fn listing(&self, repo: Repo) -> std::result::Result<RepoInfo, Refusal> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_user_agent("saerepl", env!("CARGO_PKG_VERSION"))
            .build()?;
        let request = api.repo(repo).info_request().config().http_status_as_error(false).timeout_global(Some(LISTING)).build();
        let mut answer = request.call()?;
        refused(&answer)?;
        answer.body_mut().with_config().limit(LISTING_SIZE).read_json().map_err(|error| match error {
            ureq::Error::Json(cause) if cause.is_io() => Refusal::Network(cause.to_string()),
            ureq::Error::Json(_) => Refusal::Page,
            error => error.into(),
        })
    }

    pub(super) fn repo_folder(&self, name: &RepoName) -> PathBuf {
        self.cache.join(Repo::model(name.id.clone()).folder_name())
    }

    pub(super) fn snapshot(&self, name: &RepoName, commit: &str) -> PathBuf {
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
        let licence = format!("accept its licence at {}/{id}", self.endpoint);
        let access = match self.token {
            None => {
                format!("set HF_TOKEN to your access token ({}/settings/tokens), or store it with `hf auth login`", self.endpoint)
            }
            Some(_) => "check that HF_TOKEN belongs to the account that has access and may read gated repositories".into(),
        };
        let io = |message: String| Error::new(Kind::Io, message);
        let (status, code) = match refusal {
            Refusal::Status { status, code } => (status, code),
            Refusal::Ours(error) => return error,
            Refusal::Network(cause) => {
                let kept = if file.is_some() { "what came is kept: the next attempt goes on from there; " } else { "" };
                return io(format!("cannot fetch {what}: {} cannot be reached ({cause})", self.endpoint)).help(format!(
                    "{kept}name a local file or folder instead, or set HF_ENDPOINT to a mirror that can be reached"
                ));
            }
            Refusal::Page => {
                return io(format!("cannot fetch {what}: {} {NO_HUB}", self.endpoint)).help(
                    "open the address in a browser to see what answers, or set HF_ENDPOINT to a mirror that can be reached",
                );
            }
            Refusal::Damaged(cause) => {
                return io(format!("{what} came damaged from {}: {cause}", self.endpoint))
                    .help("nothing of it was kept; try again, or another mirror (HF_ENDPOINT)");
            }
            Refusal::Other(cause) => return io(format!("cannot fetch {what} from {}: {cause}", self.endpoint)),
        };
        match (status, code.as_deref()) {
            (_, Some("GatedRepo")) => io(format!("access to {what} is restricted")).help(format!("{licence}, and {access}")),
            (_, Some("RevisionNotFound")) => io(format!("`{id}` has no revision `{revision}`"))
                .help("a revision is a branch, a tag or a commit; without `@revision` it is `main`"),
            (_, Some("EntryNotFound")) => io(format!("there is no {what} at revision `{revision}` on {}", self.endpoint)),
            (_, Some("DisabledRepo")) => io(format!("{} has disabled `{id}`", self.endpoint)),
            (401, None) if self.token.is_some() => io(format!("{} does not accept the access token", self.endpoint))
                .help(format!("make a new one at {}/settings/tokens, or unset HF_TOKEN for what is public", self.endpoint)),
            (401 | 403, None) if file.is_some() => {
                io(format!("access to {what} is restricted")).help(format!("{licence}, and {access}"))
            }
            // Without a token the hub does not say which of these it is.
            (401 | 403, _) => io(format!("there is no {what} on {}, or it is private or gated", self.endpoint))
                .help(format!("check the spelling; if it exists, {licence}, and {access}"))
                .help_with(nearest_suite(id)),
            (404, _) => io(format!("there is no {what} at revision `{revision}` on {}", self.endpoint))
                .help(
                    "check the spelling of the repository and the revision; a local file or folder of this name is not there \
                     either",
                )
                .help_with(nearest_suite(id)),
            (429, _) => io(format!("{} asks to wait: too many requests", self.endpoint))
                .help("wait a minute, or set HF_TOKEN, which raises the limit"),
            (status, _) => io(format!("{} answers {what} with HTTP status {status}", self.endpoint)),
        }
    }
}

/// What may be meant by a repository that is not there.
fn nearest_suite(id: &str) -> Option<String> {
    let suites = suites::names();
    let near = nearest(id.split('/').next()?, suites.iter().map(String::as_str))?;
    Some(format!("the nearest name of a suite of SAEs is `{near}`"))
}

/// Why the hub gave nothing.
pub(super) enum Refusal {
    /// An answer that is no success, with the hub's word for it.
    Status {
        status: u16,
        code: Option<String>,
    },
    /// No answer, or one that broke off.
    Network(String),
    /// An answer that no hub gives: one of a proxy, or of a network that wants a login first.
    Page,
    /// What came is not what was promised.
    Damaged(String),
    Other(String),
    /// Not the hub's fault: interrupted, a cache that cannot be written.
    Ours(Error),
}

impl Refusal {
    /// True for what another attempt may bring past.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Refusal::Network(_) | Refusal::Page | Refusal::Status { status: 500 | 502 | 503 | 504, .. })
    }
}

/// Fails for an answer that is no success.
pub(super) fn refused(answer: &Response<Body>) -> std::result::Result<(), Refusal> {
    if answer.status().is_success() {
        return Ok(());
    }
    let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok()).map(str::to_string);
    Err(Refusal::Status { status: answer.status().as_u16(), code })
}

impl From<ureq::Error> for Refusal {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Refusal::Status { status, code: None },
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_) => Refusal::Network(error.to_string()),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Refusal::Ours(Error::input(format!("the hub's address cannot be used: {error}")).help("it is set by HF_ENDPOINT"))
            }
            _ => Refusal::Other(error.to_string()),
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => Refusal::from(*error),
            error => Refusal::Other(error.to_string()),
        }
    }
}

/// The files of a repository at one commit; each is fetched when first opened.
struct HubFiles {
    agent: Agent,
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
    /// The local path of a file, fetched if the cache lacks it.
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
        // The helper thread stops when the call that waits for it is gone.
        let wanted = Arc::new(());
        let fetch = Fetch {
            agent: self.agent.clone(),
            hub: self.hub.clone(),
            repo: self.repo.clone(),
            commit: self.commit.clone(),
            path: path.to_string(),
            work: self.work.clone(),
            wanted: Arc::downgrade(&wanted),
        };
        let fetched = self.work.detached(move |_| Ok(fetch.run()))?;
        fetched.map_err(|refusal| self.hub.explain(refusal, &self.repo, Some(path)))
    }

    fn no_file(&self, path: &str) -> Error {
        let error = Error::new(Kind::Io, format!("there is no file `{path}`")).file(&self.repo.id);
        let error = match nearest(path, self.files.iter().map(String::as_str)) {
            Some(near) => error.help(format!("the nearest name is `{near}`")),
            None => error,
        };
        match self.why_absent() {
            Some(why) => error.help(why),
            None => error,
        }
    }
}

impl Files for HubFiles {
    fn why_absent(&self) -> Option<String> {
        self.hub.offline.then(|| "HF_HUB_OFFLINE is set: only what is in the cache is seen; unset it to download the rest".into())
    }
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

    fn on_disk(&self, path: &str) -> Option<PathBuf> {
        Some(self.hub.snapshot(&self.repo, &self.commit).join(&self.folder).join(path))
    }

    fn revision(&self) -> Option<String> {
        Some(self.commit.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
