//! The queues of one priority level: who runs now, who waits, who is next.
//!
//! Words: a *seat* is what a running request holds; a *flow* is the requests that share a distinguisher; *virtual time* (`r`) is how far
//! a queue that always had work would have been served by now, in seat-seconds.
//!
//! Invariants: seats in use exceed the limit only by one request that is wider than the limit and runs alone, by a limit that was
//! lowered, or by what a write keeps holding after its end; nobody overtakes within a queue; a queue that was idle gains no credit.
//!
//! Pure: time is an argument. Follows upstream's `util/flowcontrol/fairqueuing/queueset` and KEP 1040: shuffle sharding deals each flow a
//! hand of queues, of which the emptiest is taken; the queue whose head would finish first in virtual time is served first.

use std::collections::VecDeque;

/// How long a request is assumed to take until its end is known (upstream's value), in seconds.
const ASSUMED: f64 = 0.003;
/// Queues that a hand may have at most. Upstream's validation keeps hands below this (60 bits of entropy).
const HAND: usize = 32;

/// The shape of a level's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    /// How many.
    pub queues: usize,
    /// How many of them a flow is dealt.
    pub hand: usize,
    /// Requests that may wait in each.
    pub length: usize,
}

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Width {
    /// Seats while it runs.
    pub seats: u32,
    /// Seat-seconds that it is charged after its end.
    pub after: f64,
}

/// A request that runs.
#[derive(Debug)]
pub struct Ticket {
    queue: usize,
    seats: u32,
    started: f64,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub enum Arrival {
    /// It runs.
    Run(Ticket),
    /// It must wait in this queue: [`QueueSet::enqueue`].
    Wait(usize),
    /// It is refused, with upstream's name for the reason.
    Refuse(&'static str),
}

struct Waiter<W> {
    id: u64,
    who: W,
    width: Width,
    /// Virtual time of its arrival.
    since: f64,
}

struct Queue<W> {
    waiting: VecDeque<Waiter<W>>,
    /// Seats that those who wait ask for.
    seats_waiting: u32,
    /// Virtual time at which its next request starts.
    next: f64,
    executing: u32,
    seats_in_use: u32,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), seats_waiting: 0, next: 0.0, executing: 0, seats_in_use: 0 }
    }
}

impl<W> Queue<W> {
    fn is_idle(&self) -> bool {
        self.executing == 0 && self.waiting.is_empty()
    }

    fn bound(&mut self) {
        // Work that took less than assumed is no credit from before the oldest request came.
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.since);
        }
    }
}

/// How many seats were asked for in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// At most.
    pub high: f64,
    /// On average.
    pub average: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// Observes a quantity over time.
#[derive(Default)]
struct Integral {
    since: f64,
    high: f64,
    first: f64,
    second: f64,
}

/// See the module. `W` is who waits.
pub struct QueueSet<W> {
    /// `None`: what can't run is refused.
    queuing: Option<Queuing>,
    limit: u32,
    queues: Vec<Queue<W>>,
    robin: usize,
    r: f64,
    now: f64,
    next_id: u64,
    seats_in_use: u32,
    executing: u32,
    waiting: u32,
    seats_waiting: u32,
    /// Queues that are not idle.
    active: u32,
    demand: Integral,
}

impl<W> QueueSet<W> {
    /// An idle level.
    pub fn new(queuing: Option<Queuing>, limit: u32) -> QueueSet<W> {
        let mut set = QueueSet {
            queuing: None,
            limit,
            queues: Vec::new(),
            robin: 0,
            r: 0.0,
            now: 0.0,
            next_id: 0,
            seats_in_use: 0,
            executing: 0,
            waiting: 0,
            seats_waiting: 0,
            active: 0,
            demand: Integral::default(),
        };
        set.reshape(queuing);
        set
    }

    /// Takes another shape. Queues that are no longer dealt are served until they are empty.
    pub fn reshape(&mut self, queuing: Option<Queuing>) {
        self.queuing = queuing;
        let wanted = queuing.map_or(1, |queuing| queuing.queues.max(1));
        while self.queues.len() < wanted {
            self.queues.push(Queue::default());
        }
    }

