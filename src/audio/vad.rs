//! How likely a stretch of a recording is speech: Silero VAD 6, a small recurrent network, computed here with its weights
//! in the binary (`benches/vad/weights.py` writes them; `silero.LICENSE` is their license). Sums are written so that they
//! run over many outputs at once: the order of additions is fixed, and a compiler may still use vector instructions.

use std::sync::{Arc, LazyLock};

use half::f16;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples that one probability stands for: 32 ms.
pub const VAD_FRAME_SAMPLES: usize = 512;

/// Samples before a frame that the network hears again.
const CONTEXT: usize = 64;

/// Short-time Fourier transform: four windows, of which the last reaches over the end into the reflection of the frame.
const WINDOW: usize = 256;
const HOP: usize = 128;
const WINDOWS: usize = 4;
const BINS: usize = WINDOW / 2 + 1;
const PADDED: usize = WINDOW + (WINDOWS - 1) * HOP;

/// Outputs of the four convolutions, and the size of the memory.
const WIDTHS: [usize; 4] = [128, 64, 64, 128];
const MEMORY: usize = 128;
const GATES: usize = 4 * MEMORY;

/// Numbers of the network, matrices as `[input][output]`.
struct Weights {
    /// Those of each tap that a single frame needs, then the bias.
    convolutions: [Vec<f32>; 4],
    input: Vec<f32>,
    hidden: Vec<f32>,
    gate_bias: Vec<f32>,
    output: Vec<f32>,
    output_bias: f32,
    /// Hann window.
    window: Vec<f32>,
    transform: Arc<dyn RealToComplex<f32>>,
}

static WEIGHTS: LazyLock<Weights> = LazyLock::new(Weights::read);

/// Taps of each convolution that meet a frame and not only the padding around it.
const TAPS: [usize; 4] = [3, 3, 2, 1];
const FILE_NUMBERS: usize = (TAPS[0] * BINS + 1) * WIDTHS[0]
    + (TAPS[1] * WIDTHS[0] + 1) * WIDTHS[1]
    + (TAPS[2] * WIDTHS[1] + 1) * WIDTHS[2]
    + (TAPS[3] * WIDTHS[2] + 1) * WIDTHS[3]
    + (WIDTHS[3] + MEMORY + 1) * GATES
    + MEMORY
    + 1;
static FILE: &[u8; 2 * FILE_NUMBERS] = include_bytes!("silero.bin");

impl Weights {
    fn read() -> Self {
        let (numbers, _) = FILE.as_chunks();
        let mut numbers = numbers.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32());
        let mut next = |count: usize| -> Vec<f32> { numbers.by_ref().take(count).collect() };
        let inputs = [BINS, WIDTHS[0], WIDTHS[1], WIDTHS[2]];
        Self {
            convolutions: std::array::from_fn(|layer| next((TAPS[layer] * inputs[layer] + 1) * WIDTHS[layer])),
            input: next(WIDTHS[3] * GATES),
            hidden: next(MEMORY * GATES),
            gate_bias: next(GATES),
            output: next(MEMORY),
            output_bias: next(1).iter().sum(),
            window: (0..WINDOW).map(hann).collect(),
            transform: RealFftPlanner::new().plan_fft_forward(WINDOW),
        }
    }
}

fn hann(position: usize) -> f32 {
    let turn = std::f64::consts::TAU * position as f64 / WINDOW as f64;
    (0.5 - 0.5 * turn.cos()) as f32
}

/// The network and what it remembers of a recording.
pub(super) struct Ear {
    /// The end of the last frame, this frame, and its reflection.
    heard: [f32; PADDED],
    hidden: [f32; MEMORY],
    cell: [f32; MEMORY],
    windowed: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

impl Ear {
    pub(super) fn new() -> Self {
        let transform = &WEIGHTS.transform;
        Self {
            heard: [0.0; PADDED],
            hidden: [0.0; MEMORY],
            cell: [0.0; MEMORY],
            windowed: transform.make_input_vec(),
            spectrum: transform.make_output_vec(),
            scratch: transform.make_scratch_vec(),
        }
    }

    /// The probability, 0 to 1, that the next frame is speech. A shorter one, the last of a recording, is filled up with
    /// silence.
    pub(super) fn hear(&mut self, frame: &[f32]) -> f32 {
        let end = CONTEXT + VAD_FRAME_SAMPLES;
        self.heard.copy_within(VAD_FRAME_SAMPLES..end, 0);
        self.heard[CONTEXT..end].fill(0.0);
        for (slot, &sample) in self.heard[CONTEXT..end].iter_mut().zip(frame) {
            // What is not a number would never leave the network's memory.
            *slot = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        }
        for mirrored in 0..PADDED - end {
            self.heard[end + mirrored] = self.heard[end - 2 - mirrored];
        }
        let features = self.encode();
        self.remember(&features)
    }

