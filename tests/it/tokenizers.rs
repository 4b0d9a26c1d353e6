//! Token ids against independent tokenizers (tests/reference/tokenizer_cases.py): those of two real GGUF files, and of small
//! tokenizer.json files with their GGUF twins.

use crate::support::{fixture, real, reference, work};
use saerepl::model::{EncodeOptions, Model, ModelOptions, Tokenizer};
use saerepl::tensor::Bytes;
use serde_json::{Value, json};
use std::path::Path;

/// Fails unless every text gives the expected ids, without the first token and as the tokenizer says.
fn check_cases(name: &str, cases: &Value, encode: impl Fn(&str, Option<bool>) -> Vec<usize>) {
    let ids = |value: &Value| -> Vec<usize> { serde_json::from_value(value.clone()).unwrap() };
    let cases = cases.as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        for (bos, key) in [(Some(false), "ids"), (None, "ids_bos")] {
            let (got, expected) = (encode(text, bos), ids(&case[key]));
            if got != expected {
                wrong.push(format!("{text:?} ({key}): {got:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{name}: {} of {} cases differ:\n{}", wrong.len(), 2 * cases.len(), wrong.join("\n"));
}

fn folder(name: &str, config: Value) -> Tokenizer {
    let file = fixture(&format!("tokenizers/{name}/tokenizer.json"));
    Tokenizer::from_huggingface(Bytes::map(Path::new(&file)).unwrap(), config, None, Path::new(&file))
}

fn twin(name: &str) -> Tokenizer {
    let file = fixture(&format!("tokenizers/{name}.gguf"));
    Tokenizer::from_gguf(Bytes::map(Path::new(&file)).unwrap(), Path::new(&file))
}

#[test]
fn real_tokenizers() {
    let (work, expected) = (work(), reference("tokenizers.json"));
    for (name, file) in [("smollm2", "smollm2-135m.gguf"), ("gemma3", "gemma3-270m.gguf")] {
        let Some(path) = real(file) else { continue };
        let model = Model::load(&path, &ModelOptions::default(), &work).unwrap();
        let encode = |text: &str, bos| model.encode(text, &EncodeOptions { bos }, &work).unwrap();
        check_cases(name, &expected[name]["cases"], encode);
    }
}

#[test]
fn tokenizer_json_and_its_gguf_twin() {
    let (work, expected) = (work(), reference("tokenizers.json"));
    for (name, expected) in expected.as_object().unwrap().iter().filter(|(name, _)| name.contains('-')) {
        let check = |tokenizer: &Tokenizer, what: &str, cases: &str| {
            let encode = |text: &str, bos| tokenizer.encode(text, &EncodeOptions { bos }, &work).unwrap();
            check_cases(&format!("{name}, {what}, {cases}"), &expected[cases], encode);
        };
        let from_folder = folder(name, Value::Null);
        let has_twin = Path::new(&fixture(&format!("tokenizers/{name}.gguf"))).exists();
        let from_gguf = has_twin.then(|| twin(name));
        for cases in ["cases", "with_special"].into_iter().filter(|cases| !expected[cases].is_null()) {
            check(&from_folder, "tokenizer.json", cases);
            if let Some(from_gguf) = &from_gguf {
                check(from_gguf, "GGUF", cases);
            }
        }
    }
}

#[test]
fn the_first_token_is_a_matter_of_the_configuration() {
    let work = work();
    let encode = |tokenizer: &Tokenizer, bos| tokenizer.encode("the", &EncodeOptions { bos }, &work);
    let llama = |config| folder("byte-level-llama3", config);
    let plain = encode(&llama(Value::Null), Some(false)).unwrap();
    let with = |first: usize| [vec![first], plain.clone()].concat();
    assert_eq!(encode(&llama(Value::Null), None).unwrap(), with(0));
    assert_eq!(encode(&llama(json!({"add_bos_token": false})), None).unwrap(), plain);
    assert_eq!(encode(&llama(json!({"bos_token": {"content": "<|end_of_text|>"}})), None).unwrap(), with(1));
    let error = encode(&folder("byte-level-gpt2", Value::Null), Some(true)).unwrap_err();
    assert!(error.to_string().contains("names no token that begins a text"), "{error}");
}
