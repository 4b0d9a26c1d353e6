//! Files that tests make: SAEs, checkpoints as torch.save writes them, archives and models, right or wrong to the byte.

use crate::support::work;
use saerepl::formats::{TensorSet, safetensors};
use saerepl::tensor::Tensor;
use serde_json::{Value as Json, json};

/// A folder in which a test puts files.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, inside: &str) -> String {
        self.0.path().join(inside).display().to_string()
    }

    pub fn put(&self, inside: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    pub fn tensors(&self, inside: &str, tensors: &[(&str, Tensor)]) -> String {
        self.put(inside, &stored(tensors))
    }

    pub fn json(&self, inside: &str, value: Json) -> String {
        self.put(inside, value.to_string().as_bytes())
    }
}

pub fn stored(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let mut set = TensorSet::new("");
    tensors.iter().for_each(|(name, tensor)| assert!(set.insert(*name, tensor.clone())));
    safetensors::write(&set).unwrap()
}

pub fn made(shape: &[usize], stream: u64) -> Tensor {
    Tensor::randn(shape, 5, stream, &work()).unwrap()
}

/// Encoder and decoder of these shapes, with biases for `n` features and a width of `d`.
pub fn four(w_enc: [usize; 2], w_dec: [usize; 2], n: usize, d: usize) -> Vec<(&'static str, Tensor)> {
    vec![("W_enc", made(&w_enc, 0)), ("W_dec", made(&w_dec, 1)), ("b_enc", made(&[n], 2)), ("b_dec", made(&[d], 3))]
}

pub fn lower(tensors: Vec<(&'static str, Tensor)>) -> Vec<(&'static str, Tensor)> {
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            (
                if name == "W_enc" {
                    "w_enc"
                } else if name == "W_dec" {
                    "w_dec"
                } else {
                    name
                },
                tensor,
            )
        })
        .collect()
}

pub fn saelens(hook: &str) -> Json {
    json!({"architecture": "standard", "apply_b_dec_to_input": false, "metadata": {"hook_name": hook, "sae_lens_version": "6.5.1"}})
}

/// A checkpoint as torch.save writes it: this pickle and these storages.
pub fn checkpoint(pickle: &[u8], storages: &[(&str, Vec<f32>)]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut member = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    member("archive/data.pkl", pickle);
    member("archive/byteorder", b"little");
    for (key, values) in storages {
        member(&format!("archive/data/{key}"), &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    }
    zip.finish().unwrap().into_inner()
}

pub fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// A dict of these entries, without protocol and end.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inside: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [&b"}("[..], &inside, b"u"].concat()
}

pub fn whole(value: Vec<u8>) -> Vec<u8> {
    [&b"\x80\x02"[..], &value, b"."].concat()
}

/// The record of a tensor in a storage of `count` f32 elements.
pub fn tensor(storage: &str, count: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let number = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let tuple = |values: &[i32]| [&b"("[..], &values.iter().flat_map(|v| number(*v)).collect::<Vec<_>>(), b"t"].concat();
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text(storage),
        &text("cpu"),
        &number(count),
        b"tQ",
        &number(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

pub fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// A ReLU SAE of 10 features of 6, whose tensors lie where `inside` puts them, all in one storage.
pub fn linear_checkpoint(inside: impl Fn(&str) -> String) -> Vec<u8> {
    let names = ["encoder.weight", "decoder.weight", "encoder.bias", "bias"].map(inside);
    let entries = [
        (names[0].as_str(), tensor("0", 160, 0, &[10, 6], &[6, 1])),
        (&names[1], tensor("0", 160, 60, &[6, 10], &[1, 6])),
        (&names[2], tensor("0", 160, 120, &[10], &[1])),
        (&names[3], tensor("0", 160, 130, &[6], &[5])),
    ];
    checkpoint(&whole(dict(&entries)), &[("0", values(160))])
}

/// The pickle of an SAE with this record in place of its encoder.
pub fn with_encoder(record: Vec<u8>) -> Vec<u8> {
    let entries = [
        ("encoder.weight", record),
        ("decoder.weight", tensor("0", 160, 60, &[6, 10], &[1, 6])),
        ("encoder.bias", tensor("0", 160, 120, &[10], &[1])),
        ("bias", tensor("0", 160, 130, &[6], &[5])),
    ];
    checkpoint(&whole(dict(&entries)), &[("0", values(160))])
}

/// A zip with these members.
pub fn zipped(members: &[&str]) -> Vec<u8> {
    let members: Vec<_> = members.iter().map(|name| (*name, b"x".to_vec())).collect();
    zip_of(&members, zip::CompressionMethod::Deflated)
}

pub fn zip_of(members: &[(&str, Vec<u8>)], method: zip::CompressionMethod) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An archive of one NumPy array with this header and payload.
pub fn npz(header: &str, payload: &[u8]) -> Vec<u8> {
    let array = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), payload].concat();
    zip_of(&[("W_enc.npy", array)], zip::CompressionMethod::Stored)
}

