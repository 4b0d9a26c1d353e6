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
        if let Some(rest) = name.strip_prefix("blocks.") {
            let (layer, hook) = rest.split_once('.')?;
            let layer = Some(layer.parse().ok()?);
            let site = Site::ALL.iter().find(|site| site.hook(layer) == name || site.hook(None) == hook)?;
            return Some((*site, layer));
        }
        if name == "hook_embed" || name == "unembed" {
            return Some((if name == "unembed" { Site::Unembed } else { Site::Embed }, None));
        }
        let bare = ["model.", "transformer.", "gpt_neox."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let rest = bare.strip_prefix("layers.").or_else(|| bare.strip_prefix("h."))?;
        let (layer, module) = rest.split_once('.').unwrap_or((rest, "output"));
        let site = match module {
            "output" => Site::ResidPost,
            "self_attn.o_proj.input" => Site::Z,
            "mlp.down_proj.input" => Site::MlpPost,
            _ => return None,
        };
        Some((site, Some(layer.parse().ok()?)))
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
