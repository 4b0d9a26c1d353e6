//! Files are written whole or not at all, with their provenance beside them.

use crate::error::{Error, Result};
use crate::provenance::Provenance;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` through a temporary name in the same folder, which is made where it is missing: whoever opens
/// `path` sees the old content or the new, never a part.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_polled(path, bytes, &|| Ok(()))
}

/// Bytes that are written between two looks at whether to go on.
const STRIDE: usize = 4 << 20;

/// As [`write_atomic`], as long as `go_on` lets it.
///
/// # Errors
/// As [`write_atomic`], and what `go_on` gives.
pub fn write_polled(path: &Path, bytes: &[u8], go_on: &dyn Fn() -> Result<()>) -> Result<()> {
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
    let mut file = builder.tempfile_in(folder).map_err(|e| Error::io(&e, folder))?;
    for part in bytes.chunks(STRIDE) {
        go_on()?;
        file.write_all(part).map_err(|e| Error::io(&e, path))?;
    }
    file.persist(path).map_err(|e| Error::io(&e.error, path))?;
    Ok(())
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

/// Writes a file and, beside it, its provenance (nothing beside it when none is recorded; an older sidecar goes).
///
/// # Errors
/// As [`write_polled`].
pub fn write_with_sidecar(path: &Path, bytes: &[u8], provenance: &Provenance, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    write_polled(path, bytes, go_on)?;
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

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/scores.csv");
        write_with_sidecar(&path, b"one", &Provenance::new("test"), &|| Ok(())).unwrap();
        assert_eq!(read_sidecar(&path).unwrap(), Provenance::new("test"));
        write_with_sidecar(&path, b"two", &Provenance::default(), &|| Ok(())).unwrap();
        assert!(write_polled(&path, b"three", &|| Err(Error::interrupted())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("new")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["scores.csv"]);
        assert!(write_atomic(folder.path(), b"x").unwrap_err().message().contains("folder"));
    }
}
