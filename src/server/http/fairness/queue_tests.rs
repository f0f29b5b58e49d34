//! Simulations in virtual time: a clock that jumps from event to event, no threads and no sleeping.

use std::collections::{BTreeMap, HashMap};

use super::*;

const QUEUING: Queuing = Queuing { queues: 64, hand: 6, length: 50 };
const ONE: Width = Width { seats: 1, after: 0.0 };

/// Clients that each keep so many requests in flight, of a fixed duration and width.
struct Client {
    hash: u64,
    concurrency: usize,
    seconds: f64,
    seats: u32,
}

/// Runs the clients against a level for so long; returns seat-seconds served and requests refused, by client.
fn simulate(limit: u32, queuing: Option<Queuing>, clients: &[Client], until: f64) -> (Vec<f64>, Vec<usize>) {
    let mut set: QueueSet<usize> = QueueSet::new(queuing, limit);
    let mut ends: BTreeMap<(u64, usize), (usize, Ticket)> = BTreeMap::new();
    let (mut served, mut refused, mut serial) = (vec![0.0; clients.len()], vec![0; clients.len()], 0);
    let mut arrivals: Vec<usize> = clients.iter().enumerate().flat_map(|(index, c)| std::iter::repeat_n(index, c.concurrency)).collect();
    let mut now = 0.0;
    loop {
        let mut started = Vec::new();
        for client in std::mem::take(&mut arrivals) {
            let width = Width { seats: clients[client].seats, after: 0.0 };
            match set.arrive(now, clients[client].hash, width) {
                Arrival::Run(ticket) => started.push((client, ticket)),
                Arrival::Wait(queue) => started.extend(set.enqueue(queue, width, client).2),
                Arrival::Refuse(_) => refused[client] += 1,
            }
        }
        for (client, ticket) in started {
            serial += 1;
            ends.insert((((now + clients[client].seconds) * 1e9) as u64, serial), (client, ticket));
        }
        assert!(set.load().0 <= limit.max(clients.iter().map(|c| c.seats).max().unwrap_or(0)), "the limit holds at {now}");
        let Some(((at, _), (client, ticket))) = ends.pop_first() else { break };
        now = at as f64 / 1e9;
        if now > until {
            break;
        }
        served[client] += clients[client].seconds * f64::from(clients[client].seats);
        for (who, ticket) in set.finish(now, ticket) {
            serial += 1;
            ends.insert((((now + clients[who].seconds) * 1e9) as u64, serial), (who, ticket));
        }
        arrivals.push(client);
    }
    (served, refused)
}

fn client(hash: u64, concurrency: usize, seconds: f64, seats: u32) -> Client {
    Client { hash, concurrency, seconds, seats }
}

#[test]
fn an_elephant_leaves_a_mouse_its_share() {
    // Dealt different hands, as nearly all flows are.
    let clients = [client(1, 250, 0.05, 1), client(0x9e37_79b9_7f4a_7c15, 4, 0.05, 1)];
    let (served, refused) = simulate(10, Some(QUEUING), &clients, 60.0);
    // Ten seats for a minute are 600; the mouse never asks for more than four at once, and first come first served would give it ten.
    assert!(served[1] > 0.85 * 4.0 * 60.0, "{served:?}");
    assert!(served.iter().sum::<f64>() > 595.0, "nothing is idle: {served:?}");
    assert_eq!(refused[1], 0);
}

#[test]
fn flows_share_by_work_not_by_count() {
    // One asks for long requests, one for short, one for wide: all want everything, and each gets a third.
    let clients = [client(3, 40, 0.5, 1), client(0x0123_4567_89ab_cdef, 40, 0.01, 1), client(0xfeed_beef_dead_1111, 40, 0.05, 3)];
    let (served, _) = simulate(12, Some(QUEUING), &clients, 120.0);
    let third = served.iter().sum::<f64>() / 3.0;
    assert!(served.iter().all(|work| (work - third).abs() < 0.12 * third), "{served:?}");
}

