//! Tests of the blocking pool.

use std::{rc::Rc, sync::Barrier};

use super::*;
use crate::runtime::{CallEvent, Completions};

fn config() -> PoolConfig {
    PoolConfig {
        threads: 1,
        threads_max: 3,
        waiting_max: 2,
        queue_max: 100,
        peer_share_percent: 25,
        idle_max: Duration::from_millis(20),
        stack_bytes: 1 << 20,
        log_lines_per_second_max: 1,
        cores: Vec::new(),
    }
}

fn peer(number: u8) -> PeerKey {
    PeerKey::new(corelane_ring::PeerAddress::new([192, 0, 2, number].into(), 1))
}

fn submit_for(
    pool: &BlockingPool,
    peer: PeerKey,
    completions: &Rc<Completions>,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), NoRoom> {
    let work = Box::new(move || {
        work();
        Ok(Reply::default())
    });
    let (cancelled, ticket) = (Arc::default(), Ticket::default());
    pool.submit(peer, work, Recipient { cancelled, ticket, completions: completions.remote() })
}

fn submit(pool: &BlockingPool, completions: &Rc<Completions>, work: impl FnOnce() + Send + 'static) {
    submit_for(pool, PeerKey::default(), completions, work).unwrap();
}

fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "the condition did not hold within 20 s");
        thread::sleep(Duration::from_millis(1));
    }
}

fn ended(completions: &Completions) -> usize {
    std::iter::from_fn(|| completions.pop()).filter(|event| matches!(event, CallEvent::Ended(_))).count()
}

#[test]
fn pool_grows_to_its_maximum_and_shrinks_when_idle() {
    let pool = BlockingPool::start(config()).unwrap();
    let completions = Completions::new(100, 1, 1, Arc::new(|| ()));
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..9 {
        let barrier = Arc::clone(&barrier);
        submit(&pool, &completions, move || {
            barrier.wait();
        });
    }
    let threads = || pool.0.shared.state().threads.all;
    let all = std::cell::Cell::new(0);
    until(|| {
        assert!(threads() <= 3);
        all.set(all.get() + ended(&completions));
        all.get() == 9
    });
    until(|| threads() == 1);
    submit(&pool, &completions, || ());
    until(|| ended(&completions) == 1);
}

#[test]
fn waiting_handlers_have_additional_threads_up_to_their_limit() {
    let pool = BlockingPool::start(PoolConfig { threads_max: 1, ..config() }).unwrap();
    let completions = Completions::new(100, 1, 1, Arc::new(|| ()));
    let (answer, answers) = crossbeam_channel::bounded::<()>(0);
    for _ in 0..2 {
        let (gauge, answers) = (pool.wait_gauge(PeerKey::default()), answers.clone());
        submit(&pool, &completions, move || {
            assert!(gauge.begin());
            answers.recv().unwrap();
            gauge.end();
        });
    }
    until(|| pool.0.shared.state().waiting == 2);
    assert!(!pool.wait_gauge(PeerKey::default()).begin(), "one more than may wait");
    submit(&pool, &completions, || ());
    until(|| ended(&completions) == 1);
    assert!(pool.0.shared.state().threads.all <= 3);
    answer.send(()).unwrap();
    answer.send(()).unwrap();
    until(|| pool.0.shared.state().threads.all == 1);
    assert_eq!(pool.0.shared.state().waiting, 0);
}

