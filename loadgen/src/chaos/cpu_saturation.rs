//! `cpu_saturation`: three threads of another process compute on the core of the server, at the same priority.
//!
//! - Right refusal: none. The load of the bystander fits into the rest of the core, so that every call is served.
//! - Detected: `corelane_shard_run_delay_seconds_total` grows by a tenth of the time since the fault began, and by 20 ms.
//! - Recovered: it grows by less than a tenth of a time of 200 ms, and a new client gets the right reply to `echo`.
//! - Lost: a call of the bystander that was refused or failed.

use std::{
    hint,
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::Scene,
};

const THREADS: usize = 3;
const METRIC: &str = "corelane_shard_run_delay_seconds_total";
/// Share of time for which a shard waits for its core, above which the core is saturated, and the minimum of that time in seconds.
const SHARE: f64 = 0.1;
const DELAY_S_MIN: f64 = 0.02;
/// Time over which the end of the fault is observed.
const WINDOW: Duration = Duration::from_millis(200);

pub(super) fn fault() -> Fault {
    Fault {
        // Its threads compete with the server.
        is_background: false,
        ..Fault::new(
            "cpu_saturation",
            "three threads of another process compute on the core of the server",
            inject,
        )
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let before = scene.sample().sum(METRIC, "");
    let refusals = scene.sample().sum("corelane_refusals_total", "");
    let mut observation = Observation::new("shard_run_delay_seconds_total", "none: served");
    let (injected, stopped) = (observation.injected, AtomicBool::new(false));
    let ((), shown) = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                core_affinity::set_for_current(core_affinity::CoreId { id: scene.server_core });
                while !stopped.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            });
        }
        let watched = scene.watch(
            |sample| {
                let delay = sample.sum(METRIC, "") - before;
                delay >= DELAY_S_MIN.max(SHARE * injected.elapsed().as_secs_f64())
            },
            || thread::sleep(scene.duration),
        );
        stopped.store(true, Ordering::Relaxed);
        watched
    });
    observation.shown_at(shown);
    observation.recovered = scene.recover(Instant::now(), || {
        let (at, delay) = (Instant::now(), scene.sample().sum(METRIC, ""));
        thread::sleep(WINDOW);
        let grown = scene.sample().sum(METRIC, "") - delay;
        if grown > SHARE * at.elapsed().as_secs_f64() {
            return Err(ErrorKind::WouldBlock.into());
        }
        scene.echo(&mut scene.connect_neighbour()?)
    });
    if scene.sample().sum("corelane_refusals_total", "") > refusals {
        observation.wrong("calls were refused");
    }
    Ok(observation)
}
