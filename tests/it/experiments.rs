//! What the three experiments promise: options that do what they say, nulls that stay nulls, runs that go on where they were.

use crate::support::work;
use saerepl::analysis::{
    GivenThresholds, NullKind, Rule, SemanticSide, Semantics, SemanticsOptions, TokenOptions, semantics, unembed,
};
use saerepl::dictionary::{Dictionary, SaeOptions, load_sae, mlp_neurons};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::stats::Random;
use saerepl::table::Table;
use saerepl::tensor::{Bytes, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_saerepl");

fn demo() -> Model {
    Model::load("demo", &ModelOptions::default(), &work()).unwrap()
}

fn demo_sae(layer: usize) -> Dictionary {
    let options = SaeOptions::default();
    load_sae("demo", Some(&format!("saes/blocks.{layer}.hook_resid_post")), &options, &work()).unwrap()
}

fn judged(dictionary: &Dictionary, model: &Model, options: &SemanticsOptions) -> Semantics {
    semantics(&unembed(dictionary, model, &TokenOptions::default(), &work()).unwrap(), model, options, &work()).unwrap()
}

/// 2000 directions: two shares of 1 % differ by 0.003 (one standard error).
fn quick() -> SemanticsOptions {
    SemanticsOptions { n_null: 2000, every_null: false, seed: Some(5), ..SemanticsOptions::default() }
}

/// The demo with the coordinates of each token vector dealt anew: the vectors keep their lengths and lose what they shared.
fn demo_with_shuffled_tokens(folder: &Path) -> Model {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo/model");
    for file in std::fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let stored = safetensors::read(Bytes::map(&source.join("model.safetensors")).unwrap(), &path).unwrap();
    let mut random = Random::new(9, 0);
    let mut tensors = TensorSet::default();
    for (name, tensor) in stored.iter() {
        let (values, shape) = (tensor.to_f32(), tensor.shape().to_vec());
        let values = if name.contains("embed_tokens") || name.contains("lm_head") {
            let row = |row: &[f32]| random.shuffled(row.len()).into_iter().map(|i| row[i]).collect::<Vec<_>>();
            values.chunks_exact(shape[1]).flat_map(row).collect()
        } else {
            values
        };
        tensors.insert(name, Tensor::from_f32(values, &shape).unwrap());
    }
    std::fs::write(&path, safetensors::write(&tensors).unwrap()).unwrap();
    Model::load(&folder.display().to_string(), &ModelOptions::default(), &work()).unwrap()
}

#[test]
fn shuffled_token_vectors_bring_the_share_down_to_the_null() {
    let dictionary = demo_sae(4);
    let real = judged(&dictionary, &demo(), &quick());
    let folder = tempfile::tempdir().unwrap();
    let shuffled = judged(&dictionary, &demo_with_shuffled_tokens(folder.path()), &quick());
    // 768 features of which 1 % pass by chance: 8 expected, standard deviation 3.
    assert!(real.share() > 0.08, "{real:?}");
    assert!(shuffled.share() < 0.025, "{shuffled:?}");
}

#[test]
fn the_null_passes_at_its_nominal_rate_on_fresh_seeds() {
    let (model, dictionary) = (demo(), demo_sae(2));
    let shares: Vec<f64> = [11, 12, 13]
        .map(|seed| {
            let options = SemanticsOptions { n_null: 4096, fpr: 0.02, seed: Some(seed), ..quick() };
            judged(&dictionary, &model, &options).null_share().0
        })
        .to_vec();
    // 4096 draws each at 2 %: one standard error is 0.003 with that of the threshold.
    assert!(shares.iter().all(|share| (0.02 / 1.5..=0.02 * 1.5).contains(share)), "{shares:?}");
}

#[test]
fn options_move_the_share_as_they_say() {
    let (model, dictionary) = (demo(), demo_sae(4));
    let share = |options: SemanticsOptions| judged(&dictionary, &model, &options).share();
    // More of the null may pass: more features do.
    assert!(share(SemanticsOptions { fpr: 0.05, ..quick() }) > share(quick()));
    // With the same thresholds a looser rule passes more, and so do both ends.
    let thresholds = Some(GivenThresholds { levenshtein: 0.78, cosine: 0.1, entropy: 7.9 });
    let given = |rule, side| SemanticsOptions { rule, side: Some(side), thresholds, ..quick() };
    let [any, two, all] = [Rule::Any, Rule::TwoOfThree, Rule::All].map(|rule| share(given(rule, SemanticSide::Top)));
    assert!(any > two && two > all, "{any} {two} {all}");
    for rule in [Rule::Levenshtein, Rule::Cosine, Rule::Entropy] {
        let alone = share(given(rule, SemanticSide::Top));
        assert!(all <= alone && alone <= any, "{} {alone}", rule.name());
    }
    let [top, bottom, both] =
        [SemanticSide::Top, SemanticSide::Bottom, SemanticSide::Both].map(|side| share(given(Rule::TwoOfThree, side)));
    assert!(both >= top.max(bottom) && both <= top + bottom && both > top, "{top} {bottom} {both}");
    // Random sets of tokens are less alike than the tops of random directions.
    let cosine =
        |null_kind| judged(&dictionary, &model, &SemanticsOptions { null_kind, fpr: 0.05, ..quick() }).thresholds().cosine;
    assert!(cosine(NullKind::TokenSets) < cosine(NullKind::Covariance));
}

#[test]
fn neurons_are_judged_at_both_ends_and_saes_at_the_top() {
    let model = demo();
    assert_eq!(judged(&mlp_neurons(&model, 1).unwrap(), &model, &quick()).side(), SemanticSide::Both);
    assert_eq!(judged(&demo_sae(1), &model, &quick()).side(), SemanticSide::Top);
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn run(at: &Path, name: &str, arguments: &[&str]) {
    let output = Command::new(PROGRAM).current_dir(at).arg("run").arg(script(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The files of a folder by their names, with their contents.
fn files(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>, below: &str) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = format!("{below}/{}", entry.file_name().unwrap().to_string_lossy());
        if entry.is_dir() {
            files(&entry, found, &name);
        } else {
            found.insert(name, std::fs::read(&entry).unwrap());
        }
    }
}

#[test]
fn a_killed_run_ends_with_the_same_bytes() {
    const QUICK: [&str; 4] = ["n_null=1024", "fpr=0.05", "layers=0..4", "n_enriched=4"];
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(whole.path(), "exp1_unembedding.rhai", &QUICK);
    let mut child = Command::new(PROGRAM)
        .current_dir(killed.path())
        .arg("run")
        .arg(script("exp1_unembedding.rhai"))
        .args(QUICK)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = killed.path().join("out/exp1_unembedding/parts/demo/layer_0/part.json");
    let begun = Instant::now();
    while !first.exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        first.exists() && !killed.path().join("out/exp1_unembedding/shares.csv").exists(),
        "the run was not caught under way"
    );
    let kept = std::fs::metadata(&first).unwrap().modified().unwrap();
    run(killed.path(), "exp1_unembedding.rhai", &QUICK);
    assert_eq!(std::fs::metadata(&first).unwrap().modified().unwrap(), kept, "the first layer was computed again");
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    files(whole.path(), &mut left, "");
    files(killed.path(), &mut right, "");
    assert!(left.len() > 20 && left.keys().eq(right.keys()), "{:?} {:?}", left.keys(), right.keys());
    for (name, bytes) in &left {
        assert!(*bytes == right[name], "{name} differs");
    }
    // With another option nothing is taken over.
    run(killed.path(), "exp1_unembedding.rhai", &["n_null=1024", "fpr=0.05", "layers=0..4", "n_enriched=4", "k=5"]);
    assert!(std::fs::metadata(&first).unwrap().modified().unwrap() > kept);
}

#[test]
fn parts_put_together_equal_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |out: &str, layers: &str| {
        run(at, "exp2_attention.rhai", &["--out", out, layers, "heads=[0, 3]", "farthest=2", "texts=false"]);
    };
    run("whole", "layers=0..5");
    (0..5).for_each(|layer| run(&format!("parts/{layer}"), &format!("layers={layer}")));
    for name in ["heads", "features", "pairs", "distances", "layers"] {
        let whole = Table::load(&at.join(format!("whole/{name}.parquet")).display().to_string(), &work()).unwrap();
        let parts = Table::load(&at.join(format!("parts/*/{name}.parquet")).display().to_string(), &work()).unwrap();
        // Features come by layer and side, as do the parts.
        assert_eq!(whole.columns(), parts.columns(), "{name}");
    }
}

#[test]
fn several_models_stand_side_by_side_and_the_page_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama").display().to_string();
    let models = format!("models=[\"demo\", {tiny:?}]");
    for name in ["exp1_unembedding.rhai", "exp2_attention.rhai", "exp3_populations.rhai"] {
        run(folder.path(), name, &[&models, "layers=[1]", if name.starts_with("exp2") { "heads=[0]" } else { "n_null=256" }]);
        let page = folder.path().join("out").join(name.trim_end_matches(".rhai")).join("report.html");
        let html = std::fs::read_to_string(page).unwrap();
        assert!(html.contains("tiny-llama") && html.contains("<svg ") && html.contains("How to make this again"), "{name}");
        assert!(!html.contains("<script") && !html.contains("src=\"") && !html.contains("href=\"http"), "{name}");
    }
}
