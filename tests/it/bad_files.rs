//! Bad files (FORMATS.md 8): each is refused by a message that names it and its fault, soon, in little memory, and nothing of it is run.

use crate::made_files::{
    Place, checkpoint, dict, flipped, four, gguf, gguf_key, gguf_of, gguf_tensor, integers, linear_checkpoint, lower, made, npz,
    npz_of, saelens, stored, tensor, text, whole, with_encoder, zip_of, zipped,
};
use crate::support::{fixture, work};
use saerepl::dictionary::{Dictionary, SaeOptions, load_sae};
use saerepl::tensor::Tensor;
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use zip::CompressionMethod::{Deflated, Stored};

/// A bad file: its name, its bytes, and what the message must say.
type Bad = (&'static str, Vec<u8>, &'static str);
/// A folder of files that are bad together.
type BadFolder = (&'static str, Vec<(&'static str, Vec<u8>)>, &'static str);

fn refusal(name: &str) -> saerepl::Error {
    load_sae(name, None, &SaeOptions::default(), &work()).unwrap_err()
}

/// A NumPy array.
fn array() -> Vec<u8> {
    saerepl::formats::npy::write(&made(&[20, 30], 0))
}

/// Each occurrence of a name of a zip by another.
fn renamed(mut zip: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<_> = (0..zip.len() - from.len()).filter(|at| zip[*at..].starts_with(from)).collect();
    places.into_iter().for_each(|at| zip[at..at + to.len()].copy_from_slice(to));
    zip
}

/// A zip with these bytes in the directory's record of its first member.
fn in_directory(mut zip: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let at = at + zip.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    zip[at..at + bytes.len()].copy_from_slice(bytes);
    zip
}

