//! Short names of the published suites of SAEs: the names of SAELens's releases and of the SAEs in them, so that
//! `gpt2-small-res-jb/blocks.6.hook_resid_pre` opens what it opens there. What a repository itself calls an SAE works too.

use crate::work::Work;

/// A suite, or several that are named alike.
struct Suite {
    /// Its name; `{a,b}` stands for one of several, which `$1`, `$2`, … name below.
    name: &'static str,
    repository: &'static str,
    /// The folder in the repository, or empty.
    folder: &'static str,
    /// Names of SAEs and what their paths in the folder are, where they differ. What `*` stands for in the name stands for
    /// the stars of the path in turn; stars that are left over are found in the repository.
    paths: &'static [(&'static str, &'static str)],
}

const fn suite(
    name: &'static str,
    repository: &'static str,
    folder: &'static str,
    paths: &'static [(&'static str, &'static str)],
) -> Suite {
    Suite { name, repository, folder, paths }
}

/// A name of SAELens for the SAE whose average L0 is nearest to 100.
const CANONICAL: &[(&str, &str)] = &[("*/canonical", "*")];
const TRAINERS: &[(&str, &str)] = &[
    ("blocks.*.hook_resid_post__trainer_*_step_*", "resid_post_layer_*_checkpoints/trainer_*_step_*"),
    ("blocks.*.hook_resid_post__trainer_*", "resid_post_layer_*/trainer_*"),
];
const ANDYRDT: &[(&str, &str)] = &[("resid_post_layer_*_trainer_*", "resid_post_layer_*/trainer_*")];

