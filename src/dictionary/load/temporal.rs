//! Temporal SAEs, whose encoder looks at a whole sequence: what they write can be used (FORMATS 2.12).

use super::beside::Beside;
use super::source::Source;
use super::{Family, SaeFormat, Said};
use crate::dictionary::{Inner, Site};
use crate::error::Result;

pub(super) const FAMILY: Family = Family {
    name: "temporal SAE",
    format: SaeFormat::Temporal,
    said,
    holds: |source| source.has(&["D", "b"]) && source.tensors.names().any(|name| name.starts_with("attn_layers.")),
    read,
};

fn said(beside: &Beside) -> Option<Said> {
    let layer = beside.number("layer_").filter(|_| beside.parts().any(|part| part == "temporal"))?;
    Some(Said { hook: Some(Site::ResidPost.hook(Some(layer))), ..Said::default() })
}

fn read(source: &Source) -> Result<Inner> {
    directions(source, "D", "b", &said(&source.beside).unwrap_or_default())
}

/// The decoder of an SAE that cannot be said to read a direction.
///
/// # Errors
/// Shapes that do not fit together.
pub(super) fn directions(source: &Source, w_dec: &str, b_dec: &str, said: &Said) -> Result<Inner> {
    let (_, d_out) = source.matrix(w_dec)?;
    let b_dec = source.tensor(b_dec, &[d_out])?;
    let mut inner = source.dictionary(None, source.get(w_dec)?.clone(), said)?;
    inner.b_dec = Some(b_dec);
    inner.warnings.push("its encoder looks at a whole sequence: it is loaded for what it writes".into());
    Ok(inner)
}