/// Those that stand in place of an SAE.
fn bad_files() -> Vec<Bad> {
    let good = stored(&four([6, 10], [10, 6], 10, 6));
    let header = |text: &str, data: usize| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &vec![0; data]].concat();
    let entry = |dtype: &str, shape: &str, from: &str, to: &str| {
        format!("{{\"W_dec\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}}}")
    };
    let pickle = |data: &[u8]| checkpoint(&whole(data.to_vec()), &[("0", crate::made_files::values(4))]);
    let claims = |length: u64| [&length.to_le_bytes()[..], b"{\"W_dec\":", &[b' '; 64]].concat();
    let mut not_text = header(&entry("F32", "[1]", "0", "4"), 4);
    not_text[11] = 0xff;
    vec![
        ("truncated.safetensors", good[..good.len() - 100].to_vec(), "is truncated: the header promises"),
        ("longer.safetensors", [&good[..], b"more"].concat(), "4 bytes after the last tensor"),
        ("header.safetensors", good[..40].to_vec(), "is truncated: its header"),
        ("zip.safetensors", zipped(&["notes.txt"]), "without data.pkl"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git-LFS pointer"),
        ("page.safetensors", b"<!DOCTYPE html><html>".to_vec(), "HTML page"),
        ("denied.safetensors", b"{\"error\":\"gated\"}".to_vec(), "JSON text"),
        ("empty.safetensors", Vec::new(), "is empty"),
        ("zeros.safetensors", vec![0; 5000], "nothing but zero bytes"),
        ("zeros.pt", vec![0; 5000], "nothing but zero bytes"),
        ("empty.npz", Vec::new(), "is empty"),
        ("half.safetensors.incomplete", good[..50].to_vec(), "has not finished"),
        ("hole.safetensors", header(&entry("F32", "[1]", "4", "8"), 8), "leaves a hole"),
        ("backwards.safetensors", header(&entry("F32", "[1]", "8", "4"), 8), "run backwards"),
        (
            "overlap.safetensors",
            header(
                r#"{"W_dec":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"W_enc":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                6,
            ),
            "tensor `W_enc`: its bytes [2, 6] overlaps `W_dec`, which ends at 4",
        ),
        (
            "twice.safetensors",
            header(
                r#"{"W_dec":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"W_dec":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
                2,
            ),
            "`W_dec` is there twice",
        ),
        ("size.safetensors", header(&entry("F32", "[2]", "0", "4"), 4), "shape [2] as f32 needs 8 bytes, but there are 4"),
        ("fraction.safetensors", header(&entry("F32", "[1]", "0", "4.5"), 4), "cannot be read: entry `W_dec`"),
        ("latin.safetensors", not_text, "the header is not UTF-8 text"),
        ("claims.safetensors", claims(500_000_000), "its header claims 500000000 bytes, more than the 100000000"),
        ("beyond.safetensors", claims(90_000_000), "is truncated: its header has 90000000 bytes"),
        ("absurd.safetensors", claims(u64::MAX), "is of an unknown kind"),
        ("params.safetensors", stored(&lower(four([6, 10], [10, 6], 10, 6))[..3]), "there is no tensor `b_dec`"),
        ("huge.safetensors", header(&entry("F32", "[4294967296,4294967296,16]", "0", "4"), 4), "W_dec"),
        ("negative.safetensors", header(&entry("F32", "[1]", "-1", "4"), 4), "cannot be read"),
        ("f4.safetensors", header(&entry("F4", "[8]", "0", "4"), 4), "its dtype F4 is not supported"),
        ("deep.safetensors", header(&format!("{{\"a\":{}", "[".repeat(5000)), 0), "cannot be read"),
        ("other.safetensors", stored(&[("x", made(&[3, 4], 0))]), "no SAE format that is known"),
        ("archive.npz", zipped(&["a.npy"])[..60].to_vec(), "is truncated"),
        ("opcode.pt", pickle(b"\xff"), "opcode `\\xff`"),
        ("cut.pt", checkpoint(b"\x80\x02}(X\xff\xff\xff\x7f", &[]), "pickle is truncated"),
        ("circle.pt", pickle(b"]q\0h\0a"), "more than 32 deep"),
        ("bare.pt", b"\x80\x02}q\0.".to_vec(), "before PyTorch 1.6"),
        ("script.pt", zipped(&["m/data.pkl", "m/code/m.py", "m/constants.pkl"]), "TorchScript"),
        ("cut-zip.pt", linear_checkpoint(str::to_string)[..400].to_vec(), "zip directory at its end is missing"),
        ("outside.pt", with_encoder(tensor("0", 160, 150, &[10, 6], &[6, 1])), "reaches beyond its 640 bytes"),
        ("strides.pt", with_encoder(tensor("0", 160, 0, &[10, 6], &[i32::MAX, i32::MAX])), "reaches beyond"),
        ("negative.pt", with_encoder(tensor("0", 160, 0, &[10, 6], &[-6, 1])), "not one that PyTorch writes"),
        ("expanded.pt", with_encoder(tensor("0", 160, 0, &[1 << 30, 1 << 20], &[0, 0])), "repeats the 160 elements"),
        (
            "overflow.pt",
            with_encoder(tensor("0", 160, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0])),
            "more elements than memory",
        ),
        ("short.pt", with_encoder(tensor("0", 170, 0, &[10, 6], &[6, 1])), "has 640 bytes, not the 680"),
        ("storage.pt", with_encoder(tensor("9", 160, 0, &[10, 6], &[6, 1])), "`data/9`"),
        (
            "missing.pt",
            pickle(&dict(&[
                ("encoder_linear.weight", tensor("0", 4, 0, &[2, 2], &[2, 1])),
                ("decoder_linear.weight", tensor("0", 4, 0, &[2, 2], &[2, 1])),
            ])),
            "there is no tensor `encoder_linear.bias`",
        ),
        (
            "misfit.pt",
            with_encoder(tensor("0", 160, 0, &[9, 6], &[6, 1])),
            "its shape is [9, 6], but a dictionary_learning SAE has [10, 6] here",
        ),
        ("objects.npz", npz("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }\n", b"\x80\x03"), "Python objects"),
        ("bfloat16.npz", npz("{'descr': '|V2', 'fortran_order': False, 'shape': (2,), }\n", &[0; 4]), "probably bfloat16"),
        ("short.npz", npz("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &[0; 20]), "needs 24 bytes, but 20"),
        ("code.npz", npz("__import__('os').system('true')\n", &[]), "not the dictionary NumPy writes"),
        ("long.npz", npz(&" ".repeat(300), &[])[..250].to_vec(), "is truncated"),
        ("outside.npz", zipped(&["../W_enc.npy"]), "points out of the archive"),
        ("flipped.npz", flipped(npz_of(&[]), 300), "`W_dec.npy`: is damaged"),
        ("flipped.pt", flipped(linear_checkpoint(str::to_string), 900), "`archive/data/0`: is damaged"),
        (
            "integers.npz",
            npz_of(&[("W_dec", integers(&[10, 6]))]),
            "tensor `W_dec`: its elements are i64: a quantised SAE, whose scales are not known",
        ),
        (
            "complex.npz",
            zip_of(
                &[
                    ("W_enc.npy", renamed(array(), b"'<f4'", b"'<c8'")),
                    ("W_dec.npy", array()),
                    ("b_enc.npy", saerepl::formats::npy::write(&made(&[30], 0))),
                    ("b_dec.npy", saerepl::formats::npy::write(&made(&[20], 0))),
                    ("threshold.npy", saerepl::formats::npy::write(&made(&[30], 0))),
                ],
                Stored,
            ),
            "tensor `W_enc`: holds no real numbers (elements `<c8`)",
        ),
        ("names.npz", zipped(&["W_enc.txt"]), "is not named `….npy`"),
        ("none.pt", with_encoder(tensor("0", 160, 0, &[0, 6], &[6, 1])), "tensor `encoder.weight`: is empty"),
        (
            "mismatch.npz",
            npz_of(&[("b_enc", made(&[9], 2))]),
            "tensor `W_enc`: its shape is [6, 10], but a Gemma Scope SAE has [6, 9] here",
        ),
        (
            "header.npz",
            zip_of(&[("W_enc.npy", b"\x93NUMPY\x01\0\xff\xffabc".to_vec())], Stored),
            "is truncated inside its header",
        ),
        ("magic.npz", zip_of(&[("W_enc.npy", b"hello".to_vec())], Stored), "is not a NumPy array"),
        ("version.npz", zip_of(&[("W_enc.npy", b"\x93NUMPY\x09\0\x02\0{}".to_vec())], Stored), "is npy version 9"),
        (
            "structured.npz",
            npz("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", &[0; 8]),
            "not the dictionary NumPy",
        ),
        ("end.npz", npz_of(&[])[..600].to_vec(), "is truncated: the zip directory at its end is missing"),
        (
            "twice.npz",
            renamed(zip_of(&[("W_a.npy", array()), ("W_b.npy", array())], Stored), b"W_b.npy", b"W_a.npy"),
            "two members of one name",
        ),
        // In the directory: flags at byte 8, the method at 10, the size of what is inflated at 24.
        ("locked.npz", in_directory(zip_of(&[("W_enc.npy", array())], Stored), 8, &[1]), "`W_enc.npy`: is encrypted"),
        ("method.npz", in_directory(zip_of(&[("W_enc.npy", array())], Stored), 10, &[12]), "is compressed by"),
        (
            "bomb.npz",
            in_directory(zip_of(&[("W_enc.npy", array())], Deflated), 24, &0xffff_fff0u32.to_le_bytes()),
            "to 4294967280 bytes; that is no array of weights",
        ),
        ("damaged.npz", flipped(zip_of(&[("W_enc.npy", array())], Deflated), 60), "`W_enc.npy`: cannot be inflated"),
        (
            "numpy-weight.pt",
            std::fs::read(fixture("checkpoints/numpy-weight.pt")).unwrap(),
            "no SAE format that is known, as far as it was read: it also holds decoder.weight (`numpy.ndarray`)",
        ),
        (
            "no-weights.pt",
            std::fs::read(fixture("checkpoints/no-weights.pt")).unwrap(),
            "holds no tensor that can be read; it holds `training.sae.Config`",
        ),
        (
            "namespace.pt",
            pickle(b"cargparse\nNamespace\n)\x81}b"),
            "holds no tensor that can be read; it holds `argparse.Namespace`",
        ),
        ("sparse.pt", pickle(b"ctorch._utils\n_rebuild_sparse_tensor\n)R"), "a sparse tensor"),
    ]
}

/// Those that stand in place of a model.
fn bad_models() -> Vec<Bad> {
    let tensors = |tensors: &[Vec<u8>], data: usize| gguf_of(3, &[], tensors, data);
    let norm = |dims: &[u64], kind: u32, offset: u64| gguf_tensor(b"output_norm.weight", dims, kind, offset);
    // A u16.
    let count = |parts: u16| gguf_key("split.count", 2, &parts.to_le_bytes());
    vec![
        (
            "far.gguf",
            tensors(&[norm(&[8], 0, 1 << 63)], 32),
            "tensor `output_norm.weight`: has a corrupt offset: 9223372036854775808",
        ),
        ("alone.safetensors", stored(&[("x", made(&[3, 4], 0))]), "is no model: there is no config.json beside it"),
        ("cut.gguf", gguf(3, &[8], 0, 20), "the first incomplete tensor is `output_norm.weight`"),
        ("tables.gguf", gguf(3, &[8], 0, 32)[..60].to_vec(), "is truncated inside its tables"),
        ("old.gguf", gguf(1, &[8], 0, 32), "GGUF version 1"),
        ("turned.gguf", gguf(0x0300_0000, &[8], 0, 32), "big-endian"),
        ("iq.gguf", gguf(3, &[256], 16, 66), "its type IQ2_XXS (number 16) is not supported"),
        ("empty-row.gguf", gguf(3, &[8, 0], 0, 32), "has a dimension of size 0"),
        ("alignment.gguf", tensors(&[norm(&[8], 0, 8)], 64), "its offset 8 is not a multiple of the alignment 32"),
        ("power.gguf", gguf_of(3, &[gguf_key("general.alignment", 4, &3u32.to_le_bytes())], &[], 0), "must be a power of two"),
        ("kind.gguf", gguf(3, &[8], 99, 32), "its type unknown (number 99) is not supported"),
        (
            "value.gguf",
            gguf_of(3, &[gguf_key("llama.x", 77, &[0; 8])], &[], 0),
            "the metadata key `llama.x` has the unknown type number 77",
        ),
        ("block.gguf", gguf(3, &[8], 8, 64), "its 8 elements do not fill whole q8_0 blocks of 32"),
        ("name.gguf", tensors(&[gguf_tensor(&[b'a'; 65], &[8], 0, 0)], 32), "a tensor's name has 65 bytes, more than the 64"),
        ("latin.gguf", tensors(&[gguf_tensor(b"n\xe9", &[8], 0, 0)], 32), "a tensor's name is not UTF-8 text"),
        ("dims.gguf", gguf(3, &[1, 1, 1, 1, 8], 0, 32), "has 5 dimensions, more than the 4"),
        ("twice.gguf", tensors(&[norm(&[8], 0, 0), norm(&[8], 0, 32)], 64), "tensor `output_norm.weight`: is there twice"),
        (
            "overlap.gguf",
            tensors(&[norm(&[16], 0, 0), gguf_tensor(b"b", &[8], 0, 32)], 96),
            "overlaps `output_norm.weight`, which ends at 64",
        ),
        ("keys.gguf", gguf_of(3, &[count(2), count(2)], &[], 0), "the metadata key `split.count` is there twice"),
        ("part-00001-of-00003.gguf", gguf_of(3, &[count(3)], &[], 0), "split into 3 files, of which 2 are missing"),
        ("part.gguf", gguf_of(3, &[count(3)], &[], 0), "so its name must end in `-00001-of-00003.gguf`"),
        ("counts.gguf", [&b"GGUF\x03\0\0\0"[..], &[0xff; 16]].concat(), "claims 18446744073709551615 metadata keys"),
    ]
}

/// Folders whose files are bad together; the message names the folder or one of them.
fn bad_folders() -> Vec<BadFolder> {
    let llama = || ("config.json", json!({"model_type": "llama", "num_attention_heads": 2}).to_string().into_bytes());
    let index = |text: &str| ("model.safetensors.index.json", text.as_bytes().to_vec());
    let weights = |name: &'static str, tensors: &[(&str, Tensor)]| (name, stored(tensors));
    let one = || [("x", made(&[3, 4], 0))];
    let sae = || four([6, 10], [10, 6], 10, 6);
    let cfg = |config: serde_json::Value| ("cfg.json", config.to_string().into_bytes());
    let here = "blocks.0.hook_resid_pre";
    let top_k = |k: usize| json!({"architecture": "topk", "k": k, "metadata": {"hook_name": here}});
    vec![
        (
            "escape",
            vec![llama(), index(r#"{"weight_map": {"a": "../../../etc/passwd"}}"#)],
            "`../../../etc/passwd`, a path outside the folder",
        ),
        ("shard", vec![llama(), index(r#"{"weight_map": {"a": "model-1.safetensors"}}"#)], "1 is missing: model-1.safetensors"),
        (
            "promise",
            vec![
                llama(),
                index(r#"{"weight_map": {"x": "m-1.safetensors", "y": "m-1.safetensors"}}"#),
                weights("m-1.safetensors", &one()),
            ],
            "promises a tensor `y` in \"m-1.safetensors\", which is not there",
        ),
        ("pickle", vec![llama(), ("pytorch_model.bin", b"\x80\x02}q\0.".to_vec())], "neither model.safetensors nor"),
        ("names", vec![llama(), weights("model.safetensors", &one())], "`embed_tokens.weight`"),
        ("unknown", vec![("config.json", b"{\"model_type\": \"perceiver\"}".to_vec())], "unknown architecture `perceiver`"),
        ("page", vec![("config.json", b"<!DOCTYPE html>".to_vec()), weights("model.safetensors", &one())], "is an HTML page"),
        (
            "deep",
            vec![("config.json", "[".repeat(5000).into_bytes()), weights("model.safetensors", &one())],
            "is not valid JSON: recursion limit exceeded",
        ),
        ("bias", vec![cfg(saelens(here)), weights("sae_weights.safetensors", &sae()[..3])], "there is no tensor `b_dec`"),
        (
            "cut",
            vec![("cfg.json", b"{\"hook_name\"".to_vec()), weights("sae_weights.safetensors", &sae())],
            "cfg.json: is not valid JSON",
        ),
        (
            "turned",
            vec![cfg(saelens(here)), weights("sae_weights.safetensors", &four([10, 6], [6, 10], 10, 6))],
            "W_enc and W_dec are both stored the other way round than in a SAELens SAE: b_enc has 10 values, one for each feature, and \
             b_dec has 6",
        ),
        ("none", vec![cfg(top_k(0)), weights("sae_weights.safetensors", &sae())], "its k is 0, but of 10 features at least 1"),
        ("many", vec![cfg(top_k(11)), weights("sae_weights.safetensors", &sae())], "its k is 11, but of 10 features"),
        (
            "unset",
            vec![
                cfg(json!({"architecture": "batchtopk", "k": 3, "metadata": {"hook_name": here}})),
                weights("sae_weights.safetensors", &sae()),
            ],
            "it is a batchtopk SAE without a threshold",
        ),
        (
            "scales",
            vec![cfg(saelens(here)), ("sae_weights.safetensors", eight_bit(&["W_dec", "W_dec_scale"]))],
            "tensor `W_dec`: its elements are f8_e4m3, with scales in `W_dec_scale`",
        ),
    ]
}

/// An SAE of 10 features of 6 with tensors of zeros, of which these are 8-bit floats.
fn eight_bit(small: &[&str]) -> Vec<u8> {
    let (mut entries, mut at) = (Vec::new(), 0);
    for (name, shape) in [("W_enc", "[6,10]"), ("W_dec", "[10,6]"), ("W_dec_scale", "[1]"), ("b_enc", "[10]"), ("b_dec", "[6]")] {
        let is_small = small.contains(&name);
        if name.ends_with("scale") && !is_small {
            continue;
        }
        let count: usize = shape.trim_matches(['[', ']']).split(',').map(|size| size.parse::<usize>().unwrap()).product();
        let (dtype, end) = if is_small { ("F8_E4M3", at + count) } else { ("F32", at + 4 * count) };
        entries.push(format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{at},{end}]}}"));
        at = end;
    }
    let header = format!("{{{}}}", entries.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; at]].concat()
}

/// Pickles that in Python would write a file at `marker`, each by another way, and what the message must say. The last ones
/// call what no list of bad functions has: what may be called is what is listed.
fn attacks(marker: &Path) -> Vec<(String, Vec<u8>, &'static str)> {
    let (path, command) = (marker.display().to_string(), format!("touch {}", marker.display()));
    let python = format!("open({path:?}, 'w')");
    let call =
        |function: &str, argument: &str| [format!("c{function}\n").into_bytes(), text(argument), b"\x85R".to_vec()].concat();
    let words = [&b"("[..], &text("touch"), &text(&path), b"l\x85R"].concat();
    let by_words = |function: &str| [format!("c{function}\n").into_bytes(), words.clone()].concat();
    let stack_global = |module: &str, name: &str, argument: &str| {
        let short = |name: &str| [&[0x8c, name.len() as u8], name.as_bytes()].concat();
        [short(module), short(name), b"\x93".to_vec(), text(argument), b"\x85R".to_vec()].concat()
    };
    let import = [call("builtins\n__import__", "os"), text("system"), b"\x86R".to_vec()].concat();
    let indirect = [&b"cbuiltins\ngetattr\n("[..], &import[..], &text(&command), b"\x85R"].concat();
    let instance = [&b"("[..], &text(&command), b"ios\nsystem\n"].concat();
    let state = [&b"cmine\nConfig\n)\x81"[..], &call("posix\nsystem", &command), b"b"].concat();
    let alone = [
        (call("os\nsystem", &command), "`os.system`"),
        (call("posix\nsystem", &command), "`posix.system`"),
        (call("nt\nsystem", &command), "`nt.system`"),
        (by_words("subprocess\nPopen"), "`subprocess.Popen`"),
        (by_words("subprocess\ncheck_output"), "`subprocess.check_output`"),
        (call("builtins\neval", &python), "`builtins.eval`"),
        (call("builtins\nexec", &python), "`builtins.exec`"),
        (call("__builtin__\neval", &python), "`__builtin__.eval`"),
        (call("runpy\nrun_path", &path), "`runpy.run_path`"),
        (call("importlib\nimport_module", "os"), "`importlib.import_module`"),
        (stack_global("os", "system", &command), "`os.system`"),
        (stack_global("builtins", "exec", &python), "`builtins.exec`"),
        (indirect, "`builtins.__import__`"),
        (instance, "`os.system`"),
        (state, "`posix.system`"),
        ([&b"cpydoc\npipepager\n"[..], &text("x"), &text(&command), b"\x86R"].concat(), "`pydoc.pipepager`"),
        (call("torch\nload", &path), "`torch.load`"),
        (call("torch.hub\nload", &path), "`torch.hub.load`"),
        (call("torch.storage\n_load_from_bytes", &path), "`torch.storage._load_from_bytes`"),
        (call("marshal\nloads", &python), "`marshal.loads`"),
        (call("operator\nattrgetter", "system"), "`operator.attrgetter`"),
        (call("timeit\ntimeit", &python), "`timeit.timeit`"),
        (call("numpy.testing._private.utils\nrunstring", &python), "`numpy.testing._private.utils.runstring`"),
        (call("sae_lens.loading\nload_by_name", &path), "`sae_lens.loading.load_by_name`"),
        // A base whose `__init__` runs.
        (b"ccopyreg\n_reconstructor\n(csmtplib\nSMTP\ncsmtplib\nSMTP\nX\x01\0\0\0htR".to_vec(), "`copyreg._reconstructor`"),
        (b"cnumpy\ndtype\n)R)R".to_vec(), "calls what another call gives"),
    ];
    let beside = |payload: &[u8]| {
        let names = [
            ("encoder.weight", 0, vec![10, 6]),
            ("decoder.weight", 60, vec![6, 10]),
            ("encoder.bias", 120, vec![10]),
            ("bias", 130, vec![6]),
        ];
        let mut entries: Vec<_> = names
            .iter()
            .map(|(name, at, shape)| (*name, tensor("0", 160, *at, shape, if shape.len() == 1 { &[1] } else { &[1, 1] })))
            .collect();
        entries.push(("note", payload.to_vec()));
        checkpoint(&whole(dict(&entries)), &[("0", crate::made_files::values(160))])
    };
    let mut all = Vec::new();
    for (i, (payload, fault)) in alone.iter().enumerate() {
        all.push((format!("alone-{i}.pt"), checkpoint(&whole(payload.clone()), &[]), *fault));
        all.push((format!("beside-{i}.pt"), beside(payload), *fault));
        // Before PyTorch 1.6: after the number and the version that such a file begins with.
        all.push((format!("bare-{i}.pt"), whole(payload.clone()), *fault));
        let later = [whole(b"\x8a\x01\x05".to_vec()), whole(b"M\xe9\x03".to_vec()), whole(payload.clone())].concat();
        all.push((format!("legacy-{i}.pt"), later, *fault));
    }
    all
}

/// What the program says, its lines joined, and its exit status. It has 60 s, and so many KiB of memory of its own: more it is not
/// given (on Linux, where `ulimit -d` counts all of it), and it ends by a signal.
fn told_in(memory: usize, arguments: &[&str]) -> (String, Option<i32>) {
    let started = Instant::now();
    let limited = format!("ulimit -d {memory}; exec \"$0\" \"$@\"");
    let shell = ["-c", &limited, env!("CARGO_BIN_EXE_saerepl")];
    let output = assert_cmd::Command::new("sh").args(shell).args(arguments).output().unwrap();
    assert!(started.elapsed().as_secs() < 60, "{arguments:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    // The report wraps its lines.
    let words: Vec<_> = error.split_whitespace().filter(|word| *word != "│").collect();
    (words.join(" "), output.status.code())
}

/// As [`told_in`], in 1 GiB.
fn told(arguments: &[&str]) -> (String, Option<i32>) {
    told_in(1 << 20, arguments)
}

/// Fails unless the program refuses a file or folder, naming it and its fault.
fn assert_refused(path: &str, name: &str, fault: &str) {
    let (said, status) = told(&["info", path]);
    assert_eq!(status, Some(1), "{name}: {said}");
    let fault = fault.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(name) && said.contains(&fault) && !said.contains("panicked"), "{name}, {fault}: {said}");
}

#[test]
fn bad_files_are_refused_with_their_fault() {
    let place = Place::new();
    for (name, bytes, fault) in bad_files() {
        let error = refusal(&place.put(name, &bytes)).to_string();
        assert!(error.contains(fault) && error.contains(name), "{name}: {error}");
    }
}

#[test]
fn the_program_ends_with_status_1_on_bad_files() {
    let place = Place::new();
    for (name, bytes, fault) in bad_files().into_iter().chain(bad_models()) {
        assert_refused(&place.put(name, &bytes), name, fault);
    }
    for (folder, files, fault) in bad_folders() {
        for (name, bytes) in files {
            place.put(&format!("{folder}/{name}"), &bytes);
        }
        assert_refused(&place.path(folder), folder, fault);
    }
}

#[test]
fn nothing_of_a_pickle_is_run() {
    let place = Place::new();
    let marker = place.path("marker");
    for (name, bytes, fault) in attacks(Path::new(&marker)) {
        let path = place.put(&name, &bytes);
        assert_refused(&path, &name, fault);
        assert!(!Path::new(&marker).exists(), "{name}");
    }
}

/// A header of half a gigabyte is refused by its length, before it is read: of the file nothing but that is there.
#[test]
fn an_overlong_header_is_not_read() {
    let place = Place::new();
    let path = place.put("long.safetensors", &[&500_000_000u64.to_le_bytes()[..], b"{"].concat());
    std::fs::File::options().write(true).open(&path).unwrap().set_len(500_000_100).unwrap();
    let started = Instant::now();
    assert_refused(
        &path,
        "long.safetensors",
        "its header claims 500000000 bytes, more than the 100000000 that the format allows",
    );
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// What a header of many tensors takes is a small multiple of its length: the longest that is read, of 100 MB, 0.8 GB.
#[test]
fn a_header_of_many_tensors_ends_in_little_memory() {
    let place = Place::new();
    let entry = |name: &str| format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let entries: Vec<_> = (0..50_000).map(|number| entry(&number.to_string())).collect();
    let header = format!("{{{}}}", entries.join(","));
    let path = place.put("many.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    let (said, status) = told_in(128 << 10, &["info", &path]);
    assert!(status == Some(1) && said.contains("no SAE format that is known"), "{status:?} {said}");
}

/// What is called to make plain values, and instances of whatever class, are no danger and no hindrance.
#[test]
fn what_checkpoints_hold_beside_weights_does_not_keep_them_from_opening() {
    let place = Place::new();
    let entries = |note: &[u8]| {
        dict(&[
            ("encoder.weight", tensor("0", 160, 0, &[10, 6], &[6, 1])),
            ("decoder.weight", tensor("0", 160, 60, &[6, 10], &[1, 6])),
            ("encoder.bias", tensor("0", 160, 120, &[10], &[1])),
            ("bias", tensor("0", 160, 130, &[6], &[1])),
            ("note", note.to_vec()),
        ])
    };
    let posix = [&b"cpathlib\nPosixPath\n"[..], &text("a"), b"\x85R"].concat();
    let device = [&b"ctorch\ndevice\n"[..], &text("cpu"), b"\x85R"].concat();
    let kind = [&b"csae_lens.config\nKind\n"[..], &text("a"), b"\x85R"].concat();
    for note in [
        posix,
        device,
        kind,
        b"cmine\nConfig\n)\x81}b".to_vec(),
        b"ccopy_reg\n_reconstructor\n(cmine\nConfig\nc__builtin__\nobject\nNtR".to_vec(),
        b"ccollections\nOrderedDict\n)R".to_vec(),
        b"ctorch.nn.functional\nrelu\n".to_vec(),
    ] {
        let path = place.put("x.pt", &checkpoint(&whole(entries(&note)), &[("0", crate::made_files::values(160))]));
        let (said, status) = told(&["info", &path]);
        assert_eq!(status, Some(0), "{}: {said}", note.escape_ascii());
    }
}

/// A list of numbers of the metadata takes what it takes in the file.
#[test]
fn a_long_list_of_numbers_takes_no_more_memory_than_in_the_file() {
    let place = Place::new();
    let count = 100_000_000u64;
    let list = [&0u32.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let head = gguf_key("list", 9, &list);
    let start = [&b"GGUF\x03\0\0\0"[..], &0u64.to_le_bytes(), &1u64.to_le_bytes(), &head].concat();
    let path = place.put("list.gguf", &start);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(start.len() as u64 + count).unwrap();
    let (said, status) = told_in(256 << 10, &["info", &path]);
    assert!(status == Some(1) && said.contains("general.architecture"), "{status:?} {said}");
}

/// Members that shrink beyond belief are held against themselves, not against what lies beside them.
#[test]
fn a_bomb_beside_much_that_is_none_is_refused() {
    use std::io::Write;
    let place = Place::new();
    let path = place.path("params.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (20000000,), }\n";
    let array = |bytes: &[u8]| [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), bytes].concat();
    let options = |method| zip::write::SimpleFileOptions::default().compression_method(method);
    zip.start_file("notes.txt", options(Stored)).unwrap();
    zip.write_all(&vec![7; 5_000_000]).unwrap();
    for member in ["a.npy", "b.npy", "c.npy", "d.npy"] {
        zip.start_file(member, options(Deflated)).unwrap();
        zip.write_all(&array(&vec![0; 80_000_000])).unwrap();
    }
    zip.finish().unwrap();
    assert_refused(&path, "params.npz", "that is no array of weights");
}

/// An SAE that does not fit the model: the message says which of the model's widths would.
#[test]
fn an_sae_of_another_model_is_refused() {
    let place = Place::new();
    place.tensors("sae/sae_weights.safetensors", &four([32, 40], [40, 32], 40, 32));
    place.json("sae/cfg.json", saelens("blocks.1.hook_resid_post"));
    let script = format!("unembed(load_sae({:?}), load_model({:?}))", place.path("sae"), fixture("tiny-gemma2"));
    let script = place.put("s.rhai", script.as_bytes());
    let (said, status) = told(&["run", &script]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("has width 32 at blocks.1.hook_resid_post") && said.contains("32 is the width of this model's z"),
        "{said}"
    );
}

/// All that an SAE computes with.
fn numbers(sae: &Dictionary) -> (Vec<Vec<u32>>, String) {
    let tensors = [sae.w_enc(), Some(sae.w_dec()), sae.b_enc(), sae.b_dec(), sae.threshold()];
    let bits = |tensor: &Tensor| tensor.to_f32().into_iter().map(f32::to_bits).collect();
    let cfg = sae.cfg();
    let conventions = format!("{:?} {} {}", sae.activation(), cfg["subtract_b_dec"], cfg["normalize_activations"]);
    (tensors.iter().flatten().map(bits).collect(), conventions)
}

/// A file cut anywhere is refused. One that is changed anywhere is refused or gives the same numbers: what is archived has a
/// checksum, and of safetensors the header says how all that follows lies.
#[test]
fn files_cut_or_changed_anywhere_give_an_error_or_the_same_sae() {
    let (place, work) = (Place::new(), work());
    let params: Vec<_> = lower(four([6, 10], [10, 6], 10, 6)).into_iter().chain([("threshold", made(&[10], 4))]).collect();
    let tensors = stored(&params);
    let header = 8 + tensors[..8].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
    for (name, good, changed) in [
        ("x.pt", linear_checkpoint(str::to_string), usize::MAX),
        ("params.npz", npz_of(&[]), usize::MAX),
        ("params.safetensors", tensors, header),
    ] {
        let load = |bytes: &[u8]| load_sae(&place.put(name, bytes), None, &SaeOptions::default(), &work);
        let expected = numbers(&load(&good).unwrap());
        let mut refused = 0;
        for at in 0..good.len() {
            assert!(load(&good[..at]).is_err(), "{name} cut at {at}");
            if at < changed {
                let mut bytes = good.clone();
                let mask = 1 << (at % 8);
                bytes[at] ^= mask;
                match load(&bytes) {
                    Ok(sae) => assert_eq!(numbers(&sae), expected, "{name}, byte {at} changed by {mask:#x}"),
                    Err(error) => {
                        assert!(error.to_string().contains(name), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        // What may change is little: times, and what a zip says twice.
        let tried = good.len().min(changed);
        assert!(refused > tried / 2, "{name}: {refused} of {tried}");
    }
}
