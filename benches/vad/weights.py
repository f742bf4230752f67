"""Writes the weights of Silero VAD as src/audio/silero.bin, from the ONNX file that faster-whisper 1.2.1 carries.

    pip install faster-whisper==1.2.1 onnx && python benches/vad/weights.py

The file is a row of float16 numbers, little endian, matrices as [input][output]: four convolutions (the taps that a
single frame uses, then the bias), the input and hidden matrices and the bias of the LSTM (gates input, output, forget,
cell), the output's weights and bias. The Fourier basis is left out: it is a Hann window and a Fourier transform.
"""

import hashlib
from pathlib import Path

import faster_whisper
import numpy as np
import onnx
from onnx import numpy_helper

SHA256 = "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"
TAPS = [(0, 1, 2), (0, 1, 2), (1, 2), (1,)]

source = Path(faster_whisper.__file__).parent / "assets/silero_vad_v6.onnx"
assert hashlib.sha256(source.read_bytes()).hexdigest() == SHA256, f"{source} is another version"
model = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}

hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
angles = 2 * np.pi * np.outer(np.arange(129), np.arange(256)) / 256
basis = np.concatenate([np.cos(angles), -np.sin(angles)]) * hann
difference = np.abs(np.abs(basis) - np.abs(model["encoder.feature_extractor.forward_basis_buffer"][:, 0])).max()
assert difference < 1e-5, f"the transform is another one: {difference}"

parts = []
for layer, taps in enumerate(TAPS):
    weight = model[f"encoder.conv_layers.{layer}.weight"]
    parts += [weight[:, :, tap].T for tap in taps] + [model[f"encoder.conv_layers.{layer}.bias"]]
bias = model["onnx::LSTM_211"][0]
parts += [model["onnx::LSTM_209"][0].T, model["onnx::LSTM_210"][0].T, bias[:512] + bias[512:]]
parts += [model["decoder.conv1d.weight"], model["decoder.conv1d.bias"]]
weights = np.concatenate([part.ravel() for part in parts]).astype("<f2")
target = Path(__file__).parents[2] / "src/audio/silero.bin"
target.write_bytes(weights.tobytes())
print(f"{target}: {weights.size} numbers, the largest {np.abs(weights).max()}, transform off by {difference:.1e}")
