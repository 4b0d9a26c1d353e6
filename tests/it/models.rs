//! Models against independent readings of the same files (tests/reference, made by NumPy and transformers).

use crate::support::{assert_close, assert_tensor, fixture, numbers, real, reference, work};
use saerepl::analysis::{AttentionOptions, ExplainOptions, Scale, TokenOptions, attention_matrix, explain, unembed};
use saerepl::dictionary::{DirectionsOptions, directions, mlp_neurons};
use saerepl::formats::{TensorSet, gguf, safetensors};
use saerepl::model::forward::{Hook, Request};
use saerepl::model::{Model, ModelOptions, TokenKind};
use saerepl::render::page_text;
use saerepl::tensor::{Block, Bytes, DType, Tensor};
use serde_json::Value;

fn load(name: &str) -> saerepl::Result<Model> {
    Model::load(name, &ModelOptions::default(), &work())
}

fn site(key: &str) -> (String, Vec<usize>) {
    let (name, rest) = key.split_once('(').unwrap();
    (name.to_string(), rest.trim_end_matches(')').split(',').map(|n| n.parse().unwrap()).collect())
}

/// The weight that a reference calls `W_Q(12,5)`.
fn weight(model: &Model, key: &str) -> Tensor {
    if key == "W_E" {
        return model.w_e();
    }
    if key == "W_U" {
        return model.w_u();
    }
    let (name, at) = site(key);
    match (name.as_str(), &at[..]) {
        ("W_Q", [l, h]) => model.w_q(*l, *h).unwrap(),
        ("W_K", [l, h]) => model.w_k(*l, *h).unwrap(),
        ("W_V", [l, h]) => model.w_v(*l, *h).unwrap(),
        ("W_O", [l, h]) => model.w_o(*l, *h).unwrap(),
        ("W_in", [l]) => model.w_in(*l).unwrap(),
        ("W_gate", [l]) => model.w_gate(*l).unwrap().unwrap(),
        ("W_out", [l]) => model.w_out(*l).unwrap(),
        _ => panic!("no weight {key}"),
    }
}

fn check_cfg(model: &Model, expected: &Value) {
    let cfg = model.cfg();
    let size = |key: &str| expected[key].as_u64().unwrap() as usize;
    assert_eq!(cfg.arch, expected["arch"]);
    for (got, key) in [
        (cfg.n_layers, "n_layers"),
        (cfg.d_model, "d_model"),
        (cfg.n_heads, "n_heads"),
        (cfg.n_kv_heads, "n_kv_heads"),
        (cfg.d_head, "d_head"),
        (cfg.d_mlp, "d_mlp"),
        (cfg.d_vocab, "d_vocab"),
    ] {
        assert_eq!(got, size(key), "{key}");
    }
    assert_eq!(cfg.tied, expected["tied"]);
    assert_eq!(cfg.qk_norm, expected["qk_norm"]);
    assert_eq!(cfg.attn_softcap, expected["attn_softcap"].as_f64());
    assert_eq!(cfg.final_softcap, expected["final_softcap"].as_f64());
    assert_close(&[cfg.attn_scale], &numbers(&expected["attn_scale"]), 1e-8, "attn_scale");
    assert_close(&[cfg.eps], &numbers(&expected["eps"]), 1e-7, "eps");
}

fn check_tiny(name: &str, twin: &str) {
    let model = load(&fixture(name)).unwrap();
    let expected = &reference("tiny.json")["models"][twin];
    check_cfg(&model, &expected["cfg"]);
    let cfg = &expected["cfg"];
    assert_eq!(model.cfg().norm_offset, cfg["norm_offset"] == 1);
    assert_eq!(model.cfg().act.name(), cfg["act"]);
    let stored_in_f16 = cfg["embed_scale_f16"].as_f64().filter(|_| !name.ends_with(".gguf"));
    let embed_scale = stored_in_f16.unwrap_or(cfg["embed_scale"].as_f64().unwrap());
    assert_close(&[model.cfg().embed_scale], &[embed_scale], 1e-8, "embed_scale");

    let q8_0 = &reference("tiny.json")["gguf"][name]["q8_0"];
    for (key, value) in expected["weights"].as_object().unwrap() {
        match key.as_str() {
            "W_U_shape" => assert_eq!(serde_json::json!(model.w_u().shape()), *value),
            "W_U_column_3" => assert_tensor(&model.w_u().select(1, 3).unwrap(), value, 1e-7, key),
            _ => {
                let value = q8_0.get(key).unwrap_or(value);
                assert_tensor(&weight(&model, key), value, 1e-7, key);
            }
        }
    }
    for (key, value) in expected["gains"].as_object().unwrap() {
        assert_tensor(&model.gain(key).unwrap(), value, 1e-7, key);
    }
    let tokens = expected["tokenizer"]["tokens"].as_array().unwrap();
    let types = numbers(&expected["tokenizer"]["types"]);
    for (id, text) in tokens.iter().enumerate() {
        assert_eq!(model.vocabulary().token(id), *text, "token {id} of {name}");
        let kind = match types[id] as u32 {
            _ if text.as_str().unwrap().starts_with("<unused") => TokenKind::Unused,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        };
        assert_eq!(model.vocabulary().kind(id), kind, "kind of token {id} of {name}");
    }
    assert_eq!(model.vocabulary().len(), model.cfg().d_vocab);
    for case in expected["tokenizer"]["encode"].as_array().unwrap() {
        let ids: Vec<usize> = numbers(&case["ids"]).into_iter().map(|id| id as usize).collect();
        // The reference's `decode` leaves special tokens out; ours shows them.
        let shown = |id: &usize| !matches!(model.vocabulary().kind(*id), TokenKind::Control | TokenKind::Unknown);
        let kept: Vec<usize> = ids.into_iter().filter(shown).collect();
        assert_eq!(model.vocabulary().decode(&kept), case["decoded"], "{name}");
    }
}

#[test]
fn llama_from_safetensors() {
    check_tiny("tiny-llama", "tiny-llama");
    let model = load(&fixture("tiny-llama")).unwrap();
    assert!(model.w_e().is_mapped() && model.w_u().is_mapped() && model.w_out(0).unwrap().is_mapped());
    assert!(model.warnings().is_empty(), "{:?}", model.warnings());
    assert_eq!(model.find_gain("blocks.1.ln1_post").unwrap().map(|_| ()), None);
    assert_eq!(model.window(0).unwrap(), None);
}

