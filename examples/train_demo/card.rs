//! The model card of the demo, from what the trainings have recorded.

use serde_json::Value;

/// Markdown: what the demo is, its corpus and licence, the model's losses beside the baselines, each SAE's figures.
pub fn card(training: &Value, saes: &[Value]) -> String {
    let number = |value: &Value, digits: usize| format!("{:.digits$}", value.as_f64().unwrap_or(f64::NAN));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let (settings, shape) = (&training["settings"], &training["settings"]["architecture"]);
    let mut card = format!(
        "# The demo\n\n\
         A small language model that was really trained, with SAEs that were really trained on it; built into the program as `demo`.\n\
         Made by `cargo run --release --example train_demo -- --out DIR`; seed {}.\n\n\
         ## Model\n\n\
         `model/`: Llama architecture, {} parameters, stored in bf16: {} layers, d_model {}, {} query and {} key and value heads of {}, \
         {} neurons a layer, {} tokens (byte-level BPE), context {}, tied embeddings.\n\
         Trained for {} steps of {} × {} tokens on {} tokens of text. Loss on {} tokens of held-out text, in nats a token:\n\n\
         | | loss |\n|---|---|\n| unigram | {} |\n| Kneser-Ney bigram | {} |\n| **this model**, as stored | **{}** |\n\n",
        text(&settings["seed"]),
        text(&training["parameters"]),
        text(&shape["n_layers"]),
        text(&shape["d_model"]),
        text(&shape["n_heads"]),
        text(&shape["n_kv_heads"]),
        text(&shape["d_head"]),
        text(&shape["d_mlp"]),
        text(&shape["vocabulary"]),
        text(&shape["context"]),
        text(&training["step"]),
        text(&settings["batch"]),
        text(&shape["context"]),
        text(&training["train_tokens"]),
        text(&training["held_out_tokens"]),
        number(&training["held_out_loss_unigram"], 3),
        number(&training["held_out_loss_bigram"], 3),
        number(&training["held_out_loss"], 3),
    );
    card += "Samples (60 tokens):\n\n";
    for sample in training["samples"].as_array().into_iter().flatten() {
        let line = text(&sample["text"]).replace('\n', " ⏎ ");
        card += &format!("* temperature {}: {line}\n", sample["temperature"]);
    }
    card += "\n## Corpus\n\nPublic-domain English that packages ship, checked by SHA-256; whole sections are held out.\n\n\
             | package | version | text | bytes used | licence |\n|---|---|---|---|---|\n";
    for source in training["corpus"].as_array().into_iter().flatten() {
        let cells = ["package", "version", "text", "bytes", "licence"].map(|key| text(&source[key]));
        card += &format!("| {} |\n", cells.join(" | "));
    }
    let tokens = |key: &str| text(&saes.first().map_or(Value::Null, |sae| sae["figures"][key].clone()));
    card += &format!(
        "\n## SAEs\n\n\
         `saes/HOOK/` in SAELens's layout, bf16. Figures of the weights as stored, on {} tokens of held-out text, first positions left out: \
         mean active latents (L0), explained variance, latents that never fired (dead); cross-entropy recovered against zero ablation, \
         on {} of them at even distances.\n\n\
         | hook | latents | L0 | explained variance | dead | cross-entropy recovered |\n|---|---|---|---|---|---|\n",
        tokens("eval_tokens"),
        tokens("ce_tokens"),
    );
    for sae in saes {
        let figures = &sae["figures"];
        card += &format!(
            "| `{}` | {} | {} | {} | {} % | {} |\n",
            text(&sae["hook"]),
            sae["d_sae"],
            number(&figures["l0"], 1),
            number(&figures["explained_variance"], 3),
            number(&(100.0 * figures["dead_share"].as_f64().unwrap_or(f64::NAN)).into(), 1),
            number(&figures["ce_recovered"], 3),
        );
    }
    card + "\nLicence of model and SAEs: MIT OR Apache-2.0, as the program.\n"
}
