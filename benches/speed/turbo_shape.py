#!/usr/bin/env python3
"""A model file of large-v3-turbo's exact shape with made-up weights: turbo_shape.py FILE [TOKENS] [--tiny]

What it computes is nonsense, but it computes as much of it as the real one would: every matrix has its size, and a chunk
takes TOKENS (50) tokens, about as many as 14 s of speech. So it shows the speed of the encoder and of each token where the
real weights cannot be had. The blocks of the decoder leave their input as it is (what they put out is multiplied by
zeros), so each position names the token that comes next. --tiny writes a small model that behaves the same, to try this.
"""
import random
import struct
import sys

import numpy as np

VOCAB, WORDS, BANDS, BINS = 51_866, 50_257, 128, 201
TEXT_POSITIONS, AUDIO_POSITIONS = 448, 1500
END, START, ENGLISH, FIRST_TIME = 50_257, 50_258, 50_259, 50_365
# Start, language and task come before the first token that is decoded.
PROMPT = 3
MAGIC, F32, F16 = 0x67676D6C, 0, 1
POSITION_SCALE, TOKEN_SCALE = 8.0, 1.0


class Writer:
    def __init__(self, file, seed=7):
        self.file = file
        self.random = np.random.default_rng(seed)
        self.noise = self.random.standard_normal(1 << 22, dtype=np.float32)

    def ints(self, *numbers):
        self.file.write(struct.pack(f"{len(numbers)}i", *numbers))

    def tensor(self, name, array, kind):
        """`array` as numpy has it; ggml names the fastest dimension first."""
        self.ints(array.ndim, len(name), kind)
        self.ints(*reversed(array.shape))
        self.file.write(name.encode())
        self.file.write(array.astype(np.float16 if kind == F16 else np.float32).tobytes())

    def made_up(self, name, *shape, kind=F16):
        """Random numbers that keep what passes through them at its size; the same ones again and again."""
        count = int(np.prod(shape))
        scale = (count / shape[0]) ** -0.5
        self.tensor(name, np.resize(self.noise * scale, count).reshape(shape), kind)

    def constant(self, name, value, *shape, kind=F32):
        self.tensor(name, np.full(shape, value), kind)

    def norm(self, name, state):
        self.constant(f"{name}.weight", 1, state)
        self.constant(f"{name}.bias", 0, state)

    def linear(self, name, outputs, inputs, bias=True, silent=False):
        if silent:
            self.constant(f"{name}.weight", 0, outputs, inputs, kind=F16)
        else:
            self.made_up(f"{name}.weight", outputs, inputs)
        if bias:
            self.constant(f"{name}.bias", 0, outputs)

    def attention(self, name, state, silent):
        self.linear(f"{name}.query", state, state)
        self.linear(f"{name}.key", state, state, bias=False)
        self.linear(f"{name}.value", state, state)
        self.linear(f"{name}.out", state, state, silent=silent)

    def block(self, name, state, is_decoder):
        self.norm(f"{name}.attn_ln", state)
        self.attention(f"{name}.attn", state, is_decoder)
        if is_decoder:
            self.norm(f"{name}.cross_attn_ln", state)
            self.attention(f"{name}.cross_attn", state, True)
        self.norm(f"{name}.mlp_ln", state)
        self.linear(f"{name}.mlp.0", 4 * state, state)
        self.linear(f"{name}.mlp.2", state, 4 * state, silent=is_decoder)

    def encoder(self, state, layers):
        self.made_up("encoder.positional_embedding", AUDIO_POSITIONS, state, kind=F32)
        for n, inputs in (1, BANDS), (2, state):
            self.made_up(f"encoder.conv{n}.weight", state, inputs, 3)
            self.constant(f"encoder.conv{n}.bias", 0, state, 1)
        for layer in range(layers):
            self.block(f"encoder.blocks.{layer}", state, False)
        self.norm("encoder.ln_post", state)

    def decoder(self, state, layers, tokens):
        directions = self.random.standard_normal((TEXT_POSITIONS, state))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        next_token = [ENGLISH, START, FIRST_TIME] + [1000 + 37 * n for n in range(tokens)]
        embeddings = np.resize(self.noise * 0.002, VOCAB * state).reshape(VOCAB, state)
        for position, token in enumerate(next_token):
            embeddings[token] += TOKEN_SCALE * directions[position]
        embeddings[END] += TOKEN_SCALE * directions[len(next_token)]
        directions[len(next_token):] = directions[len(next_token)]
        self.tensor("decoder.positional_embedding", POSITION_SCALE * directions, F32)
        self.tensor("decoder.token_embedding.weight", embeddings, F16)
        for layer in range(layers):
            self.block(f"decoder.blocks.{layer}", state, True)
        self.norm("decoder.ln", state)


def words():
    """Distinct ones that do not compress, so that no text is taken for a loop."""
    letters = random.Random(7)
    made_up = (f" {''.join(letters.choices('abcdefghijklmnopqrstuvwxyz', k=6))}".encode() for _ in range(WORDS))
    # These the engine looks up by their text.
    return [b" ", b" -", b" '", *made_up][:WORDS]


def write(path, tokens, state, heads, layers, text_layers):
    with open(path, "wb") as file:
        writer = Writer(file)
        writer.ints(MAGIC, VOCAB, AUDIO_POSITIONS, state, heads, layers)
        writer.ints(TEXT_POSITIONS, state, heads, text_layers, BANDS, F16, BANDS, BINS)
        np.abs(np.resize(writer.noise * 0.01, BANDS * BINS)).astype(np.float32).tofile(file)
        writer.ints(WORDS)
        for word in words():
            writer.ints(len(word))
            file.write(word)
        writer.encoder(state, layers)
        writer.decoder(state, text_layers, tokens)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--tiny"]
    shape = (128, 2, 4, 4) if "--tiny" in sys.argv else (1280, 20, 32, 4)
    write(given[0], int(given[1]) if len(given) > 1 else 50, *shape)