#[test]
fn llama_from_shards_with_scaled_frequencies_and_padded_rows() {
    check_tiny("tiny-llama-sharded", "tiny-llama-sharded");
    let model = load(&fixture("tiny-llama-sharded")).unwrap();
    assert_eq!(model.vocabulary().kind(36), TokenKind::Padded);
    // The formula of FORMATS.md 4.3 with base 5e5, 8 dimensions, factor 8, low 1, high 4, original 8192: wavelengths are
    // 6.28, 167.1, 4443.5 (between 2048 and 8192), 118157.
    let smooth = (8192.0 / (std::f64::consts::TAU * 5e5f64.powf(0.5)) - 1.0) / 3.0;
    let third = 5e5f64.powf(-0.5) * ((1.0 - smooth) / 8.0 + smooth);
    let rope = model.rope(1).unwrap();
    assert_close(&rope.inverse_frequencies, &[1.0, 5e5f64.powf(-0.25), third, 5e5f64.powf(-0.75) / 8.0], 1e-12, "frequencies");
    assert_eq!((rope.base, rope.rotary_dims), (5e5, 8));
}

#[test]
fn gemma2_from_safetensors() {
    check_tiny("tiny-gemma2", "tiny-gemma2");
    let model = load(&fixture("tiny-gemma2")).unwrap();
    let windows: Vec<_> = (0..3).map(|layer| model.window(layer).unwrap()).collect();
    assert_eq!(windows, [Some(32), None, Some(32)]);
}

#[test]
fn gemma3_from_safetensors_beside_a_vision_tower() {
    check_tiny("tiny-gemma3", "tiny-gemma3");
    let model = load(&fixture("tiny-gemma3")).unwrap();
    let bases: Vec<_> = (0..3).map(|layer| model.rope(layer).unwrap().base).collect();
    assert_eq!(bases, [1e4, 1e6, 1e4]);
    assert_eq!((model.window(0).unwrap(), model.window(1).unwrap()), (Some(32), None));
    assert!(model.warnings().is_empty(), "{:?}", model.warnings());
}

#[test]
fn gguf_twins_give_the_same_canonical_weights() {
    check_tiny("tiny-llama.gguf", "tiny-llama");
    check_tiny("tiny-gemma3.gguf", "tiny-gemma3");
    let gemma = load(&fixture("tiny-gemma3.gguf")).unwrap();
    assert!((0..3).all(|layer| gemma.rope(layer).unwrap().base == 1e4), "5:1 pattern: none of three layers is global");
    assert!(gemma.cfg().quantised);
    assert!(gemma.warnings().iter().any(|w| w.contains("quantised (q8_0)")), "{:?}", gemma.warnings());
}

/// Every weight of a model by its name, widened.
fn all_weights(model: &Model) -> Vec<(String, Option<Vec<f32>>)> {
    let cfg = model.cfg();
    let mut all =
        vec![("W_E".to_string(), Some(model.w_e())), ("W_U".into(), Some(model.w_u())), ("W_pos".into(), model.w_pos())];
    all.extend([
        ("ln_final".into(), model.find_gain("ln_final").unwrap()),
        ("b ln_final".into(), model.bias("ln_final").unwrap()),
    ]);
    for layer in 0..cfg.n_layers {
        for head in 0..cfg.n_heads {
            for (name, weight) in [
                ("W_Q", model.w_q(layer, head).map(Some)),
                ("W_K", model.w_k(layer, head).map(Some)),
                ("W_V", model.w_v(layer, head).map(Some)),
                ("W_O", model.w_o(layer, head).map(Some)),
                ("b_Q", model.b_q(layer, head)),
                ("b_K", model.b_k(layer, head)),
                ("b_V", model.b_v(layer, head)),
            ] {
                all.push((format!("{name}({layer},{head})"), weight.unwrap()));
            }
        }
        for (name, weight) in [
            ("W_in", model.w_in(layer).map(Some)),
            ("W_gate", model.w_gate(layer)),
            ("W_out", model.w_out(layer).map(Some)),
            ("b_O", model.b_o(layer)),
            ("b_in", model.b_in(layer)),
            ("b_gate", model.b_gate(layer)),
            ("b_out", model.b_out(layer)),
        ] {
            all.push((format!("{name}({layer})"), weight.unwrap()));
        }
        for norm in ["ln1", "ln1_post", "ln2", "ln2_post", "attn.q_norm", "attn.k_norm"] {
            let norm = format!("blocks.{layer}.{norm}");
            all.push((format!("b {norm}"), model.bias(&norm).unwrap()));
            all.push((norm.clone(), model.find_gain(&norm).unwrap()));
        }
    }
    all.into_iter().map(|(name, weight)| (name, weight.map(|weight| weight.contiguous().to_f32()))).collect()
}

/// Converted by llama.cpp's rules, and run by llama.cpp with the same logits (tests/reference/gguf_twins.py).
#[test]
fn gguf_twins_of_every_architecture() {
    let work = work();
    let twins = reference("gguf_twins.json");
    assert_eq!(twins.as_object().unwrap().len(), 10);
    for (name, expected) in twins.as_object().unwrap() {
        let model = load(&fixture(&format!("forward/{name}.gguf"))).unwrap();
        let twin = load(&fixture(&format!("forward/{name}"))).unwrap();
        assert_eq!(model.cfg().arch, twin.cfg().arch);
        assert_eq!(model.cfg().tied, twin.cfg().tied, "{name}");
        assert_eq!(model.cfg().parallel, twin.cfg().parallel, "{name}");
        for ((what, got), (_, wanted)) in all_weights(&model).into_iter().zip(all_weights(&twin)) {
            assert!(got == wanted, "{name}: {what} is not its twin's");
        }
        let ids: Vec<usize> = (0..2).flat_map(|_| [5, 17, 3, 60, 41]).collect();
        let forward = |model: &Model, ids: &[usize]| {
            let pass = model.forward(&work).unwrap().run(&[ids], &Request::default(), &work).unwrap();
            pass.logits.unwrap().select(0, ids.len() - 1).unwrap().to_f64()
        };
        // What a GGUF file of these two cannot say is another number in the twin.
        if !["gemma2", "gemma3_text"].contains(&name.as_str()) {
            assert_close(&forward(&model, &ids), &forward(&twin, &ids), 1e-6, name);
        }
        let file = std::path::PathBuf::from(fixture(&format!("forward/{name}/expected.safetensors")));
        let run = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
        let ids: Vec<usize> = run.get("ids").unwrap().to_i64().iter().map(|id| *id as usize).collect();
        assert_close(&forward(&model, &ids), &numbers(&expected["logits_last"]), 1e-4, name);
    }
}

/// Split by the gguf package.
#[test]
fn a_gguf_model_in_parts() {
    let whole = load(&fixture("forward/llama_bias.gguf")).unwrap();
    for part in 1..=3 {
        let model = load(&fixture(&format!("forward/llama_bias-split-0000{part}-of-00003.gguf"))).unwrap();
        assert!(all_weights(&model) == all_weights(&whole));
        assert!(model.warnings().is_empty(), "{:?}", model.warnings());
    }
}

