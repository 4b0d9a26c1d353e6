//! Gemma Scope: archives for Gemma 2 (FORMATS 2.1), safetensors for Gemma 3 with transcoders, cross-layer transcoders and
//! crosscoders (2.2). JumpReLU everywhere, without b_dec at the input.

use super::beside::{Beside, number_after, size};
use super::source::{Layout, Source, Stored, Weights, known};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, HookPoint, Inner, Site};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub(super) const ONE: Family = Family {
    name: "Gemma Scope",
    format: SaeFormat::GemmaScope,
    said: said_one,
    holds: |source| {
        source.beside.file().ends_with(".npz") && source.tensors.names().any(|name| name.eq_ignore_ascii_case("threshold"))
    },
    read: read_one,
};

pub(super) const TWO: Family = Family {
    name: "Gemma Scope 2",
    format: SaeFormat::GemmaScope2,
    said: said_two,
    holds: |source| source.has(&["w_enc", "w_dec"]) && !source.beside.file().ends_with(".npz"),
    read: read_two,
};

const LOWER: Layout = Layout { w_enc: Stored::AsUsed("w_enc"), w_dec: Stored::AsUsed("w_dec"), b_enc: "b_enc", b_dec: "b_dec" };
const UPPER: Layout = Layout { w_enc: Stored::AsUsed("W_enc"), w_dec: Stored::AsUsed("W_dec"), ..LOWER };

/// `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz` says everything; the archive itself says nothing. A
/// cached repository is called `models--google--gemma-scope-2b-pt-res`.
fn said_one(beside: &Beside) -> Option<Said> {
    if beside.file() != "params.npz" {
        return None;
    }
    let repository = beside.parts().find_map(|part| part.find("gemma-scope-").map(|at| &part[at + "gemma-scope-".len()..]));
    let layer = beside.number("layer_");
    let at = |site: Site| layer.map(|layer| site.hook(Some(layer)));
    let mut said = Said::default();
    match repository.and_then(|name| name.rsplit('-').next()) {
        _ if beside.parts().any(|part| part == "embedding") => {
            said.hook = Some(Site::Embed.hook(None));
            said.facts.push(("input rows".into(), "of the embedding, without the model's scale".into()));
        }
        Some("res") => said.hook = at(Site::ResidPost),
        Some("mlp") => said.hook = at(Site::MlpOut),
        Some("att") => said.hook = at(Site::Z),
        Some("transcoders") => (said.hook, said.hook_out) = (at(Site::Ln2Normalized), at(Site::MlpOut)),
        _ => {}
    }
    // 2b-pt-res → gemma-2-2b, 9b-it-res → gemma-2-9b-it
    if let Some(mut words) = repository.map(|name| name.split('-'))
        && let (Some(size), Some(tuning)) = (words.next(), words.next())
    {
        said.model = Some(format!("gemma-2-{size}{}", if tuning == "it" { "-it" } else { "" }));
    }
    for (what, prefix) in [("width", "width_"), ("average_l0", "average_l0_")] {
        said.facts.extend(beside.after(prefix).map(|value| (what.to_string(), value.to_string())));
    }
    said.d_sae = beside.after("width_").and_then(width);
    Some(said)
}

fn read_one(source: &Source) -> Result<Inner> {
    let layout = if source.has(&["w_enc"]) { LOWER } else { UPPER };
    let weights = source.weights(&layout)?;
    jump_relu(source, weights, &said_one(&source.beside).unwrap_or_default())
}

fn jump_relu(source: &Source, weights: Weights, said: &Said) -> Result<Inner> {
    let threshold = source.tensor("threshold", &[weights.n()])?;
    let mut inner = source.sae(weights, said)?;
    inner.threshold = Some(threshold);
    inner.activation = Activation::JumpRelu;
    Ok(inner)
}

// ---- Gemma Scope 2 ------------------------------------------------------------------------------------------------------

