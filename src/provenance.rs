//! Who made a result and how: enough to make it again.

use serde_json::{Map, Value, json};

/// FNV-1a of bytes, as hexadecimal: tells whether two inputs are the same, not whether somebody forged one.
pub fn fingerprint(bytes: impl IntoIterator<Item = u8>) -> String {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, add))
}

/// The record that every table, figure and tensor result carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance(Map<String, Value>);

impl Provenance {
    /// A record for the function `function` of this version of the program.
    pub fn new(function: &str) -> Self {
        let mut map = Map::new();
        map.insert("program".into(), json!(concat!("saerepl ", env!("CARGO_PKG_VERSION"))));
        map.insert("function".into(), json!(function));
        Provenance(map)
    }

    /// Adds a named fact: an input (`model`, `dictionary`), `options`, a `seed`, a note.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds what was done to the result afterwards, in order: `steps: ["sort mean desc", "head 10"]`.
    pub fn step(mut self, step: impl Into<String>) -> Self {
        let step = Value::String(step.into());
        match self.0.get_mut("steps") {
            Some(Value::Array(steps)) => steps.push(step),
            _ => {
                self.0.insert("steps".into(), Value::Array(vec![step]));
            }
        }
        self
    }

    /// A named fact.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// True when nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record as JSON.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A record read back from JSON; anything but an object gives an empty one.
    pub fn from_json(value: Value) -> Self {
        match value {
            Value::Object(map) => Provenance(map),
            _ => Provenance::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_fnv_1a() {
        // The test vectors of the FNV reference code.
        assert_eq!(fingerprint(*b""), "cbf29ce484222325");
        assert_eq!(fingerprint(*b"foobar"), "85944171f73967e8");
    }
}
