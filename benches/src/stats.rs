//! Percentiles of what was measured.

/// Values in nanoseconds, said in microseconds.
pub struct Sample(Vec<u64>);

impl Sample {
    pub fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// The value below which a share of all lie, in microseconds.
    pub fn us(&self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        let at = ((self.0.len() - 1) as f64 * share).round() as usize;
        self.0[at] as f64 / 1000.0
    }

    /// `"p50_us": …, "p99_us": …, "max_us": …`
    pub fn json(&self) -> String {
        format!(
            "\"p50_us\": {:.3}, \"p99_us\": {:.3}, \"max_us\": {:.3}, \"samples\": {}",
            self.us(0.5),
            self.us(0.99),
            self.us(1.0),
            self.0.len()
        )
    }
}