#[test]
fn what_gguf_leaves_unsaid_of_gemma() {
    let model = load(&fixture("forward/gemma2.gguf")).unwrap();
    assert_eq!((model.cfg().attn_softcap, model.cfg().final_softcap), (Some(2.5), Some(2.0)));
    assert_close(&[model.cfg().attn_scale], &[10f64.powf(-0.5)], 1e-12, "1 / √d_head");
    assert_eq!((0..3).map(|layer| model.window(layer).unwrap()).collect::<Vec<_>>(), [Some(8), None, Some(8)]);
    let model = load(&fixture("forward/gemma3_text.gguf")).unwrap();
    let bases: Vec<f64> = (0..4).map(|layer| model.rope(layer).unwrap().base).collect();
    assert_eq!(bases, [1e4, 1e4, 3000.0, 1e4]);
    // The linear scaling is that of the layers with full attention.
    assert_eq!(model.rope(0).unwrap().inverse_frequencies[0], 1.0);
    assert_eq!(model.rope(2).unwrap().inverse_frequencies[0], 0.125);
}

/// The two models of 27 billion weights divide scores by the root of d_model / n_heads, which no GGUF file says.
#[test]
fn the_27b_models_of_gemma_have_a_query_scale_of_their_own() {
    let scale = |arch: &str, d_model: usize, heads: usize| {
        let (d_head, d_mlp, d_vocab) = (128, 32, 32);
        let mut tensors = TensorSet::new("m.gguf");
        let mut put = |name: &str, shape: &[usize]| {
            let dtype = DType::Block(Block::Q8_0);
            let bytes = vec![0u8; dtype.bytes_of(shape.iter().product()).unwrap()];
            tensors.insert(name, Tensor::from_bytes(Bytes::from(bytes), dtype, shape).unwrap());
        };
        put("token_embd.weight", &[d_vocab, d_model]);
        put("output_norm.weight", &[d_model]);
        for norm in ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"] {
            put(&format!("blk.0.{norm}.weight"), &[d_model]);
        }
        put("blk.0.attn_q.weight", &[heads * d_head, d_model]);
        put("blk.0.attn_k.weight", &[d_head, d_model]);
        put("blk.0.attn_v.weight", &[d_head, d_model]);
        put("blk.0.attn_output.weight", &[d_model, heads * d_head]);
        put("blk.0.ffn_gate.weight", &[d_mlp, d_model]);
        put("blk.0.ffn_up.weight", &[d_mlp, d_model]);
        put("blk.0.ffn_down.weight", &[d_model, d_mlp]);
        if arch == "gemma3" {
            put("blk.0.attn_q_norm.weight", &[d_head]);
            put("blk.0.attn_k_norm.weight", &[d_head]);
        }
        let metadata = [
            ("general.architecture".to_string(), gguf::Value::Text(arch.into())),
            (format!("{arch}.embedding_length"), gguf::Value::U64(d_model as u64)),
            (format!("{arch}.attention.head_count"), gguf::Value::U64(heads as u64)),
            (format!("{arch}.block_count"), gguf::Value::U64(1)),
        ];
        let file = gguf::Gguf { metadata: metadata.into(), tensors, bytes: Bytes::from(Vec::new()) };
        Model::from_gguf(file, "m.gguf".as_ref()).unwrap().cfg().attn_scale
    };
    let scales = [scale("gemma2", 4608, 32), scale("gemma3", 5376, 32), scale("gemma2", 2304, 32), scale("gemma3", 5376, 16)];
    assert_close(&scales, &[144f64.powf(-0.5), 168f64.powf(-0.5), 128f64.powf(-0.5), 128f64.powf(-0.5)], 1e-12, "scales");
}

/// Qwen3.5: what stands in the residual stream can be analysed, heads where there are some (tests/reference/qwen3_5.py).
#[test]
fn trap_42_linear_attention_and_gated_queries() {
    let work = work();
    let model = load(&fixture("tiny-qwen3_5")).unwrap();
    let expected = reference("qwen3_5.json");
    let warned = |what: &str| model.warnings().iter().any(|warning| warning.contains(what));
    assert!(model.warnings().len() == 2 && warned("tokenizer.json") && warned("multiply z by a gate"), "{:?}", model.warnings());
    let cfg = model.cfg();
    assert_eq!((cfg.n_layers, cfg.n_heads, cfg.n_kv_heads, cfg.d_head, cfg.norm_offset), (5, 3, 1, 8, true));
    assert_eq!((model.layers_with_heads(), model.rope(3).unwrap().rotary_dims), (vec![3], 4));
    for head in 0..3 {
        assert_tensor(&model.w_q(3, head).unwrap(), &expected["W_Q"][head], 1e-7, "W_Q");
        assert_tensor(&model.w_k(3, head).unwrap(), &expected["W_K"], 1e-7, "W_K");
        assert_tensor(&model.w_o(3, head).unwrap(), &expected["W_O"][head], 1e-7, "W_O");
    }
    for (norm, gain) in expected["gains"].as_object().unwrap() {
        assert_tensor(&model.gain(norm).unwrap(), gain, 1e-7, norm);
    }
    let rows = numbers(&expected["directions"]).iter().map(|v| *v as f32).collect();
    let probes = directions(&Tensor::from_f32(rows, &[3, 20]).unwrap(), &DirectionsOptions::default()).unwrap();
    let scores = unembed(&probes, &model, &TokenOptions::default(), &work).unwrap();
    for feature in 0..3 {
        assert_tensor(&scores.scores(feature, &work).unwrap(), &expected["logits"][feature], 1e-5, "logits");
    }
    let reason = "tiny-qwen3_5 has linear attention, which has no heads of queries and keys";
    let refused = attention_matrix(&probes, &probes, &model, 4, 0, &AttentionOptions::default(), &work).unwrap_err();
    assert!(refused.to_string().contains(reason), "{refused}");
    assert!(refused.helps()[0].contains("layers with heads: [3]"));
    assert!(attention_matrix(&probes, &probes, &model, 3, 0, &AttentionOptions::default(), &work).is_ok());
    // A card looks for the next layer with heads.
    let card = explain(&mlp_neurons(&model, 1).unwrap(), &model, 2, &ExplainOptions::default(), &work).unwrap();
    let card = page_text(&card, 100);
    assert!(card.contains("Heads of layer 3"), "{card}");
    assert!(model.w_v(4, 0).unwrap_err().to_string().contains(reason));
    assert!(model.w_o_all(4).unwrap_err().to_string().contains(reason));
    assert!(model.forward(&work).unwrap_err().to_string().contains("linear attention and gated heads are not known here"));
    let layers = model.describe().into_iter().find(|(what, _)| what == "layers").unwrap().1;
    assert_eq!(layers, "5, of which 4 have linear attention; heads in [3]");
}

