//! A hub on local ports, with the layout and the headers of huggingface.co: a listing, `resolve` with etags and commits, a
//! redirect to another path for small files and to another host (the store, a second port) for large ones, ranges; gated,
//! private, renamed and absent repositories; and what goes wrong on the way.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const TOKEN: &str = "hf_secret";
/// A token that the hub knows, whose owner has access to nothing that is gated.
pub const POOR_TOKEN: &str = "hf_poor";

/// What goes wrong with a file's content.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// The connection ends at this byte of the file, so many times.
    Drop {
        at: usize,
        times: usize,
    },
    /// It comes in pieces of so many bytes, one each 10 ms.
    Slow {
        piece: usize,
    },
    /// The hub promises so many bytes.
    Promise {
        size: usize,
    },
    /// The whole is sent, whatever range is asked for.
    NoRanges,
    /// One byte is another than the hub's checksum is of.
    Changed,
    /// A page with status 200 comes instead.
    Page,
    /// The hub's own address is answered by a page with status 200 and these headers.
    Portal(&'static [(&'static str, &'static str)]),
    /// A redirect to itself.
    Loop,
    /// The store is out of order, so many times.
    Busy {
        times: usize,
    },
}

#[derive(Clone)]
pub struct HubFile {
    pub content: Vec<u8>,
    /// Large files lie in the store, and their etag is their SHA-256.
    pub large: bool,
    pub fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Access {
    Open,
    Gated,
    Private,
}

#[derive(Clone)]
pub struct Repo {
    pub access: Access,
    pub commit: String,
    pub files: BTreeMap<String, HubFile>,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub to_store: bool,
    pub range: Option<String>,
    pub token: Option<String>,
}

struct State {
    repos: BTreeMap<String, Repo>,
    /// Old names of repositories.
    renamed: BTreeMap<String, String>,
    asked: Vec<Asked>,
    hub: String,
    store: String,
    /// All questions to the hub are answered by a login page.
    captive: bool,
}

/// Revisions of every repository beside its commit.
const REVISIONS: [&str; 3] = ["main", "refs/pr/1", "new/idea"];
const LOGIN: &[u8] = b"<!DOCTYPE html><title>Log in to the network</title>";

pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// As git names a small file.
pub fn etag(file: &HubFile) -> String {
    if file.large {
        return sha256(&file.content);
    }
    let blob = [format!("blob {}\0", file.content.len()).as_bytes(), &file.content].concat();
    Sha1::digest(blob).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn small(content: impl Into<Vec<u8>>) -> HubFile {
    HubFile { content: content.into(), large: false, fault: Fault::None }
}

pub fn large(content: impl Into<Vec<u8>>, fault: Fault) -> HubFile {
    HubFile { content: content.into(), large: true, fault }
}

/// Bytes in which a part at the wrong place shows.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

impl Server {
    pub fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, store) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (endpoint, at_store) = (address(&hub), address(&store));
        let state = State {
            repos: BTreeMap::new(),
            renamed: BTreeMap::new(),
            asked: Vec::new(),
            hub: endpoint.clone(),
            store: at_store,
            captive: false,
        };
        let state = Arc::new(Mutex::new(state));
        for (listener, to_store) in [(hub, false), (store, true)] {
            let state = Arc::clone(&state);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || answer(stream, &state, to_store));
                }
            });
        }
        Server { endpoint, state }
    }

    /// A repository whose commit is that of its content.
    pub fn put(&self, id: &str, access: Access, files: &[(&str, HubFile)]) {
        let files: BTreeMap<String, HubFile> = files.iter().map(|(path, file)| (path.to_string(), file.clone())).collect();
        let sum = sha256(files.iter().map(|(path, file)| format!("{path} {}\n", etag(file))).collect::<String>().as_bytes());
        self.state.lock().unwrap().repos.insert(id.into(), Repo { access, commit: sum[..40].into(), files });
    }

    /// From now on a network that wants a login answers for the hub.
    pub fn capture(&self) {
        self.state.lock().unwrap().captive = true;
    }

    pub fn rename(&self, old: &str, new: &str) {
        self.state.lock().unwrap().renamed.insert(old.into(), new.into());
    }

    /// What goes wrong with a file from now on.
    pub fn fault(&self, id: &str, path: &str, fault: Fault) {
        self.state.lock().unwrap().repos.get_mut(id).unwrap().files.get_mut(path).unwrap().fault = fault;
    }

    pub fn commit(&self, id: &str) -> String {
        self.state.lock().unwrap().repos[id].commit.clone()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The ranges with which a large file's content was asked for, the newest last; empty for the whole.
    pub fn ranges(&self, content: &[u8]) -> Vec<String> {
        let path = format!("/{}", sha256(content));
        let gets =
            self.asked().into_iter().filter(|asked| asked.to_store && asked.path.starts_with(&path) && asked.method == "GET");
        gets.map(|asked| asked.range.unwrap_or_default()).collect()
    }
}

