pub const SAMPLES_PER_MS: i64 = 16;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub start_sample: u64,
    pub end_sample: u64,
    pub hard_cut: bool,
}
