//! Files are written whole or not at all, with their provenance beside them.

use crate::error::{Error, Result};
use crate::provenance::Provenance;
use crate::work::Work;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::{NamedTempFile, TempPath};

/// Writes `bytes` to `path` through a temporary name in the same folder, which is made where it is missing: whoever opens
/// `path` sees the old content or the new, never a part.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary(path)?;
    file.write_all(bytes).map_err(|e| Error::io(&e, path))?;
    file.persist(path).map_err(|e| Error::io(&e.error, path))?;
    Ok(())
}

/// As [`write_atomic`], of what `fill` writes piece by piece, as long as the user does not ask to stop.
///
/// # Errors
/// As [`write_atomic`], what `fill` gives, or the user asked to stop.
pub fn write_polled(path: &Path, work: &Work, fill: impl FnOnce(&mut Output) -> Result<()>) -> Result<()> {
    let (file, place) = temporary(path)?.into_parts();
    Output::of(file, path, work).filled(fill)?;
    place.persist(path).map_err(|e| Error::io(&e.error, path))
}

/// As [`write_polled`], with `fill` in a helper thread: for what takes long between two pieces.
///
/// # Errors
/// As [`write_polled`].
pub fn write_detached(path: &Path, work: &Work, fill: impl FnOnce(&mut Output) -> Result<()> + Send + 'static) -> Result<()> {
    // The name stays here: a helper that nobody waits for any more writes to a file that has none, and that ends with it.
    let (file, place) = temporary(path)?.into_parts();
    let named = path.to_path_buf();
    match work.detached(move |helper| Output::of(file, &named, helper).filled(fill)) {
        Ok(()) => place.persist(path).map_err(|e| Error::io(&e.error, path)),
        Err(error) => {
            remove(place);
            Err(error)
        }
    }
}

/// Removes a file that a helper may still write to. The system may let both wait for a slow disk, but has its order before this
/// returns.
fn remove(place: TempPath) {
    let (send, removed) = std::sync::mpsc::channel();
    let removing = move || {
        drop(place);
        let _ = send.send(());
    };
    // Without a thread it is removed here.
    let _ = std::thread::Builder::new().name("saerepl-drop".into()).spawn(removing);
    let _ = removed.recv_timeout(Duration::from_millis(20));
}

/// An empty file of another name in the folder of `path`.
fn temporary(path: &Path) -> Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(|e| Error::io(&e, folder))?;
    if path.is_dir() {
        return Err(Error::input("is a folder; a file name is needed").file(path));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".saerepl-");
    #[cfg(unix)]
    {
        // A temporary file is private by default; results are as readable as the umask allows.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(|e| Error::io(&e, folder))
}

/// The file that [`write_polled`] and [`write_detached`] have filled: its writing fails once the user has asked to stop.
pub struct Output(BufWriter<Polled>);

struct Polled {
    file: File,
    path: PathBuf,
    work: Work,
    /// Why writing failed: whoever writes through a library hears of it only as text.
    fault: Option<Error>,
}

/// Bytes that are written between two looks at whether to go on.
const STRIDE: usize = 1 << 20;

impl Output {
    fn of(file: File, path: &Path, work: &Work) -> Self {
        Output(BufWriter::with_capacity(STRIDE, Polled { file, path: path.into(), work: work.clone(), fault: None }))
    }

    fn filled(mut self, fill: impl FnOnce(&mut Output) -> Result<()>) -> Result<()> {
        let filled = fill(&mut self).and_then(|()| self.0.flush().map_err(|e| Error::internal(e.to_string())));
        self.0.get_mut().fault.take().map_or(filled, Err)
    }