/// `config.json` where there is one, else `gemma-scope-2-1b-pt/attn_out_all/layer_3_width_16k_l0_small/params.safetensors`.
fn said_two(beside: &Beside) -> Option<Said> {
    let config = beside.config("config.json");
    let hook = |key: &str| config[key].as_str().map(str::to_string);
    let marked = beside.mentions("gemma-scope-2-") || hook("hf_hook_point_in").is_some();
    if !beside.file().ends_with(".safetensors") || !(marked || beside.file().starts_with("params")) {
        return None;
    }
    // A cross-layer transcoder's file has its layer in its own name.
    let layer = number_after(beside.file(), "params_layer_").or_else(|| beside.number("layer_"));
    let folder = |name: &str| beside.parts().any(|part| part == name || part.strip_suffix("_all") == Some(name));
    let mut said = Said { hook: hook("hf_hook_point_in"), hook_out: hook("hf_hook_point_out"), layer, ..Said::default() };
    if let (None, Some(layer)) = (&said.hook, layer) {
        // The folder `attn_out` holds SAEs of z (trap 10).
        let site = [("resid_post", Site::ResidPost), ("attn_out", Site::Z), ("mlp_out", Site::MlpOut)];
        said.hook = site.iter().find(|(name, _)| folder(name)).map(|(_, site)| site.hook(Some(layer)));
        if folder("transcoder") || folder("clt") {
            said.hook = Some(HookPoint::mlp_input(layer).name);
            said.hook_out = Some(Site::MlpOut.hook(Some(layer)));
        }
    }
    let repository =
        beside.parts().find_map(|part| part.find("gemma-scope-2-").map(|at| part[at..].replace("gemma-scope-2-", "gemma-3-")));
    let model = hook("model_name").map(|name| name.trim_start_matches("google/").replace("gemma-v3", "gemma-3"));
    // The one model whose base has no suffix.
    said.model = model.or(repository).map(|name| name.replace("270m-pt", "270m"));
    said.facts.extend(config["l0"].as_f64().map(|l0| ("l0".to_string(), l0.to_string())));
    let label = |part: &str| width(part.split("width_").nth(1)?.split('_').next()?);
    said.d_sae = size(&config["width"]).or_else(|| beside.parts().find_map(label));
    Some(said)
}

/// The number of features that a label of a width means, a power of two: `16k` is 16 384, `1m` 1 048 576 (trap 26).
fn width(label: &str) -> Option<usize> {
    let (digits, unit) = label.split_at_checked(label.len().checked_sub(1)?)?;
    let unit = [("k", 1_000), ("m", 1_000_000)].iter().find(|(name, _)| *name == unit)?.1;
    let shown: usize = digits.parse().ok()?;
    (0..40).map(|power| 1 << power).find(|width| width / unit == shown && shown > 0)
}

fn read_two(source: &Source) -> Result<Inner> {
    let mut said = said_two(&source.beside).unwrap_or_default();
    let ranks = ["w_enc", "w_dec"].map(|name| source.tensors.find(name).map_or(0, Tensor::ndim));
    let mut inner = match ranks {
        [2, 2] => jump_relu(source, source.weights(&LOWER)?, &said)?,
        [2, 3] | [3, 3] | [3, 4] => cross_layer(source, &mut said)?,
        _ => {
            return Err(Error::shape(format!("w_enc and w_dec have {} and {} dimensions", ranks[0], ranks[1]))
                .help("a Gemma Scope 2 file has 2 and 2, a cross-layer transcoder 2 and 3 or 3 and 4"));
        }
    };
    // Stored as it acts on rows, x A.
    if source.has(&["affine_skip_connection"]) && ranks == [2, 2] {
        let (d_in, d_out) = (inner.w_enc.as_ref().map_or(0, |w| w.shape()[0]), inner.w_dec.shape()[1]);
        inner.w_skip = Some(source.tensor("affine_skip_connection", &[d_in, d_out])?.t());
    }
    Ok(inner)
}

