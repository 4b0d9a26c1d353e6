//! What the three experiments promise: options that do what they say, nulls that stay nulls, runs that go on where they were.

use crate::support::work;
use saerepl::analysis::{
    GivenThresholds, MomentsOver, NullKind, Rule, Scale, SemanticSide, Semantics, SemanticsOptions, TokenOptions, TokenScores,
    semantics, unembed,
};
use saerepl::dictionary::{Dictionary, SaeOptions, load_sae, mlp_neurons};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::Ids;
use saerepl::stats::Random;
use saerepl::table::{Column, Table};
use saerepl::tensor::{Bytes, Tensor};
use std::cell::RefCell;
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

#[test]
fn shuffled_token_vectors_bring_the_share_down_to_the_null() {
    let dictionary = demo_sae(4);
    let real = judged(&dictionary, &demo(), &quick());
    let folder = tempfile::tempdir().unwrap();
    // The coordinates of each token vector dealt anew: the vectors keep their lengths and lose what they shared.
    let random = RefCell::new(Random::new(9, 0));
    let name = changed_demo(folder.path(), |name, values, shape| {
        if name.contains("embed_tokens") || name.contains("lm_head") {
            for row in values.chunks_exact_mut(shape[1]) {
                let old = row.to_vec();
                let order = random.borrow_mut().shuffled(old.len());
                row.iter_mut().zip(order).for_each(|(v, from)| *v = old[from]);
            }
        }
    });
    let shuffled = judged(&dictionary, &Model::load(&name, &ModelOptions::default(), &work()).unwrap(), &quick());
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
fn scoring_options_do_what_they_say() {
    let (model, dictionary) = (demo(), demo_sae(3));
    let scored = |options: TokenOptions| unembed(&dictionary, &model, &options, &work()).unwrap();
    let plain = scored(TokenOptions::default());
    let lists = |scores: &TokenScores| match scores.table().unwrap().column("top_ids").unwrap() {
        Column::IntList(lists) => lists.to_vec(),
        _ => Vec::new(),
    };
    // k: longer lists begin as the shorter do.
    let longer = lists(&scored(TokenOptions { k: 25, ..TokenOptions::default() }));
    assert!(
        lists(&plain).iter().zip(&longer).all(|(short, long)| short.len() == 10 && long.len() == 25 && long.starts_with(short))
    );
    // center: the mean over the vocabulary is gone, the order of tokens stays.
    let largest = |scores: &TokenScores, column: &str| {
        numbers(&scores.table().unwrap(), column).into_iter().fold(0f64, |m, v| m.max(v.abs()))
    };
    let centred = scored(TokenOptions { center: true, ..TokenOptions::default() });
    assert!(
        largest(&plain, "mean") > 0.01 && largest(&centred, "mean") < 1e-4,
        "{} {}",
        largest(&plain, "mean"),
        largest(&centred, "mean")
    );
    assert_eq!(lists(&plain), lists(&centred));
    // scale: cosines lie within 1, z-scores have a standard deviation of 1 over unmasked tokens.
    let cosine = scored(TokenOptions { scale: Scale::Cosine, ..TokenOptions::default() });
    assert!(largest(&cosine, "max") <= 1.0 && largest(&plain, "max") > 1.0);
    let standard = scored(TokenOptions { scale: Scale::Zscore, moments: MomentsOver::Unmasked, ..TokenOptions::default() });
    assert!(numbers(&standard.table().unwrap(), "std").iter().all(|std| (std - 1.0).abs() < 1e-4));
    // mask: the tokens kept out are in no list; without it some are.
    let mask = plain.special().unwrap().mask.clone();
    let holds = |lists: Vec<Vec<i64>>| lists.iter().flatten().any(|id| mask[*id as usize]);
    assert!(!holds(lists(&plain)) && holds(lists(&scored(TokenOptions { mask_special: false, ..TokenOptions::default() }))));
}

#[test]
fn unmasked_moments_are_those_of_the_scores_without_masked_tokens() {
    let (model, dictionary) = (demo(), demo_sae(2));
    let options =
        TokenOptions { moments: MomentsOver::Unmasked, features: Some(Ids::Range(0, Some(5))), ..TokenOptions::default() };
    let scores = unembed(&dictionary, &model, &options, &work()).unwrap();
    let (table, mask) = (scores.table().unwrap(), scores.special().unwrap().mask.clone());
    assert!(mask.iter().filter(|masked| **masked).count() > 100);
    for feature in 0..5 {
        let all = scores.scores(feature, &work()).unwrap().to_f64();
        let kept: Vec<f64> = all.iter().zip(&mask).filter(|(_, masked)| !**masked).map(|(v, _)| *v).collect();
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        let power = |p: i32| kept.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n;
        let std = power(2).sqrt();
        let (low, high) = kept.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let wanted = [
            ("mean", mean),
            ("std", std),
            ("skewness", power(3) / std.powi(3)),
            ("kurtosis", power(4) / std.powi(4)),
            ("min", low),
            ("max", high),
        ];
        for (name, want) in wanted {
            let got = numbers(&table, name)[feature];
            assert!((got - want).abs() < 2e-4 * (1.0 + want.abs()), "{feature} {name}: {got}, not {want}");
        }
    }
}

#[test]
fn a_higher_quantile_lets_fewer_features_take_part() {
    let folder = tempfile::tempdir().unwrap();
    let share = |out: &str, option: &str| {
        run(folder.path(), "exp2_attention.rhai", &["layers=2", "farthest=0", "texts=false", "--out", out, option]);
        let table = heads(folder.path(), out);
        ["query", "query_null", "query_median"].map(|name| {
            let values = numbers(&table, name);
            values.iter().sum::<f64>() / values.len() as f64
        })
    };
    let [p75, p95, p99] = ["0.75", "0.95", "0.99"].map(|level| share(level, &format!("quantile={level}")));
    assert!(p75[0] > p95[0] && p95[0] > p99[0], "{p75:?} {p95:?} {p99:?}");
    assert!(
        (p75[1] - 0.25).abs() < 0.05 && (p95[1] - 0.05).abs() < 0.02 && (p99[1] - 0.01).abs() < 0.008,
        "{p75:?} {p95:?} {p99:?}"
    );
    // The largest score of a row lies above its upper quartile; magnitudes lie above signed scores.
    assert!(share("max", "statistic=max")[2] > p95[2] && share("abs", "absolute=true")[2] > p95[2]);
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
    let first = killed.path().join("out/exp1_unembedding/parts/exp1/demo/layer_0/part.json");
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
    // What a quick run of each script is given, its layers, and the tables that only the whole can make.
    let scripts: [(&str, &[&str], &[&str]); 3] = [
        ("exp1_unembedding.rhai", &["n_null=256", "n_enriched=4"], &["shares", "features", "nulls", "masked", "sets", "trends"]),
        (
            "exp2_attention.rhai",
            &["heads=[0, 3]", "farthest=2"],
            &["heads", "features", "pairs", "distances", "validation", "layers", "trends"],
        ),
        ("exp3_populations.rhai", &["n_null=256", "heads=0"], &["counts", "features", "populations"]),
    ];
    for (name, quick, tables) in scripts {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        run(at, name, &[quick, &["--out", "whole", "layers=1..5"]].concat());
        for layer in 1..5 {
            run(at, name, &[quick, &["--out", &format!("parts/{layer}"), &format!("layers={layer}")]].concat());
        }
        run(at, name, &["--out", "together", "from=parts/*"]);
        // As text: NaN is not equal to itself.
        let table = |place: &str| Table::load(&at.join(place).display().to_string(), &work()).unwrap().to_csv().unwrap();
        for file in tables {
            let (whole, together) = (table(&format!("whole/{file}.parquet")), table(&format!("together/{file}.parquet")));
            assert!(whole == together, "{name} {file}");
        }
        assert!(table("parts/*/features.parquet") == table("whole/features.parquet"), "{name}");
    }
}

/// The demo with some of its weights changed: `change` gets each tensor's name, numbers and shape.
fn changed_demo(folder: &Path, change: impl Fn(&str, &mut [f32], &[usize])) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo/model");
    for file in std::fs::read_dir(&source).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let stored = safetensors::read(Bytes::map(&source.join("model.safetensors")).unwrap(), &path).unwrap();
    let mut tensors = TensorSet::default();
    for (name, tensor) in stored.iter() {
        let (mut values, shape) = (tensor.to_f32(), tensor.shape().to_vec());
        change(name, &mut values, &shape);
        tensors.insert(name, Tensor::from_f32(values, &shape).unwrap());
    }
    std::fs::write(&path, safetensors::write(&tensors).unwrap()).unwrap();
    folder.display().to_string()
}