#[test]
fn job_of_a_newcomer_does_not_wait_for_running_jobs_of_others() {
    // Neither where all permanent threads are in use, nor at the maximum.
    for threads_max in [1, 3] {
        let pool = BlockingPool::start(PoolConfig { threads_max, ..config() }).unwrap();
        let [heavy, light] = [(); 2].map(|()| Completions::new(100, 1, 1, Arc::new(|| ())));
        let (end, ends) = crossbeam_channel::bounded::<()>(0);
        for _ in 0..50 {
            let ends = ends.clone();
            submit_for(&pool, peer(1), &heavy, move || {
                let _ = ends.recv();
            })
            .unwrap();
        }
        until(|| pool.0.shared.state().taken >= threads_max as u64);
        for _ in 0..3 {
            submit_for(&pool, peer(2), &light, || ()).unwrap();
            until(|| ended(&light) == 1);
        }
        let state = pool.0.shared.state();
        assert_eq!((state.threads.all, state.taken), (threads_max, threads_max as u64 + 3));
        drop(state);
        drop(end);
        let all = Cell::new(0);
        until(|| {
            all.set(all.get() + ended(&heavy));
            all.get() == 50
        });
        until(|| pool.observer().load().unwrap().threads == 1);
    }
}

#[test]
fn spare_threads_are_bounded_and_serve_one_job_of_a_peer_at_a_time() {
    let pool = BlockingPool::start(PoolConfig { threads_max: 1, ..config() }).unwrap();
    let completions = Completions::new(100, 1, 1, Arc::new(|| ()));
    let (end, ends) = crossbeam_channel::bounded::<()>(0);
    for number in [1, 2, 3, 2, 1] {
        let ends = ends.clone();
        submit_for(&pool, peer(number), &completions, move || {
            let _ = ends.recv();
        })
        .unwrap();
        until(|| pool.0.shared.state().taken >= u64::from(number.min(2)));
    }
    // The permanent thread and one spare; longer than it takes to start another.
    thread::sleep(WAIT_MAX * 5);
    let load = pool.observer().load().unwrap();
    assert_eq!((load.threads, load.queued), (2, 3));
    drop(end);
    let all = Cell::new(0);
    until(|| {
        all.set(all.get() + ended(&completions));
        all.get() == 5
    });
}

#[test]
fn waiting_handler_is_no_running_job_of_its_peer() {
    let pool = BlockingPool::start(PoolConfig { threads_max: 1, ..config() }).unwrap();
    let completions = Completions::new(100, 1, 1, Arc::new(|| ()));
    let (answer, answers) = crossbeam_channel::bounded::<()>(0);
    let (gauge, answered) = (pool.wait_gauge(peer(1)), answers.clone());
    submit_for(&pool, peer(1), &completions, move || {
        assert!(gauge.begin());
        let _ = answered.recv();
        gauge.end();
    })
    .unwrap();
    until(|| pool.0.shared.state().waiting == 1);
    let (held, holds) = crossbeam_channel::bounded::<()>(0);
    for _ in 0..2 {
        let holds = holds.clone();
        submit_for(&pool, peer(2), &completions, move || {
            let _ = holds.recv();
        })
        .unwrap();
    }
    submit_for(&pool, peer(1), &completions, || ()).unwrap();
    until(|| ended(&completions) == 1);
    drop((answer, held));
    let all = Cell::new(0);
    until(|| {
        all.set(all.get() + ended(&completions));
        all.get() == 3
    });
}

#[test]
fn refused_job_names_the_full_queue_or_the_share() {
    let pool = BlockingPool::start(PoolConfig { threads_max: 1, queue_max: 16, ..config() }).unwrap();
    let completions = Completions::new(100, 1, 1, Arc::new(|| ()));
    let (end, ends) = crossbeam_channel::bounded::<()>(0);
    let held = ends.clone();
    submit_for(&pool, peer(1), &completions, move || {
        let _ = held.recv();
    })
    .unwrap();
    until(|| pool.0.shared.state().taken == 1);
    for _ in 0..15 {
        let ends = ends.clone();
        submit_for(&pool, peer(1), &completions, move || {
            let _ = ends.recv();
        })
        .unwrap();
    }
    assert_eq!(submit_for(&pool, peer(1), &completions, || ()), Err(NoRoom::Share));
    drop(end);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a handler that does not wait ends waiting")]
fn end_of_waiting_without_its_begin_panics() {
    BlockingPool::start(config()).unwrap().wait_gauge(PeerKey::default()).end();
}
