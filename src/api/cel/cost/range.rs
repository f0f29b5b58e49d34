//! Ranges of sizes and costs. Sums and products saturate.

/// From the best to the worst case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostRange {
    /// At least.
    pub min: u64,
    /// At most; `u64::MAX` says that nothing bounds it.
    pub max: u64,
}

impl CostRange {
    /// Nothing is known.
    pub const UNKNOWN: CostRange = CostRange { min: 0, max: u64::MAX };

    /// Exactly this.
    pub fn fixed(value: u64) -> CostRange {
        CostRange { min: value, max: value }
    }

    /// Both together.
    pub fn plus(self, other: CostRange) -> CostRange {
        CostRange { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    /// One as often as the other says.
    pub fn times(self, other: CostRange) -> CostRange {
        CostRange { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    /// By a factor, rounded up.
    pub fn scaled(self, factor: f64) -> CostRange {
        CostRange { min: scale(self.min, factor), max: scale(self.max, factor) }
    }

    /// What covers either.
    pub fn or(self, other: CostRange) -> CostRange {
        CostRange { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// `value` by a factor, rounded up.
pub fn scale(value: u64, factor: f64) -> u64 {
    // A cast of a float saturates.
    (value as f64 * factor).ceil() as u64
}
