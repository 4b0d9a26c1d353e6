//! Two linear layers and a ReLU, b_dec not subtracted: Goodfire's and qresearch's SAEs (FORMATS 2.9).

use super::beside::Beside;
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner, Site};
use crate::error::Result;

pub(super) const FAMILY: Family = Family {
    name: "linear layers (Goodfire, qresearch)",
    format: SaeFormat::Linear,
    said,
    holds: |source| {
        // In a .safetensors these names are Llama Scope's, whose scales stand in a configuration that is missing here.
        let is_checkpoint = [".pt", ".pth"].iter().any(|ending| source.beside.file().ends_with(ending));
        source.has(&["encoder_linear.weight", "decoder_linear.weight"])
            || is_checkpoint && source.has(&["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"])
    },
    read,
};

const GOODFIRE: Layout = Layout {
    w_enc: Stored::Transposed("encoder_linear.weight"),
    w_dec: Stored::Transposed("decoder_linear.weight"),
    b_enc: "encoder_linear.bias",
    b_dec: "decoder_linear.bias",
};
const PLAIN: Layout = Layout {
    w_enc: Stored::Transposed("encoder.weight"),
    w_dec: Stored::Transposed("decoder.weight"),
    b_enc: "encoder.bias",
    b_dec: "decoder.bias",
};

/// `Llama-3.1-8B-Instruct-SAE-l19.pth` says model and layer.
fn said(beside: &Beside) -> Option<Said> {
    let layer = beside.number("-SAE-l")?;
    let model =
        beside.parts().find_map(|part| part.split_once("-SAE-l")).map(|(model, _)| model.rsplit("--").next().unwrap_or(model));
    Some(Said { hook: Some(Site::ResidPost.hook(Some(layer))), model: model.map(str::to_string), ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    let layout = if source.has(&["encoder_linear.weight"]) { GOODFIRE } else { PLAIN };
    let mut inner = source.sae(source.weights(&layout)?, &said(&source.beside).unwrap_or_default())?;
    inner.activation = Activation::Relu;
    Ok(inner)
}
