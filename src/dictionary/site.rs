//! Places in a model: hook names ↔ (layer, site), and their order along the residual stream (FORMATS.md 3.1).

crate::choice! {
    /// A place in a model that a dictionary reads or writes.
    pub enum Site {
        /// The residual stream that enters a layer.
        ResidPre = "resid_pre",
        /// The residual stream between attention and MLP.
        ResidMid = "resid_mid",
        /// The residual stream that leaves a layer.
        #[default]
        ResidPost = "resid_post",
        /// The heads' outputs before W_O, one after another.
        Z = "z",
        /// What attention adds to the residual stream.
        AttnOut = "attn_out",
        /// The residual stream that the MLP reads, before its norm.
        MlpIn = "mlp_in",
        /// What the MLP adds to the residual stream.
        MlpOut = "mlp_out",
        /// The MLP's neurons.
        MlpPost = "mlp_post",
        /// The residual stream divided by its RMS before the MLP, without the norm's gain.
        Ln2Normalized = "ln2_normalized",
        /// The token embedding.
        Embed = "embed",
        /// The unembedding.
        Unembed = "unembed",
    }
}

/// A moment in the forward pass, for "can this reach that?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stage(usize);

impl Stage {
    const EMBED: Stage = Stage(0);
    const END: Stage = Stage(usize::MAX);

    /// The residual stream entering a layer: what its attention reads.
    pub fn attention_reads(layer: usize) -> Self {
        Stage(1 + 4 * layer)
    }
    pub fn attention_writes(layer: usize) -> Self {
        Stage(2 + 4 * layer)
    }
    /// The MLP of a layer reads; in a parallel model it reads what the attention reads.
    pub fn mlp_reads(layer: usize, parallel: bool) -> Self {
        if parallel { Self::attention_reads(layer) } else { Stage(3 + 4 * layer) }
    }
    pub fn mlp_writes(layer: usize) -> Self {
        Stage(4 + 4 * layer)
    }
}

impl Site {
    /// When a dictionary here reads; `None` without a layer where one is needed.
    pub(super) fn reads_at(self, layer: Option<usize>, parallel: bool) -> Option<Stage> {
        match self {
            Site::Embed => Some(Stage::EMBED),
            Site::Unembed => Some(Stage::END),
            Site::ResidPre | Site::Z => layer.map(Stage::attention_reads),
            Site::AttnOut => layer.map(Stage::attention_writes),
            Site::ResidMid | Site::MlpIn | Site::MlpPost | Site::Ln2Normalized => layer.map(|l| Stage::mlp_reads(l, parallel)),
            Site::MlpOut => layer.map(Stage::mlp_writes),
            Site::ResidPost => layer.map(|l| Stage::attention_reads(l + 1)),
        }
    }

    /// When what a dictionary here writes is in the residual stream; `None` without a layer where one is needed.
    pub(super) fn writes_at(self, layer: Option<usize>, parallel: bool) -> Option<Stage> {
        match self {
            Site::Z | Site::AttnOut => layer.map(Stage::attention_writes),
            Site::MlpIn | Site::MlpPost | Site::Ln2Normalized | Site::MlpOut => layer.map(Stage::mlp_writes),
            _ => self.reads_at(layer, parallel),
        }
    }

    /// TransformerLens's name of the hook at this site.
    pub fn hook(self, layer: Option<usize>) -> String {
        let name = match self {
            Site::ResidPre => "hook_resid_pre",
            Site::ResidMid => "hook_resid_mid",
            Site::ResidPost => "hook_resid_post",
            Site::Z => "attn.hook_z",
            Site::AttnOut => "hook_attn_out",
            Site::MlpIn => "hook_mlp_in",
            Site::MlpOut => "hook_mlp_out",
            Site::MlpPost => "mlp.hook_post",
            Site::Ln2Normalized => "ln2.hook_normalized",
            Site::Embed => return "hook_embed".into(),
            Site::Unembed => return "unembed".into(),
        };
        match layer {
            Some(layer) => format!("blocks.{layer}.{name}"),
            None => name.into(),
        }
    }

    /// The site that a hook name means: TransformerLens's, or a Hugging Face module path that leaves no doubt.
    pub fn of_hook(name: &str) -> Option<(Site, Option<usize>)> {
        HookPoint::parse(name).map(|hook| (hook.site, hook.layer))
    }
}

/// A place as a hook names it, which may lie on the far side of a norm from the residual stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HookPoint {
    /// TransformerLens's name.
    pub name: String,
    pub site: Site,
    pub layer: Option<usize>,
    /// The norm whose gain stands between the hook and the site: `ln2` for what the MLP reads, gain included, `ln1_post` and
    /// `ln2_post` for what a module puts out before its post-norm. A model without that norm has nothing between them.
    pub norm: Option<&'static str>,
}

/// Prefixes of Hugging Face's module paths, the longest of a beginning first.
const PREFIXES: [&str; 6] =
    ["model.language_model.", "language_model.model.", "language_model.", "model.", "transformer.", "gpt_neox."];

impl HookPoint {
    pub fn new(site: Site, layer: Option<usize>) -> Self {
        HookPoint { name: site.hook(layer), site, layer, norm: None }
    }

