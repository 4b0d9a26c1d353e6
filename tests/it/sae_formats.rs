//! One SAE in every published format (tests/reference/sae_formats.py: written by the formats' own libraries where they are on
//! PyPI, which computed the activations too), the traps of FORMATS.md 7 by their numbers, and bad files (FORMATS.md 8).

use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::dictionary::{Activation, Dictionary, SaeOptions, Site, list_saes, load_sae};
use saerepl::formats::{TensorSet, safetensors};
use saerepl::model::{Model, ModelOptions};
use saerepl::options::{OptionMap, Options, Value};
use saerepl::table::Cell;
use saerepl::tensor::Tensor;
use serde_json::{Value as Json, json};
use std::path::Path;

fn matrix(value: &Json) -> Tensor {
    let rows = value.as_array().unwrap();
    Tensor::from_f64(numbers(value), &[rows.len(), rows[0].as_array().unwrap().len()]).unwrap()
}

fn options(given: &Json) -> SaeOptions {
    let number = |key: &str| given[key].as_u64().map(|value| value as usize);
    let hook = given["hook"].as_str().map(str::to_string);
    SaeOptions { hook, k: number("k"), layer: number("layer"), to_layer: number("to_layer"), ..SaeOptions::default() }
}

fn load(name: &str) -> Dictionary {
    load_sae(name, None, &SaeOptions::default(), &work()).unwrap()
}

fn refusal(name: &str) -> saerepl::Error {
    load_sae(name, None, &SaeOptions::default(), &work()).unwrap_err()
}

fn model(name: &str) -> Model {
    Model::load(&fixture(name), &ModelOptions::default(), &work()).unwrap()
}

#[test]
fn the_same_sae_in_every_format() {
    let expected = reference("sae_formats.json");
    let logical = &expected["logical"];
    for (name, facts) in expected["fixtures"].as_object().unwrap() {
        // What follows `#` tells entries of one file apart.
        let path = fixture(&format!("saes/{}", name.split('#').next().unwrap()));
        let sae = load_sae(&path, None, &options(&facts["options"]), &work()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(sae.activation().name(), facts["activation"], "{name}");
        assert_eq!(sae.cfg()["subtract_b_dec"], facts["subtract_b_dec"], "{name}");
        assert_eq!(sae.activation().k(), facts["k"].as_u64().map(|k| k as usize), "{name}");
        assert_eq!(
            (sae.hook(), sae.layer()),
            (facts["hook"].as_str().unwrap(), facts["layer"].as_u64().map(|l| l as usize)),
            "{name}"
        );
        assert_eq!(sae.hook_out(), facts["hook_out"].as_str().unwrap_or(sae.hook()), "{name}");
        if let Some(model) = facts["model"].as_str() {
            assert_eq!(sae.cfg()["model_name"], model, "{name}");
        }
        if facts["canonical"] == true {
            let w_dec = if facts["w_dec"].is_null() { &logical["W_dec"] } else { &facts["w_dec"] };
            assert_eq!(sae.w_enc().unwrap().shape(), [6, 10], "{name}");
            assert_close(&sae.w_enc().unwrap().to_f64(), &numbers(&logical["W_enc"]), 1e-6, &format!("{name} W_enc"));
            assert_close(&sae.w_dec().to_f64(), &numbers(w_dec), 1e-6, &format!("{name} W_dec"));
            if let Some(b_enc) = sae.b_enc() {
                assert_close(&b_enc.to_f64(), &numbers(&logical["b_enc"]), 1e-6, &format!("{name} b_enc"));
            }
            if let Some(b_dec) = sae.b_dec() {
                assert_close(&b_dec.to_f64(), &numbers(&logical["b_dec"]), 1e-6, &format!("{name} b_dec"));
            }
        }
        let x = matrix(if facts["x"].is_null() { &expected["inputs"] } else { &facts["x"] });
        let acts = sae.encode(&x, &work()).unwrap();
        assert_close(&acts.to_f64(), &numbers(&facts["acts"]), 3e-6, &format!("{name} acts"));
        let out = sae.reconstruct(&x, &work()).unwrap();
        assert_close(&out.to_f64(), &numbers(&facts["out"]), 3e-6, &format!("{name} out"));
    }
}

#[test]
fn a_folder_of_all_formats_is_listed_without_its_weights() {
    let table = list_saes(&fixture("saes"), &work()).unwrap();
    let cell = |row: usize, name: &str| table.row(row).unwrap().into_iter().find(|(column, _)| *column == name).unwrap().1;
    let rows: Vec<(String, String, String)> = (0..table.len())
        .map(|row| {
            let text = |name: &str| if let Cell::Text(text) = cell(row, name) { text.to_string() } else { panic!("{name}") };
            (text("path"), text("format"), text("hook"))
        })
        .collect();
    let expected = reference("sae_formats.json");
    for (name, facts) in expected["fixtures"].as_object().unwrap() {
        let name = name.split('#').next().unwrap();
        let found = rows
            .iter()
            .find(|(path, ..)| path == name || Path::new(name).parent() == Some(Path::new(path)) && name.contains('.'));
        let (path, format, hook) = found.unwrap_or_else(|| panic!("{name} is not listed: {rows:?}"));
        assert!(!format.is_empty());
        if facts["options"].is_null() {
            assert_eq!(hook, facts["hook"].as_str().unwrap(), "{path}");
        }
        assert!(
            facts["options"]["layer"].is_u64() || load_sae(&fixture("saes"), Some(path), &SaeOptions::default(), &work()).is_ok()
        );
    }
}
