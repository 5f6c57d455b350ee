//! Medians and percentiles.

use serde::{Deserialize, Serialize};

/// Returns the median: the middle value, or the mean of the two middle values. Returns `None` if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(sorted[middle - 1], upper)
    })
}

/// Returns a percentile by the nearest-rank method. Returns `None` if there are no values.
pub fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The median and the 99th percentile, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub p50: i64,
    /// The 99th percentile.
    pub p99: i64,
}

impl Spread {
    /// Returns the spread of the values. Returns `None` if there are no values.
    pub fn of(mut values: Vec<i64>) -> Option<Self> {
        values.sort_unstable();
        Some(Self {
            p50: percentile(&values, 50)?,
            p99: percentile(&values, 99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&hundred, 100), Some(100));
        assert_eq!(percentile(&[7], 0), Some(7));
        assert_eq!(percentile(&[7, 8], 99), Some(8));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_spread_needs_no_order() {
        let spread = Spread::of(vec![30, -10, 20]).unwrap();
        assert_eq!((spread.p50, spread.p99), (20, 30));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