/// Qwen's mixtures of experts: attention and the residual stream as anywhere, no neurons where experts are (tests/reference/qwen_moe.py).
#[test]
fn mixtures_of_experts() {
    let work = work();
    for (kind, expected) in reference("qwen_moe.json").as_object().unwrap() {
        let model = load(&fixture(&format!("tiny-{kind}"))).unwrap();
        assert!(matches!(model.warnings(), [only] if only.contains("tokenizer.json")), "{kind}: {:?}", model.warnings());
        assert_eq!((model.cfg().n_layers, model.cfg().d_mlp, model.cfg().qk_norm), (3, 26, kind == "qwen3_moe"), "{kind}");
        let x = numbers(&expected["x"]).iter().map(|v| *v as f32).collect();
        let x = Tensor::from_f32(x, &[6, 24]).unwrap();
        let d_head = model.cfg().d_head;
        for head in 0..4 {
            let columns = |of: usize, part: &str| -> Vec<f64> {
                let rows = numbers(&expected[part]);
                let width = rows.len() / 6;
                rows.chunks(width).flat_map(|row| row[of * d_head..(of + 1) * d_head].to_vec()).collect()
            };
            let applied = |w: Tensor, b: Option<Tensor>| -> Vec<f64> {
                let out = saerepl::compute::matmul(&x, &w, &work).unwrap().to_f64();
                let bias = b.map_or(vec![0.0; d_head], |b| b.to_f64());
                out.iter().enumerate().map(|(at, v)| v + bias[at % d_head]).collect()
            };
            assert_close(&applied(model.w_q(1, head).unwrap(), model.b_q(1, head).unwrap()), &columns(head, "q"), 1e-5, kind);
            assert_close(&applied(model.w_k(1, head).unwrap(), model.b_k(1, head).unwrap()), &columns(head / 2, "k"), 1e-5, kind);
            assert_close(&applied(model.w_v(1, head).unwrap(), model.b_v(1, head).unwrap()), &columns(head / 2, "v"), 1e-5, kind);
            assert_tensor(&model.w_o(1, head).unwrap(), &expected["W_O"][head], 1e-7, kind);
        }
        assert_tensor(&model.gain("blocks.1.ln2").unwrap(), &expected["ln2"], 1e-7, kind);
        assert_tensor(&model.w_in(0).unwrap(), &expected["W_in"], 1e-7, kind);
        let rows = numbers(&expected["directions"]).iter().map(|v| *v as f32).collect();
        let probes = directions(&Tensor::from_f32(rows, &[3, 24]).unwrap(), &DirectionsOptions::default()).unwrap();
        let scores = unembed(&probes, &model, &TokenOptions::default(), &work).unwrap();
        for feature in 0..3 {
            assert_tensor(&scores.scores(feature, &work).unwrap(), &expected["logits"][feature], 1e-5, kind);
        }
        assert!(attention_matrix(&probes, &probes, &model, 1, 0, &AttentionOptions::default(), &work).is_ok());
        assert_eq!(mlp_neurons(&model, 0).unwrap().n(), 26);
        for refused in [mlp_neurons(&model, 1).err(), model.w_out(2).err()] {
            let refused = refused.unwrap();
            assert!(refused.to_string().contains("has a mixture of experts, of which each token takes some"), "{refused}");
            assert!(refused.helps()[0].contains("layers with one MLP: [0]"), "{refused:?}");
        }
        let error = model.forward(&work).unwrap_err();
        assert!(error.to_string().contains("cannot be run: layer 1 has a mixture of experts"), "{error}");
        let d_mlp = model.describe().into_iter().find(|(what, _)| what == "d_mlp").unwrap().1;
        assert_eq!(d_mlp, "26, silu, in layers [0]; the others have a mixture of experts");
        assert!(!model.fingerprint().unwrap().is_empty());
    }
    // With experts everywhere there are no neurons at all.
    let folder = changed("tiny-qwen3_moe", |config| config["mlp_only_layers"] = serde_json::json!([]));
    let file = folder.path().join("model.safetensors");
    let mut tensors = TensorSet::new("");
    let stored = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    for (name, tensor) in stored.iter().filter(|(name, _)| !name.contains("layers.0.mlp")) {
        tensors.insert(name, tensor.clone());
        if name.contains("layers.1.mlp") {
            tensors.insert(name.replace("layers.1", "layers.0"), tensor.clone());
        }
    }
    std::fs::write(&file, safetensors::write(&tensors).unwrap()).unwrap();
    let model = load(&folder.path().display().to_string()).unwrap();
    assert_eq!((model.cfg().d_mlp, model.warnings().len()), (0, 1), "{:?}", model.warnings());
    assert!(mlp_neurons(&model, 0).unwrap_err().helps()[0].contains("no layer has one MLP"));
}

/// Matrices of FP8 checkpoints times their scales (tests/reference/fp8.py).
#[test]
fn eight_bit_weights_with_scales() {
    let work = work();
    let expected = reference("fp8.json");
    let file = std::path::PathBuf::from(fixture("forward/qwen3/expected.safetensors"));
    let ids = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap().get("ids").unwrap().to_i64();
    let ids: Vec<usize> = ids.iter().map(|id| *id as usize).collect();
    for (kind, logits) in expected["logits_last"].as_object().unwrap() {
        let model = load(&fixture(&format!("fp8/{kind}"))).unwrap();
        let pass = model.forward(&work).unwrap().run(&[&ids], &Request::default(), &work).unwrap();
        let last = pass.logits.unwrap().select(0, ids.len() - 1).unwrap();
        assert_close(&last.to_f64(), &numbers(logits), 1e-5, kind);
        assert!(model.cfg().quantised && model.warnings().iter().any(|w| w.contains("quantised (f8_")), "{:?}", model.warnings());
        assert!(!model.warnings().iter().any(|w| w.contains("not used")), "{:?}", model.warnings());
    }
    // Blocks of another size than the scales were made for.
    let folder = changed("fp8/block", |config| config["quantization_config"]["weight_block_size"] = serde_json::json!([32, 32]));
    let error = load(&folder.path().display().to_string()).unwrap_err().to_string();
    assert!(error.contains("_proj.weight") && error.contains("but blocks of [32, 32] need"), "{error}");
}

#[test]
fn packed_integers_are_refused_by_their_method() {
    let folder = changed("tiny-llama", |config| config["quantization_config"]["quant_method"] = "gptq".into());
    let file = folder.path().join("model.safetensors");
    let mut tensors = TensorSet::new("");
    let stored = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    for (name, tensor) in stored.iter() {
        tensors.insert(name.replace("q_proj.weight", "q_proj.qweight"), tensor.clone());
    }
    let bytes = safetensors::write(&tensors).unwrap();
    drop((stored, tensors));
    std::fs::write(&file, bytes).unwrap();
    let error = load(&folder.path().display().to_string()).unwrap_err();
    assert!(error.to_string().contains("q_proj.qweight`: its weights are packed by gptq, which is not read"), "{error}");
    assert!(error.helps()[0].contains("GGUF"));
}