    /// The handle of whoever waits for the file.
    pub fn work(&self) -> &Work {
        &self.0.get_ref().work
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The file cannot be written, or the user asked to stop.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|e| Error::internal(e.to_string()))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Libraries that are dropped end what they began, and complain to the terminal where that fails: it goes nowhere.
        if self.fault.is_some() {
            return Ok(bytes.len());
        }
        let part = &bytes[..bytes.len().min(STRIDE)];
        let written = self.work.check().and_then(|()| self.file.write_all(part).map_err(|e| Error::io(&e, &self.path)));
        written.map(|()| part.len()).map_err(|fault| {
            // Not of the kind `Interrupted`, which asks for another try.
            let said = std::io::Error::other(fault.to_string());
            self.fault = Some(fault);
            said
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Polled {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// A path as a person writes it, `~` and `~/…` as a shell reads them: names in scripts pass through no shell.
pub fn expand_home(name: &str) -> PathBuf {
    let below = if name == "~" { Some("") } else { name.strip_prefix("~/") };
    match (below, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

/// Where the provenance of a file lies that cannot carry it itself: `scores.csv` → `scores.csv.provenance.json`.
pub fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".provenance.json");
    PathBuf::from(name)
}

/// Writes the provenance of a file beside it (nothing when none is recorded; an older sidecar goes).
///
/// # Errors
/// As [`write_atomic`].
pub fn write_sidecar(path: &Path, provenance: &Provenance) -> Result<()> {
    let sidecar = sidecar(path);
    if provenance.is_empty() {
        return match std::fs::remove_file(&sidecar) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&e, &sidecar)),
            _ => Ok(()),
        };
    }
    write_atomic(&sidecar, format!("{:#}\n", provenance.to_json()).as_bytes())
}

/// The provenance beside a file; an empty one where there is none.
///
/// # Errors
/// It cannot be read, or is not JSON.
pub fn read_sidecar(path: &Path) -> Result<Provenance> {
    let sidecar = sidecar(path);
    match std::fs::read(&sidecar) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Provenance::from_json)
            .map_err(|e| Error::format(format!("is not JSON: {e}")).file(&sidecar)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Provenance::default()),
        Err(e) => Err(Error::io(&e, &sidecar)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let work = Work::silent(1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/scores.csv");
        write_detached(&path, &work, |out| out.put(b"one")).unwrap();
        write_sidecar(&path, &Provenance::new("test")).unwrap();
        assert_eq!(read_sidecar(&path).unwrap(), Provenance::new("test"));
        write_polled(&path, &work, |out| {
            out.put(b"2wo")?;
            out.seek(SeekFrom::Start(0)).map_err(|e| Error::io(&e, &path))?;
            out.put(b"t")
        })
        .unwrap();
        write_sidecar(&path, &Provenance::default()).unwrap();
        assert!(write_polled(&path, &work, |_| Err(Error::input("no"))).is_err_and(|e| e.message() == "no"));
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(files(&folder.path().join("new")), ["scores.csv"]);
        assert!(write_atomic(folder.path(), b"x").unwrap_err().message().contains("folder"));
    }

    #[test]
    fn an_interruption_in_the_middle_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.npy");
        write_atomic(&path, b"old").unwrap();
        for detached in [false, true] {
            let work = Work::silent(1).unwrap();
            let flag = work.cancel_flag();
            let (send, receive) = std::sync::mpsc::channel();
            let fill = move |out: &mut Output| {
                let mut pieces = 0;
                let written = loop {
                    if pieces == 3 {
                        flag.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    // As a library does, whose own error tells nothing.
                    if out.write_all(&[7; STRIDE]).is_err() {
                        break Err(Error::internal("a library failed"));
                    }
                    pieces += 1;
                };
                let _ = send.send(pieces);
                written
            };
            let written = if detached { write_detached(&path, &work, fill) } else { write_polled(&path, &work, fill) };
            assert!(written.unwrap_err().is_interrupted());
            assert_eq!(files(folder.path()), ["weights.npy"]);
            assert_eq!(receive.recv().unwrap(), 3);
            assert_eq!(std::fs::read(&path).unwrap(), b"old");
        }
    }
}