    /// A request of a flow with this hash arrives.
    pub fn arrive(&mut self, now: f64, hash: u64, width: Width) -> Arrival {
        self.pass(now);
        let Some(queuing) = self.queuing else {
            return if self.fits(width.seats) { Arrival::Run(self.start(0, width)) } else { Arrival::Refuse("concurrency-limit") };
        };
        let queue = self.deal(hash, queuing);
        if self.waiting == 0 && self.fits(width.seats) {
            return Arrival::Run(self.start(queue, width));
        }
        if self.seats_in_use >= self.limit && self.queues[queue].waiting.len() >= queuing.length {
            return Arrival::Refuse("queue-full");
        }
        Arrival::Wait(queue)
    }

    /// Lets `who` wait in the queue that [`QueueSet::arrive`] said. Returns its number and the queue's length, and who runs now.
    pub fn enqueue(&mut self, queue: usize, width: Width, who: W) -> (u64, usize, Vec<(W, Ticket)>) {
        let id = self.next_id;
        self.next_id += 1;
        let target = &mut self.queues[queue];
        if target.is_idle() {
            target.next = self.r;
            self.active += 1;
        }
        target.waiting.push_back(Waiter { id, who, width, since: self.r });
        target.seats_waiting += width.seats;
        let length = target.waiting.len();
        self.waiting += 1;
        self.seats_waiting += width.seats;
        (id, length, self.dispatch())
    }

    /// One who waits gives up. `None` if it runs already.
    pub fn leave(&mut self, now: f64, queue: usize, id: u64) -> Option<Vec<(W, Ticket)>> {
        self.pass(now);
        let at = self.queues[queue].waiting.iter().position(|waiter| waiter.id == id)?;
        drop(self.take(queue, at));
        if self.queues[queue].is_idle() {
            self.active -= 1;
        }
        // It may have been the head that was too wide for the seats left.
        Some(self.dispatch())
    }

    /// A request ended. Returns who runs now.
    pub fn finish(&mut self, now: f64, ticket: Ticket) -> Vec<(W, Ticket)> {
        self.pass(now);
        let queue = &mut self.queues[ticket.queue];
        queue.next += f64::from(ticket.seats) * (now - ticket.started - ASSUMED);
        queue.executing -= 1;
        queue.seats_in_use -= ticket.seats;
        queue.bound();
        if queue.is_idle() {
            self.active -= 1;
        }
        self.executing -= 1;
        self.seats_in_use -= ticket.seats;
        if self.active == 0 {
            // Nobody has a position in virtual time: it starts anew, and keeps its precision.
            self.r = 0.0;
        }
        self.dispatch()
    }

    /// A request that ran goes on holding other seats (what its write makes watchers do). Returns who runs now.
    pub fn narrow(&mut self, now: f64, ticket: &mut Ticket, seats: u32) -> Vec<(W, Ticket)> {
        self.pass(now);
        let queue = &mut self.queues[ticket.queue];
        queue.next += f64::from(ticket.seats) * (now - ticket.started - ASSUMED);
        queue.seats_in_use = queue.seats_in_use - ticket.seats + seats;
        self.seats_in_use = self.seats_in_use - ticket.seats + seats;
        ticket.seats = seats;
        // The work after the end was charged when it started.
        ticket.started = now - ASSUMED;
        self.demand.high = self.demand.high.max(f64::from(self.seats_in_use + self.seats_waiting));
        self.dispatch()
    }

    /// Changes how many seats there are. Returns who runs now.
    pub fn set_limit(&mut self, now: f64, limit: u32) -> Vec<(W, Ticket)> {
        self.pass(now);
        self.limit = limit;
        self.dispatch()
    }

    /// The demand since the last call.
    pub fn take_demand(&mut self, now: f64) -> Demand {
        self.pass(now);
        let integral = std::mem::take(&mut self.demand);
        let present = f64::from(self.seats_in_use + self.seats_waiting);
        self.demand = Integral { since: now, high: present, ..Integral::default() };
        let span = now - integral.since;
        if span <= 0.0 {
            return Demand { high: integral.high, average: present, deviation: 0.0 };
        }
        let average = integral.first / span;
        let variance = (integral.second / span - average * average).max(0.0);
        Demand { high: integral.high, average, deviation: variance.sqrt() }
    }

    /// Seats in use, requests that run, requests that wait, queues with anything in them.
    pub fn load(&self) -> (u32, u32, u32, u32) {
        (self.seats_in_use, self.executing, self.waiting, self.active)
    }