/// A copy of tiny-llama whose query weights are 8-bit integers as bitsandbytes stores them, with these tensors beside each:
/// the rows' largest values (SCB) and the format of the tiles.
fn bitsandbytes(scales: bool, format: Option<u8>) -> (tempfile::TempDir, Vec<f64>) {
    use ::safetensors::tensor::{Dtype, TensorView};
    let folder = changed("tiny-llama", |config| config["quantization_config"]["quant_method"] = "bitsandbytes".into());
    let file = folder.path().join("model.safetensors");
    let stored = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let (mut parts, mut first) = (Vec::new(), Vec::new());
    for (name, tensor) in stored.iter() {
        let values = tensor.to_f32();
        let Some(module) = name.strip_suffix(".weight").filter(|module| module.ends_with("q_proj")) else {
            parts.push((name.to_string(), Dtype::F32, tensor.shape().to_vec(), bytes(&values)));
            continue;
        };
        let width = tensor.shape()[1];
        let largest: Vec<f32> = values.chunks(width).map(|row| row.iter().fold(0f32, |most, v| most.max(v.abs()))).collect();
        let small: Vec<i8> = values.iter().enumerate().map(|(i, v)| (v * 127.0 / largest[i / width]).round() as i8).collect();
        if first.is_empty() {
            first = small.iter().enumerate().map(|(i, v)| f64::from(*v) * f64::from(largest[i / width]) / 127.0).collect();
        }
        parts.push((name.to_string(), Dtype::I8, tensor.shape().to_vec(), small.iter().map(|v| *v as u8).collect()));
        if scales {
            parts.push((format!("{module}.SCB"), Dtype::F32, vec![largest.len()], bytes(&largest)));
        }
        parts.extend(format.map(|format| (format!("{module}.weight_format"), Dtype::U8, vec![], vec![format])));
    }
    let views = parts.iter().map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let written = ::safetensors::serialize(views, None).unwrap();
    drop(stored);
    std::fs::write(&file, written).unwrap();
    (folder, first)
}

