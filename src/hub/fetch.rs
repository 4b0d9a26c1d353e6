//! One file of the hub into the cache, whole or not at all.
//!
//! hf-hub's own download is not used: it sends the user's token to whatever host the hub redirects to, takes what came for the
//! whole file, appends an answer that ignored the range to what it has, and cannot go on from a part that is complete.
//!
//! Names and locks are those of Python's `huggingface_hub`, so that both may write one cache at once: the content goes to
//! `blobs/ETAG.incomplete` and from there, when it has the promised size and the checksum that the etag is, to `blobs/ETAG`, to
//! which `snapshots/COMMIT/PATH` links; `.locks/REPOSITORY/ETAG.lock` is held meanwhile. A file that changed has another etag,
//! so that the part of an older one is never continued.

use super::RepoName;
use super::remote::{Hub, Refusal, refused};
use crate::error::Error;
use crate::work::Work;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// Attempts in a row that bring no byte, beyond the first.
const RETRIES: u32 = 4;
/// The pause before the first of them; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// A connection that brings nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// Redirects that are followed at most.
const HOPS: usize = 8;
/// Bytes by which a page of the web is known.
const PAGE_START: u64 = 256;
/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

type Answer<T> = std::result::Result<T, Refusal>;

/// What asks a hub for files.
pub(super) fn agent() -> Agent {
    Agent::config_builder()
        // Followed here: where one leads decides who sees the token.
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("saerepl/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// A file that is being fetched.
pub(super) struct Fetch {
    pub agent: Agent,
    pub hub: Hub,
    pub repo: RepoName,
    pub commit: String,
    /// In the repository.
    pub path: String,
    pub work: Work,
    /// Dead when nobody waits for the file any more.
    pub wanted: Weak<()>,
}

/// What the hub says of a file.
struct Promise {
    etag: String,
    /// Not said where the file lies elsewhere and the hub is a simple mirror.
    size: Option<u64>,
}

impl Fetch {
    /// Fetches the file and gives its place in the snapshot.
    pub fn run(&self) -> Answer<PathBuf> {
        let promise = self.promise()?;
        let folder = self.hub.repo_folder(&self.repo);
        let blob = folder.join("blobs").join(&promise.etag);
        let link = self.hub.snapshot(&self.repo, &self.commit).join(&self.path);
        for file in [&blob, &link] {
            let parent = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(parent).map_err(|e| Refusal::Ours(Error::io(&e, parent)))?;
        }
        let _lock = self.lock(&folder, &promise.etag)?;
        if !fs::metadata(&blob).is_ok_and(|there| promise.size.is_none_or(|size| there.len() == size)) {
            self.fill(&blob, &promise)?;
        }
        self.link(&blob, &link).map_err(|e| Refusal::Ours(Error::io(&e, &link)))?;
        Ok(link)
    }

    fn check(&self) -> Answer<()> {
        if self.wanted.strong_count() > 0 { Ok(()) } else { Err(Refusal::Ours(Error::interrupted())) }
    }

    fn pause(&self, mut time: Duration) -> Answer<()> {
        let step = Duration::from_millis(50);
        while time > Duration::ZERO {
            self.check()?;
            std::thread::sleep(time.min(step));
            time = time.saturating_sub(step);
        }
        Ok(())
    }

    /// The lock of the blob, waited for while another process holds it.
    fn lock(&self, folder: &Path, etag: &str) -> Answer<File> {
        let locks = self.hub.cache.join(".locks").join(folder.file_name().unwrap_or_default());
        let path = locks.join(format!("{etag}.lock"));
        let open = || {
            fs::create_dir_all(&locks)?;
            OpenOptions::new().create(true).truncate(false).write(true).open(&path)
        };
        let file = open().map_err(|e| Refusal::Ours(Error::io(&e, &path)))?;
        let mut said = false;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if !said {
                self.work.note(&format!("note: another process fetches {}: waiting for it", self.path));
                said = true;
            }
            self.pause(Duration::from_millis(100))?;
        }
        // A file system without locks gives an error: then two processes may both fetch, and the checksum decides.
        Ok(file)
    }

    // ---- asking -------------------------------------------------------------------------------------------------

    fn url(&self) -> String {
        let path: Vec<_> = self.path.split('/').map(percent_encoded).collect();
        format!("{}/{}/resolve/{}/{}", self.hub.endpoint, self.repo.id, self.commit, path.join("/"))
    }

    fn ask(&self, method: &str, url: &str, from: Option<u64>) -> Answer<Response<Body>> {
        let request = if method == "HEAD" { self.agent.head(url) } else { self.agent.get(url) };
        let mut request = request.header("accept-encoding", "identity");
        if let Some(token) = self.hub.token.as_ref().filter(|_| same_host(url, &self.hub.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from.filter(|from| *from > 0) {
            request = request.header("range", format!("bytes={from}-"));
        }
        request.call().map_err(Refusal::from)
    }

    /// Etag and size, by the first answer that names them: where the content lies elsewhere, that place has its own.
    fn promise(&self) -> Answer<Promise> {
        let mut url = self.url();
        // Only a hub names the commit, or another place's etag: a page has an etag too.
        let mut named = false;
        for _ in 0..HOPS {
            let answer = self.ask("HEAD", &url, None)?;
            let linked = header(&answer, "x-linked-etag");
            let onward = onward(&answer, &url);
            named |= linked.is_some() || header(&answer, "x-repo-commit").is_some();
            if let Some(next) = onward.as_ref().filter(|next| linked.is_none() && same_host(next, &self.hub.endpoint)) {
                url.clone_from(next);
                continue;
            }
            if onward.is_none() {
                refused(&answer)?;
            }
            let Some(etag) = linked.or(header(&answer, "etag")) else { return Err(Refusal::Page) };
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if etag.is_empty() || etag.starts_with('.') || !etag.chars().all(plain) {
                return Err(Refusal::Other(format!("it answers without an etag that names the content (`{etag}`)")));
            }
            if !named && checksum(etag, 0).is_none() || self.is_page(&answer) {
                return Err(Refusal::Page);
            }
            let whole = header(&answer, "content-length").filter(|_| onward.is_none());
            let size = header(&answer, "x-linked-size").or(whole).and_then(|size| size.parse().ok());
            return Ok(Promise { etag: etag.to_string(), size });
        }
        Err(Refusal::Other("it redirects without end".into()))
    }

    /// True for an answer that is a page of the web where none was asked for: of a proxy, or of a network that wants a login.
    fn is_page(&self, answer: &Response<Body>) -> bool {
        let is_html = |kind: &str| kind.trim_start().to_ascii_lowercase().starts_with("text/html");
        answer.status().is_success() && !self.asks_for_page() && header(answer, "content-type").is_some_and(is_html)
    }

    fn asks_for_page(&self) -> bool {
        [".html", ".htm"].iter().any(|ending| self.path.ends_with(ending))
    }

    /// The content from a byte on.
    fn content(&self, from: u64) -> Answer<Response<Body>> {
        let mut url = self.url();
        for _ in 0..HOPS {
            let answer = self.ask("GET", &url, Some(from))?;
            match onward(&answer, &url) {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(Refusal::Other("it redirects without end".into()))
    }

    // ---- writing ------------------------------------------------------------------------------------------------

    /// The blob, from what is there of it.
    fn fill(&self, blob: &Path, promise: &Promise) -> Answer<()> {
        let part = PathBuf::from(format!("{}.incomplete", blob.display()));
        let length = || fs::metadata(&part).map_or(0, |there| there.len());
        let mut failures = 0;
        loop {
            let before = length();
            match self.append(&part, promise.size) {
                Ok(()) => break,
                Err(refusal) if refusal.may_pass() && !matches!(refusal, Refusal::Page) && failures < RETRIES => {
                    self.pause(PAUSE * 2u32.pow(failures))?;
                    failures = if length() > before { 0 } else { failures + 1 };
                }
                Err(refusal) => return Err(discarded(refusal, &part)),
            }
        }
        self.verify(&part, &promise.etag).map_err(|refusal| discarded(refusal, &part))?;
        fs::rename(&part, blob).map_err(|e| Refusal::Ours(Error::io(&e, blob)))
    }

    /// Continues a part to its end. A part that is not there is made when there is something to write into it.
    fn append(&self, part: &Path, promised: Option<u64>) -> Answer<()> {
        let io = |e: std::io::Error| Refusal::Ours(Error::io(&e, part));
        let there = fs::metadata(part).ok().map(|part| part.len());
        if there.is_some() && there == promised {
            return Ok(());
        }
        // Longer than the file: of something else.
        let mut have = there.filter(|there| promised.is_none_or(|size| *there < size)).unwrap_or(0);
        let answer = self.content(have)?;
        if self.is_page(&answer) {
            return Err(Refusal::Page);
        }
        let total = match answer.status().as_u16() {
            206 => {
                let (start, total) = header(&answer, "content-range").and_then(range).unwrap_or((0, None));
                if start != have {
                    return Err(Refusal::Other(format!("asked for byte {have} on, it sends those from {start} on")));
                }
                total
            }
            // The whole, whatever was asked for.
            200 => {
                have = 0;
                header(&answer, "content-length").and_then(|length| length.parse().ok())
            }
            // What is there is more than there is: of something else.
            416 => {
                let _ = fs::remove_file(part);
                return Err(Refusal::Network("it has no such range".into()));
            }
            status => {
                refused(&answer)?;
                return Err(Refusal::Other(format!("it answers with HTTP status {status}")));
            }
        };
        let size = match (promised, total) {
            (Some(promised), Some(total)) if promised != total => {
                return Err(Refusal::Damaged(format!("{promised} bytes are promised, and {total} are there")));
            }
            (promised, total) => {
                promised.or(total).ok_or_else(|| Refusal::Other("it does not say how many bytes there are".into()))?
            }
        };
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
        if have == 0 {
            file.set_len(0).map_err(io)?;
        }
        let steps = self.work.begin_bytes(&format!("fetching {}", self.path), size);
        steps.advance(have);
        let (mut body, mut buffer) = (answer.into_body().into_reader(), vec![0; BUFFER]);
        while have < size {
            self.check()?;
            let read = body.read(&mut buffer).map_err(|e| Refusal::Network(e.to_string()))?;
            let read = read.min(usize::try_from(size - have).unwrap_or(usize::MAX));
            if read == 0 {
                return Err(Refusal::Network(format!("it stopped after {have} of {size} bytes")));
            }
            file.write_all(&buffer[..read]).map_err(io)?;
            have += read as u64;
            steps.advance(read as u64);
        }
        Ok(())
    }

    /// Brings a complete part to the disk, and holds it against its etag.
    fn verify(&self, part: &Path, etag: &str) -> Answer<()> {
        let io = |e: std::io::Error| Refusal::Ours(Error::io(&e, part));
        let mut file = OpenOptions::new().read(true).write(true).open(part).map_err(io)?;
        file.sync_all().map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let Some(mut hash) = checksum(etag, size) else {
            let mut start = Vec::new();
            (&mut file).take(PAGE_START).read_to_end(&mut start).map_err(io)?;
            return if starts_page(&start) && !self.asks_for_page() { Err(Refusal::Page) } else { Ok(()) };
        };
        let steps = self.work.begin_bytes(&format!("checking {}", self.path), size);
        let mut buffer = vec![0; BUFFER];
        loop {
            self.check()?;
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    steps.advance(read as u64);
                }
            }
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found.eq_ignore_ascii_case(etag) {
            return Ok(());
        }
        Err(Refusal::Damaged("what came has another checksum than is promised".into()))
    }

    /// Points the snapshot at the blob, relative to it, so that a cache can be moved.
    fn link(&self, blob: &Path, link: &Path) -> std::io::Result<()> {
        if link.exists() {
            return Ok(());
        }
        // A link whose blob was removed.
        let _ = fs::remove_file(link);
        let up = "../".repeat(2 + self.path.matches('/').count());
        let target = PathBuf::from(up).join("blobs").join(blob.file_name().unwrap_or_default());
        match symlink(&target, link) {
            // Where there are no links the snapshot holds the file itself, as Python has it.
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => fs::rename(blob, link),
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
use std::os::unix::fs::symlink;
#[cfg(windows)]
use std::os::windows::fs::symlink_file as symlink;
#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The sum that an etag is of a file: SHA-256 of a large one, of a small one SHA-1 as git makes it of a blob. `None` for an
/// etag that is no checksum, as a mirror may have its own.
fn checksum(etag: &str, size: u64) -> Option<Box<dyn DynDigest>> {
    match etag.len() {
        _ if !etag.bytes().all(|b| b.is_ascii_hexdigit()) => None,
        64 => Some(Box::new(Sha256::new())),
        40 => Some(Box::new(Sha1::new_with_prefix(format!("blob {size}\0")))),
        _ => None,
    }
}

/// True for the beginning of a page of the web.
fn starts_page(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    text.starts_with("<!doctype html") || text.starts_with("<html")
}

/// Removes a part that no further attempt can complete.
fn discarded(refusal: Refusal, part: &Path) -> Refusal {
    if matches!(refusal, Refusal::Damaged(_) | Refusal::Page) {
        let _ = fs::remove_file(part);
    }
    refusal
}

fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Where a redirect leads.
fn onward(answer: &Response<Body>, url: &str) -> Option<String> {
    let location = answer.status().is_redirection().then(|| header(answer, "location")).flatten()?;
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_string());
    }
    let scheme_end = url.find("://")? + 3;
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}{rest}", &url[..scheme_end]));
    }
    let root = url[scheme_end..].find('/').map_or(url.len(), |at| scheme_end + at);
    if location.starts_with('/') {
        return Some(format!("{}{location}", &url[..root]));
    }
    let folder = url[..url.find('?').unwrap_or(url.len())].rfind('/').filter(|at| *at >= root).unwrap_or(root);
    Some(format!("{}/{location}", &url[..folder]))
}

/// True when both have the scheme, the host and the port in common.
fn same_host(a: &str, b: &str) -> bool {
    let place = |url: &str| {
        let uri = url.parse::<Uri>().ok()?;
        let scheme = uri.scheme_str()?.to_string();
        let port = uri.port_u16().or(match scheme.as_str() {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    place(a).is_some_and(|a| place(b) == Some(a))
}

/// First byte and total of a `content-range: bytes 100-199/200`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    Some((span.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

fn percent_encoded(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    part.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_read_as_addresses() {
        let answer =
            |location: &str| Response::builder().status(307).header("location", location).body(Body::builder().data("")).unwrap();
        let at = "https://hub.co/org/repo/resolve/main/a.txt?x=/y";
        for (location, expected) in [
            ("/new/repo/resolve/main/a.txt", "https://hub.co/new/repo/resolve/main/a.txt"),
            ("https://cdn.co/b?sign=1", "https://cdn.co/b?sign=1"),
            ("//cdn.co/b", "https://cdn.co/b"),
            ("b.txt", "https://hub.co/org/repo/resolve/main/b.txt"),
        ] {
            assert_eq!(onward(&answer(location), at).as_deref(), Some(expected));
        }
        let plain = Response::builder().status(200).header("location", "/b").body(Body::builder().data("")).unwrap();
        assert_eq!(onward(&plain, at), None);
    }

    #[test]
    fn only_the_hub_itself_is_the_same_host() {
        assert!(same_host("https://huggingface.co/a?b", "https://HuggingFace.co:443"));
        for other in ["http://huggingface.co/a", "https://huggingface.co:8443/a", "https://cdn.huggingface.co/a", "nonsense"] {
            assert!(!same_host(other, "https://huggingface.co"), "{other}");
        }
    }

    #[test]
    fn ranges_and_paths() {
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 0-0/*"), Some((0, None)));
        assert_eq!(range("items 1-2/3"), None);
        assert_eq!(percent_encoded("24576:v1+a ü#"), "24576%3Av1%2Ba%20%C3%BC%23");
    }
}
