//! What the tests share: fixtures, reference numbers, comparison.

use saerepl::tensor::Tensor;
use saerepl::work::{Progress, Sink, Steps, Stream, Work};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub fn work() -> Work {
    Work::silent(2).unwrap()
}

pub fn fixture(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).display().to_string()
}

pub fn reference(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// A real model's file, or `None` with a printed line where it is not on this machine.
pub fn real(name: &str) -> Option<String> {
    let folder = std::env::var("SAEREPL_REAL")
        .unwrap_or_else(|_| format!("{}/.cache/saerepl-real", std::env::var("HOME").unwrap_or_default()));
    let path = PathBuf::from(folder).join(name);
    if path.exists() {
        return Some(path.display().to_string());
    }
    eprintln!("skipped: {} is not on this machine", path.display());
    None
}

/// All numbers of nested arrays, in order.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or(f64::NAN)],
    }
}

/// Fails unless every number lies within `tolerance` of the expected one, relative to the largest expected.
#[track_caller]
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let scale = expected.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "{what}[{i}]: {g}, expected {e}");
    }
}

#[track_caller]
pub fn assert_tensor(got: &Tensor, expected: &Value, tolerance: f64, what: &str) {
    let rows = expected.as_array().unwrap();
    let shape: Vec<usize> = match rows.first().and_then(Value::as_array) {
        Some(row) => vec![rows.len(), row.len()],
        None => vec![rows.len()],
    };
    assert_eq!(got.shape(), shape, "{what}: shape");
    assert_close(&got.to_f64(), &numbers(expected), tolerance, what);
}

/// Keeps the notes.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Progress for Heard {
    fn begin(&self, _: &str, _: u64) -> Box<dyn Steps> {
        Box::new(self.clone())
    }
}
impl Steps for Heard {
    fn advance(&self, _: u64) {}
}
impl Sink for Heard {
    fn write(&self, _: Stream, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}

impl Heard {
    /// A handle whose notes come here.
    pub fn work(&self) -> Work {
        Work::new(2, 0, Box::new(self.clone()), Box::new(self.clone())).unwrap()
    }

    /// The notes since the last call.
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join("\n")
    }
}

/// The largest resident size of the program while it runs a script, in MiB, and what it wrote to standard error.
#[cfg(target_os = "linux")]
pub fn resident(folder: &str, script: &str) -> (u64, String) {
    let file = |name: &str| format!("{folder}/{name}");
    std::fs::write(file("s.rhai"), script).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_saerepl"))
        .args(["run", "s.rhai", "--threads", "2"])
        .current_dir(folder)
        .stdout(std::fs::File::create(file("out.txt")).unwrap())
        .stderr(std::fs::File::create(file("error.txt")).unwrap())
        .spawn()
        .unwrap();
    let mut largest = 0;
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        largest = largest.max(peak.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let said = std::fs::read_to_string(file("error.txt")).unwrap();
    assert!(status.success(), "{said}");
    (largest >> 10, said)
}