/// A text of a GGUF file.
fn gguf_text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// A key of a GGUF file with its type's number and its value.
pub fn gguf_key(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [gguf_text(key.as_bytes()), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

/// The record of a tensor of a GGUF file.
pub fn gguf_tensor(name: &[u8], dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dimensions: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
    let count = (dims.len() as u32).to_le_bytes().to_vec();
    [gguf_text(name), count, dimensions, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

/// A GGUF file of the architecture llama with these further keys and these tensors, and so many bytes of data.
pub fn gguf_of(version: u32, keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let counts = [tensors.len() as u64, keys.len() as u64 + 1].map(u64::to_le_bytes).concat();
    let architecture = gguf_key("general.architecture", 8, &gguf_text(b"llama"));
    let mut out = [&b"GGUF"[..], &version.to_le_bytes(), &counts, &architecture, &keys.concat(), &tensors.concat()].concat();
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

/// One with one tensor of these dimensions and type, its data cut to so many bytes.
pub fn gguf(version: u32, dims: &[u64], kind: u32, data: usize) -> Vec<u8> {
    gguf_of(version, &[], &[gguf_tensor(b"output_norm.weight", dims, kind, 0)], data)
}

/// A good SAE of Gemma Scope's layout, with these tensors in place of its own of the same names.
pub fn npz_of(changed: &[(&str, Tensor)]) -> Vec<u8> {
    let mut set = TensorSet::new("");
    for (name, tensor) in four([6, 10], [10, 6], 10, 6).into_iter().chain([("threshold", made(&[10], 4))]) {
        let changed = changed.iter().find(|(other, _)| *other == name);
        set.insert(name, changed.map_or(tensor, |(_, tensor)| tensor.clone()));
    }
    saerepl::formats::npz::write(&set).unwrap()
}

pub fn integers(shape: &[usize]) -> Tensor {
    Tensor::vector_i64((0..shape.iter().product::<usize>() as i64).collect()).reshape(shape).unwrap()
}

/// With one bit of this byte turned.
pub fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// A model of two layers whose one head is far wider than its residual stream: dictionaries of many features take little beside
/// their head vectors. Gives its folder.
pub fn wide_headed(place: &Place) -> String {
    let (d, d_head, d_mlp, vocabulary) = (16, 256, 8, 11);
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, d]), ("model.norm.weight".into(), vec![d])];
    for layer in 0..2 {
        let shapes: [(&str, Vec<usize>); 11] = [
            ("input_layernorm", vec![d]),
            ("post_attention_layernorm", vec![d]),
            ("self_attn.q_proj", vec![d_head, d]),
            ("self_attn.k_proj", vec![d_head, d]),
            ("self_attn.v_proj", vec![d_head, d]),
            ("self_attn.o_proj", vec![d, d_head]),
            ("self_attn.q_norm", vec![d_head]),
            ("self_attn.k_norm", vec![d_head]),
            ("mlp.gate_proj", vec![d_mlp, d]),
            ("mlp.up_proj", vec![d_mlp, d]),
            ("mlp.down_proj", vec![d, d_mlp]),
        ];
        tensors.extend(shapes.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape)));
    }
    let tensors: Vec<(&str, Tensor)> =
        tensors.iter().zip(0..).map(|((name, shape), stream)| (name.as_str(), made(shape, stream))).collect();
    place.tensors("model.safetensors", &tensors);
    place.json(
        "config.json",
        json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": d, "head_dim": d_head,
            "intermediate_size": d_mlp, "num_hidden_layers": 2, "num_attention_heads": 1, "num_key_value_heads": 1,
            "vocab_size": vocabulary, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 6000.0,
            "hidden_act": "silu", "tie_word_embeddings": true, "attention_bias": false,
        }),
    );
    place.path("")
}
