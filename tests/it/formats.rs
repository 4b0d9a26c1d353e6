//! The files that other programs wrote (tests/reference/make_fixtures.py: NumPy, safetensors, gguf) are read as those
//! programs say.

use crate::support;
use saerepl::formats::{Files, Folder, gguf, huggingface, npy, npz, safetensors};
use saerepl::tensor::Bytes;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tiny.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The numbers of a nested JSON array, in row-major order.
fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().map_or_else(|| vec![value.as_f64().unwrap()], |list| list.iter().flat_map(numbers).collect())
}

fn assert_close(ours: &[f64], theirs: &[f64], relative: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= relative * b.abs().max(1e-3), "{what}: {a} is not {b}");
    }
}

#[test]
fn every_block_type_dequantises_as_in_gguf_py() {
    let path = fixture("blocks.gguf");
    let file = gguf::read(Bytes::map(&path).unwrap(), &path).unwrap();
    assert_eq!(file.metadata["general.architecture"].as_str(), Some("llama"));
    let types = &reference()["blocks.gguf"]["types"];
    assert_eq!(file.tensors.len(), types.as_object().unwrap().len());
    for (name, expected) in types.as_object().unwrap() {
        let tensor = file.tensors.get(name).unwrap();
        assert_eq!(tensor.shape(), [2, 256]);
        for (row, key) in ["row0", "row1"].into_iter().enumerate() {
            let values: Vec<f64> = tensor.row(row).unwrap().into_iter().map(f64::from).collect();
            let spots: Vec<f64> = numbers(&expected["spots"]).into_iter().map(|i| values[i as usize]).collect();
            assert_close(&spots, &numbers(&expected[key]), 1e-6, name);
            let weighted: f64 = values.iter().zip(1..).map(|(v, i)| v * f64::from(i)).sum();
            let scale: f64 = values.iter().zip(1..).map(|(v, i)| v.abs() * f64::from(i)).sum();
            assert!((weighted - numbers(&expected["row_sums_weighted"])[row]).abs() < 1e-6 * scale, "{name}");
        }
    }
}

#[test]
fn npz_archives_of_numpy_in_every_order() {
    let logical = &reference()["sae"]["logical"];
    for (folder, mapped) in
        [("gemma-scope-2b-pt-res/layer_1/width_21/average_l0_5", true), ("gs-fortran", true), ("gs-deflated", false)]
    {
        let path = fixture(folder).join("params.npz");
        let set = npz::read(Bytes::map(&path).unwrap(), &path).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]);
        for (name, tensor) in set.iter() {
            assert_close(&tensor.to_f64(), &numbers(&logical[name]), 1e-8, &format!("{folder} {name}"));
            assert_eq!(tensor.is_mapped(), mapped, "{folder} {name}");
        }
        assert_eq!(set.get("W_enc").unwrap().is_contiguous(), folder != "gs-fortran");
    }
    let path = fixture("gs-f16/params.npz");
    let half = npz::read(Bytes::map(&path).unwrap(), &path).unwrap();
    assert_close(&half.get("W_enc").unwrap().to_f64(), &numbers(&reference()["sae"]["logical_f16_W_enc"]), 1e-8, "f16");
}

#[test]
fn checkpoints_in_one_file_and_in_shards() {
    for (name, shards) in [("tiny-llama", 0), ("tiny-llama-sharded", 2)] {
        let folder = Folder::new(fixture(name)).unwrap();
        let files = folder.list().unwrap();
        assert!(files.iter().filter(|f| f.contains("-of-")).count() >= shards, "{files:?}");
        let checkpoint = huggingface::read(&folder).unwrap();
        assert_eq!(checkpoint.config["model_type"], "llama");
        let weights = &reference()["models"][name]["weights"];
        // A linear layer is stored [out, in]; the reference writes matrices as they act on rows.
        for (ours, theirs) in [("model.embed_tokens.weight", "W_E"), ("model.layers.1.mlp.down_proj.weight", "W_out(1)")] {
            let tensor = checkpoint.tensors.get(ours).unwrap();
            let tensor = if theirs == "W_E" { tensor.clone() } else { tensor.t() };
            assert_close(&tensor.to_f64(), &numbers(&weights[theirs]), 1e-8, &format!("{name} {theirs}"));
        }
    }
}

#[test]
fn gguf_twins_have_the_shapes_of_their_safetensors() {
    let path = fixture("tiny-llama.gguf");
    let twin = gguf::read(Bytes::map(&path).unwrap(), &path).unwrap();
    let path = fixture("tiny-llama/model.safetensors");
    let original = safetensors::read(Bytes::map(&path).unwrap(), &path).unwrap();
    for (ours, theirs) in [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
    ] {
        let (ours, theirs) = (twin.tensors.get(ours).unwrap(), original.get(theirs).unwrap());
        assert_eq!(ours.shape(), theirs.shape());
        assert_ne!(ours.shape()[0], ours.shape()[1], "a square tensor shows nothing");
    }
    // The converter permutes nothing in the MLP.
    let down = |set: &saerepl::formats::TensorSet, name: &str| set.get(name).unwrap().to_f32();
    assert_eq!(down(&twin.tensors, "blk.1.ffn_down.weight"), down(&original, "model.layers.1.mlp.down_proj.weight"));
}

/// NumPy's own bytes for `np.save` of `arange(6, dtype=float32).reshape(2, 3)` (NumPy 2.4).
#[test]
fn written_arrays_are_numpys_to_the_byte() {
    let tensor = saerepl::tensor::Tensor::from_f32((0..6).map(|v| v as f32).collect(), &[2, 3]).unwrap();
    let mut numpy = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
    numpy.resize(127, b' ');
    numpy.push(b'\n');
    numpy.extend((0..6).flat_map(|v| (v as f32).to_le_bytes()));
    assert_eq!(npy::write(&tensor), numpy);
}

/// Every byte as torch reads it (tests/reference/fp8.py).
#[test]
fn eight_bit_floats() {
    let file = fixture("f8.safetensors");
    let set = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    for (name, expected) in support::reference("fp8.json")["values"].as_object().unwrap() {
        let got = set.get(name).unwrap().to_f64();
        for (byte, (got, expected)) in got.iter().zip(support::numbers(expected)).enumerate() {
            assert!(
                *got as f32 == expected as f32 || (!got.is_finite() && expected.is_nan()),
                "{name} {byte:#x}: {got}, expected {expected}"
            );
        }
    }
}
