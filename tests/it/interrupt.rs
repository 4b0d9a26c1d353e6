//! An interruption ends native work on large values at once: the flag is set from another thread while a cell works, and
//! the time until the cell returns is measured.

use crate::made_files::{Place, wide_headed};
use saerepl::session::{Session, SessionOptions};
use saerepl::work::Work;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the calls work on: a million elements each, some two.
const VALUES: &str = r#"
let t = randn([2000000]);
let m = randn([2000, 1000]);
let whole = arange(2000000);
let index = (rand([2000000]) * 2000000.0).floor().to("i64");
let ints = whole.to_array();
let same = whole.to_array();
let floats = t.to_array();
let nested = m.to_array();
let twin = m.to_array();
let text = "";
text.pad(2000000, "ab,");
let words = text.split(",");
let one = [1];
let letter = "a";
letter.pad(16000000, "a");
let map = #{};
for i in 0..100000 { map[`key${i}`] = i; }
"#;

/// Calls that take longer than a blink, each on its own. Not among them: copies of arrays and maps of many million elements and
/// texts that hold them (`${list}`), which Rhai makes in one go.
const CALLS: &[&str] = &[
    "t.to_array()",
    "m.to_array()",
    "tensor(floats)",
    "tensor(nested)",
    "save(ints, \"a.json\")",
    "save(nested, \"b.json\")",
    "save(t, \"c.json\")",
    "save(t, \"d.npy\")",
    "save(words, \"e.json\")",
    "ints == same",
    "nested != twin",
    "floats.order()",
    "words.order_desc()",
    "ints.order(|a, b| b - a)",
    "floats.sort()",
    "ints.dedup()",
    "ints.dedup(|a, b| a == b)",
    "ints.contains(-1)",
    "-1 in ints",
    "words.index_of(\"none\")",
    "floats.to_string()",
    "words.to_debug()",
    "print(nested)",
    "ints.map(|x| x + 1)",
    "ints.filter(|x| x > 5)",
    "ints.reduce(|sum, x| sum + x, 0)",
    "ints.all(|x| x >= 0)",
    "ints.index_of(|x| x < 0)",
    "ints.zip(same, |x, y| x + y)",
    "ints.for_each(|x| x)",
    "for x in ints { x }",
    "ints + same",
    "ints.extract(5, 1900000)",
    "floats.reverse()",
    "ints.drain(|x| x < 0)",
    "ints.retain(|x| x >= 0)",
    "let copy = nested",
    "text.split(\",\")",
    "text.to_chars()",
    "text.replace(\"a\", \"bb\")",
    "map == map",
    "map.to_string()",
    "map.to_json()",
    "map.keys()",
    "histogram(t, 100)",
    "t.sort()",
    "m @ m.T",
    "einsum(\"ij,kj->ik\", m, m)",
    "svd(m)",
    "whole.unique()",
    "words.join(\",\")",
    "ints.join(\", \")",
    "{ let grown = one; for i in 0..24 { grown.append(grown); } }",
    "{ let grown = letter; for i in 0..4 { grown += grown; } }",
    "{ let grown = letter; for i in 0..4 { grown = `${grown}${grown}`; } }",
    "letter.split(\"a\")",
    "letter.split('a')",
    "table(#{a: ints})",
    "table(#{a: floats, b: words})",
    "save(#{a: ints}, \"f.json\")",
    "save(#{a: words, b: floats}, \"g.json\")",
    "product_stats(randn([264, 64]), randn([64, 65536]), #{ k: 20000 })",
    "product_stats(randn([2000, 8]), randn([8, 2000]), #{ pairs: 1000000 })",
    "t[index]",
    "t.index_select(0, index)",
    "{ let part = t; part[index] = 1.0; }",
    "{ let part = t; part[0..1900000] = 1.0; }",
    "cat([t, t, t, t])",
    "zeros([2000, 2000]) @ m",
];

/// The aim is 50 ms: what each call takes is printed, and `benches/session.rs` measures some. Here they are only asked not to
/// go on for seconds: other tests share the cores, and copies of large arrays, which are Rhai's own, end before anything stops.
const LONGEST: f64 = 5000.0;

/// Milliseconds until a call in a loop has stopped, interrupted so many milliseconds after its beginning: the least of three
/// attempts where the first are too slow, since others use this machine, too.
fn interrupted(session: &mut Session, call: &str, after: u64) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let flag = session.work().cancel_flag();
        let (waited, report) = std::thread::scope(|scope| {
            let asked = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(after));
                flag.store(true, Ordering::Relaxed);
                Instant::now()
            });
            let report = session.eval(&format!("loop {{ {call}; }}"), "call").unwrap_err();
            let ended = Instant::now();
            (ended.duration_since(asked.join().unwrap()), report)
        });
        assert!(report.is_interrupted(), "{call}: {report}");
        session.work().reset_cancel();
        least = least.min(waited.as_secs_f64() * 1e3);
        if least < LONGEST {
            break;
        }
    }
    least
}

