//! The files that other programs wrote (tests/reference/make_fixtures.py: NumPy, safetensors, gguf) are read as those
//! programs say.

use crate::support;
use saerepl::formats::{Files, Folder, TensorSet, gguf, huggingface, npy, npz, safetensors};
use saerepl::tensor::{Bytes, Tensor};
use saerepl::work::Work;
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
        let set = npz::read(Bytes::map(&path).unwrap(), &path, &support::work()).unwrap();
        assert_eq!(set.names().collect::<Vec<_>>(), ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]);
        for (name, tensor) in set.iter() {
            assert_close(&tensor.to_f64(), &numbers(&logical[name]), 1e-8, &format!("{folder} {name}"));
            assert_eq!(tensor.is_mapped(), mapped, "{folder} {name}");
        }
        assert_eq!(set.get("W_enc").unwrap().is_contiguous(), folder != "gs-fortran");
    }
    let path = fixture("gs-f16/params.npz");
    let half = npz::read(Bytes::map(&path).unwrap(), &path, &support::work()).unwrap();
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
    let down = |set: &TensorSet, name: &str| set.get(name).unwrap().to_f32();
    assert_eq!(down(&twin.tensors, "blk.1.ffn_down.weight"), down(&original, "model.layers.1.mlp.down_proj.weight"));
}

/// NumPy's own bytes for `np.save` of `arange(6, dtype=float32).reshape(2, 3)` (NumPy 2.4).
#[test]
fn written_arrays_are_numpys_to_the_byte() {
    let tensor = Tensor::from_f32((0..6).map(|v| v as f32).collect(), &[2, 3]).unwrap();
    let mut numpy = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
    numpy.resize(127, b' ');
    numpy.push(b'\n');
    numpy.extend((0..6).flat_map(|v| (v as f32).to_le_bytes()));
    assert_eq!(npy::write(&tensor), numpy);
}