fn heads(at: &Path, out: &str) -> Table {
    Table::load(&at.join(format!("{out}/heads.parquet")).display().to_string(), &work()).unwrap()
}

fn numbers(table: &Table, column: &str) -> Vec<f64> {
    table.column(column).unwrap().numbers().unwrap()
}

#[test]
fn a_threefold_head_takes_part_more_beside_its_layer() {
    let (folder, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let threefold = changed_demo(model.path(), |name, values, shape| {
        if name.ends_with("layers.2.self_attn.q_proj.weight") {
            // Head 0: the first d_head rows of six heads.
            values[..shape[0] / 6 * shape[1]].iter_mut().for_each(|v| *v *= 3.0);
        }
    });
    let quick = ["layers=2", "farthest=0", "texts=false", "sae=mlp"];
    run(folder.path(), "exp2_attention.rhai", &[&quick[..], &["--out", "plain"]].concat());
    run(folder.path(), "exp2_attention.rhai", &[&quick[..], &["--out", "threefold", &format!("model={threefold}")]].concat());
    let (plain, threefold) = (heads(folder.path(), "plain"), heads(folder.path(), "threefold"));
    let (before, after) = (numbers(&plain, "query_layer"), numbers(&threefold, "query_layer"));
    assert!(after[0] > before[0] + 0.1, "{before:?} {after:?}");
    // Beside random directions in the same head nothing changes: its size is theirs, too.
    assert_eq!(numbers(&plain, "query")[0], numbers(&threefold, "query")[0]);
}

#[test]
fn flipped_neurons_change_nothing() {
    // A neuron whose gate stays and whose linear input and output are negated is the same neuron.
    let (folder, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flipped = changed_demo(model.path(), |name, values, shape| {
        if name.contains("mlp.up_proj") {
            values.chunks_exact_mut(shape[1]).step_by(2).flatten().for_each(|v| *v = -*v);
        } else if name.contains("mlp.down_proj") {
            values.chunks_exact_mut(shape[1]).for_each(|row| row.iter_mut().step_by(2).for_each(|v| *v = -*v));
        }
    });
    let quick = ["layers=[2]", "heads=[0, 3]", "sae=mlp"];
    for (out, model) in [("plain", "demo"), ("flipped", flipped.as_str())] {
        let model = format!("model={model}");
        let both = [&quick[..], &["--out", out, &model]].concat();
        run(folder.path(), "exp2_attention.rhai", &[&both[..], &["farthest=2"]].concat());
        run(folder.path(), "exp3_populations.rhai", &[&both[..], &["n_null=256", "fpr=0.2"]].concat());
    }
    let (plain, flipped) = (heads(folder.path(), "plain"), heads(folder.path(), "flipped"));
    for column in ["query", "key", "query_layer", "query_post", "key_post", "query_median", "sharper", "sharper_half"] {
        for (a, b) in numbers(&plain, column).into_iter().zip(numbers(&flipped, column)) {
            // A feature on the threshold may fall to its other side.
            assert!((a - b).abs() < 0.006, "{column}: {a} {b}");
        }
    }
    let features =
        |out: &str| Table::load(&folder.path().join(format!("{out}/features.parquet")).display().to_string(), &work()).unwrap();
    let (plain, flipped) = (features("plain"), features("flipped"));
    for column in ["query_pre", "query_post", "key_pre", "key_post", "query_pre_rank", "key_post_rank"] {
        for (a, b) in numbers(&plain, column).into_iter().zip(numbers(&flipped, column)) {
            assert!((a - b).abs() < 2e-3 * (1.0 + a.abs()), "{column}: {a} {b}");
        }
    }
    assert_eq!(plain.column("DU").unwrap(), flipped.column("DU").unwrap());
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
