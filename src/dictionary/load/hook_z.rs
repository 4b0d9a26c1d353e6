//! The SAEs of GPT-2 small's heads by Kissane and others: `gpt2-small_L5_Hcat_z_….pt` with `…_cfg.json` (FORMATS 2.5).

use super::beside::{Beside, size};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner};
use crate::error::Result;

pub(super) const FAMILY: Family = Family {
    name: "hook_z (Kissane et al.)",
    format: SaeFormat::HookZ,
    said,
    holds: |source| said(&source.beside).is_some() && source.has(&["W_enc", "W_dec"]),
    read,
};

const LAYOUT: Layout = Layout { w_enc: Stored::AsUsed("W_enc"), w_dec: Stored::AsUsed("W_dec"), b_enc: "b_enc", b_dec: "b_dec" };

fn said(beside: &Beside) -> Option<Said> {
    let config = beside.own_config();
    let hook = config["act_name"].as_str()?;
    Some(Said {
        hook: Some(hook.into()),
        model: beside.mentions("gpt2-small").then(|| "gpt2".into()),
        d_in: size(&config["act_size"]),
        d_sae: size(&config["dict_size"]),
        ..Said::default()
    })
}

fn read(source: &Source) -> Result<Inner> {
    let mut inner = source.sae(source.weights(&LAYOUT)?, &said(&source.beside).unwrap_or_default())?;
    inner.activation = Activation::Relu;
    inner.subtract_b_dec = true;
    // TransformerLens folds value biases into b_O, so the z that it was trained on has none (trap 38).
    inner.facts.push(("z".into(), "without value biases, as TransformerLens's default processing leaves it".into()));
    Ok(inner)
}
