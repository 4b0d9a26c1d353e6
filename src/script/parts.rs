//! Parts of a long run: each is computed once and kept, so that a run that was stopped goes on where it was.

use crate::dictionary::Dictionary;
use crate::entry;
use crate::error::{Error, Result};
use crate::files;
use crate::model::Model;
use crate::provenance::fingerprint;
use crate::script::convert::{describe, to_json};
use crate::script::declare::{Call, Entry};
use crate::script::files::place;
use crate::table::Table;
use crate::tensor::Tensor;
use crate::work::Work;
use rhai::{Array, Dynamic, FnPtr, Map};
use serde_json::{Value as Json, json};
use std::path::Path;

pub(super) fn entries() -> Vec<Entry> {
    vec![entry! {
        /// Tables that a long run keeps: what `make()` gives, a map of tables, is written below `parts/NAME/` in the output
        /// folder; a later run of the same script with the same `key` reads it there instead of computing it again. So a run
        /// that was stopped goes on where it was, and its tables are the same, byte for byte.
        ///
        /// `key` holds all that the tables depend on: the model, dictionaries, options, numbers, text. The text of the script
        /// and of its modules, the seed and the program's version belong to the key by themselves.
        ///
        /// Errors: `make` gives something else than a map of tables; a key that holds values other than those.
        ///
        /// ```rhai
        /// let model = load_model("demo");
        /// let part = kept("layer_0", [model, 10], || #{ norms: table(#{ norm: model.W_out(0).norm(1) }) });
        /// let again = kept("layer_0", [model, 10], || throw "never called");
        /// assert(part.norms["norm"].equal(again.norms["norm"]));
        /// ```
        fn kept(call, name: String, key: Dynamic, make: FnPtr) -> Map { kept(call, &name, &key, &make) }
    }]
}

const RECORD: &str = "part.json";

fn kept(call: &Call, name: &str, key: &Dynamic, make: &FnPtr) -> Result<Map> {
    let folder = place(call, "kept", &format!("parts/{name}"))?;
    let key = json!({
        "program": concat!("saerepl ", env!("CARGO_PKG_VERSION")),
        "code": call.host.code(),
        "seed": call.work().seed(),
        "key": plain(key, call.work())?,
    });
    if let Some(tables) = read(call, &folder, &key) {
        call.work().note(&format!("{name}: kept from an earlier run"));
        return Ok(tables);
    }
    let made = call.run(make, ())?;
    let wrong = |what: String| Error::input(format!("kept: the function must give a map of tables, not {what}"));
    let map = made.read_lock::<Map>().map(|map| map.clone()).ok_or_else(|| wrong(describe(&made)))?;
    // The record is written last: without it, or with another key, there is no part.
    match std::fs::remove_file(folder.join(RECORD)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&error, &folder)),
        _ => {}
    }
    for (name, value) in &map {
        let table = value.read_lock::<Table>().ok_or_else(|| wrong(format!("{} in `{name}`", describe(value))))?;
        table.save(&folder.join(format!("{name}.parquet")), call.work())?;
    }
    let record = json!({"key": key, "tables": map.keys().map(|name| name.as_str()).collect::<Vec<_>>()});
    files::write_atomic(&folder.join(RECORD), record.to_string().as_bytes())?;
    // Read back, so that what follows sees the same whether the part was made now or before.
    read(call, &folder, &key).ok_or_else(|| Error::internal("a part cannot be read back").file(&folder))
}

/// The tables of a part whose key is this one; none where it is missing or damaged.
fn read(call: &Call, folder: &Path, key: &Json) -> Option<Map> {
    let record: Json = serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()?;
    if record["key"] != *key {
        return None;
    }
    let table = |name: &Json| {
        let name = name.as_str()?;
        let table = Table::load(&folder.join(format!("{name}.parquet")).to_string_lossy(), call.work()).ok()?;
        Some((name.into(), Dynamic::from(table)))
    };
    record["tables"].as_array()?.iter().map(table).collect()
}

/// A key as JSON: models, dictionaries and tensors by fingerprints.
fn plain(value: &Dynamic, work: &Work) -> Result<Json> {
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().map(|item| plain(item, work)).collect::<Result<_>>().map(Json::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        return map
            .iter()
            .map(|(key, value)| Ok((key.to_string(), plain(value, work)?)))
            .collect::<Result<_>>()
            .map(Json::Object);
    }
    if let Some(model) = value.read_lock::<Model>() {
        return Ok(json!({"model": model.id(), "weights": model.fingerprint()?}));
    }
    if let Some(dictionary) = value.read_lock::<Dictionary>() {
        return Ok(json!({"dictionary": dictionary.id(), "weights": dictionary.fingerprint()?}));
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        let values = tensor.clone();
        let hash = work.detached(move |work| {
            let numbers = values.numbers().take_while(|_| !work.is_cancelled());
            Ok(fingerprint(numbers.flat_map(f64::to_le_bytes)))
        })?;
        return Ok(json!({"shape": tensor.shape(), "values": hash}));
    }
    to_json(value, work)
}
