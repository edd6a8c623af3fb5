//! A histogram of durations: exact below 64 ns, then 64 buckets to each power of two (an error of
//! at most 1.6 %).

use std::time::Duration;

const SUB_BITS: u32 = 6;
/// 2^40 ns, eighteen minutes, is the last power of two with buckets of its own.
const BUCKETS: usize = ((40 - SUB_BITS as usize) + 2) << SUB_BITS;

pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
        }
    }

    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The upper end of the bucket in which the fraction `q` of all records is reached; zero if
    /// there are none.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_end(i));
            }
        }
        Duration::ZERO
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    let shift = (63 - (ns | 1).leading_zeros()).saturating_sub(SUB_BITS);
    // The top bits of `ns` run from 64 to 127 once `shift` is positive: each shift starts 64
    // buckets further.
    let index = ((shift as usize) << SUB_BITS) + (ns >> shift) as usize;
    index.min(BUCKETS - 1)
}

fn upper_end(index: usize) -> u64 {
    let shift = (index >> SUB_BITS).saturating_sub(1);
    let top = (index - (shift << SUB_BITS)) as u64;
    ((top + 1) << shift) - 1
}