    /// The input of the MLP, after the norm and its gain.
    pub fn mlp_input(layer: usize) -> Self {
        let name = format!("blocks.{layer}.mlp.hook_in");
        HookPoint { name, site: Site::Ln2Normalized, layer: Some(layer), norm: Some("ln2") }
    }

    /// Reads TransformerLens's names, and Hugging Face's module paths (FORMATS 3.1). `post_attention_layernorm` is not known:
    /// what it is depends on the architecture.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("blocks.") {
            let (layer, hook) = rest.split_once('.')?;
            let layer = layer.parse().ok()?;
            return match hook {
                "mlp.hook_in" => Some(Self::mlp_input(layer)),
                "mlp.hook_out" => Some(HookPoint { norm: Some("ln2_post"), ..Self::new(Site::MlpOut, Some(layer)) }),
                _ => {
                    let site = Site::ALL.iter().find(|site| site.hook(Some(layer)) == name || site.hook(None) == hook)?;
                    Some(Self::new(*site, Some(layer)))
                }
            };
        }
        let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        match bare {
            "unembed" => return Some(Self::new(Site::Unembed, None)),
            "hook_embed" | "embed_tokens" | "wte" | "embed_in" => return Some(Self::new(Site::Embed, None)),
            _ => {}
        }
        let rest = bare.strip_prefix("layers.").or_else(|| bare.strip_prefix("h."))?;
        let (layer, module) = rest.split_once('.').unwrap_or((rest, "output"));
        let layer = layer.parse().ok()?;
        let at = |site, norm| Some(HookPoint { norm, ..Self::new(site, Some(layer)) });
        // A module without a word is its output.
        match module.strip_suffix(".output").unwrap_or(module) {
            "output" => at(Site::ResidPost, None),
            "input" => at(Site::ResidPre, None),
            "self_attn.o_proj.input" | "attn.c_proj.input" | "attention.dense.input" => at(Site::Z, None),
            "mlp.down_proj.input" | "mlp.c_proj.input" | "mlp.dense_4h_to_h.input" => at(Site::MlpPost, None),
            "self_attn" | "attn" | "attention" => at(Site::AttnOut, Some("ln1_post")),
            "mlp" => at(Site::MlpOut, Some("ln2_post")),
            "post_feedforward_layernorm" => at(Site::MlpOut, None),
            "mlp.input" | "pre_feedforward_layernorm" => Some(Self::mlp_input(layer)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hook_names_go_there_and_back() {
        for site in Site::ALL {
            let layer = (!matches!(site, Site::Embed | Site::Unembed)).then_some(7);
            assert_eq!(Site::of_hook(&site.hook(layer)), Some((*site, layer)));
        }
        assert_eq!(Site::of_hook("model.layers.12"), Some((Site::ResidPost, Some(12))));
        assert_eq!(Site::of_hook("layers.3.self_attn.o_proj.input"), Some((Site::Z, Some(3))));
        let parse = |name| HookPoint::parse(name).map(|hook| (hook.name, hook.norm));
        let hook = |name: &str, norm| Some((name.to_string(), norm));
        assert_eq!(parse("model.layers.3.pre_feedforward_layernorm.output"), hook("blocks.3.mlp.hook_in", Some("ln2")));
        assert_eq!(parse("blocks.3.mlp.hook_in"), hook("blocks.3.mlp.hook_in", Some("ln2")));
        assert_eq!(parse("blocks.3.ln2.hook_normalized"), hook("blocks.3.ln2.hook_normalized", None));
        assert_eq!(parse("gpt_neox.layers.3.mlp"), hook("blocks.3.hook_mlp_out", Some("ln2_post")));
        assert_eq!(parse("model.layers.3.post_feedforward_layernorm.output"), hook("blocks.3.hook_mlp_out", None));
        assert_eq!(parse("transformer.h.3.attn"), hook("blocks.3.hook_attn_out", Some("ln1_post")));
        assert_eq!(parse("embed_tokens"), hook("hook_embed", None));
        assert_eq!(parse("model.layers.3.post_attention_layernorm.output"), None);
        assert_eq!(Site::of_hook("blocks.x.hook_resid_pre"), None);
        assert_eq!(Site::of_hook("blocks.1.hook_nothing"), None);
    }

    #[test]
    fn the_stream_runs_in_order() {
        let reads = |site: Site, layer| site.reads_at(Some(layer), false);
        let writes = |site: Site, layer| site.writes_at(Some(layer), false);
        // embed < L0 attention < L0 MLP < L0 post = L1 pre < …
        assert!(writes(Site::Embed, 0) < reads(Site::ResidPre, 0));
        assert!(reads(Site::ResidPre, 0) < writes(Site::Z, 0));
        assert!(writes(Site::Z, 0) < reads(Site::MlpPost, 0));
        assert!(reads(Site::MlpPost, 0) < writes(Site::MlpPost, 0));
        assert!(writes(Site::MlpPost, 0) < reads(Site::ResidPost, 0));
        assert_eq!(reads(Site::ResidPost, 0), reads(Site::ResidPre, 1));
        assert!(reads(Site::ResidPost, 99) < reads(Site::Unembed, 0));
        // In a parallel model the MLP reads what the attention reads.
        assert_eq!(Site::MlpPost.reads_at(Some(2), true), Site::ResidPre.reads_at(Some(2), true));
    }
}
