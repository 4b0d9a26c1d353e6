//! Cards say what the analyses say (which are tested against NumPy), whole, and in every form.

use crate::support::work;
use saerepl::analysis::{AttentionOptions, OvWriteOptions, embed};
use saerepl::analysis::{
    ExplainOptions, Explainer, HeadPageOptions, MatchOptions, Phase, SemanticsOptions, TokenOptions, attention_matrix,
    attention_scores, entering, explain, explain_head, match_features, ov_write, semantics, unembed,
};
use saerepl::dictionary::{Dictionary, SaeOptions, load_sae, mlp_neurons};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::Ids;
use saerepl::page::Page;
use saerepl::render::{page_html, page_json, page_markdown, page_text};
use saerepl::tensor::Tensor;
use serde_json::Value;

fn demo() -> Model {
    Model::load("demo", &ModelOptions::default(), &work()).unwrap()
}

fn sae(path: &str) -> Dictionary {
    load_sae("demo", Some(&format!("saes/blocks.{path}")), &SaeOptions::default(), &work()).unwrap()
}

fn small() -> ExplainOptions {
    ExplainOptions { sample: 64, n_null: 512, fpr: 0.1, seed: Some(3), ..ExplainOptions::default() }
}

fn few() -> HeadPageOptions {
    HeadPageOptions { sample: 64, ..HeadPageOptions::default() }
}

/// The blocks of one kind, in order.
fn blocks(page: &Page, kind: &str) -> Vec<Value> {
    let json = page_json(page).unwrap();
    json["blocks"].as_array().unwrap().iter().filter_map(|block| block.get(kind).cloned()).collect()
}

/// The first table that has a column.
fn table(page: &Page, column: &str) -> Vec<Value> {
    let tables = blocks(page, "table");
    let found = tables.iter().find(|rows| rows[0].get(column).is_some());
    found.unwrap_or_else(|| panic!("no table with {column}")).as_array().unwrap().clone()
}

fn near(got: &Value, expected: f64, what: &str) {
    let got = got.as_f64().unwrap();
    assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1e-3), "{what}: {got}, expected {expected}");
}

