//! Qwen-Scope: `SAE-Res-Qwen3-1.7B-Base-W32K-L0_50/layer5.sae.pt`, SAELens's names in the opposite orientation (FORMATS 2.10).

use super::beside::{Beside, number_after};
use super::source::{Layout, Source, Stored};
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Activation, Inner, Site};
use crate::error::Result;

pub(super) const FAMILY: Family = Family {
    name: "Qwen-Scope",
    format: SaeFormat::QwenScope,
    said,
    holds: |source| {
        source.has(&["W_enc", "W_dec", "b_enc", "b_dec"]) && (said(&source.beside).is_some() || source.is_laid_out(&LAYOUT))
    },
    read,
};

const LAYOUT: Layout =
    Layout { w_enc: Stored::Transposed("W_enc"), w_dec: Stored::Transposed("W_dec"), b_enc: "b_enc", b_dec: "b_dec" };

fn said(beside: &Beside) -> Option<Said> {
    let layer = number_after(beside.file(), "layer").filter(|_| beside.file().ends_with(".sae.pt"))?;
    // SAE-Res-Qwen3-1.7B-Base-W32K-L0_50 → Qwen3-1.7B-Base
    let model = beside.parts().find_map(|part| part.split_once("SAE-Res-")?.1.rsplit_once("-W"));
    // Here a K is 1024.
    let d_sae = beside.number("-W").filter(|_| model.is_some()).and_then(|thousands| thousands.checked_mul(1024));
    let hook = Some(Site::ResidPost.hook(Some(layer)));
    Some(Said { hook, model: model.map(|(model, _)| model.into()), d_sae, ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    let mut inner = source.sae(source.weights(&LAYOUT)?, &said(&source.beside).unwrap_or_default())?;
    inner.activation = Activation::TopK(source.k(source.beside.number("-L0_"))?);
    Ok(inner)
}