struct Request {
    method: String,
    path: String,
    range: Option<usize>,
    token: Option<String>,
}

fn answer(mut stream: TcpStream, state: &Mutex<State>, to_store: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_string());
    }
    let Some((method, rest)) = lines.first().and_then(|line| line.split_once(' ')) else { return };
    let path = decoded(rest.split(' ').next().unwrap());
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_string())
        })
    };
    let token = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_string));
    let range = header("range");
    let first = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let asked = Asked { method: method.into(), path: path.clone(), to_store, range, token: token.clone() };
    state.lock().unwrap().asked.push(asked);
    let request = Request { method: method.into(), path, range: first, token };
    if state.lock().unwrap().captive {
        send(&mut stream, &request, "200 OK", &[], LOGIN);
    } else if to_store {
        from_store(&mut stream, &request, state);
    } else {
        from_hub(&mut stream, &request, state);
    }
}

fn encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => (bytes, rest) = ([bytes, vec![byte]].concat(), &after[2..]),
            None => (bytes, rest) = ([bytes, vec![*first]].concat(), after),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// An answer with a body, which HEAD leaves out.
fn send(stream: &mut TcpStream, request: &Request, status: &str, headers: &[(&str, String)], body: &[u8]) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
    let body = if request.method == "HEAD" { &[] } else { body };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn refuse(stream: &mut TcpStream, request: &Request, status: &str, code: &str) {
    let headers = [("x-error-code", code.to_string()), ("x-error-message", "See the documentation".to_string())];
    send(stream, request, status, &headers, b"{\"error\": \"see the documentation\"}");
}