/// LLM.int8 (Dettmers et al. 2022): a row of integers times its largest value by 127.
#[test]
fn integers_are_weights_with_bitsandbytes_scales_alone() {
    let (folder, expected) = bitsandbytes(true, Some(0));
    let model = load(&folder.path().display().to_string()).unwrap();
    let (n_heads, d_head) = (model.cfg().n_heads, model.cfg().d_head);
    // A head's W_Q `[d_model, d_head]` is the transpose of its rows.
    let read: Vec<f64> = (0..n_heads).flat_map(|head| model.w_q(0, head).unwrap().t().to_f64()).collect();
    assert_eq!(read.len(), n_heads * d_head * model.cfg().d_model);
    assert_close(&read, &expected, 1e-6, "W_Q");
    assert!(model.cfg().quantised && model.warnings().iter().any(|w| w.contains("quantised (i8)")), "{:?}", model.warnings());
    assert!(!model.warnings().iter().any(|w| w.contains("not used")), "{:?}", model.warnings());
    for (scales, format, fault) in [
        (false, None, "q_proj.weight`: its elements are i8: a quantised model, whose scales are not known"),
        (true, Some(1), "its 8-bit numbers are stored in tiles of a GPU"),
    ] {
        let (folder, _) = bitsandbytes(scales, format);
        let error = load(&folder.path().display().to_string()).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}

#[test]
fn a_rotation_that_gives_no_numbers_is_refused() {
    for (rope, fault) in [
        (serde_json::json!({"rope_theta": 0, "rope_type": "default"}), "a θ of 0, but it must be positive"),
        (serde_json::json!({"rope_theta": -1e4}), "a θ of -10000, but it must be positive"),
        (serde_json::json!({"rope_theta": 1e4, "rope_type": "linear", "factor": 0}), "divides rotary frequencies by 0"),
        (serde_json::json!({"rope_theta": 1e4, "partial_rotary_factor": -1}), "a share of -1 of each head rotate"),
        (serde_json::json!({"rope_theta": 1e4, "partial_rotary_factor": 1.5}), "a share of 1.5 of each head rotate"),
    ] {
        let folder = changed("tiny-llama", |config| config["rope_parameters"] = rope.clone());
        let error = load(&folder.path().display().to_string()).unwrap_err().to_string();
        assert!(error.contains(fault), "{rope}: {error}");
    }
}

#[test]
fn weights_that_are_no_numbers_stop_the_forward_pass_at_their_layer() {
    for (name, fault) in [
        ("model.layers.1.mlp.down_proj.weight", "the residual stream after layer 1 has"),
        ("model.norm.weight", "what the final norm and the unembedding give has"),
    ] {
        let folder = changed("tiny-llama", |_| {});
        let file = folder.path().join("model.safetensors");
        let mut tensors = TensorSet::new("");
        let stored = safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap();
        for (other, tensor) in stored.iter() {
            let mut tensor = Tensor::from_f32(tensor.to_f32(), tensor.shape()).unwrap();
            if other == name {
                tensor.make_mut_f32()[5] = f32::NAN;
            }
            tensors.insert(other, tensor);
        }
        let bytes = safetensors::write(&tensors).unwrap();
        drop((stored, tensors));
        std::fs::write(&file, bytes).unwrap();
        let model = load(&folder.path().display().to_string()).unwrap();
        let error = model.forward(&work()).unwrap().run(&[&[1, 2, 3]], &Request::default(), &work()).unwrap_err();
        assert!(error.to_string().contains(fault), "{name}: {error}");
    }
}

#[test]
fn a_tokenizer_without_a_vocabulary_is_said() {
    let folder = changed("tiny-llama", |_| {});
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let model = load(&folder.path().display().to_string()).unwrap();
    assert!(
        model.warnings().contains(&"tokenizer.json has no vocabulary: tokens have no text".to_string()),
        "{:?}",
        model.warnings()
    );
}

// ---- traps of FORMATS.md 7 ------------------------------------------------------------------------------------------

/// A model's tensors as its file stores them, by their stored names.
fn stored(name: &str) -> TensorSet {
    let path = std::path::PathBuf::from(fixture(name));
    if name.ends_with(".gguf") {
        return gguf::read(Bytes::map(&path).unwrap(), &path).unwrap().tensors;
    }
    let file = path.join("model.safetensors");
    safetensors::read(Bytes::map(&file).unwrap(), &file).unwrap()
}

fn plus(tensor: &Tensor, offset: f32) -> Vec<f32> {
    tensor.to_f32().into_iter().map(|v| v + offset).collect()
}

#[test]
fn trap_12_which_norms_multiply_by_one_more() {
    for (name, norm, offset) in [
        ("tiny-gemma2", "model.layers.1.input_layernorm.weight", 1.0),
        ("tiny-gemma3", "language_model.model.layers.1.self_attn.q_norm.weight", 1.0),
        ("tiny-gemma3.gguf", "blk.1.attn_q_norm.weight", 0.0),
        ("forward/gemma2.gguf", "blk.1.attn_norm.weight", 0.0),
        ("forward/qwen3", "model.layers.1.self_attn.q_norm.weight", 0.0),
        ("tiny-llama", "model.layers.1.input_layernorm.weight", 0.0),
        ("tiny-qwen3_5", "model.language_model.layers.1.input_layernorm.weight", 1.0),
    ] {
        let gain = if norm.contains("q_norm") { "blocks.1.attn.q_norm" } else { "blocks.1.ln1" };
        assert_eq!(
            load(&fixture(name)).unwrap().gain(gain).unwrap().to_f32(),
            plus(stored(name).get(norm).unwrap(), offset),
            "{name}"
        );
    }
}

#[test]
fn trap_13_one_name_for_two_norms() {
    let norm = "model.layers.2.post_attention_layernorm.weight";
    let llama = load(&fixture("tiny-llama")).unwrap();
    assert_eq!(llama.gain("blocks.2.ln2").unwrap().to_f32(), plus(stored("tiny-llama").get(norm).unwrap(), 0.0));
    let (gemma, file) = (load(&fixture("tiny-gemma2")).unwrap(), stored("tiny-gemma2"));
    assert_eq!(gemma.gain("blocks.2.ln1_post").unwrap().to_f32(), plus(file.get(norm).unwrap(), 1.0));
    let before = file.get("model.layers.2.pre_feedforward_layernorm.weight").unwrap();
    assert_eq!(gemma.gain("blocks.2.ln2").unwrap().to_f32(), plus(before, 1.0));
}

#[test]
fn trap_14_llamas_queries_are_permuted_in_gguf() {
    let (model, file) = (load(&fixture("forward/llama_bias.gguf")).unwrap(), stored("forward/llama_bias.gguf"));
    let (rows, biases) = (file.get("blk.1.attn_k.weight").unwrap(), file.get("blk.1.attn_k.bias").unwrap().to_f32());
    // Query heads 2 and 3 read kv head 1, whose six rows begin at 6: halves (0, 1, 2) and (3, 4, 5) lie in turn.
    let (key, bias) = (model.w_k(1, 3).unwrap(), model.b_k(1, 3).unwrap().unwrap().to_f32());
    for (stored, column) in [0, 3, 1, 4, 2, 5].into_iter().enumerate() {
        assert_eq!(key.select(1, column).unwrap().to_f32(), rows.row(6 + stored).unwrap());
        assert_eq!(bias[column], biases[6 + stored]);
    }
}

#[test]
fn trap_15_gpt2_stores_matrices_the_other_way_round() {
    let (model, file) = (load(&fixture("forward/gpt2")).unwrap(), stored("forward/gpt2"));
    // Both are square; a head has 8 dimensions of 24.
    let output = file.get("h.1.attn.c_proj.weight").unwrap();
    assert_eq!(output.shape(), [24, 24]);
    assert_eq!(model.w_o(1, 2).unwrap().to_f32(), output.narrow(0, 16..24).unwrap().to_f32());
    let fused = file.get("h.1.attn.c_attn.weight").unwrap();
    for (weight, third) in [(model.w_q(1, 2), 0), (model.w_k(1, 2), 1), (model.w_v(1, 2), 2)] {
        let columns = 24 * third + 16..24 * third + 24;
        assert_eq!(weight.unwrap().to_f32(), fused.narrow(1, columns).unwrap().contiguous().to_f32(), "{third}");
    }
}

#[test]
fn trap_16_neox_mixes_heads_in_one_matrix() {
    let (model, file) = (load(&fixture("forward/gpt_neox")).unwrap(), stored("forward/gpt_neox"));
    let fused = file.get("gpt_neox.layers.1.attention.query_key_value.weight").unwrap();
    for (weight, part) in [(model.w_q(1, 2), 0), (model.w_k(1, 2), 1), (model.w_v(1, 2), 2)] {
        let at = 8 * (3 * 2 + part);
        assert_eq!(weight.unwrap().to_f32(), fused.narrow(0, at..at + 8).unwrap().t().contiguous().to_f32(), "{part}");
    }
}

#[test]
fn trap_17_grouped_heads_share_by_division() {
    let model = load(&fixture("tiny-llama")).unwrap();
    let key = |head| model.w_k(1, head).unwrap().to_f32();
    assert!(key(0) == key(1) && key(2) == key(3) && key(1) != key(2));
}

#[test]
fn what_is_out_of_range_or_misnamed_is_said() {
    let model = load(&fixture("tiny-llama")).unwrap();
    let message = |result: saerepl::Result<Tensor>| result.unwrap_err().to_string();
    assert!(
        message(model.w_q(3, 0)).contains("layer 3 is out of range: ")
            && message(model.w_q(3, 0)).ends_with("has 3 layers, numbered from 0")
    );
    assert!(message(model.w_k(0, 4)).contains("head 4 is out of range: "));
    assert!(message(model.gain("blocks.9.ln1")).contains("layer 9 is out of range"));
    assert!(message(model.gain("blocks.0.ln1_post")).contains("has no norm `blocks.0.ln1_post`"));
    let error = model.gain("blocks.0.ln_1").unwrap_err();
    assert_eq!(error.helps()[0], "did you mean `blocks.0.ln1`?");
    assert!(model.rope(3).is_err() && model.window(3).is_err() && model.w_out(3).is_err());
}

#[test]
fn trap_18_a_head_is_not_always_d_model_over_heads() {
    let folder = changed("forward/qwen3", |config| drop(config.as_object_mut().unwrap().remove("head_dim")));
    // The head norm's own length says it: 10, where 28 / 4 would be 7.
    let cfg = load(&folder.path().display().to_string()).unwrap().cfg().clone();
    assert_eq!((cfg.d_model, cfg.n_heads, cfg.d_head), (28, 4, 10));
    assert_eq!(load(&fixture("forward/gemma2")).unwrap().cfg().d_head, 10);
}

#[test]
fn trap_19_tied_or_not_by_the_tensors() {
    let folder = changed("forward/qwen3", |config| config["tie_word_embeddings"] = false.into());
    let model = load(&folder.path().display().to_string()).unwrap();
    assert!(model.cfg().tied && model.w_u().to_f32() == model.w_e().t().contiguous().to_f32());
    assert!(model.warnings().iter().any(|w| w.contains("not tied, but the file has none")), "{:?}", model.warnings());
    // transformers ties whatever the file holds.
    let folder = changed("tiny-llama", |config| config["tie_word_embeddings"] = true.into());
    assert!(load(&folder.path().display().to_string()).unwrap().cfg().tied);
}

#[test]
fn trap_20_the_embedding_is_scaled_at_the_input_only() {
    let work = work();
    for name in ["forward/gemma1", "forward/gemma2.gguf"] {
        let (model, file) = (load(&fixture(name)).unwrap(), stored(name));
        let embedding = file.find("model.embed_tokens.weight").or(file.find("token_embd.weight")).unwrap();
        assert_eq!(model.w_e().to_f32(), embedding.to_f32());
        assert_eq!(model.w_u().contiguous().to_f32(), embedding.t().contiguous().to_f32());
        let request = Request { keep: vec![Hook::Embed], ..Request::default() };
        let pass = model.forward(&work).unwrap().run(&[&[7, 2]], &request, &work).unwrap();
        let scale = (model.cfg().d_model as f64).sqrt();
        let expected: Vec<f64> = embedding.row(7).unwrap().iter().map(|v| f64::from(*v) * scale).collect();
        assert_close(&pass.kept[0].1.row(0).unwrap().iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), &expected, 1e-6, name);
    }
}

