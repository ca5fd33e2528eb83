//! The scheduler core joined with the embedded master's core under virtual time, over a network that loses, delays, repeats
//! and reorders, with agents that vanish and return, masters that fail over, and launchers that are killed between any two effects
//! and continued from their records: a thousand seeds, each a cluster and a story.
//!
//! What must hold in every story is said in `checks`. A failure names its seed; `SEED=n cargo test --test simulation` runs
//! that one again and prints everything that happens.

#![expect(clippy::unwrap_used, reason = "tests")]

mod agent;
mod checks;
mod network;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

const SEEDS: u64 = 1_000;

#[test]
fn every_task_ends_once_and_right_whatever_the_network_and_the_agents_do() {
    if let Ok(seed) = std::env::var("SEED") {
        return World::new(seed.parse().unwrap(), true).run();
    }
    let seeds = std::env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())).is_err() {
                        next.store(seeds, Ordering::Relaxed);
                        panic!("seed {seed} fails; SEED={seed} cargo test --test simulation -- --nocapture");
                    }
                }
            });
        }
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let mut world = World::new(seed, false);
        world.run();
        (world.now, world.steps)
    };
    for seed in 0..10 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}
