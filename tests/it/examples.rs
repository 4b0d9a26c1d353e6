//! The examples run on the demo as they stand, and say what they are there to say.

use crate::program::program;
use std::path::Path;

#[path = "../../examples/feature_chains.rs"]
mod feature_chains;

/// Runs a script of `examples/` on the demo; gives what it printed. It leaves the results that it promises.
fn example(name: &str, results: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let (out, error, status) = program(folder.path(), &["run", script.to_str().unwrap()], "");
    assert_eq!(status, 0, "{error}");
    assert!(std::fs::read_to_string(&script).unwrap().lines().count() <= 50, "{name} is no longer short");
    for result in results {
        let path = folder.path().join("out").join(name.trim_end_matches(".rhai")).join(result);
        assert!(std::fs::metadata(&path).is_ok_and(|file| file.len() > 100), "{result} is missing");
    }
    out
}

#[test]
fn copying_heads_are_found() {
    let out = example("copying_heads.rhai", &["heads.csv", "copying.svg"]);
    assert!(out.contains("of 24 heads") || out.contains("Of 24 heads"), "{out}");
}

#[test]
fn dictionaries_stand_side_by_side() {
    let out = example("side_by_side.rhai", &["side_by_side.csv"]);
    // Each feature of the first dictionary is found in it again.
    assert!(out.lines().any(|line| line.starts_with("demo/saes/blocks.1") && line.contains(" 1.0")), "{out}");
}

#[test]
fn features_that_feed_a_head_are_listed() {
    let out = example("who_feeds_a_head.rhai", &["query.csv", "key.csv", "value.csv"]);
    // √(16 / 96)
    assert!(out.contains("a random direction has 41 % of its length"), "{out}");
}

#[test]
fn a_metric_of_ones_own_runs() {
    let out = example("own_metric.rhai", &["capitals.csv"]);
    assert!(out.contains("words in both forms") && out.contains("of 256 neurons"), "{out}");
}

#[test]
fn chains_of_features_are_followed_with_the_library() {
    feature_chains::main().unwrap();
}
