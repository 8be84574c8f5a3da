//! The threads that make the pages: one for health and readiness, one for metrics, one for the data of the dashboard, since each may
//! wait for a shard.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    dashboard::{DATA_HEADERS, Dashboard},
    health::health,
    metrics::metrics,
    response::{JSON, TEXT, encode},
    shared::{Page, Shared},
    wake::Wake,
};
use crate::http1::Status;

/// A page that a connection waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// Number of the connection.
    pub(super) connection: u64,
    pub(super) page: Page,
    /// Whether the response has a body.
    pub(super) has_body: bool,
}

/// An encoded response, and the number of its connection.
pub(super) type Made = (u64, Vec<u8>);

/// The threads that make the pages. They exit when this is dropped.
pub(super) struct PageMakers {
    health: Sender<Job>,
    metrics: Sender<Job>,
    dashboard: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl PageMakers {
    /// Starts the threads. Returns the channel of the responses; `wake` is signalled after each.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(shared: &Arc<Shared>, wake: &Arc<Wake>) -> io::Result<(Self, Receiver<Made>)> {
        // Each connection has one job at most.
        let capacity = shared.limits.admin_connections_max;
        let (made, responses) = bounded(capacity);
        let (health, health_jobs) = bounded(capacity);
        let (metrics, metrics_jobs) = bounded(capacity);
        let (dashboard, dashboard_jobs) = bounded(capacity);
        let spawn = |name: &str, jobs: Receiver<Job>| {
            let (shared, made, wake) = (Arc::clone(shared), made.clone(), Arc::clone(wake));
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || make_pages(&jobs, &shared, &made, &wake))
        };
        let threads = vec![
            spawn("admin-health", health_jobs)?,
            spawn("admin-metrics", metrics_jobs)?,
            spawn("admin-dashboard", dashboard_jobs)?,
        ];
        Ok((Self { health, metrics, dashboard, threads }, responses))
    }

    /// Queues a job. A full queue or an exited thread loses it, which closes the connection with its deadline.
    pub(super) fn request(&self, job: Job) -> bool {
        let jobs = match job.page {
            Page::Metrics => &self.metrics,
            Page::Dashboard => &self.dashboard,
            Page::Health | Page::Readiness => &self.health,
        };
        jobs.try_send(job).is_ok()
    }

    /// Waits until the threads have exited.
    pub(super) fn join(self) {
        let Self { health, metrics, dashboard, threads } = self;
        drop((health, metrics, dashboard));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// Makes one page for all jobs that are queued, so that the time of a page does not grow with their number.
fn make_pages(jobs: &Receiver<Job>, shared: &Shared, made: &Sender<Made>, wake: &Wake) {
    let mut dashboard = Dashboard::default();
    while let Ok(first) = jobs.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(jobs.try_iter()).collect();
        // Every job of this thread shows the state of the shards, read once.
        let (status, body) = match first.page {
            Page::Metrics => (Status::Ok, metrics(shared)),
            Page::Dashboard => (Status::Ok, dashboard.data(&shared.sampler)),
            Page::Health | Page::Readiness => health(&shared.shards),
        };
        for job in jobs {
            let not_ready = match job.page {
                Page::Readiness if shared.draining.load(Ordering::Relaxed) => Some("draining\n"),
                Page::Readiness if shared.pressure.is_high() => Some("memory is nearly used up\n"),
                _ => None,
            };
            let response = match not_ready {
                Some(reason) => encode(Status::ServiceUnavailable, TEXT, "", job.has_body, reason),
                None if job.page == Page::Dashboard => {
                    encode(status, JSON, DATA_HEADERS, job.has_body, &body)
                }
                None => encode(status, TEXT, "", job.has_body, &body),
            };
            if made.send((job.connection, response)).is_err() {
                return;
            }
        }
        wake.wake();
    }
}