fn from_hub(stream: &mut TcpStream, request: &Request, state: &Mutex<State>) {
    let (repos, renamed, hub, store) = {
        let state = state.lock().unwrap();
        (state.repos.clone(), state.renamed.clone(), state.hub.clone(), state.store.clone())
    };
    // /api/models/org/repo/revision/main, /org/repo/resolve/main/path, /api/resolve-cache/models/org/repo/COMMIT/path
    let path = request.path.as_str();
    let listed = path.strip_prefix("/api/models/");
    let moved = path.strip_prefix("/api/resolve-cache/models/");
    let rest = listed.or(moved).unwrap_or(path.trim_start_matches('/'));
    let mut parts = rest.splitn(3, '/');
    let id = format!("{}/{}", parts.next().unwrap(), parts.next().unwrap_or_default());
    let inside = parts.next().unwrap_or_default();
    if let Some(new) = renamed.get(&id) {
        let location = path.replacen(&id, new, 1);
        return send(stream, request, "307 Temporary Redirect", &[("location", location)], b"");
    }
    if request.token.as_ref().is_some_and(|token| token != TOKEN && token != POOR_TOKEN) {
        return send(stream, request, "401 Unauthorized", &[("x-error-message", "Invalid credentials".into())], b"");
    }
    let owner = request.token.as_deref() == Some(TOKEN);
    let repo = match repos.get(&id).filter(|repo| repo.access != Access::Private || owner) {
        Some(repo) => repo,
        None if request.token.is_none() => return refuse(stream, request, "401 Unauthorized", "RepoNotFound"),
        None => return refuse(stream, request, "404 Not Found", "RepoNotFound"),
    };
    let known = |revision: &str| REVISIONS.contains(&revision) || revision == repo.commit;
    if listed.is_some() {
        if !inside.strip_prefix("revision/").is_some_and(known) {
            return refuse(stream, request, "404 Not Found", "RevisionNotFound");
        }
        let names = repo.files.keys().map(|path| serde_json::json!({"rfilename": path}));
        let info = serde_json::json!({"sha": repo.commit, "siblings": names.collect::<Vec<_>>()});
        return send(stream, request, "200 OK", &[], info.to_string().as_bytes());
    }
    let (revision, path) = inside.strip_prefix("resolve/").unwrap_or(inside).split_once('/').unwrap_or_default();
    if repo.access == Access::Gated && !owner {
        let status = if request.token.is_none() { "401 Unauthorized" } else { "403 Forbidden" };
        return refuse(stream, request, status, "GatedRepo");
    }
    if !known(revision) {
        return refuse(stream, request, "404 Not Found", "RevisionNotFound");
    }
    let Some(file) = repo.files.get(path) else { return refuse(stream, request, "404 Not Found", "EntryNotFound") };
    if let Fault::Portal(headers) = file.fault {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.to_string())).collect();
        return send(stream, request, "200 OK", &headers, LOGIN);
    }
    let (commit, etag) = (("x-repo-commit", repo.commit.clone()), etag(file));
    if file.large {
        let size = if let Fault::Promise { size } = file.fault { size } else { file.content.len() };
        let headers = [
            commit,
            ("location", format!("{store}/{etag}?signature=1")),
            ("x-linked-etag", format!("\"{etag}\"")),
            ("x-linked-size", size.to_string()),
            ("etag", "\"of-the-redirect\"".into()),
        ];
        return send(stream, request, "302 Found", &headers, b"Found. Redirecting");
    }
    if moved.is_none() {
        let location = format!("/api/resolve-cache/models/{id}/{}/{}", repo.commit, encoded(path));
        // The hub says either: a path, or the whole address.
        let location = if path.ends_with(".json") { location } else { format!("{hub}{location}") };
        return send(stream, request, "307 Temporary Redirect", &[commit, ("location", location)], b"Redirecting");
    }
    let mut content = file.content.clone();
    if file.fault == Fault::Changed {
        content[0] ^= 1;
    }
    send(stream, request, "200 OK", &[commit, ("etag", format!("W/\"{etag}\""))], &content);
}

fn from_store(stream: &mut TcpStream, request: &Request, state: &Mutex<State>) {
    let sum = request.path.trim_start_matches('/').split('?').next().unwrap().to_string();
    let (mut content, fault) = {
        let mut state = state.lock().unwrap();
        let mut files = state.repos.values_mut().flat_map(|repo| repo.files.values_mut());
        let Some(file) = files.find(|file| file.large && etag(file) == sum) else {
            return send(stream, request, "404 Not Found", &[], b"");
        };
        let fault = file.fault;
        match &mut file.fault {
            Fault::Drop { times, .. } | Fault::Busy { times } => match times.checked_sub(1) {
                Some(left) => *times = left,
                None => file.fault = Fault::None,
            },
            _ => {}
        }
        (file.content.clone(), if file.fault == Fault::None { Fault::None } else { fault })
    };
    match fault {
        Fault::Changed => content[0] ^= 1,
        Fault::Page => return send(stream, request, "200 OK", &[], LOGIN),
        Fault::Loop => return send(stream, request, "302 Found", &[("location", request.path.clone())], b""),
        Fault::Busy { .. } => return send(stream, request, "503 Service Unavailable", &[], b""),
        _ => {}
    }
    let total = content.len();
    let first = request.range.filter(|_| fault != Fault::NoRanges);
    if first.is_some_and(|first| first >= total) {
        return send(stream, request, "416 Range Not Satisfiable", &[("content-range", format!("bytes */{total}"))], b"");
    }
    let start = first.unwrap_or(0);
    let (status, more) = match first {
        Some(_) => ("206 Partial Content", format!("content-range: bytes {start}-{}/{total}\r\n", total - 1)),
        None => ("200 OK", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\netag: \"of-the-store\"\r\n{more}\r\n",
        total - start
    );
    let end = if let Fault::Drop { at, .. } = fault { at.clamp(start, total) } else { total };
    let piece = if let Fault::Slow { piece } = fault { piece } else { total.max(1) };
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    for piece in content[start..end].chunks(piece) {
        if stream.write_all(piece).is_err() {
            return;
        }
        if let Fault::Slow { .. } = fault {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
