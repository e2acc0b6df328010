//! One figure over several rounds: its median and its range.

use std::fmt;

use serde::Serialize;

/// Median and range of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The middle value; of an even number of rounds the mean of the middle two.
    pub median: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
}

impl Measurement {
    /// `None` without any value.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Measurement> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() {
            0 => return None,
            length if length % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Measurement { median, min: values[0], max: values[values.len() - 1] })
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_the_median_and_the_range() {
        let measured = |median, min, max| Some(Measurement { median, min, max });
        assert_eq!(Measurement::of(vec![3.0, 1.0, 2.0]), measured(2.0, 1.0, 3.0));
        assert_eq!(Measurement::of(vec![4.0, 1.0]), measured(2.5, 1.0, 4.0));
        assert_eq!(Measurement::of(Vec::new()), None);
    }
}
