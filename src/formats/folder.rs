//! A folder on disk as a place with files.

use super::Files;
use crate::error::{Error, Result, nearest};
use crate::tensor::Bytes;
use std::path::{Component, Path, PathBuf};

/// Levels of folders that [`Folder::list`] goes down: a loop of links must end.
const DEPTH: usize = 12;

/// A folder on disk; files are mapped when opened.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A folder that must exist.
    ///
    /// # Errors
    /// There is no folder of this path.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let meta = std::fs::metadata(&path).map_err(|e| Error::io(&e, &path))?;
        if meta.is_dir() { Ok(Folder(path)) } else { Err(Error::input("is a file, not a folder").file(path)) }
    }
}

impl Files for Folder {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    /// All files below, links followed; hidden files and folders (`.git`, `.cache`) are left out.
    fn list(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        collect(&self.0, "", DEPTH, &mut files)?;
        files.sort_unstable();
        Ok(files)
    }

    fn open(&self, path: &str) -> Result<Bytes> {
        if !Path::new(path).components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(Error::input(format!("`{path}` is not the path of a file in this folder")).file(&self.0));
        }
        let full = self.0.join(path);
        if full.exists() {
            return Bytes::map(&full);
        }
        let error = Error::new(crate::error::Kind::Io, format!("there is no file `{path}`")).file(&self.0);
        Err(match nearest(path, self.list()?.iter().map(String::as_str)) {
            Some(near) => error.help(format!("the nearest name is `{near}`")),
            None => error,
        })
    }

    fn on_disk(&self, path: &str) -> Option<PathBuf> {
        Some(self.0.join(path))
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(&e, folder))? {
        let entry = entry.map_err(|e| Error::io(&e, folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        // A link to nothing (a file removed from the hub's cache) is no file.
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        if meta.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if meta.is_dir() && depth > 0 {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_below_and_opens_only_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/c")).unwrap();
        for (path, text) in [("config.json", "{}"), ("b/c/w.npz", "PK"), (".hidden", "x")] {
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let folder = Folder::new(dir.path()).unwrap();
        assert_eq!(folder.list().unwrap(), ["b/c/w.npz", "config.json"]);
        assert_eq!(folder.open("b/c/w.npz").unwrap().as_slice(), b"PK");
        assert!(folder.open("../config.json").is_err());
        let error = folder.open("confg.json").unwrap_err();
        assert_eq!(error.helps(), ["the nearest name is `config.json`"]);
        assert!(Folder::new(dir.path().join("config.json")).is_err());
        assert!(Folder::new(dir.path().join("absent")).is_err());
    }
}