#[test]
fn a_card_says_what_the_analyses_say() {
    let (model, dict, work) = (demo(), sae("2.hook_resid_post"), work());
    let (before, after) = (sae("1.hook_resid_post"), sae("3.hook_resid_post"));
    let options = ExplainOptions { before: Some(before.clone()), after: Some(after), layer: Some(4), sample: 768, ..small() };
    let explainer = Explainer::new(&dict, &model, &options, &work).unwrap();
    let feature = 11;
    let page = explainer.page(feature, &work).unwrap();
    let one = || Some(Ids::List(vec![feature as i64]));

    let (written, read) = (TokenOptions { features: one(), ..TokenOptions::default() }, TokenOptions::default());
    let lists = blocks(&page, "bars");
    let top = unembed(&dict, &model, &written, &work).unwrap().top(feature).unwrap();
    let first = embed(&dict, &model, &read, &work).unwrap().bottom(feature).unwrap();
    for (list, expected) in [(&lists[0][0], &top), (&lists[1][1], &first)] {
        for (bar, token) in list["bars"].as_array().unwrap().iter().zip(expected) {
            assert_eq!(bar["name"], format!("\"{}\"", token.token));
            near(&bar["amount"], token.score, "token");
        }
    }
    let counts = &blocks(&page, "counts")[0];
    let counted = counts["kinds"].as_array().unwrap().iter().flat_map(|kind| kind["counts"].as_array().unwrap());
    assert_eq!(counted.map(|count| count.as_u64().unwrap()).sum::<u64>() as usize, model.cfg().d_vocab);

    let numbers = AttentionOptions { query_features: one(), absolute: Some(true), softmax: false, ..AttentionOptions::default() };
    let heads = table(&page, "q_percentile");
    assert_eq!(heads.len(), model.cfg().n_heads);
    for head in &heads {
        let layer_head = head["head"].as_u64().unwrap() as usize;
        let query = attention_scores(&dict, &dict, &model, 4, layer_head, &numbers, &work).unwrap().query.table();
        near(&head["query"], query.column("mean").unwrap().numbers().unwrap()[0], "mean |score| as query");
    }
    let partner = &table(&page, "partner")[0];
    let scores = AttentionOptions { query_features: one(), ..AttentionOptions::default() };
    let head = partner["head"].as_u64().unwrap() as usize;
    let row = attention_matrix(&dict, &dict, &model, 4, head, &scores, &work).unwrap().to_f64();
    let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    assert_eq!(partner["partner"], best as u64);
    near(&partner["score"], row[best], "score of the best key");
    // The head whose ratio is highest comes first.
    let ratios: Vec<f64> = heads.iter().map(|head| head["q_vs_random"].as_f64().unwrap()).collect();
    assert!(ratios.iter().all(|ratio| *ratio <= ratios[head]), "{ratios:?}");

    let value = &table(&page, "gain")[head];
    let options = OvWriteOptions { features: one(), ..OvWriteOptions::default() };
    let written = ov_write(&dict, &model, 4, head, &options, &work).unwrap().to_f64();
    let own = dict.write(&model, &work).unwrap().dense(Some(&[feature]), &work).unwrap().to_f64();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    near(&value["gain"], (dot(&written, &written) / dot(&own, &own)).sqrt(), "gain");
    near(&value["cosine"], dot(&written, &own) / (dot(&written, &written) * dot(&own, &own)).sqrt(), "cosine");

    let found =
        match_features(&dict, &before, &model, &MatchOptions { features: one(), ..MatchOptions::default() }, &work).unwrap();
    let first = &blocks(&page, "table").into_iter().find(|rows| rows[0].get("feature").is_some_and(Value::is_u64)).unwrap()[0];
    assert_eq!(first["feature"].as_f64(), Some(found.column("target").unwrap().numbers().unwrap()[0]));
}

/// A page judges by the thresholds and null of the whole dictionary, without drawing them again.
#[test]
fn the_semantic_call_is_that_of_semantics() {
    let (model, dict, work) = (demo(), mlp_neurons(&demo(), 2).unwrap(), work());
    let explainer = Explainer::new(&dict, &model, &small(), &work).unwrap();
    let rule = SemanticsOptions { n_null: 512, fpr: 0.1, seed: Some(3), every_null: false, ..SemanticsOptions::default() };
    let mask = |phase: Phase| {
        let scores = match phase {
            Phase::Unembed => unembed(&dict, &model, &TokenOptions::default(), &work),
            Phase::Embed => embed(&dict, &model, &TokenOptions::default(), &work),
        };
        semantics(&scores.unwrap(), &model, &rule, &work).unwrap().mask().to_vec()
    };
    let (written, read) = (mask(Phase::Unembed), mask(Phase::Embed));
    assert!(written.contains(&true) && written.contains(&false));
    for feature in (0..dict.n()).step_by(16) {
        let text = page_text(&explainer.page(feature, &work).unwrap(), 200);
        let call = |semantic: bool| if semantic { "semantic" } else { "not semantic" };
        assert!(text.contains(&format!("\nWritten: {}. Of 64 of 256 features", call(written[feature]))), "{feature}: {text}");
        assert!(text.contains(&format!("\nRead: {}. Of 64 of 256 features", call(read[feature]))), "{feature}");
    }
}