/// Interrupts each call at some moments after its beginning: what is longest, and those that take too long.
fn stop_each(session: &mut Session, calls: &[&str], moments: &[u64]) {
    let (mut all, mut slow) = (Vec::new(), Vec::new());
    for call in calls {
        let mut waits: Vec<f64> = moments.iter().map(|after| interrupted(session, call, *after)).collect();
        waits.sort_by(f64::total_cmp);
        eprintln!("{call}: {waits:.1?} ms");
        if waits[waits.len() - 1] > LONGEST {
            slow.push(format!("{call}: {waits:.0?} ms"));
        }
        all.extend(waits);
    }
    all.sort_by(f64::total_cmp);
    eprintln!("{} interruptions: median {:.1} ms, worst {:.1} ms", all.len(), all[all.len() / 2], all[all.len() - 1]);
    assert!(slow.is_empty(), "{slow:#?}");
}

fn session(folder: &std::path::Path, values: &str) -> Session {
    let options = SessionOptions { out_dir: folder.into(), ..SessionOptions::default() };
    let mut session = Session::new(Work::silent(2).unwrap(), options);
    session.eval(values, "values").unwrap_or_else(|report| panic!("{report}"));
    session
}

#[test]
fn native_work_on_large_values_stops_at_once() {
    let out = tempfile::tempdir().unwrap();
    let mut session = session(out.path(), VALUES);
    session.eval("let kept = 7;", "kept").unwrap();
    stop_each(&mut session, CALLS, &[30, 75, 140]);
    session.eval("assert(kept == 7 && ints.len() == 2000000);", "after").unwrap();
}

/// Head vectors of 100 MiB a side, for so few products that nearly all of the time goes into them.
const HEAD_CALLS: &[&str] = &[
    "attention_scores(wide, wide, model, 1, 0, #{ query_features: 0..8 })",
    "attention_scores(wide, wide, model, 1, 0, #{ query_features: 0..8, distance: 0..32, average: false })",
    "attention_vectors(wide, wide, model, 1, 0, #{ distance: [1, 2] })",
    "ov_scores(wide, wide, model, 0, 0, #{ source_features: 0..8 })",
    "ov_scores(wide, wide, model, 0, 0, #{ target_features: 0..8 })",
    "ov_write(wide, model, 0, 0)",
    "copying(wide, model, 0)",
];

#[test]
fn heads_of_wide_dictionaries_stop_at_once() {
    let (out, place) = (tempfile::tempdir().unwrap(), Place::new());
    let values = format!("let model = load_model(\"{}\"); let wide = directions(randn([100000, 16]));", wide_headed(&place));
    let mut session = session(out.path(), &values);
    stop_each(&mut session, HEAD_CALLS, &[30, 90, 170, 300]);
}

