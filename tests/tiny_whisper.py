"""A Whisper of 25 thousand weights that knows three words, each a beep of its own pitch, trained here in seconds.

Its windows are 2 s long. One head of its decoder is taught to look at the beep whose word comes next, as the alignment
heads of published checkpoints do, so that times of words mean something.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

RATE = 16000
SECONDS = 2
POSITIONS = 50 * SECONDS
PITCHES = {" yes": 350.0, " no": 900.0, " maybe": 2200.0}
BEEP_SECONDS = 0.24


def beep(word: str) -> np.ndarray:
    """What the word sounds like: `(N,)`, with soft edges."""
    t = np.arange(round(BEEP_SECONDS * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * PITCHES[word] * t) * np.hanning(len(t)) ** 0.25).astype(np.float32)


def spoken(words: list[tuple[str, float]], seconds: float) -> np.ndarray:
    """Sound with each word beginning at its time: `(N,)`, with a little noise."""
    sound = (1e-4 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)
    for word, start in words:
        first = round(start * RATE)
        sound[first : first + round(BEEP_SECONDS * RATE)] += beep(word)
    return sound


def _tokenizer(folder: Path):
    from tokenizers import pre_tokenizers
    from transformers import WhisperTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges, pieces = [], list(alphabet)
    for word in PITCHES:
        letters = "Ġ" + word.strip()
        for length in range(2, len(letters) + 1):
            merges.append((letters[: length - 1], letters[length - 1]))
            pieces.append(letters[:length])
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    special += [f"<|{0.02 * k:.2f}|>" for k in range(POSITIONS + 1)]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges, pad_token="<|endoftext|>")
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _examples(count: int, tokenizer, prepare) -> tuple:
    """Features, labels, and for each label where its beep is, as a share of attention over the positions."""
    import torch

    rng = np.random.default_rng(1)
    begin = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|0.00|>"])
    stamp, end = begin[-1], tokenizer.convert_tokens_to_ids("<|endoftext|>")
    features, labels, looks = [], [], []
    for _ in range(count):
        number = int(rng.integers(1, 5))
        gaps = rng.dirichlet(np.ones(number + 1)) * (SECONDS - number * (BEEP_SECONDS + 0.06) - 0.1)
        starts = np.cumsum(gaps[:-1]) + np.arange(number) * (BEEP_SECONDS + 0.06)
        words = [list(PITCHES)[k] for k in rng.integers(0, 3, number)]
        length = float(rng.uniform(starts[-1] + BEEP_SECONDS, SECONDS))
        sound = spoken(list(zip(words, starts, strict=True)), length) * float(rng.uniform(0.5, 1.5))
        features.append(prepare(sound, sampling_rate=RATE, return_tensors="np")["input_features"][0])
        last = stamp + round((starts[-1] + BEEP_SECONDS) / 0.02)
        ids = [*begin, *(tokenizer.convert_tokens_to_ids("Ġ" + word.strip()) for word in words), last, end]
        look = np.zeros((8 + 2, POSITIONS), np.float32)
        for k, at in enumerate(starts):  # from the token before: that one predicts the word
            first, after = round(at / 0.02), round((at + BEEP_SECONDS) / 0.02)
            look[len(begin) - 1 + k, first:after] = 1.0 / (after - first)
        labels.append(ids + [-100] * (10 - len(ids)))
        looks.append(look)
    return torch.tensor(np.stack(features)), torch.tensor(labels), torch.tensor(np.stack(looks))


def build(folder: Path, steps: int = 200) -> Path:
    """Train it and save it as published ones are."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    tokenizer = _tokenizer(folder)
    prepare = WhisperFeatureExtractor(feature_size=80, chunk_length=SECONDS)
    prepare.save_pretrained(folder)
    names = ("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "notimestamps")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=POSITIONS,
        max_target_positions=48, pad_token_id=ids["endoftext"], bos_token_id=ids["endoftext"],
        eos_token_id=ids["endoftext"], decoder_start_token_id=ids["startoftranscript"], dropout=0.0,
        median_filter_width=3, init_std=0.08,
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = WhisperForConditionalGeneration(config)
    features, labels, looks = _examples(256, tokenizer, prepare)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(features), (12,), generator=generator)
        inputs = labels[rows][:, :-1].clamp(min=0)
        output = model(features[rows], decoder_input_ids=inputs, output_attentions=True)
        loss = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), labels[rows][:, 1:].flatten())
        look = looks[rows][:, : inputs.shape[1]]
        loss = loss - (look * output.cross_attentions[0][:, 0].clamp(min=1e-6).log()).sum() / (look.sum() + 1e-6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.generation_config = GenerationConfig(
        alignment_heads=[[0, 0]], is_multilingual=True, lang_to_id={"<|en|>": ids["en"], "<|de|>": ids["de"]},
        task_to_id={"transcribe": ids["transcribe"], "translate": ids["translate"]},
        no_timestamps_token_id=ids["notimestamps"], decoder_start_token_id=ids["startoftranscript"],
        eos_token_id=ids["endoftext"], pad_token_id=ids["endoftext"], bos_token_id=ids["endoftext"],
        max_initial_timestamp_index=POSITIONS, max_length=40, suppress_tokens=[], begin_suppress_tokens=[],
        return_timestamps=False,
    )  # fmt: skip
    model.eval().save_pretrained(folder)
    return folder