/// More elements than one piece of writing holds, of every type of arithmetic, in another order than theirs in memory.
#[test]
fn tensors_of_many_pieces_are_written_in_order() {
    let (rows, cols) = (301, 499);
    let turned = |t: Tensor| t.reshape(&[cols, rows]).unwrap().t();
    let n = rows * cols;
    let mut set = TensorSet::new("");
    set.insert("f32", turned(Tensor::vector((0..n).map(|v| v as f32 / 7.0).collect())));
    set.insert("f64", turned(Tensor::vector_f64((0..n).map(|v| v as f64 / 7.0).collect())));
    set.insert("i64", turned(Tensor::vector_i64((0..n as i64).map(|v| v - 70_000).collect())));
    set.insert("bool", turned(Tensor::from_bool((0..n).map(|v| v % 3 == 0).collect(), &[n]).unwrap()));
    let w = Work::silent(2).unwrap();
    let npz = npz::read(npz::write(&set).unwrap().into(), Path::new("x.npz"), &w).unwrap();
    let safetensors = safetensors::read(safetensors::write(&set).unwrap().into(), Path::new("x.safetensors")).unwrap();
    for (name, tensor) in set.iter() {
        // Element (i, j) of the transposed matrix is number j * rows + i.
        let stored: Vec<f64> = tensor.t().numbers().collect();
        let expected: Vec<f64> = (0..n).map(|at| stored[at % cols * rows + at / cols]).collect();
        let npy = npy::read(npy::write(tensor).into(), Path::new("x.npy")).unwrap();
        for back in [&npy, npz.get(name).unwrap(), safetensors.get(name).unwrap()] {
            assert_eq!((back.shape(), back.class()), (&[rows, cols][..], tensor.class()), "{name}");
            assert!(back.to_f64() == expected, "{name}");
        }
    }
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

/// A file with holes: `parts` at their offsets, nothing between them.
fn sparse(path: &Path, parts: &[(u64, &[u8])]) {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = std::fs::File::create(path).unwrap();
    for (offset, bytes) in parts {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(bytes).unwrap();
    }
}

/// Members beyond 4 GiB: the archive in zip64, as NumPy writes it (sizes in extra fields, the end record beyond 32 bits).
#[cfg(target_os = "linux")]
#[test]
fn trap_35_arrays_beyond_32_bits() {
    let folder = tempfile::tempdir().unwrap();
    let n = 1_100_000_000usize;
    let large = 4 * n as u64;
    let small: Vec<u8> = [1.5f32, -2.0, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect();

    let path = folder.path().join("large.safetensors");
    let header = format!(
        "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{n}],\"data_offsets\":[0,{large}]}},\"b\":{{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[{large},{}]}}}}",
        large + 12
    );
    let start = 8 + header.len() as u64;
    let begin = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    sparse(&path, &[(0, &begin), (start + large - 4, &3.5f32.to_le_bytes()), (start + large, &small)]);
    let check = |set: TensorSet| {
        assert_eq!(set.get("a").unwrap().shape(), [n]);
        assert_eq!(set.get("a").unwrap().narrow(0, n - 2..n).unwrap().to_f32(), [0.0, 3.5]);
        assert_eq!(set.get("b").unwrap().to_f32(), [1.5, -2.0, 0.25]);
    };
    check(safetensors::read(Bytes::map(&path).unwrap(), &path).unwrap());

    let npy = |shape: usize| {
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape},), }}");
        header.push_str(&" ".repeat(117 - header.len()));
        [&b"\x93NUMPY\x01\0\x76\0"[..], header.as_bytes(), b"\n"].concat()
    };
    let zip64 = |values: &[u64]| {
        [
            &1u16.to_le_bytes()[..],
            &(8 * values.len() as u16).to_le_bytes(),
            &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>(),
        ]
        .concat()
    };
    // Version 45, no flags, stored, no time, sizes in the extra field.
    let entry = |crc: u32, extra: &[u8]| {
        let sizes = [[5, 0], (extra.len() as u16).to_le_bytes()].concat();
        [&[45u8, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc.to_le_bytes(), &[0xff; 8], &sizes].concat()
    };
    let local = |name: &str, size: u64| {
        let extra = zip64(&[size, size]);
        // The checksum that counts is the directory's.
        [&b"PK\x03\x04"[..], &entry(0, &extra), name.as_bytes(), &extra].concat()
    };
    let central = |name: &str, crc: u32, size: u64, offset: u64| {
        let extra = zip64(&[size, size, offset]);
        [&b"PK\x01\x02\x2d\0"[..], &entry(crc, &extra), &[0; 10], &[0xff; 4], name.as_bytes(), &extra].concat()
    };
    let (size_a, size_b) = (128 + large, 128 + 12);
    let first = [local("a.npy", size_a), npy(n)].concat();
    let second_at = first.len() as u64 - 128 + size_a;
    let second = [local("b.npy", size_b), npy(3), small.clone()].concat();
    let mut crc_a = crc32fast::Hasher::new();
    crc_a.update(&npy(n));
    (0..(large - 4) >> 12).for_each(|_| crc_a.update(&[0; 1 << 12]));
    crc_a.update(&vec![0; (large - 4) as usize % (1 << 12)]);
    crc_a.update(&3.5f32.to_le_bytes());
    let crc_b = crc32fast::hash(&[npy(3), small.clone()].concat());
    let directory = [central("a.npy", crc_a.finalize(), size_a, 0), central("b.npy", crc_b, size_b, second_at)].concat();
    let directory_at = second_at + second.len() as u64;
    let end_at = directory_at + directory.len() as u64;
    let numbers: Vec<u8> = [2, 2, directory.len() as u64, directory_at].iter().flat_map(|v: &u64| v.to_le_bytes()).collect();
    let end = [
        &b"PK\x06\x06"[..],
        &44u64.to_le_bytes(),
        &[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &numbers,
        b"PK\x06\x07\0\0\0\0",
        &end_at.to_le_bytes(),
        b"\x01\0\0\0PK\x05\x06\0\0\0\0",
        &[0xff; 12],
        &[0, 0],
    ]
    .concat();
    let path = folder.path().join("large.npz");
    sparse(
        &path,
        &[(0, &first), (second_at - 4, &3.5f32.to_le_bytes()), (second_at, &second), (directory_at, &directory), (end_at, &end)],
    );
    check(npz::read(Bytes::map(&path).unwrap(), &path, &support::work()).unwrap());
}