/// What models, tables and figures are made from.
const MODELS: &str = r#"
let model = load_model("demo");
let dict = load_sae("demo", "saes/blocks.2.hook_resid_post");
let neurons = mlp_neurons(model, 1);
let wide = directions(randn([20000, model.cfg.d_model]), #{ layer: 2 });
let scores = unembed(neurons, model);
let long = "";
long.pad(1000000, "The quick brown fox jumps over the lazy dog. ");
let texts = [];
for i in 0..2000 { texts.push(`The ${i} quick brown foxes jump over ${i * 7} lazy dogs and sleep under a tree.`); }
let ids = model.encode(long.sub_string(0, 2000)).extract(0, 250);
let many = [];
many.pad(1000000, 500);
let t = randn([4000000]);
let m = randn([2000, 2000]);
let mask = t > 0.0;
let x = randn([500000]);
let y = randn([500000]);
let group = (rand([1000000]) * 1000.0).floor().to("i64");
let tab = table(#{ id: arange(1000000).to("i64"), group: group, value: t[0..1000000] });
let words = table(#{ word: group[0..300000].to_array().map(|g| `word ${g}`), value: t[0..300000] });
save(tab, "tab.csv");
save(tab, "tab.parquet");
let scatter = plot::scatter(x, y);
"#;

const MODEL_CALLS: &[&str] = &[
    "load_model(\"demo\")",
    "load_sae(\"demo\", \"saes/blocks.2.hook_resid_post\")",
    "model.encode(long)",
    "model.decode(many)",
    "model.run(ids)",
    "generate(model, \"The quick\", #{ max_tokens: 100 })",
    "token_sets(model)",
    "unembed(wide, model)",
    "embed(neurons, model)",
    "wide.write(model)",
    "wide.read(model)",
    "wide.encode(wide.W_dec)",
    "wide.decode(ones([1000, 20000]))",
    "attention_matrix(neurons, wide, model, 2, 0)",
    "semantics(scores, model)",
    "enrichment(scores, model, ())",
    "match_features(wide, wide, model)",
    "attention_scores(wide, wide, model, 2, 0)",
    "attention_vectors(wide, wide, model, 2, 0)",
    "ov_scores(wide, dict, model, 1, 0)",
    "copying(wide, model, 2)",
    "composition_matrix(model)",
    "random_directions(wide, model)",
    "wide.concat(wide)",
    "explain(dict, model, 7)",
    "explain_head(model, 2, 0, dict)",
    "validate_attention(dict, model, 3, 0, texts)",
    "activation_stats(dict, model, texts)",
    "train_sae(model, \"blocks.2.hook_resid_post\", texts, #{ d_sae: 2048 })",
    "compare(x, y)",
    "depth_trend(x, y)",
    "save(wide.write(model), \"wide.npy\")",
    "save(t, \"t.npz\")",
    "save(#{ t: t, m: m.T }, \"both.safetensors\")",
    "save(#{ t: t, m: m.T }, \"both.npz\")",
    "save(m.T, \"turned.npy\")",
    "save(m, \"m.json\")",
    "t.quantile(0.3)",
    "m.quantile(tensor([0.1, 0.5, 0.9]), 0)",
    "m.T.flatten()",
    "t[mask]",
    "mask.nonzero()",
    "{ let part = t; part[mask] = 1.0; }",
    "t.unique()",
    "t.rank()",
    "m.rank(0)",
    "tab.sort(\"value\")",
    "tab.group_by(\"group\", #{ mean: [\"value\", \"mean\"] })",
    "tab.join(tab, \"id\")",
    "tab.filter(mask[0..1000000])",
    "words.select([\"word\"])",
    "words.with_column(\"again\", words[\"word\"])",
    "tab.filter(|row| row.value > 0.0)",
    "concat([words, words])",
    "words.sort(\"word\")",
    "save(tab, \"a.csv\")",
    "save(tab, \"a.parquet\")",
    "save(words, \"a.json\")",
    "save(tab, \"b.json\")",
    "load_table(out_dir() + \"/tab.csv\")",
    "load_table(out_dir() + \"/tab.parquet\")",
    "plot::scatter(x, y)",
    "plot::heatmap(m)",
    "plot::bands(m)",
    "plot::ridgeline(#{ a: t, b: t })",
    "show(plot::violin(t))",
    "show(plot::bands(m))",
    "show(scatter)",
    "show(plot::heatmap(m))",
    "show(plot::histogram(t))",
    "save(scatter, \"a.svg\")",
    "save(scatter, \"a.png\")",
    "save(plot::heatmap(m), \"b.png\")",
    "save(plot::violin(x), \"c.svg\")",
    "save(page(\"p\", [scatter, words]), \"p.html\")",
    "save(page(\"p\", [scatter, words]), \"p.md\")",
    "page(\"p\", [scatter, words]).to_html()",
];

#[test]
fn analyses_tables_and_figures_stop_at_once() {
    let out = tempfile::tempdir().unwrap();
    let mut session = session(out.path(), MODELS);
    stop_each(&mut session, MODEL_CALLS, &[40, 130]);
    session.eval("assert(tab.len == 1000000 && texts.len() == 2000);", "after").unwrap();
}

/// Whatever the moment: the file is the old one or, where its writing was done, the new one, and nothing lies beside it.
#[test]
fn an_interrupted_save_leaves_no_part_of_a_file() {
    let values = r#"
        let t = randn([3000000]);
        let tab = table(#{ id: arange(200000).to("i64"), value: t[0..200000] });
        let scatter = plot::scatter(t[0..200000], t[200000..400000]);
    "#;
    let out = tempfile::tempdir().unwrap();
    let mut session = session(out.path(), values);
    let calls = [
        ("save(t, \"a.npy\")", "a.npy"),
        ("save(#{ t: t }, \"a.npz\")", "a.npz"),
        ("save(#{ t: t }, \"a.safetensors\")", "a.safetensors"),
        ("save(t, \"a.json\")", "a.json"),
        ("save(tab, \"a.csv\")", "a.csv"),
        ("save(tab, \"a.parquet\")", "a.parquet"),
        ("save(scatter, \"a.svg\")", "a.svg"),
    ];
    for (call, name) in calls {
        let mut left_old = 0;
        for after in [5, 15, 30] {
            let file = out.path().join(name);
            std::fs::write(&file, b"old").unwrap();
            let flag = session.work().cancel_flag();
            let ended = std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(after));
                    flag.store(true, Ordering::Relaxed);
                });
                session.eval(call, "call").is_ok()
            });
            session.work().reset_cancel();
            let old = std::fs::read(&file).unwrap() == b"old";
            assert!(!(ended && old), "{call}: ended, and its file is the old one");
            left_old += usize::from(old);
            for entry in std::fs::read_dir(out.path()).unwrap() {
                let beside = entry.unwrap().file_name().to_string_lossy().into_owned();
                assert!(!beside.starts_with(".saerepl-"), "{call}: left {beside}");
            }
        }
        assert!(left_old > 0, "{call} was never interrupted");
    }
}