#[test]
fn every_form_of_a_card_stands_alone() {
    let (model, work) = (demo(), work());
    let pages = [
        explain(&sae("1.attn.hook_z"), &model, 5, &small(), &work).unwrap(),
        explain(&mlp_neurons(&model, 4).unwrap(), &model, 9, &small(), &work).unwrap(),
        explain_head(&model, 2, 5, &sae("1.hook_resid_post"), &few(), &work).unwrap(),
    ];
    for page in &pages {
        for width in [60, 80, 120] {
            let text = page_text(page, width);
            let wide = text.lines().find(|line| unicode_width::UnicodeWidthStr::width(*line) > width);
            assert_eq!(wide, None, "at {width}");
            assert!(text.contains("What weights alone do not show"));
        }
        let html = page_html(page, &work).unwrap();
        assert!(!html.contains("<script") && !html.contains("http") && !html.contains("src="));
        assert!(!html.contains("NaN") && !page_text(page, 80).contains("NaN"), "{}", page_text(page, 80));
        assert!(page_markdown(page, &work).unwrap().starts_with(&format!("# {}", page.title)));
    }
    let [z, neurons, _] = &pages.map(|page| page_text(&page, 80));
    // In z: the heads that make it, no read direction of its own.
    assert!(z.contains("Heads that make it") && z.contains("Not known:"), "{z}");
    // Behind the last attention, with neurons before it and none after.
    assert!(neurons.contains("No attention reads it") && neurons.contains("Before, in demo neurons of layer 3"), "{neurons}");
    assert!(neurons.contains("After: no dictionary was given"), "{neurons}");
}

#[test]
fn what_cannot_be_explained_is_said() {
    let (model, dict, work) = (demo(), sae("2.hook_resid_post"), work());
    let fails = |feature, options: &ExplainOptions| explain(&dict, &model, feature, options, &work).unwrap_err().to_string();
    assert!(fails(768, &small()).contains("feature 768 is out of range"));
    assert!(fails(0, &ExplainOptions { layer: Some(2), ..small() }).contains("after the attention of layer 2 has read"));
    let probes = saerepl::dictionary::directions(
        &Tensor::randn(&[4, model.cfg().d_model], 1, 0, &work).unwrap(),
        &saerepl::dictionary::DirectionsOptions::default(),
    );
    let page = explain(&probes.unwrap(), &model, 1, &small(), &work).unwrap();
    assert!(page_text(&page, 80).contains("name the layer that reads it"), "{}", page_text(&page, 80));
    let mut rows = Tensor::randn(&[4, model.cfg().d_model], 1, 0, &work).unwrap();
    rows.make_mut_f32()[..model.cfg().d_model].fill(0.0);
    let options = saerepl::dictionary::DirectionsOptions { layer: Some(1), ..Default::default() };
    let dead = saerepl::dictionary::directions(&rows, &options).unwrap();
    let page = page_text(&explain(&dead, &model, 0, &small(), &work).unwrap(), 80);
    assert!(page.contains("the feature is dead") && !page.contains("NaN"), "{page}");
    explain(&dead, &model, 1, &small(), &work).unwrap();
}

#[test]
fn a_head_is_shown_with_its_pairs() {
    let (model, dict, work) = (demo(), sae("1.hook_resid_post"), work());
    let options = HeadPageOptions { k: 4, target: Some(sae("2.hook_resid_post")), ..few() };
    let page = explain_head(&model, 2, 3, &dict, &options, &work).unwrap();
    let pairs = table(&page, "query_writes");
    let scores = attention_matrix(&dict, &dict, &model, 2, 3, &AttentionOptions::default(), &work).unwrap().to_f64();
    let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    assert_eq!((&pairs[0]["query"], &pairs[0]["key"]), (&Value::from(best / dict.n()), &Value::from(best % dict.n())));
    near(&pairs[0]["score"], scores[best], "the highest score");
    assert_eq!((pairs.len(), table(&page, "target_writes").len()), (4, 4));
    assert_eq!(table(&page, "eig_copying").len(), model.cfg().n_heads);
    // Without an SAE: neurons, and tokens at layer 0.
    assert_eq!(entering(&model, 3, &work).unwrap().n(), model.cfg().d_mlp);
    let tokens = entering(&model, 0, &work).unwrap();
    assert_eq!(tokens.n(), 1024);
    explain_head(&model, 0, 0, &tokens, &few(), &work).unwrap();
    assert!(explain_head(&model, 2, 6, &dict, &options, &work).unwrap_err().to_string().contains("head 6"));
}
