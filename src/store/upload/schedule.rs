//! How an object of unknown length is cut into a bounded number of parts.

use crate::store::PartLimits;

/// How large each part is.
///
/// The length of an object isn't known when its upload begins, and a store takes at most `max_parts` parts. So
/// the size doubles after every `step` parts, `d` times in all, where `d` is the smallest number of doublings
/// with which `max_parts` parts hold `max_object` bytes: `Σ size(n) ≥ max_object`. Few doublings, because
/// memory grows with the part.
///
/// S3: 10,000 parts, 5 TiB, first part 8 MiB. With `d = 9`, `step = 1,000`: 8 MiB × 1,000 × (2^10 − 1) =
/// 7.8 TiB. Parts stay at 8 MiB up to 7.8 GiB, and reach 64 MiB past 55 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartSchedule {
    first: usize,
    max: usize,
    step: u32,
}

impl PartSchedule {
    /// The schedule for a store's limits. Where growth from `first_part` can't hold `max_object` bytes, all parts
    /// are as great as the store allows.
    #[must_use]
    pub fn new(first_part: usize, limits: &PartLimits) -> Self {
        let max = limits.max_part.max(1);
        let first = first_part.clamp(limits.min_part.clamp(1, max), max);
        let max_parts = limits.max_parts.max(1);
        // 64 doublings exceed any u64; a step below 1 can't be.
        for doublings in 0..64_u32.min(max_parts) {
            let schedule = Self { first, max, step: max_parts.div_ceil(doublings + 1) };
            if schedule.capacity(max_parts) >= u128::from(limits.max_object) {
                return schedule;
            }
        }
        Self { first: max, max, step: max_parts }
    }

    /// Size of part `number` (from 1), in bytes.
    #[must_use]
    pub fn size(&self, number: u32) -> usize {
        let doublings = number.saturating_sub(1) / self.step;
        // checked_mul by a power of two: past `usize` the store's own maximum holds.
        1_usize
            .checked_shl(doublings)
            .and_then(|factor| self.first.checked_mul(factor))
            .map_or(self.max, |size| size.min(self.max))
    }

    /// Bytes that `parts` parts hold.
    #[must_use]
    pub fn capacity(&self, parts: u32) -> u128 {
        let mut total = 0_u128;
        let mut from = 0_u32;
        while from < parts {
            let count = self.step.min(parts - from);
            total += u128::from(count) * self.size(from + 1) as u128;
            from += count;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::upload::DEFAULT_FIRST_PART;
    use proptest::prelude::*;

    fn s3() -> PartLimits {
        PartLimits { min_part: 5 << 20, max_part: 5 << 30, max_parts: 10_000, max_object: 5 << 40 }
    }

    #[test]
    fn parts_of_s3_stay_small_as_long_as_they_can() {
        let schedule = PartSchedule::new(DEFAULT_FIRST_PART, &s3());
        assert_eq!(schedule.size(1), 8 << 20);
        assert_eq!(schedule.size(1_000), 8 << 20);
        assert_eq!(schedule.size(1_001), 16 << 20);
        assert!(schedule.capacity(10_000) >= 5 << 40);
    }

    #[test]
    fn folders_need_no_growth() {
        let limits = PartLimits { min_part: 1, max_part: 1 << 30, max_parts: u32::MAX, max_object: 1 << 54 };
        assert_eq!(PartSchedule::new(DEFAULT_FIRST_PART, &limits).size(u32::MAX), DEFAULT_FIRST_PART);
    }

    proptest! {
        #[test]
        fn max_parts_always_suffice(
            first in 1..64_usize << 20,
            min_part in 1..16_usize << 20,
            spread in 0..1_usize << 32,
            max_parts in 1..100_000_u32,
            fill in 0.0..=1.0_f64,
        ) {
            let max_part = min_part + spread;
            let greatest = max_part as u128 * u128::from(max_parts);
            let max_object = (greatest as f64 * fill) as u64;
            let limits = PartLimits { min_part, max_part, max_parts, max_object };
            let schedule = PartSchedule::new(first, &limits);
            prop_assert!(
                schedule.capacity(max_parts) >= u128::from(max_object),
                "{schedule:?} holds {} of {max_object}", schedule.capacity(max_parts)
            );
            let mut before = 0;
            for number in (1..=max_parts).step_by((max_parts as usize / 500).max(1)) {
                let size = schedule.size(number);
                prop_assert!(size >= min_part && size <= max_part && size >= before);
                before = size;
            }
        }
    }
}