    /// The convolutions: four spectra become one vector.
    fn encode(&mut self) -> [f32; MEMORY] {
        let mut spectra = [[0.0; BINS]; WINDOWS];
        for (index, spectrum) in spectra.iter_mut().enumerate() {
            self.magnitudes(index * HOP, spectrum);
        }
        let [first, second, third, fourth] = &WEIGHTS.convolutions;
        let [a, b, c, d] = &spectra;
        let none = [0.0; BINS];
        let triples = [[&none, a, b], [a, b, c], [b, c, d], [c, d, &none]];
        let [a, b, c, d]: [[f32; 128]; 4] = triples.map(|taps| convolve(&taps, first));
        // Every other place from here on.
        let none = [0.0; 128];
        let [a, b]: [[f32; 64]; 2] = [[&none, &a, &b], [&b, &c, &d]].map(|taps| convolve(&taps, second));
        let one: [f32; 64] = convolve(&[&a, &b], third);
        convolve(&[&one], fourth)
    }

    /// The spectrum of one window, phases left out.
    fn magnitudes(&mut self, from: usize, magnitudes: &mut [f32; BINS]) {
        for ((slot, sample), weight) in self.windowed.iter_mut().zip(&self.heard[from..]).zip(&WEIGHTS.window) {
            *slot = sample * weight;
        }
        // Fails on wrong lengths only, and these are its own.
        let done =
            WEIGHTS.transform.process_with_scratch(&mut self.windowed, &mut self.spectrum, &mut self.scratch).is_ok();
        debug_assert!(done);
        for (magnitude, bin) in magnitudes.iter_mut().zip(&self.spectrum) {
            *magnitude = bin.norm_sqr().sqrt();
        }
    }

    /// The long short-term memory, and what it says of this frame.
    fn remember(&mut self, features: &[f32; MEMORY]) -> f32 {
        let mut gates = [0.0; GATES];
        gates.copy_from_slice(&WEIGHTS.gate_bias);
        add_product(&mut gates, features, &WEIGHTS.input);
        add_product(&mut gates, &self.hidden, &WEIGHTS.hidden);
        let mut score = WEIGHTS.output_bias;
        for unit in 0..MEMORY {
            let gate = |index: usize| gates[index * MEMORY + unit];
            let (input, output, forget, cell) = (gate(0), gate(1), gate(2), gate(3));
            self.cell[unit] = sigmoid(forget) * self.cell[unit] + sigmoid(input) * cell.tanh();
            self.hidden[unit] = sigmoid(output) * self.cell[unit].tanh();
            score += WEIGHTS.output[unit] * self.hidden[unit].max(0.0);
        }
        sigmoid(score)
    }
}

/// One output place of a convolution and its rectifier, from the input places that its taps meet.
fn convolve<const INPUTS: usize, const OUTPUTS: usize>(taps: &[&[f32; INPUTS]], weights: &[f32]) -> [f32; OUTPUTS] {
    let (matrices, bias) = weights.split_at(taps.len() * INPUTS * OUTPUTS);
    let mut outputs = [0.0; OUTPUTS];
    outputs.copy_from_slice(bias);
    for (tap, matrix) in taps.iter().zip(matrices.chunks_exact(INPUTS * OUTPUTS)) {
        add_product(&mut outputs, *tap, matrix);
    }
    outputs.map(|output| output.max(0.0))
}

/// Adds inputs × matrix to the outputs.
fn add_product<const OUTPUTS: usize>(outputs: &mut [f32; OUTPUTS], inputs: &[f32], matrix: &[f32]) {
    let (rows, _) = matrix.as_chunks::<OUTPUTS>();
    for (&input, row) in inputs.iter().zip(rows) {
        for (output, weight) in outputs.iter_mut().zip(row) {
            *output += input * weight;
        }
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// The probability of speech in each `VAD_FRAME_SAMPLES` of 16 kHz samples, the last of them perhaps not whole.
pub fn speech_probabilities(samples: &[f32]) -> Vec<f32> {
    let mut ear = Ear::new();
    samples.chunks(VAD_FRAME_SAMPLES).map(|frame| ear.hear(frame)).collect()
}

/// 16 kHz samples, and how likely they are speech.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    pub samples: Vec<f32>,
    /// 0 to 1, one for each `VAD_FRAME_SAMPLES` of them, the last of which may not be whole.
    pub speech_probs: Vec<f32>,
}

impl Sound {
    /// For samples that nobody has listened to yet.
    pub fn heard(samples: Vec<f32>) -> Self {
        Self { speech_probs: speech_probabilities(&samples), samples }
    }

    /// The same without its first samples; probabilities stay with their samples to within a frame.
    #[must_use]
    pub fn after(mut self, samples: usize) -> Self {
        self.samples.drain(..samples.min(self.samples.len()));
        let kept = self.samples.len().div_ceil(VAD_FRAME_SAMPLES);
        self.speech_probs.drain(..self.speech_probs.len().saturating_sub(kept));
        self
    }
}