/// Checked against SAELens 6.54 (tests/reference/suites.py).
const SUITES: &[Suite] = &[
    // Gemma 2 and 3
    suite("gemma-scope-2b-pt-{res,mlp,att,transcoders}{,-canonical}", "google/gemma-scope-2b-pt-$1", "", CANONICAL),
    suite("gemma-scope-9b-pt-{res,mlp,att}{,-canonical}", "google/gemma-scope-9b-pt-$1", "", CANONICAL),
    suite("gemma-scope-{9b-it,27b-pt}-res{,-canonical}", "google/gemma-scope-$1-res", "", CANONICAL),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-res", "google/gemma-scope-2-$1-$2", "resid_post", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-res-all", "google/gemma-scope-2-$1-$2", "resid_post_all", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-att", "google/gemma-scope-2-$1-$2", "attn_out", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-att-all", "google/gemma-scope-2-$1-$2", "attn_out_all", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-mlp", "google/gemma-scope-2-$1-$2", "mlp_out", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-mlp-all", "google/gemma-scope-2-$1-$2", "mlp_out_all", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-transcoders", "google/gemma-scope-2-$1-$2", "transcoder", &[]),
    suite("gemma-scope-2-{270m,1b,4b,12b,27b}-{pt,it}-transcoders-all", "google/gemma-scope-2-$1-$2", "transcoder_all", &[]),
    suite("gemma-2-2b-res-matryoshka-dc", "chanind/gemma-2-2b-batch-topk-matryoshka-saes-w-32k-l0-40", "standard", &[]),
    suite("gemma-2-2b-res-snap-matryoshka-dc", "chanind/gemma-2-2b-batch-topk-matryoshka-saes-w-32k-l0-40", "snap", &[]),
    suite("gemma-2-9b-res-matryoshka-dc", "chanind/gemma-2-9b-batch-topk-matryoshka-saes-w-32k-l0-60", "", &[]),
    suite("gemma-3-1b-res-matryoshka-dc", "chanind/gemma-3-1b-batch-topk-matryoshka-saes-w-32k-l0-40", "", &[]),
    suite(
        "sae_bench_gemma-2-2b_{topk,vanilla}_width-{2pow12,2pow14,2pow16}_date-1109",
        "canrager/saebench_gemma-2-2b_width-$2_date-1109",
        "gemma-2-2b_$1_width-$2_date-1109",
        TRAINERS,
    ),
    suite(
        "saebench_gemma-2-2b_width-2pow12_date-0108",
        "adamkarvonen/saebench_gemma-2-2b_width-2pow12_date-0108",
        "MatryoshkaBatchTopK_gemma-2-2b__0108",
        TRAINERS,
    ),
    suite(
        "saebench_gemma-2-2b_width-{2pow14,2pow16}_date-0107",
        "canrager/saebench_gemma-2-2b_width-$1_date-0107",
        "gemma-2-2b_matryoshka_batch_top_k_width-$1_date-0107",
        TRAINERS,
    ),
    suite("temporal-sae-gemma-2-2b", "canrager/temporalSAEs", "gemma-2-2B", &[("blocks.*.hook_resid_post", "layer_*/temporal")]),
    // Gemma 1
    suite(
        "gemma-2b-res-jb",
        "jbloom/Gemma-2b-Residual-Stream-SAEs",
        "",
        &[("blocks.*.hook_resid_post", "gemma_2b_blocks.*.hook_resid_post_16384*")],
    ),
    suite(
        "gemma-2b-it-res-jb",
        "jbloom/Gemma-2b-IT-Residual-Stream-SAEs",
        "",
        &[("blocks.*.hook_resid_post", "gemma_2b_it_blocks.*.hook_resid_post_16384*")],
    ),
    // GPT-2
    suite("gpt2-small-res-jb", "jbloom/GPT2-Small-SAEs-Reformatted", "", &[]),
    suite("gpt2-small-res-jb-feature-splitting", "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8", "", &[]),
    suite(
        "gpt2-small-hook-z-kk",
        "ckkissane/attn-saes-gpt2-small-all-layers",
        "",
        &[("blocks.*.hook_z", "gpt2-small_L*_Hcat_z_*.pt")],
    ),
    suite(
        "gpt2-small-mlp-tm",
        "tommmcgrath/gpt2-small-mlp-out-saes",
        "",
        &[("blocks.*.hook_mlp_out", "sae_group_gpt2_blocks.*.hook_mlp_out_24576:v*")],
    ),
    suite(
        "gpt2-small-res_{sce,scefr,scl,sle,slefr,sll}-ajt",
        "neuronpedia/gpt2-small__res_$1-ajt",
        "",
        &[("blocks.*.hook_resid_pre", "*-res_$1-ajt")],
    ),
    suite(
        "gpt2-small-resid-post-v5-32k",
        "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs",
        "",
        &[("blocks.*.hook_resid_post", "v5_32k_layer_*.pt")],
    ),
    suite(
        "gpt2-small-resid-post-v5-128k",
        "jbloom/GPT2-Small-OAI-v5-128k-resid-post-SAEs",
        "",
        &[("blocks.*.hook_resid_post", "v5_128k_layer_*")],
    ),
    suite(
        "gpt2-small-resid-mid-v5-{32k,128k}",
        "jbloom/GPT2-Small-OAI-v5-$1-resid-mid-SAEs",
        "",
        &[("blocks.*.hook_resid_mid", "v5_$1_layer_*")],
    ),
    suite(
        "gpt2-small-attn-out-v5-{32k,128k}",
        "jbloom/GPT2-Small-OAI-v5-$1-attn-out-SAEs",
        "",
        &[("blocks.*.hook_attn_out", "v5_$1_layer_*")],
    ),
    suite(
        "gpt2-small-mlp-out-v5-{32k,128k}",
        "jbloom/GPT2-Small-OAI-v5-$1-mlp-out-SAEs",
        "",
        &[("blocks.*.hook_mlp_out", "v5_$1_layer_*")],
    ),
    // Pythia
    suite(
        "pythia-70m-deduped-res-sm",
        "ctigges/pythia-70m-deduped__res-sm_processed",
        "",
        &[("blocks.0.hook_resid_pre", "e-res-sm"), ("blocks.*.hook_resid_post", "*-res-sm")],
    ),
    suite(
        "pythia-70m-deduped-att-sm",
        "ctigges/pythia-70m-deduped__att-sm_processed",
        "",
        &[("blocks.*.hook_attn_out", "*-att-sm")],
    ),
    suite(
        "pythia-70m-deduped-mlp-sm",
        "ctigges/pythia-70m-deduped__mlp-sm_processed",
        "",
        &[("blocks.*.hook_mlp_out", "*-mlp-sm")],
    ),
    suite(
        "sae_bench_pythia70m_sweep_{gated,panneal,topk}_ctx128_0730",
        "canrager/lm_sae",
        "pythia70m_sweep_$1_ctx128_0730",
        TRAINERS,
    ),
    suite("sae_bench_pythia70m_sweep_standard_ctx128_0712", "canrager/lm_sae", "pythia70m_sweep_standard_ctx128_0712", TRAINERS),
    // Llama and Mistral
    suite("llama_scope_lxr_{8x,32x}", "fnlp/Llama3_1-8B-Base-LXR-$1", "", &[("l*r_$1", "Llama3_1-8B-Base-L*R-$1")]),
    suite("llama_scope_lxa_{8x,32x}", "fnlp/Llama3_1-8B-Base-LXA-$1", "", &[("l*a_$1", "Llama3_1-8B-Base-L*A-$1")]),
    suite("llama_scope_lxm_{8x,32x}", "fnlp/Llama3_1-8B-Base-LXM-$1", "", &[("l*m_$1", "Llama3_1-8B-Base-L*M-$1")]),
    suite("llama_scope_lxtc_{8x,32x}", "fnlp/Llama3_1-8B-Base-LXTC-$1", "", &[("l*tc_$1", "Llama3_1-8B-Base-L*TC-$1")]),
    suite(
        "llama_scope_r1_distill",
        "fnlp/Llama-Scope-R1-Distill",
        "",
        &[
            ("l*r_800m_slimpajama", "800M-Slimpajama-0-OpenR1-Math-220k/L*R"),
            ("l*r_400m_slimpajama_400m_openr1_math", "400M-Slimpajama-400M-OpenR1-Math-220k/L*R"),
            ("l*r_800m_openr1_math", "0-Slimpajama-800M-OpenR1-Math-220k/L*R"),
        ],
    ),
    suite("llama-3-8b-it-res-jh", "Juliushanhanhan/llama-3-8b-it-res", "", &[]),
    suite("llama-3.1-8b-instruct-andyrdt", "andyrdt/saes-llama-3.1-8b-instruct", "", ANDYRDT),
    suite(
        "goodfire-llama-3.1-8b-instruct",
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "",
        &[("layer_*", "Llama-3.1-8B-Instruct-SAE-l*.pth")],
    ),
    suite(
        "goodfire-llama-3.3-70b-instruct",
        "Goodfire/Llama-3.3-70B-Instruct-SAE-l50",
        "",
        &[("layer_*", "Llama-3.3-70B-Instruct-SAE-l*.pt")],
    ),
    suite(
        "deepseek-r1-distill-llama-8b-qresearch",
        "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
        "",
        &[("blocks.*.hook_resid_post", "DeepSeek-R1-Distill-Llama-8B-SAE-l*.pt")],
    ),
    suite(
        "temporal-sae-llama-3.1-8b",
        "canrager/temporalSAEs",
        "llama-3.1-8B",
        &[("blocks.*.hook_resid_post", "layer_*/temporal")],
    ),
    suite(
        "mistral-7b-res-wg",
        "JoshEngels/Mistral-7B-Residual-Stream-SAEs",
        "",
        &[("blocks.*.hook_resid_pre", "mistral_7b_layer_*")],
    ),
    // Qwen and gpt-oss
    suite("qwen-scope-3-1.7b-base-w32k-l{50,100}", "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_$1", "", QWEN),
    suite("qwen-scope-3-8b-base-w64k-l{50,100}", "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_$1", "", QWEN),
    suite("qwen-scope-3-30b-a3b-base-w32k-l50", "Qwen/SAE-Res-Qwen3-30B-A3B-Base-W32K-L0_50", "", QWEN),
    suite("qwen-scope-3-30b-a3b-base-w128k-l100", "Qwen/SAE-Res-Qwen3-30B-A3B-Base-W128K-L0_100", "", QWEN),
    suite("qwen-scope-3.5-2b-base-w32k-l{50,100}", "Qwen/SAE-Res-Qwen3.5-2B-Base-W32K-L0_$1", "", QWEN),
    suite("qwen-scope-3.5-9b-base-w64k-l{50,100}", "Qwen/SAE-Res-Qwen3.5-9B-Base-W64K-L0_$1", "", QWEN),
    suite("qwen-scope-3.5-27b-w80k-l{50,100}", "Qwen/SAE-Res-Qwen3.5-27B-W80K-L0_$1", "", QWEN),
    suite("qwen-scope-3.5-35b-a3b-base-w32k-l50", "Qwen/SAE-Res-Qwen3.5-35B-A3B-Base-W32K-L0_50", "", QWEN),
    suite("qwen-scope-3.5-35b-a3b-base-w128k-l100", "Qwen/SAE-Res-Qwen3.5-35B-A3B-Base-W128K-L0_100", "", QWEN),
    suite("mwhanna-qwen3-{4b,8b,14b}-transcoders", "mwhanna/qwen3-$1-transcoders", "", LAYER_FILES),
    suite("mwhanna-qwen3-{0.6b,1.7b,14b}-transcoders-lowl0", "mwhanna/qwen3-$1-transcoders-lowl0", "", LAYER_FILES),
    suite("qwen2.5-7b-instruct-andyrdt", "andyrdt/saes-qwen2.5-7b-instruct", "", ANDYRDT),
    suite("gpt-oss-20b-andyrdt", "andyrdt/saes-gpt-oss-20b", "", ANDYRDT),
];