/// One source layer and one target layer of a cross-layer transcoder or crosscoder. By ranks of w_enc and w_dec: `[d, n]` and
/// `[n, layers, d]` in a file for each source; `[layers, d, n]` and `[layers, n, layers, d]` of all; `[layers, d, n]` and
/// `[n, layers, d]` where features read all layers at once.
fn cross_layer(source: &Source, said: &mut Said) -> Result<Inner> {
    let (w_enc, w_dec) = (source.get("w_enc")?, source.get("w_dec")?);
    let shared = w_enc.ndim() == w_dec.ndim();
    let stacked = w_enc.ndim() == 3 && !shared;
    let ends = Ends::of(source, said.layer, stacked, shared, w_dec.shape()[w_dec.ndim() - 2])?;
    // What is stacked has one dimension more than it has in a file of its own.
    let of = |name: &str, rank: usize, at: usize| -> Result<Tensor> {
        let tensor = source.get(name)?;
        if tensor.ndim() > rank { tensor.select(0, at).map_err(|e| e.tensor(name)) } else { Ok(tensor.clone()) }
    };
    let w_dec = of("w_dec", 3, ends.source)?.select(1, ends.target)?;
    let (n, d_out) = w_dec.matrix_shape("w_dec")?;
    let fitting = |name: &str, tensor: Tensor, wanted: &[usize]| {
        let shape = tensor.shape();
        if shape == wanted {
            return Ok(tensor);
        }
        Err(Error::shape(format!("its shape is {shape:?}, but w_dec asks for {wanted:?} here")).tensor(name))
    };
    let vector = |name: &str, at: usize, len: usize| fitting(name, of(name, 1, at)?, &[len]);
    let w_enc = if shared { None } else { Some(fitting("w_enc", of("w_enc", 2, ends.source)?, &[d_out, n])?) };

    let moved = |hook: &str, layer: usize| {
        let hook = known(hook)?;
        Ok::<_, Error>(if hook.site == Site::Ln2Normalized && hook.norm.is_some() {
            HookPoint::mlp_input(layer).name
        } else {
            hook.site.hook(Some(layer))
        })
    };
    let mlp = source.beside.mentions("clt").then(|| HookPoint::mlp_input(ends.layer).name);
    said.hook = said.hook.as_deref().map(|hook| moved(hook, ends.layer)).transpose()?.or(mlp);
    said.hook_out = Some(match &said.hook_out {
        Some(hook) => moved(hook, ends.to)?,
        None => Site::MlpOut.hook(Some(ends.to)),
    });
    said.layer = Some(ends.layer);
    said.facts.push(("layers".into(), format!("reads {}, writes {}, of {:?}", ends.layer, ends.to, ends.layers)));
    let mut inner = source.dictionary(w_enc, w_dec, said)?;
    if shared {
        inner.warnings.push("its features read several layers at once: it is loaded for what it writes".into());
        return Ok(inner);
    }
    inner.activation = Activation::JumpRelu;
    inner.b_enc = Some(vector("b_enc", ends.source, n)?);
    inner.threshold = Some(vector("threshold", ends.source, n)?);
    // The bias is added once, by the layer that is written; a file of one source has that of its own layer.
    if stacked || ends.to == ends.layer {
        inner.b_dec = Some(vector("b_dec", ends.target, d_out)?);
    }
    Ok(inner)
}

/// Which layer reads and which is written, and where they stand in the file. W_dec's layers are counted from the model's
/// first (trap 36), or are those that the folder names (`layer_16_31_40_53_width_65k_…`).
struct Ends {
    layer: usize,
    to: usize,
    source: usize,
    target: usize,
    layers: Vec<usize>,
}

impl Ends {
    fn of(source: &Source, said: Option<usize>, stacked: bool, shared: bool, count: usize) -> Result<Self> {
        let layers = layers_of(&source.beside, count);
        let index = |layer: usize, what: &str| {
            layers.iter().position(|known| *known == layer).ok_or_else(|| {
                Error::input(format!("`{what}` is {layer}, which is none of its layers")).help(format!("it has {layers:?}"))
            })
        };
        let unnamed = |what: &str, option: &str| {
            Error::input(format!("it holds several layers: name the one that {what}"))
                .help(format!("load_sae(…, #{{{option}: {}}}); it has {layers:?}", layers.first().unwrap_or(&0)))
        };
        let layer = match (source.options.layer, said, source.options.to_layer) {
            // Of features that read all layers, the one that is written is all that counts.
            (None, _, to) if shared => to.ok_or_else(|| unnamed("is written", "to_layer"))?,
            (Some(layer), ..) => layer,
            (None, Some(layer), _) if !stacked => layer,
            (None, ..) => return Err(unnamed("reads", "layer")),
        };
        let to = source.options.to_layer.unwrap_or(layer);
        if to < layer && !shared {
            return Err(Error::input(format!("`to_layer` is {to}: features of layer {layer} write layers from their own on")));
        }
        let at = if stacked { index(layer, "layer")? } else { 0 };
        Ok(Ends { layer, to, source: at, target: index(to, "to_layer")?, layers })
    }
}

/// The model's layers that a file of several counts.
fn layers_of(beside: &Beside, count: usize) -> Vec<usize> {
    let named = beside.after("layer_").map(|rest| rest.split('_').map_while(|word| word.parse().ok()).collect::<Vec<usize>>());
    named.filter(|layers| layers.len() == count && count > 1).unwrap_or_else(|| (0..count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_widths() {
        let labels = [
            ("4k", 4096),
            ("16k", 16384),
            ("32k", 32768),
            ("65k", 65536),
            ("131k", 131_072),
            ("262k", 262_144),
            ("524k", 524_288),
            ("1m", 1_048_576),
        ];
        labels.iter().for_each(|(label, features)| assert_eq!(width(label), Some(*features), "{label}"));
        for label in ["", "k", "10", "0k", "17k", "256k", "16q", "99999999999999999999k", "1µ"] {
            assert_eq!(width(label), None, "{label}");
        }
    }
}
