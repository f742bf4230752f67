//! Cuts the chunks of a stored plan out of a recording that is decoded once more, because their samples are gone.

use std::collections::VecDeque;

use crate::error::{Error, Result};

pub(super) struct Rebuild {
    /// Start and end of the chunks still wanted, in samples, in order and without overlap.
    wanted: VecDeque<(u64, u64)>,
    position: u64,
    open: Vec<f32>,
}

impl Rebuild {
    pub(super) fn new(wanted: VecDeque<(u64, u64)>) -> Self {
        Self { wanted, position: 0, open: Vec::new() }
    }

    /// Takes the next samples; `sink` gets the start and the samples of each chunk that is whole.
    pub(super) fn push(&mut self, block: &[f32], sink: &mut dyn FnMut(u64, &[f32]) -> Result<()>) -> Result<()> {
        let block_end = self.position + block.len() as u64;
        while let Some(&(start, end)) = self.wanted.front().filter(|&&(start, _)| start < block_end) {
            let from = (start.max(self.position) - self.position) as usize;
            let to = (end.min(block_end) - self.position) as usize;
            self.open.extend_from_slice(&block[from..to]);
            if end > block_end {
                break;
            }
            sink(start, &self.open)?;
            self.open.clear();
            self.wanted.pop_front();
        }
        self.position = block_end;
        Ok(())
    }

    /// The end of the recording.
    ///
    /// # Errors
    /// `InvalidInput` where it came before the end of the plan.
    pub(super) fn finish(&self) -> Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let message = "the recording is shorter than when it was first decoded: submit it again";
        Err(Error::invalid("source_changed", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks cut out of a recording that counts 0, 1, 2 …, pushed in blocks of `block` samples.
    fn cut(wanted: &[(u64, u64)], length: u64, block: usize) -> (Vec<(u64, Vec<f32>)>, Result<()>) {
        let recording: Vec<f32> = (0..length).map(|n| n as f32).collect();
        let mut rebuild = Rebuild::new(wanted.iter().copied().collect());
        let mut chunks = Vec::new();
        for block in recording.chunks(block) {
            let mut keep = |start, samples: &[f32]| {
                chunks.push((start, samples.to_vec()));
                Ok(())
            };
            rebuild.push(block, &mut keep).unwrap();
        }
        (chunks, rebuild.finish())
    }

    #[test]
    fn chunks_are_cut_at_their_places_whatever_the_size_of_the_blocks() {
        let expected = vec![(2, vec![2.0, 3.0, 4.0]), (5, vec![5.0]), (9, vec![9.0, 10.0])];
        for block in [1, 2, 3, 7, 20] {
            let (chunks, end) = cut(&[(2, 5), (5, 6), (9, 11)], 12, block);
            assert_eq!(chunks, expected, "blocks of {block}");
            end.unwrap();
        }
    }

    #[test]
    fn a_recording_that_ends_before_its_plan_is_an_error() {
        let (chunks, end) = cut(&[(0, 2), (9, 13)], 12, 5);
        assert_eq!(chunks.len(), 1);
        assert_eq!(end.expect_err("too short").code(), "source_changed");
    }
}
