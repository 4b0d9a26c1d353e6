//! A folder on disk as a place with files.

use super::Files;
use crate::error::{Error, Result, nearest};
use crate::tensor::Bytes;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Levels of folders that [`Folder::list`] goes down.
const DEPTH: usize = 64;
/// Files and folders that it looks at: who names `/` by mistake must not wait for all of a disk.
const ENTRIES: usize = 200_000;

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

    /// All files below; hidden files and folders (`.git`, `.cache`) and what may not be read are left out. Links are followed,
    /// but no folder is entered twice.
    fn list(&self) -> Result<Vec<String>> {
        Walk::of(&self.0)
    }

    fn list_folder(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let entries = visible(&self.0.join(folder))?.into_iter();
        Ok(entries.filter(|(_, path)| path.is_file()).map(|(name, _)| format!("{prefix}{name}")).collect())
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
        let beside = self.list_folder(path.rsplit_once('/').map_or("", |(folder, _)| folder)).unwrap_or_default();
        Err(match nearest(path, beside.iter().map(String::as_str)) {
            Some(near) => error.help(format!("the nearest name is `{near}`")),
            None => error,
        })
    }

    fn on_disk(&self, path: &str) -> Option<PathBuf> {
        Some(self.0.join(path))
    }
}

/// The walk of [`Folder::list`].
struct Walk {
    files: Vec<String>,
    /// Folders that were entered, by their true paths.
    entered: HashSet<PathBuf>,
    /// Links to folders, with their prefix and depth: followed at last, so that a file is listed by its true path.
    links: Vec<(PathBuf, String, usize)>,
    entries: usize,
}

impl Walk {
    fn of(root: &Path) -> Result<Vec<String>> {
        let mut walk = Walk { files: Vec::new(), entered: HashSet::new(), links: Vec::new(), entries: 0 };
        walk.enter(root, "", 0)?;
        while let Some((folder, prefix, depth)) = walk.links.pop() {
            walk.enter(&folder, &prefix, depth)?;
        }
        walk.files.sort_unstable();
        Ok(walk.files)
    }

    fn enter(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<()> {
        let too_many = |what: String| Err(Error::limit(what).file(folder).help("name a file, or a folder nearer to it"));
        if depth > DEPTH {
            return too_many(format!("lies more than {DEPTH} folders below the one that is listed"));
        }
        let true_path = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        if !self.entered.insert(true_path) {
            return Ok(());
        }
        for (name, path) in visible(folder)? {
            self.entries += 1;
            if self.entries > ENTRIES {
                return too_many(format!("there are more than {ENTRIES} files in the folder that is listed; they end here"));
            }
            // A link to nothing (a file removed from the hub's cache) is no file.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if meta.is_file() {
                self.files.push(format!("{prefix}{name}"));
            } else if meta.is_dir() {
                let prefix = format!("{prefix}{name}/");
                if path.is_symlink() {
                    self.links.push((path, prefix, depth + 1));
                } else if std::fs::read_dir(&path).is_ok() {
                    // What may not be read keeps nobody from what lies beside it.
                    self.enter(&path, &prefix, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// What lies in a folder, hidden entries left out, by name.
fn visible(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(&e, folder))?;
    let named = entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let mut entries: Vec<_> = named.filter(|(name, _)| !name.starts_with('.')).collect();
    entries.sort_unstable();
    Ok(entries)
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
    /// Eight links from a folder to itself are more paths than any listing ends with.
    #[cfg(unix)]
    #[test]
    fn links_are_entered_once_and_after_true_folders() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("z/deep")).unwrap();
        for path in ["z/deep/w.npz", "z/params.npz", "params.npz"] {
            std::fs::write(at(path), "PK").unwrap();
        }
        for i in 0..8 {
            std::os::unix::fs::symlink(".", at(&format!("l{i}"))).unwrap();
            std::os::unix::fs::symlink("..", at(&format!("z/l{i}"))).unwrap();
        }
        std::os::unix::fs::symlink("z", at("a")).unwrap();
        std::os::unix::fs::symlink("params.npz", at("link.npz")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("x.npz"), "PK").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("other")).unwrap();
        let folder = Folder::new(dir.path()).unwrap();
        assert_eq!(folder.list().unwrap(), ["link.npz", "other/x.npz", "params.npz", "z/deep/w.npz", "z/params.npz"]);
        assert_eq!(folder.list_folder("z").unwrap(), ["z/params.npz"]);
    }

    /// (Whoever runs this as root may read everything.)
    #[cfg(unix)]
    #[test]
    fn what_may_not_be_read_is_left_out() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let locked = dir.path().join("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::write(dir.path().join("params.npz"), "PK").unwrap();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
        let listed = Folder::new(dir.path()).unwrap().list();
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(listed.unwrap(), ["params.npz"]);
    }
}