    /// Of each queue that is not idle: index, waiting, executing, seats in use, virtual start of its next request.
    pub fn queues(&self) -> impl Iterator<Item = (usize, usize, u32, u32, f64)> {
        let busy = self.queues.iter().enumerate().filter(|(_, queue)| !queue.is_idle());
        busy.map(|(index, queue)| (index, queue.waiting.len(), queue.executing, queue.seats_in_use, queue.next))
    }

    /// Lets time pass.
    fn pass(&mut self, now: f64) {
        let span = (now - self.now).max(0.0);
        self.now = self.now.max(now);
        let asked = self.seats_in_use + self.seats_waiting;
        self.demand.first += span * f64::from(asked);
        self.demand.second += span * f64::from(asked) * f64::from(asked);
        if self.active > 0 {
            self.r += span * f64::from(asked.min(self.limit)) / f64::from(self.active);
        }
    }

    fn fits(&self, seats: u32) -> bool {
        // What is wider than the level runs alone.
        if seats > self.limit { self.executing == 0 } else { self.seats_in_use + seats <= self.limit }
    }

    /// Of the queues that the flow's hash deals, the emptiest.
    fn deal(&self, mut hash: u64, queuing: Queuing) -> usize {
        let deck = queuing.queues.max(1);
        let hand = queuing.hand.clamp(1, deck.min(HAND));
        let mut dealt = [0usize; HAND];
        let (mut best, mut least) = (0, u32::MAX);
        for drawn in 0..hand {
            let left = (deck - drawn) as u64;
            let mut card = (hash % left) as usize;
            hash /= left;
            // The cards dealt before are not in the deck any more; they are kept in order.
            let mut at = 0;
            while at < drawn && dealt[at] <= card {
                card += 1;
                at += 1;
            }
            dealt.copy_within(at..drawn, at + 1);
            dealt[at] = card;
            let queue = &self.queues[card];
            let load = queue.seats_waiting + queue.seats_in_use;
            if load < least {
                (best, least) = (card, load);
            }
        }
        best
    }

    fn start(&mut self, index: usize, width: Width) -> Ticket {
        let queue = &mut self.queues[index];
        if queue.is_idle() {
            queue.next = self.r;
            self.active += 1;
        }
        self.occupy(index, width)
    }

    fn take(&mut self, queue: usize, at: usize) -> Option<Waiter<W>> {
        let waiter = self.queues[queue].waiting.remove(at)?;
        self.queues[queue].seats_waiting -= waiter.width.seats;
        self.waiting -= 1;
        self.seats_waiting -= waiter.width.seats;
        Some(waiter)
    }

    /// Starts whoever can start now, the earliest virtual finish first. Nobody narrower goes before a head that does not fit yet.
    fn dispatch(&mut self) -> Vec<(W, Ticket)> {
        self.demand.high = self.demand.high.max(f64::from(self.seats_in_use + self.seats_waiting));
        let mut started = Vec::new();
        while self.waiting > 0 {
            let count = self.queues.len();
            let ends = (1..=count).map(|step| (self.robin + step) % count).filter_map(|index| {
                let queue = &self.queues[index];
                let head = queue.waiting.front()?;
                Some((index, queue.next + f64::from(head.width.seats) * ASSUMED + head.width.after))
            });
            let Some((index, _)) = ends.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            let width = match self.queues[index].waiting.front() {
                Some(head) if self.fits(head.width.seats) => head.width,
                _ => break,
            };
            let Some(waiter) = self.take(index, 0) else { break };
            self.robin = index;
            // Its queue was not idle, since it waited there: the queue's place in virtual time stands.
            let ticket = self.occupy(index, width);
            started.push((waiter.who, ticket));
        }
        started
    }

    fn occupy(&mut self, index: usize, width: Width) -> Ticket {
        let queue = &mut self.queues[index];
        queue.next += f64::from(width.seats) * ASSUMED + width.after;
        queue.executing += 1;
        queue.seats_in_use += width.seats;
        queue.bound();
        self.executing += 1;
        self.seats_in_use += width.seats;
        self.demand.high = self.demand.high.max(f64::from(self.seats_in_use + self.seats_waiting));
        Ticket { queue: index, seats: width.seats, started: self.now }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
