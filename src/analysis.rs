//! The science: what a dictionary's directions do in a model, from weights alone.
//!
//! An analysis takes models, dictionaries and its own options (declared once, beside it) and gives a native value that
//! turns itself into tables. The heavy work of all of them is one fused product ([`product_stats`], the open core) after
//! their folding of norms, so that an analysis of one's own runs at the same speed.
//!
//! * `product`: the open core. * `tokens`: directions against the vocabulary. * `semantics`: which of them name a family
//!   of tokens, beside a null. * `attention`: directions as queries and keys of a head. * `ov`: what a head writes.
//! * `closed`: what is known of a product without making it. * `enrichment`: sets of tokens at the ends of a ranking. * `validation`: scores of weights beside real attention. * `populations`: two samples beside each other. * `flow`: matches between dictionaries, origins of features.
//! * `attribution`: which heads make a feature. * `explain`: one feature or one head on a page.
//! * `circuits`: heads as maps of the residual stream. * `heads`: directions as a head reads them. * `common`: what the result tables share.
//!
//! The docs of options carry the evidence tags of METHODS.md: `[TEXT]` the paper's own text, `[CODE]` public code,
//! `[3RD]` somebody's summary of the paper, `[FIELD]` common practice, `[INFER]` our choice.

mod attention;
mod attribution;
mod circuits;
mod closed;
mod common;
mod enrichment;
mod explain;
mod flow;
mod heads;
mod ov;
mod populations;
mod product;
mod semantics;
mod tokens;
mod validation;

pub use attention::{
    AttentionOptions, AttentionScores, Base, Distances, HeadWeights, QkNorm, attention_matrix, attention_scores,
    attention_vectors,
};
pub use attribution::{AttributionOptions, AttributionSpace, head_attribution};
pub use circuits::{Circuit, CircuitOptions, Input, composition, composition_matrix, head_svd};
pub use closed::{ClosedOptions, product_moments, product_spectrum};
pub use common::Side;
pub use enrichment::{EnrichmentOptions, TokenSets, enrichment, token_sets};
pub use explain::{ExplainOptions, Explainer, HeadPageOptions, entering, explain, explain_head};
pub use flow::{Cut, MatchBy, MatchOptions, OriginOptions, Origins, match_features, origin_scores};
pub use heads::{Scaling, Temperature};
pub use ov::{CopyingOptions, OvOptions, OvScale, OvScores, OvWriteOptions, copying, ov_scores, ov_write};
pub use populations::{CompareOptions, Comparison, Labels, compare};
pub use product::{ProductOptions, ProductStats, Scale, product_stats};
pub use semantics::{
    EntropyKind, GivenThresholds, NullKind, NullShare, Rule, SemanticSide, Semantics, SemanticsOptions, Thresholds, semantics,
};
pub use tokens::{Lens, MomentsOver, Phase, TokenOptions, TokenScore, TokenScores, embed, token_scores_of, unembed};
pub use validation::{Constant, ValidateOptions, validate_attention};
