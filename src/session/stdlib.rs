//! The library that scripts import as `std/NAME`: the files of `stdlib/`, each listed here once.

/// Name and text of each file.
pub(super) const FILES: &[(&str, &str)] = &[
    ("experiments", include_str!("../../stdlib/experiments.rhai")),
    ("report", include_str!("../../stdlib/report.rhai")),
    ("texts", include_str!("../../stdlib/texts.rhai")),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_is_listed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        found.sort();
        let listed: Vec<&str> = super::FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, found);
    }
}
