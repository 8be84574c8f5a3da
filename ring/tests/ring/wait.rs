//! Waiting and waking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane_ring::Ring;
use glommio::{LocalExecutorBuilder, Placement};

use crate::harness::{small, with_ring};

#[test]
fn parked_ring_without_a_wake_up_sleeps_until_its_limit() {
    with_ring(small(16, 16), async |ring, _| {
        for _ in 0..5 {
            ring.ring.turn(&mut ring.events).unwrap();
            let asleep = Instant::now();
            ring.ring.park(Some(asleep + Duration::from_millis(80)), |_| false).await.unwrap();
            assert!(asleep.elapsed() >= Duration::from_millis(60), "{:?}", asleep.elapsed());
        }
    });
}

#[test]
fn thread_without_a_ring_wakes_a_parked_ring() {
    with_ring(small(16, 16), async |ring, _| {
        for _ in 0..100 {
            let waker = ring.ring.waker();
            let work = Arc::new(AtomicBool::new(false));
            let queue = Arc::clone(&work);
            let waking = thread::spawn(move || {
                thread::sleep(Duration::from_millis(2));
                queue.store(true, Ordering::SeqCst);
                waker.wake();
            });
            let asleep = Instant::now();
            let ready = |_: &mut std::task::Context<'_>| work.load(Ordering::SeqCst);
            ring.ring.park(Some(asleep + Duration::from_secs(20)), ready).await.unwrap();
            assert!(asleep.elapsed() < Duration::from_secs(10));
            waking.join().unwrap();
        }
    });
}

#[test]
fn waiting_ring_with_a_short_preemption_timer_loses_no_wake_up() {
    const WAKES: usize = 1000;
    let queued = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // glommio parks with a runnable task if its timer fires before the first task of a round has run. An executor may therefore
    // never start its task, and then another one is tried; and the ring is dropped without a further round of the executor.
    let begin = || {
        let (woken, wakes) = std::sync::mpsc::channel();
        let (waker_of, wakers) = std::sync::mpsc::channel();
        let queue = Arc::clone(&queued);
        let sleeper = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(64 * 1024)
            .preempt_timer(Duration::from_micros(20))
            .spawn(move || async move {
                let mut ring = Ring::new(small(16, 16)).unwrap();
                let mut events = Vec::new();
                // The test has abandoned an executor that starts late.
                if waker_of.send(ring.waker()).is_err() {
                    return;
                }
                for wake in 1..=WAKES {
                    while queue.load(Ordering::SeqCst) < wake {
                        ring.wait(None, || queue.load(Ordering::SeqCst) >= wake).unwrap();
                        ring.turn(&mut events).unwrap();
                    }
                    woken.send(()).unwrap();
                }
            })
            .unwrap();
        wakers.recv_timeout(Duration::from_secs(5)).ok().map(|waker| (waker, wakes, sleeper))
    };
    let (waker, wakes, sleeper) = (0..20).find_map(|_| begin()).expect("no executor began");
    for wake in 0..WAKES {
        if wake % 10 == 0 {
            // Lets the thread sleep; most of the other wake-ups race with its falling asleep.
            thread::sleep(Duration::from_millis(1));
        }
        queued.fetch_add(1, Ordering::SeqCst);
        waker.wake();
        wakes.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
    }
    sleeper.join().unwrap();
}

#[test]
fn waiting_ring_without_a_wake_up_blocks_until_its_limit() {
    with_ring(small(16, 16), async |ring, _| {
        ring.ring.turn(&mut ring.events).unwrap();
        for _ in 0..5 {
            let asleep = Instant::now();
            ring.ring.wait(Some(Duration::from_millis(80)), || false).unwrap();
            assert!(asleep.elapsed() >= Duration::from_millis(60), "{:?}", asleep.elapsed());
        }
    });
}

#[test]
fn ring_shuts_down_with_a_pending_read_of_its_eventfd() {
    with_ring(small(16, 16), async |ring, _| {
        // Leaves the executor's read pending.
        ring.ring.park(Some(Instant::now() + Duration::from_millis(20)), |_| false).await.unwrap();
        let _ = futures_lite::future::poll_once(
            ring.ring.park(Some(Instant::now() + Duration::from_secs(20)), |_| false),
        )
        .await;
    });
}