#[test]
fn trap_21_rows_beyond_the_tokenizer_stay_out_of_the_lists() {
    let work = work();
    let model = load(&fixture("tiny-llama-sharded")).unwrap();
    // The row of a token that no text holds, as a direction: its own score is the highest.
    let row = model.w_e().row(36).unwrap();
    let probe = directions(&Tensor::vector(row), &DirectionsOptions::default()).unwrap();
    let top = |mask_special| {
        let options = TokenOptions { mask_special, fold_norm: false, k: 37, ..TokenOptions::default() };
        unembed(&probe, &model, &options, &work).unwrap().top(0).unwrap().into_iter().map(|t| t.id).collect::<Vec<_>>()
    };
    assert_eq!(top(false)[0], 36);
    let masked = top(true);
    assert!(!masked.contains(&36) && !masked.contains(&0), "{masked:?}");
    assert!(model.special_mask(&work).unwrap().counts.iter().any(|(reason, n)| (*reason, *n) == ("padded", 2)));
}

/// A copy of a fixture with changed tensors.
fn with_tensors(name: &str, change: impl Fn(&str, &mut Tensor)) -> tempfile::TempDir {
    let folder = changed(name, |_| {});
    let mut tensors = TensorSet::new("");
    for (key, tensor) in stored(name).iter() {
        let mut tensor = tensor.clone();
        change(key, &mut tensor);
        tensors.insert(key, tensor);
    }
    std::fs::write(folder.path().join("model.safetensors"), safetensors::write(&tensors).unwrap()).unwrap();
    folder
}

#[test]
fn trap_22_one_long_row_does_not_lead_every_list_of_cosines() {
    let work = work();
    let folder = with_tensors("tiny-llama", |name, tensor| {
        if name == "lm_head.weight" {
            tensor.make_mut_f32()[12 * 20..12 * 21].iter_mut().for_each(|v| *v *= 1e4);
        }
    });
    let (plain, long) = (load(&fixture("tiny-llama")).unwrap(), load(&folder.path().display().to_string()).unwrap());
    let probes = directions(&Tensor::randn(&[8, 12], 3, 0, &work).unwrap(), &DirectionsOptions::default()).unwrap();
    let leading = |model: &Model, scale| {
        let options = TokenOptions { mask_special: false, scale, k: 1, ..TokenOptions::default() };
        let scores = unembed(&probes, model, &options, &work).unwrap();
        (0..8).map(|feature| scores.top(feature).unwrap()[0].id).collect::<Vec<_>>()
    };
    assert!(leading(&long, Scale::Raw).iter().filter(|id| **id == 20).count() > 1);
    assert_eq!(leading(&long, Scale::Cosine), leading(&plain, Scale::Cosine));
}

#[test]
fn trap_40_gains_of_zero_and_below_are_never_divided_by() {
    let work = work();
    let folder = with_tensors("tiny-llama", |name, tensor| {
        if name.ends_with("norm.weight") {
            tensor.make_mut_f32()[..3].copy_from_slice(&[0.0, -2.0, 1e-30]);
        }
    });
    let model = load(&folder.path().display().to_string()).unwrap();
    let probes = directions(&Tensor::randn(&[4, 12], 3, 0, &work).unwrap(), &DirectionsOptions::default()).unwrap();
    let scores = unembed(&probes, &model, &TokenOptions::default(), &work).unwrap().scores(2, &work).unwrap().to_f64();
    let (gain, w_u) = (model.gain("ln_final").unwrap().to_f64(), stored("tiny-llama").get("lm_head.weight").unwrap().to_f64());
    let direction = probes.w_dec().row(2).unwrap();
    let expected: Vec<f64> =
        w_u.chunks(12).map(|row| (0..12).map(|i| row[i] * gain[i] * f64::from(direction[i])).sum()).collect();
    assert_close(&scores, &expected, 1e-6, "scores");
    let matrix = attention_matrix(&probes, &probes, &model, 1, 0, &AttentionOptions::default(), &work).unwrap();
    assert!(matrix.to_f64().iter().all(|v| v.is_finite()));
}

#[test]
fn trap_41_scores_are_those_before_the_softcap_and_say_so() {
    let work = work();
    let model = load(&fixture("tiny-gemma2")).unwrap();
    let probes = directions(&Tensor::randn(&[4, 12], 3, 0, &work).unwrap(), &DirectionsOptions::default()).unwrap();
    let scores = unembed(&probes, &model, &TokenOptions::default(), &work).unwrap();
    let largest = (0..4).flat_map(|feature| scores.scores(feature, &work).unwrap().to_f64()).fold(0f64, |m, v| m.max(v.abs()));
    assert!(largest > model.cfg().final_softcap.unwrap(), "{largest}");
    assert_eq!(scores.table().unwrap().provenance.get("scores").unwrap(), "before the model's final softcap of 3");
}

/// A copy of a fixture with a changed config.json.
fn changed(name: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(file, config.to_string()).unwrap();
    copy
}