#[test]
fn queues_are_bounded_and_levels_without_them_refuse() {
    let (_, refused) = simulate(1, Some(Queuing { queues: 4, hand: 1, length: 2 }), &[client(1, 10, 1.0, 1)], 0.5);
    assert_eq!(refused, [7], "one runs, two wait");
    let (_, refused) = simulate(3, None, &[client(1, 10, 1.0, 1)], 0.5);
    assert_eq!(refused, [7]);
    let mut set: QueueSet<()> = QueueSet::new(None, 0);
    assert!(matches!(set.arrive(0.0, 1, Width { seats: 5, after: 0.0 }), Arrival::Run(_)), "what is wider than the level runs alone");
    assert!(matches!(set.arrive(0.0, 1, ONE), Arrival::Refuse("concurrency-limit")));
}

#[test]
fn who_leaves_makes_way_and_limits_move() {
    let mut set: QueueSet<&str> = QueueSet::new(Some(QUEUING), 2);
    let Arrival::Run(first) = set.arrive(0.0, 1, ONE) else { panic!("there is room") };
    let wide = Width { seats: 2, after: 0.0 };
    let Arrival::Wait(queue) = set.arrive(0.0, 1, wide) else { panic!("it does not fit") };
    let (id, length, started) = set.enqueue(queue, wide, "wide");
    assert!(started.is_empty() && length == 1);
    // Nobody overtakes the head of the only queue, although one seat is free.
    let Arrival::Wait(other) = set.arrive(0.1, 1, ONE) else { panic!("somebody waits") };
    let (_, _, started) = set.enqueue(other, ONE, "narrow");
    let late = if started.is_empty() { set.leave(0.2, queue, id).expect("it waits") } else { started };
    assert_eq!(late.iter().map(|(who, _)| *who).collect::<Vec<_>>(), ["narrow"]);
    assert!(set.leave(0.2, queue, id).is_none() || !set.load().2.eq(&1));
    let Arrival::Wait(queue) = set.arrive(0.3, 9, ONE) else { panic!("it is full") };
    set.enqueue(queue, ONE, "third");
    assert_eq!(set.set_limit(0.4, 3).len(), 1);
    assert!(set.finish(0.5, first).is_empty());
    assert_eq!(set.load().0, 2);
}

#[test]
fn what_a_write_leaves_behind_keeps_its_seats() {
    let mut set: QueueSet<()> = QueueSet::new(Some(QUEUING), 4);
    let Arrival::Run(mut ticket) = set.arrive(0.0, 1, Width { seats: 1, after: 0.02 }) else { panic!("there is room") };
    assert!(set.narrow(1.0, &mut ticket, 4).is_empty());
    assert!(matches!(set.arrive(1.0, 2, ONE), Arrival::Wait(_)));
    set.finish(1.005, ticket);
    assert_eq!(set.load(), (0, 0, 0, 0));
}

#[test]
fn hands_are_fair_and_without_repetition() {
    let set: QueueSet<()> = QueueSet::new(Some(Queuing { queues: 8, hand: 8, length: 1 }), 1);
    // With the whole deck in hand the emptiest is the first dealt; every queue must come up about equally often.
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut hash: u64 = 1;
    for _ in 0..8000 {
        hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seen.entry(set.deal(hash >> 11, Queuing { queues: 8, hand: 8, length: 1 })).or_default() += 1;
    }
    assert!(seen.len() == 8 && seen.values().all(|count| (800..1200).contains(count)), "{seen:?}");
    // A hand as large as the deck deals every card: load all queues but one, and that one is found.
    for free in 0..8 {
        let mut set: QueueSet<()> = QueueSet::new(Some(Queuing { queues: 8, hand: 8, length: 1 }), 1);
        set.queues.iter_mut().enumerate().filter(|(index, _)| *index != free).for_each(|(_, queue)| queue.seats_in_use = 1);
        assert_eq!(set.deal(hash, Queuing { queues: 8, hand: 8, length: 1 }), free);
    }
}

#[test]
fn demand_is_measured_over_time() {
    let mut set: QueueSet<()> = QueueSet::new(Some(QUEUING), 2);
    set.take_demand(0.0);
    let Arrival::Run(one) = set.arrive(0.0, 1, ONE) else { panic!("there is room") };
    let Arrival::Run(two) = set.arrive(5.0, 1, ONE) else { panic!("there is room") };
    set.finish(10.0, one);
    assert_eq!(set.take_demand(10.0), Demand { high: 2.0, average: 1.5, deviation: 0.5 });
    set.finish(15.0, two);
    assert_eq!(set.take_demand(20.0).average, 0.5);
}
