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
fn a_parked_ring_that_nobody_wakes_sleeps() {
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
fn a_thread_without_a_ring_wakes_a_parked_one() {
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
fn waiting_ring_with_a_short_preemption_timer_hears_every_wake() {
    const WAKES: usize = 1000;
    let queued = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // glommio parks with a runnable task when its timer fires before the first task of a round has run. So an executor may not
    // even begin, and then another one is tried; and this one is not asked for a further round when the ring is dropped.
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
                // Nobody waits for an executor that begins late.
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
            // So that it sleeps; most of the others race with its falling asleep.
            thread::sleep(Duration::from_millis(1));
        }
        queued.fetch_add(1, Ordering::SeqCst);
        waker.wake();
        wakes.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
    }
    sleeper.join().unwrap();
}

#[test]
fn waiting_ring_that_nobody_wakes_blocks_until_its_limit() {
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
fn ring_shuts_down_while_a_read_of_its_eventfd_is_under_way() {
    with_ring(small(16, 16), async |ring, _| {
        // Leaves the executor's read behind.
        ring.ring.park(Some(Instant::now() + Duration::from_millis(20)), |_| false).await.unwrap();
        let _ = futures_lite::future::poll_once(
            ring.ring.park(Some(Instant::now() + Duration::from_secs(20)), |_| false),
        )
        .await;
    });
}
