//! How the server's seats are divided among the priority levels, and how idle ones are lent.
//!
//! Pure. Follows upstream's `util/flowcontrol/apf_controller.go` (`updateBorrowingLocked`) and `conc_alloc.go`; KEP 1040, "Dispatching
//! and borrowing".

use super::queue::Demand;

/// What a level's object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Parts of the whole that are its own.
    pub nominal: u32,
    /// How much of that others may use.
    pub lendable_percent: u32,
    /// How much more than its own it may use; `None`: as much as there is.
    pub borrowing_percent: Option<u32>,
    /// Never limited.
    pub exempt: bool,
}

/// The seats of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// Its own.
    pub nominal: u32,
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

/// Divides `total` seats.
pub fn divide(total: u32, levels: &[Shares]) -> Vec<Seats> {
    let sum: f64 = levels.iter().map(|level| f64::from(level.nominal)).sum();
    let part = |level: &Shares| {
        let nominal = if sum > 0.0 { (f64::from(total) * f64::from(level.nominal) / sum).ceil() } else { 0.0 };
        let lendable = (nominal * f64::from(level.lendable_percent) / 100.0).round();
        let max = match level.borrowing_percent {
            Some(percent) if !level.exempt => nominal + (nominal * f64::from(percent) / 100.0).round(),
            _ => f64::from(total),
        };
        Seats { nominal: nominal as u32, min: (nominal - lendable) as u32, max: max as u32 }
    };
    levels.iter().map(part).collect()
}

/// What a level is thought to want, with a memory for what it wanted a while ago.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The most in the last period.
    pub high: f64,
    /// Falls slowly, rises at once.
    pub smooth: f64,
}

impl Wanted {
    /// Takes in one period.
    pub fn observe(&mut self, demand: Demand) {
        /// Upstream's: half of what is remembered is gone after five minutes of ten-second periods.
        const KEEP: f64 = 0.977;
        let envelope = demand.high.min(demand.average + demand.deviation);
        self.high = demand.high;
        self.smooth = envelope.max(KEEP * self.smooth + (1.0 - KEEP) * envelope);
    }
}

/// Seats for the next period, for levels that are not exempt, and the fraction of what they want that all can have.
pub fn lend(total: u32, levels: &[(Seats, Wanted)]) -> (Vec<u32>, f64) {
    let sum_of = |part: fn(&Seats) -> u32| levels.iter().map(|(seats, _)| u64::from(part(seats))).sum::<u64>();
    if u64::from(total) <= sum_of(|seats| seats.min) {
        return (levels.iter().map(|(seats, _)| seats.min).collect(), 0.0);
    }
    // A level keeps of its own what it used lately, as long as that is possible for all.
    let kept = |(seats, wanted): &(Seats, Wanted)| f64::from(seats.min).max(f64::from(seats.nominal).min(wanted.high));
    let possible = levels.iter().map(kept).sum::<f64>() < f64::from(total);
    let lower = |level: &(Seats, Wanted)| if possible { kept(level) } else { f64::from(level.0.min) };
    let at = |level: &(Seats, Wanted), fraction: f64| {
        // Who wants nothing still has weight, so that seats nobody wants lie somewhere.
        let target = level.1.smooth.max(kept(level)).max(1.0);
        (target * fraction).clamp(lower(level), f64::from(level.0.max).max(lower(level)))
    };
    let filled = |fraction: f64| levels.iter().map(|level| at(level, fraction)).sum::<f64>();
    // The sum grows with the fraction: halve the interval until it is as exact as the numbers are.
    let (mut low, mut high) = (0.0, 1.0);
    while filled(high) < f64::from(total) && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if filled(middle) < f64::from(total) { low = middle } else { high = middle }
    }
    (levels.iter().map(|level| at(level, high).round() as u32).collect(), high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(nominal: u32, lendable_percent: u32, borrowing_percent: Option<u32>) -> Shares {
        Shares { nominal, lendable_percent, borrowing_percent, exempt: false }
    }

    #[test]
    fn the_shipped_levels_have_upstreams_seats() {
        // leader-election, node-high, system, workload-high, workload-low, global-default, catch-all of 600 (upstream's documentation).
        let shares = [(10, 0), (40, 25), (30, 33), (40, 50), (100, 90), (20, 50), (5, 0)].map(|(n, l)| limited(n, l, None));
        let seats = divide(600, &shares);
        assert_eq!(seats.iter().map(|s| s.nominal).collect::<Vec<_>>(), [25, 98, 74, 98, 245, 49, 13]);
        assert_eq!(seats.iter().map(|s| s.min).collect::<Vec<_>>(), [25, 73, 50, 49, 24, 24, 13]);
        assert!(seats.iter().all(|s| s.max == 600));
        assert_eq!(divide(100, &[limited(1, 50, Some(20))]), [Seats { nominal: 100, min: 50, max: 120 }]);
        assert_eq!(divide(100, &[limited(0, 0, None)])[0].nominal, 0);
    }

    #[test]
    fn idle_seats_are_lent_and_come_back() {
        let seats = divide(100, &[limited(50, 50, None), limited(50, 50, Some(30))]);
        let wants = |a: f64, b: f64| [(seats[0], Wanted { high: a, smooth: a }), (seats[1], Wanted { high: b, smooth: b })];
        // Nobody wants anything: half each. One wants all: it gets what the other may lend. Both want all: half each.
        assert_eq!(lend(100, &wants(0.0, 0.0)).0, [50, 50]);
        assert_eq!(lend(100, &wants(500.0, 0.0)).0, [75, 25]);
        assert_eq!(lend(100, &wants(0.0, 500.0)).0, [35, 65], "it may borrow 30 percent");
        assert_eq!(lend(100, &wants(500.0, 500.0)).0, [50, 50]);
        let some = lend(100, &wants(500.0, 40.0)).0;
        assert!(some[1] >= 40 && some[0] >= 50 && some.iter().sum::<u32>() == 100, "{some:?}");
        // Fewer seats than the least: everybody has the least.
        assert_eq!(lend(40, &wants(500.0, 500.0)).0, [25, 25]);
    }

    #[test]
    fn wants_fall_slowly() {
        let mut wanted = Wanted::default();
        wanted.observe(Demand { high: 10.0, average: 8.0, deviation: 1.0 });
        assert_eq!((wanted.high, wanted.smooth), (10.0, 9.0));
        wanted.observe(Demand::default());
        assert!(wanted.high == 0.0 && (8.0..9.0).contains(&wanted.smooth));
    }
}
