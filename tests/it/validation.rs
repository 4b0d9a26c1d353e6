//! Scores of weights beside real attention.

use crate::support::{fixture, work};
use saerepl::analysis::{AttentionOptions, HeadWeights, ValidateOptions, attention_scores, validate_attention};
use saerepl::dictionary::{self, Dictionary, DirectionsOptions, Site};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::table::Table;
use saerepl::tensor::{Bytes, Tensor};

fn open(name: &str) -> (Model, Vec<usize>) {
    let folder = fixture(&format!("forward/{name}"));
    let model = Model::load(&folder, &ModelOptions::default(), &work()).unwrap();
    let file = std::path::Path::new(&folder).join("expected.safetensors");
    let expected: TensorSet = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    let ids = expected.get("ids").unwrap().to_i64().iter().map(|id| *id as usize).collect();
    (model, ids)
}

/// The axes of the residual stream that enters a layer: a dictionary that loses nothing.
fn axes(d: usize, layer: usize) -> Dictionary {
    let eye = Tensor::from_f32((0..d * d).map(|i| f32::from(u8::from(i % (d + 1) == 0))).collect(), &[d, d]).unwrap();
    let options = DirectionsOptions { site: Site::ResidPre, layer: Some(layer), ..DirectionsOptions::default() };
    dictionary::directions(&eye, &options).unwrap()
}

fn column(table: &Table, name: &str) -> Vec<f64> {
    table.column(name).unwrap().numbers().unwrap()
}

#[test]
fn a_dictionary_that_loses_nothing_predicts_the_real_scores() {
    // Of every kind of norm, with softcaps, query and key norms, sliding windows, grouped heads: no biases, which are left out.
    for name in ["llama", "llama_linear", "mistral", "gemma1", "gemma2", "gemma3_text", "qwen3"] {
        let (model, ids) = open(name);
        let heads: Vec<usize> = (0..model.cfg().n_heads).collect();
        for layer in 0..model.cfg().n_layers {
            let dictionary = axes(model.cfg().d_model, layer);
            let run = |rope| {
                let options = ValidateOptions { rope, ..ValidateOptions::default() };
                validate_attention(&dictionary, &model, layer, &heads, &[ids.clone(), ids.clone()], &options, &work()).unwrap()
            };
            let exact = run(true);
            for (head, (rho, r2)) in column(&exact, "spearman").into_iter().zip(column(&exact, "r2")).enumerate() {
                assert!(rho > 0.999 && r2 > 0.99999, "{name} {layer}.{head}: {rho} {r2}");
            }
            assert!(column(&exact, "r2_permuted").iter().all(|r2| *r2 < 0.9), "{name} {layer}: {exact:?}");
            // Content alone says less of scores that depend on positions.
            assert!(column(&run(false), "r2").iter().all(|r2| *r2 < 0.99999), "{name} {layer}");
        }
        // Layer 0 reads nothing but the embedding: there the tokens are the residual.
        let options = ValidateOptions { rope: true, ..ValidateOptions::default() };
        let first = validate_attention(&axes(model.cfg().d_model, 0), &model, 0, &heads, &[ids], &options, &work()).unwrap();
        assert!(column(&first, "r2_tokens").iter().all(|r2| *r2 > 0.99999), "{name}");
    }
}

#[test]
fn validation_refuses_what_cannot_fire() {
    let (model, ids) = open("llama");
    let options = ValidateOptions::default();
    let run = |layer: usize, text: Vec<usize>| {
        validate_attention(&axes(model.cfg().d_model, 1), &model, layer, &[0], &[text], &options, &work()).unwrap_err()
    };
    assert!(run(0, ids).message().contains("after layer 0 has read"));
    assert!(run(1, vec![1]).message().contains("no pair"));
}

#[test]
fn random_heads_keep_the_norms_and_nothing_else() {
    let (model, _) = open("llama");
    let dictionary = axes(model.cfg().d_model, 1);
    let run = |weights, seed| {
        let options = AttentionOptions { weights, seed: Some(seed), ..AttentionOptions::default() };
        attention_scores(&dictionary, &dictionary, &model, 1, 0, &options, &work()).unwrap().query.table()
    };
    let strength = |table: &Table| column(table, "strength");
    let total = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
    let (real, random) = (run(HeadWeights::Real, 1), run(HeadWeights::Random, 1));
    assert_eq!(strength(&random), strength(&run(HeadWeights::Random, 1)));
    assert_ne!(strength(&random), strength(&run(HeadWeights::Random, 2)));
    assert_ne!(strength(&random), strength(&real));
    // Over the axes Σ‖W_Qᵀ(g ∘ e)‖² is the weight's squared norm, gains aside.
    let ratio = total(&strength(&random)) / total(&strength(&real));
    assert!((0.7..1.4).contains(&ratio), "{ratio}");
}