const QWEN: &[(&str, &str)] = &[("layer*", "layer*.sae.pt")];
const LAYER_FILES: &[(&str, &str)] = &[("layer_*", "layer_*.safetensors")];

/// The names of all suites.
pub fn names() -> Vec<String> {
    SUITES.iter().flat_map(|suite| variants(suite.name)).map(|(name, _)| name).collect()
}

/// The suites whose names are nearest to one, in words.
pub fn near(name: &str) -> Option<String> {
    let mut all: Vec<(usize, String)> =
        names().into_iter().map(|known| (strsim::damerau_levenshtein(name, &known), known)).collect();
    all.sort();
    let near: Vec<String> = all.into_iter().take(3).map(|(_, known)| format!("`{known}`")).collect();
    (!near.is_empty()).then(|| format!("suites of SAEs have names like {}", near.join(", ")))
}

/// What a suite's name, or one of an SAE in it, means: `org/repo[@revision][/path]`. The path may hold `*` (see [`found`]).
/// `None` for other names.
pub(super) fn meaning(name: &str) -> Option<String> {
    let (first, sae) = name.trim_end_matches('/').split_once('/').unwrap_or((name.trim_end_matches('/'), ""));
    let (first, revision) = first.split_once('@').map_or((first, String::new()), |(first, at)| (first, format!("@{at}")));
    let of = |suite: &'static Suite| {
        let (_, chosen) = variants(suite.name).into_iter().find(|(known, _)| known == first)?;
        Some((suite, chosen))
    };
    let (suite, chosen) = SUITES.iter().find_map(of)?;
    let filled = |text: &str| {
        let texts = chosen.iter().enumerate();
        texts.fold(text.to_string(), |text, (i, choice)| text.replace(&format!("${}", i + 1), choice))
    };
    let folder = filled(suite.folder);
    let inside = suite.paths.iter().find_map(|(id, path)| {
        let stars = stars(&filled(id), sae)?;
        Some(stars.iter().fold((filled(path), 0), |(path, from), star| {
            // What stands for one star may not be taken for the next.
            match path[from..].find('*') {
                Some(at) => (format!("{}{star}{}", &path[..from + at], &path[from + at + 1..]), from + at + star.len()),
                None => (path, from),
            }
        }))
    });
    let inside = inside.map_or_else(|| sae.to_string(), |(path, _)| path);
    let whole = inside == folder || inside.starts_with(&format!("{folder}/"));
    let repository = format!("{}{revision}", filled(suite.repository));
    let parts = [repository, if whole { String::new() } else { folder }, inside];
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