#[test]
fn contradictions_name_both_sides() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let folder = changed("tiny-llama", change);
        load(&folder.path().display().to_string()).unwrap_err()
    };
    let heads = refused(&|c| c["num_attention_heads"] = 5.into());
    assert!(heads.to_string().contains("q_proj.weight`: has 32 rows, but config.json says 5"), "{heads}");
    let width = refused(&|c| c["num_attention_heads"] = 8.into());
    assert!(width.to_string().contains("make 4 a head, but config.json says 8"), "{width}");
    let kv = refused(&|c| c["num_key_value_heads"] = 4.into());
    assert!(kv.to_string().contains("k_proj.weight`: has 16 rows, 2 heads of 8, but config.json says 4 kv heads"), "{kv}");
    let layers = refused(&|c| c["num_hidden_layers"] = 4.into());
    assert!(layers.to_string().contains("says 4 layers, but `model.layers.3.input_layernorm.weight` is missing"), "{layers}");
    let unknown = refused(&|c| c["model_type"] = "lama".into());
    assert!(unknown.to_string().contains("unknown architecture `lama`"), "{unknown}");
    assert_eq!(
        unknown.helps(),
        [
            "the nearest known one is `llama`",
            "known architectures are: llama, mistral, qwen2, qwen2_moe, qwen3, qwen3_moe, qwen3_5_text, qwen3_5, qwen3_5_moe_text, qwen3_5_moe, gemma, gemma2, gemma3_text, gemma3, gpt2, gpt_neox"
        ]
    );
    let none = refused(&|c| {
        c.as_object_mut().unwrap().retain(|key, _| key != "num_attention_heads" && key != "head_dim");
    });
    assert!(none.to_string().contains("gives no number of attention heads"), "{none}");
    let act = refused(&|c| c["hidden_act"] = "mish".into());
    assert!(act.to_string().contains("unknown activation function `mish`"), "{act}");
}

#[test]
fn lesser_disagreements_are_warned_about_and_the_tensors_believed() {
    let folder = changed("tiny-llama", |c| {
        c["intermediate_size"] = "21".into();
        c["vocab_size"] = 40.into();
        c["rope_parameters"]["rope_type"] = "yarn".into();
    });
    let model = load(&folder.path().display().to_string()).unwrap();
    assert_eq!((model.cfg().d_mlp, model.cfg().d_vocab), (20, 37));
    assert!(model.warnings().iter().any(|w| w == "config.json says 21 neurons a layer, the tensors have 20: 20 is taken"));
    assert_eq!(model.warnings().len(), 2, "{:?}", model.warnings());
    assert!(model.rope(0).unwrap_err().to_string().contains("`yarn` is not known"));
}

#[test]
fn sizes_and_an_epsilon_that_are_none_are_warned_about() {
    let folder = changed("tiny-llama", |c| {
        c["hidden_size"] = (-5).into();
        c["intermediate_size"] = 20.5.into();
        c["head_dim"] = Value::Null;
        c["rms_norm_eps"] = "NaN".into();
    });
    let file = folder.path().join("config.json");
    let warnings = || load(&folder.path().display().to_string()).unwrap().warnings().to_vec();
    let expected = [
        "config.json says hidden_size -5, which is no size: the tensors are believed",
        "config.json says intermediate_size 20.5, which is no size: the tensors are believed",
        "config.json gives an ε of the norms that is no number: 1e-6 is taken",
    ];
    assert_eq!(warnings(), expected);
    // As Python writes it, outside quotes.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"NaN\""));
    std::fs::write(&file, text.replace("\"NaN\"", "NaN")).unwrap();
    assert_eq!(warnings(), expected);
}

#[test]
fn a_class_default_fills_a_multimodal_config() {
    let folder = changed("tiny-gemma3", |c| {
        let text = c["text_config"].as_object_mut().unwrap();
        for key in
            ["num_attention_heads", "head_dim", "query_pre_attn_scalar", "layer_types", "tie_word_embeddings", "rms_norm_eps"]
        {
            text.remove(key);
        }
    });
    let model = load(&folder.path().display().to_string()).unwrap();
    // The head norm has 8 entries and q 32 rows; the class default of query_pre_attn_scalar is 256.
    assert_eq!((model.cfg().n_heads, model.cfg().d_head, model.cfg().attn_scale), (4, 8, 0.0625));
    assert_eq!(model.rope(1).unwrap().base, 1e4);
}

fn check_real(file: &str, json: &str) -> Option<Model> {
    let model = load(&real(file)?).unwrap();
    let expected = reference(json);
    check_cfg(&model, &expected["cfg"]);
    assert_close(&[model.cfg().embed_scale], &numbers(&expected["cfg"]["embed_scale"]), 1e-8, "embed_scale");
    for (key, value) in expected["weights"].as_object().unwrap() {
        let weight = weight(&model, key);
        assert_eq!(serde_json::json!(weight.shape()), value["shape"], "{key}");
        let upright = if weight.is_transposed() { weight.t() } else { weight.clone() };
        let norm = upright.to_f64().iter().map(|v| v * v).sum::<f64>().sqrt();
        assert_close(&[norm], &numbers(&value["norm"]), 1e-6, key);
        for entry in value["entries"].as_array().unwrap() {
            let entry = numbers(entry);
            let got = weight.select(0, entry[0] as usize).unwrap().select(0, entry[1] as usize).unwrap();
            assert_close(&got.to_f64(), &entry[2..], 1e-6, key);
        }
    }
    for (key, value) in expected["gains"].as_object().unwrap() {
        let gain = model.gain(key).unwrap().to_f64();
        assert_close(&gain[..6], &numbers(&value["first"]), 1e-6, key);
        assert_close(&[gain.iter().copied().fold(f64::INFINITY, f64::min)], &numbers(&value["min"]), 1e-6, key);
    }
    for token in expected["tokens"].as_array().unwrap() {
        let id = token["id"].as_u64().unwrap() as usize;
        let text = model.vocabulary().token(id);
        assert_eq!(text, token["text"], "token {id}");
        let found = model.vocabulary().token_id(&text).unwrap();
        assert_eq!(model.vocabulary().token(found), text);
    }
    Some(model)
}

#[test]
fn smollm2_135m() {
    let Some(model) = check_real("smollm2-135m.gguf", "smollm2.json") else { return };
    assert!(model.warnings().iter().any(|w| w.contains("quantised")));
    let partial = (0..model.cfg().d_vocab).filter(|id| {
        let piece = model.vocabulary().token(*id);
        model.vocabulary().kind(*id) == TokenKind::Normal && piece.contains("<0x")
    });
    assert_eq!(partial.count(), reference("smollm2.json")["partial_utf8_tokens"].as_u64().unwrap() as usize);
}

#[test]
fn gemma3_270m() {
    let Some(model) = check_real("gemma3-270m.gguf", "gemma3.json") else { return };
    let full: Vec<usize> = (0..18).filter(|layer| model.window(*layer).unwrap().is_none()).collect();
    assert_eq!(full, [5, 11, 17]);
    assert_eq!((model.rope(5).unwrap().base, model.rope(6).unwrap().base), (1e6, 1e4));
    assert_eq!(model.window(0).unwrap(), Some(512));
    let special = model.special_mask(&work()).unwrap();
    println!("{:?}", special.counts);
    let masked = |text: &str| special.mask[model.vocabulary().token_id(text).unwrap()];
    assert!(masked("<bos>") && masked("<unused7>") && masked("<0xE2>"));
    assert!(!masked(" the") && !masked("</h3>") && !masked(" ourselves"));
}
