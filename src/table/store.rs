//! Tables in files: the format follows the extension.

use super::Table;
use crate::error::{Error, Result, ResultExt};
use crate::files::{self, expand_home};
use crate::work::Work;
use std::path::{Path, PathBuf};

fn extension(path: &Path) -> String {
    path.extension().map_or_else(String::new, |e| e.to_string_lossy().to_lowercase())
}

impl Table {
    /// Writes the table to `.csv`, `.json` (provenance in a sidecar) or `.parquet` (provenance inside). What JSON cannot
    /// hold is written as null and noted.
    ///
    /// # Errors
    /// Another extension, or the file cannot be written.
    pub fn save(&self, path: &Path, work: &Work) -> Result<()> {
        let table = self.clone();
        match extension(path).as_str() {
            "csv" => {
                files::write_detached(path, work, move |out| table.write_csv(out))?;
                files::write_sidecar(path, &self.provenance)
            }
            "parquet" => files::write_detached(path, work, move |out| table.write_parquet(out)),
            "json" => {
                let (send, nulls) = std::sync::mpsc::channel();
                files::write_detached(path, work, move |out| {
                    let nulls = table.write_json(out).map_err(|e| Error::internal(format!("cannot write JSON: {e}")))?;
                    send.send(nulls).map_err(|e| Error::internal(e.to_string()))
                })?;
                files::write_sidecar(path, &self.provenance)?;
                let nulls = nulls.recv().unwrap_or_default();
                if nulls > 0 {
                    work.note(&format!("{}: {nulls} NaN or infinite numbers became null", path.display()));
                }
                Ok(())
            }
            _ => Err(Error::input("a table is saved as .csv, .parquet or .json").file(path)),
        }
    }

    /// Reads a `.csv` or `.parquet` file. A name with `*` or `?` (`out/*/scores.parquet`) reads all files that match,
    /// in the order of their names, one below the other.
    ///
    /// # Errors
    /// No such file, none that matches, another extension, a damaged file, or files whose columns differ.
    pub fn load(name: &str, work: &Work) -> Result<Table> {
        let path = &expand_home(name);
        let name = &*path.to_string_lossy();
        if path.exists() || !name.contains(['*', '?', '[']) {
            return load_one(path, work);
        }
        let found = glob::glob(name).map_err(|e| Error::input(format!("the pattern \"{name}\" is wrong: {}", e.msg)))?;
        let paths: Vec<PathBuf> = found.collect::<std::result::Result<_, _>>().map_err(|e| Error::io(e.error(), e.path()))?;
        if paths.is_empty() {
            return Err(Error::input(format!("no file matches \"{name}\"")));
        }
        let steps = work.begin("reading tables", paths.len() as u64);
        let mut tables = Vec::new();
        for path in &paths {
            tables.push(load_one(path, work)?);
            steps.advance(1);
        }
        Table::concat(&tables).context(|| format!("the {} files that match \"{name}\"", paths.len()))
    }
}

fn load_one(path: &Path, work: &Work) -> Result<Table> {
    let owned = path.to_path_buf();
    let read = move || std::fs::read(&owned).map(|bytes| (bytes, owned.clone())).map_err(|e| Error::io(&e, &owned));
    match extension(path).as_str() {
        "csv" => work.detached(move |work| {
            let (bytes, path) = read()?;
            let mut table = Table::from_csv(&bytes, &path, work)?;
            table.provenance = files::read_sidecar(&path)?;
            Ok(table)
        }),
        "parquet" => work.detached(move |work| {
            let (bytes, path) = read()?;
            Table::read_parquet(bytes, &path, &|| work.check())
        }),
        _ => Err(Error::input("a table is read from .csv or .parquet").file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Provenance;

    #[test]
    fn a_glob_reads_all_matches_in_the_order_of_their_names() {
        let work = Work::silent(1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in [("b", 2.5), ("a", 1.5)] {
            let table = Table::new(Provenance::new(name)).with("x", vec![value]).unwrap();
            for file in ["scores.parquet", "scores.csv"] {
                table.save(&folder.path().join(name).join(file), &work).unwrap();
            }
        }
        for file in ["scores.parquet", "scores.csv"] {
            let pattern = folder.path().join("*").join(file);
            let table = Table::load(&pattern.to_string_lossy(), &work).unwrap();
            assert_eq!(table.column("x").unwrap(), &vec![1.5, 2.5].into());
            assert_eq!(table.provenance.get("sources").unwrap()[1]["function"], "b");
        }
        let missing = folder.path().join("*.csv");
        assert!(Table::load(&missing.to_string_lossy(), &work).unwrap_err().message().starts_with("no file matches"));
        assert!(Table::load("none.csv", &work).unwrap_err().message().contains("no such file"));
        assert!(Table::load("x.xlsx", &work).unwrap_err().message().contains(".csv or .parquet"));
    }
}
