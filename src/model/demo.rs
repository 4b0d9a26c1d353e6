//! The built-in model: a small llama with seeded random weights over readable tokens, so that everything can be tried
//! without a download. It goes through the same door as any Hugging Face checkpoint.

use crate::error::Result;
use crate::formats::TensorSet;
use crate::formats::huggingface::Checkpoint;
use crate::tensor::Tensor;
use crate::work::Work;
use serde_json::{Map, Value as Json, json};

/// What every user of it must know.
pub(super) const WARNING: &str =
    "the demo's weights are random (seed 20260130): they mean nothing, and show only how things work";

const SEED: u64 = 20_260_130;
const N_LAYERS: usize = 4;
const D_MODEL: usize = 64;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const D_HEAD: usize = 16;
const D_MLP: usize = 160;

/// Each gives four tokens: ` word`, `word`, ` Word`, `Word`.
const WORDS: &str = "the of and to in is for that with as on by from at or an this be are was it not have had has \
    but which his her their its they you we he she who will would can could may might must shall should do does did done \
    said say says make made take took give gave find found know knew think thought see saw come came go went get got \
    one two three four five six seven eight nine ten hundred first second third last next new old young long short great \
    small large big little high low good bad best better true false right left black white red green blue yellow \
    time day night year month week hour morning evening winter summer spring autumn today tomorrow yesterday \
    man woman child boy girl people friend father mother brother sister son daughter family king queen \
    house home door window room table chair street road city town village country river sea lake mountain forest tree \
    water fire air earth sun moon star wind rain snow ice light dark stone iron gold silver wood paper glass \
    dog cat horse cow sheep bird fish lion wolf bear mouse bee apple bread milk salt sugar wine tea coffee \
    hand head eye ear mouth nose arm leg foot heart blood bone face hair voice word name letter book page story song \
    number line point circle square sum part whole half more less most least many few all some none each every both \
    war peace law court judge police army state church school teacher student doctor nurse science music art";

/// Pieces that words are made of, and marks.
const PIECES: &str = "a e i o u s t n r l d m c p b g f h w y k v x j q z ing ed er ly tion ment ness able est ful less ism ist ous \
    ive al en ize un re pre dis mis over under 0 1 2 3 4 5 6 7 8 9 . , ; : ! ? ( ) [ ] { } ' \" - + = * / \\ < > | & % $ # @ ~ ^ _ 's n't";

pub(super) fn checkpoint(work: &Work) -> Result<Checkpoint> {
    let (pieces, tokenizer) = tokenizer();
    let mut tensors = TensorSet::new("demo");
    let mut stream = 0;
    let mut draw = |name: String, shape: &[usize], mean: f32, std: f32| -> Result<()> {
        let mut values = Tensor::randn(shape, SEED, stream, work)?;
        values.make_mut_f32().iter_mut().for_each(|v| *v = mean + std * *v);
        tensors.insert(format!("model.{name}.weight"), values);
        stream += 1;
        Ok(())
    };
    draw("embed_tokens".into(), &[pieces, D_MODEL], 0.0, 0.1)?;
    for layer in 0..N_LAYERS {
        for (name, rows, cols) in [
            ("self_attn.q_proj", N_HEADS * D_HEAD, D_MODEL),
            ("self_attn.k_proj", N_KV_HEADS * D_HEAD, D_MODEL),
            ("self_attn.v_proj", N_KV_HEADS * D_HEAD, D_MODEL),
            ("self_attn.o_proj", D_MODEL, N_HEADS * D_HEAD),
            ("mlp.gate_proj", D_MLP, D_MODEL),
            ("mlp.up_proj", D_MLP, D_MODEL),
            ("mlp.down_proj", D_MODEL, D_MLP),
        ] {
            draw(format!("layers.{layer}.{name}"), &[rows, cols], 0.0, (cols as f32).sqrt().recip())?;
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            draw(format!("layers.{layer}.{norm}"), &[D_MODEL], 1.0, 0.2)?;
        }
    }
    draw("norm".into(), &[D_MODEL], 1.0, 0.2)?;
    let config = json!({
        "model_type": "llama",
        "num_hidden_layers": N_LAYERS,
        "hidden_size": D_MODEL,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_KV_HEADS,
        "head_dim": D_HEAD,
        "intermediate_size": D_MLP,
        "vocab_size": pieces,
        "tie_word_embeddings": true,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
    });
    Ok(Checkpoint {
        config,
        tensors,
        tokenizer: Some(tokenizer.to_string().into_bytes().into()),
        tokenizer_config: Json::Null,
        name: "demo (random weights)".into(),
    })
}

/// A byte-level tokenizer.json, and its number of tokens.
fn tokenizer() -> (usize, Json) {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let mut vocab = Map::new();
    let mut add = |piece: String| {
        let id = vocab.len();
        vocab.entry(piece).or_insert_with(|| json!(id));
    };
    add("<|endoftext|>".into());
    add("Ċ".into());
    add("Ġ".into());
    PIECES.split_whitespace().for_each(|piece| add(piece.to_string()));
    for word in WORDS.split_whitespace() {
        for form in [format!("Ġ{word}"), word.to_string(), format!("Ġ{}", capital(word)), capital(word)] {
            add(form);
        }
    }
    let size = vocab.len();
    let tokenizer = json!({
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}],
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "ignore_merges": true},
    });
    (size, tokenizer)
}