/// The path among a repository's files that is meant by one that is not there: with `*` for what only the listing says, or
/// with an average L0 that is near to one there. `None` where the path is there, or means nothing.
pub(super) fn found(files: &[String], path: &str, work: &Work) -> Option<String> {
    let is_there =
        |path: &str| files.iter().any(|file| file.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/')));
    if path.contains('*') {
        let depth = path.matches('/').count() + 1;
        let cut = |file: &String| file.split('/').take(depth).collect::<Vec<_>>().join("/");
        let mut matching: Vec<String> = files.iter().map(cut).filter(|file| stars(path, file).is_some()).collect();
        matching.dedup();
        return match &matching[..] {
            [only] => Some(only.clone()),
            _ => None,
        };
    }
    if is_there(path) { None } else { nearest_l0(files, path, work) }
}

/// The path with the average L0 that is there instead of the one that is not: each SAE of Gemma Scope has its own, measured
/// (FORMATS.md trap 27).
pub fn nearest_l0(files: &[String], path: &str, work: &Work) -> Option<String> {
    let (folder, last) = path.trim_end_matches("/params.npz").rsplit_once('/')?;
    let wanted = last.strip_prefix(AVERAGE_L0)?.parse().ok()?;
    let near = average_l0(files, folder, wanted)?;
    work.note(&format!("note: {folder} has no {last}: taking {}, the nearest", near.rsplit('/').next().unwrap_or(&near)));
    Some(near)
}

const AVERAGE_L0: &str = "average_l0_";

/// The folder `average_l0_N` in `folder` whose N is nearest to `wanted`, the smaller of two as near.
/// `None` where the folder holds no such ones, or others too.
pub fn average_l0(files: &[String], folder: &str, wanted: u64) -> Option<String> {
    let begin = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let inside = files.iter().filter_map(|file| file.strip_prefix(&begin)?.split('/').next());
    let l0s = inside.map(|name| name.strip_prefix(AVERAGE_L0)?.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let near = l0s.into_iter().min_by_key(|l0| (l0.abs_diff(wanted), *l0))?;
    Some(format!("{begin}{AVERAGE_L0}{near}"))
}

/// All names that a pattern with `{a,b}` stands for, each with what was chosen.
fn variants(pattern: &str) -> Vec<(String, Vec<&str>)> {
    let Some((before, inside, after)) = pattern.split_once('{').and_then(|(before, rest)| {
        let (inside, after) = rest.split_once('}')?;
        Some((before, inside, after))
    }) else {
        return vec![(pattern.to_string(), Vec::new())];
    };
    let mut all = Vec::new();
    for choice in inside.split(',') {
        for (rest, mut chosen) in variants(after) {
            chosen.insert(0, choice);
            all.push((format!("{before}{choice}{rest}"), chosen));
        }
    }
    all
}

/// What the stars of a pattern stand for in a text, each for a part of one name, at the beginning also for several; `None`
/// where it does not match.
fn stars<'t>(pattern: &str, text: &'t str) -> Option<Vec<&'t str>> {
    let Some((head, tail)) = pattern.split_once('*') else { return (pattern == text).then(Vec::new) };
    let rest = text.strip_prefix(head)?;
    let end = rest.find('/').filter(|_| !head.is_empty()).unwrap_or(rest.len());
    (0..=end).filter(|at| rest.is_char_boundary(*at)).find_map(|at| {
        let mut found = stars(tail, &rest[at..])?;
        found.insert(0, &rest[..at]);
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_and_capture() {
        assert_eq!(stars("l*r_8x", "l12r_8x"), Some(vec!["12"]));
        assert_eq!(stars("blocks.*.post__trainer_*", "blocks.3.post__trainer_16"), Some(vec!["3", "16"]));
        assert_eq!(stars("*/canonical", "layer_1/width_16k/canonical"), Some(vec!["layer_1/width_16k"]));
        assert_eq!(stars("a*.pt", "ab/c.pt"), None);
        assert_eq!(stars("plain", "plain"), Some(vec![]));
    }

    #[test]
    fn names_with_choices() {
        let all = variants("a-{x,y}{,-z}");
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a-x", "a-x-z", "a-y", "a-y-z"]);
        assert_eq!(all[3].1, ["y", "-z"]);
    }
}
