//! A timer wheel with one entry per connection, which is moved only to fire earlier than scheduled.
//!
//! Requests usually postpone the deadline of their connection. The entry is not moved: it fires at the earlier time, and the
//! owner of the deadline schedules it again.

use std::time::{Duration, Instant};

/// Length of a tick.
const TICK: Duration = Duration::from_millis(64);
/// Ticks of one turn of the wheel: a little over two minutes. Later deadlines fire early and are scheduled again.
const SLOTS: usize = 2048;
const NONE: u32 = u32::MAX;

/// A time far enough ahead that it is never reached, and still representable.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// `now + after`, or a time that is never reached where the sum is not representable.
pub(crate) fn instant_after(now: Instant, after: Duration) -> Instant {
    now.checked_add(after.min(FAR)).unwrap_or(now)
}

/// A point in time, in ticks since the wheel was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u32);

impl Tick {
    /// No deadline.
    pub(crate) const NEVER: Self = Self(u32::MAX);
}

#[derive(Clone, Copy)]
struct Entry {
    previous: u32,
    next: u32,
    /// The tick at which the entry fires; [`Tick::NEVER`] when it is not on the wheel.
    at: Tick,
}

const OFF: Entry = Entry { previous: NONE, next: NONE, at: Tick::NEVER };

/// The wheel. Entries are identified by small integers, such as the indices of a slab.
pub(crate) struct Timers {
    start: Instant,
    /// All entries before this tick have fired.
    now: u32,
    heads: Box<[u32; SLOTS]>,
    entries: Vec<Entry>,
    scheduled: usize,
}

impl Timers {
    /// Memory of an entry, in bytes.
    #[cfg(test)]
    pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();

    pub(crate) fn new(start: Instant, entries_max: usize) -> Self {
        Self {
            start,
            now: 0,
            heads: Box::new([NONE; SLOTS]),
            entries: Vec::with_capacity(entries_max),
            scheduled: 0,
        }
    }

    /// The first tick that is not before `now + after`.
    pub(crate) fn tick_after(&self, now: Instant, after: Duration) -> Tick {
        let elapsed = now.saturating_duration_since(self.start).saturating_add(after);
        let ticks = elapsed.as_nanos().div_ceil(TICK.as_nanos());
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
    }

    /// Start of a tick.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.start + TICK * tick.0
    }

    /// The last tick that has passed.
    pub(crate) fn tick_before(&self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX - 1))
    }

    /// Schedules `index` to fire at `at` or before.
    pub(crate) fn schedule(&mut self, index: usize, at: Tick) {
        if index >= self.entries.len() {
            self.entries.resize(index + 1, OFF);
        }
        let Some(entry) = self.entries.get(index) else {
            return;
        };
        if entry.at <= at {
            return;
        }
        self.unlink(index);
        let horizon = self.now.saturating_add(SLOTS as u32 - 1);
        let at = Tick(at.0.clamp(self.now, horizon));
        let position = at.0 as usize % SLOTS;
        let Ok(name) = u32::try_from(index) else { return };
        let next = self.heads.get(position).copied().unwrap_or(NONE);
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { previous: NONE, next, at };
        }
        if let Some(behind) = self.entries.get_mut(next as usize) {
            behind.previous = name;
        }
        if let Some(head) = self.heads.get_mut(position) {
            *head = name;
        }
        self.scheduled += 1;
    }

    /// Moves all deadlines, past and pending, by the length of a pause in which nothing could be observed.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.start = instant_after(self.start, by);
    }

    /// Removes `index` from the wheel.
    pub(crate) fn cancel(&mut self, index: usize) {
        self.unlink(index);
    }

    fn unlink(&mut self, index: usize) {
        let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.at != Tick::NEVER) else {
            return;
        };
        let Entry { previous, next, at } = std::mem::replace(entry, OFF);
        self.scheduled -= 1;
        if let Some(behind) = self.entries.get_mut(next as usize) {
            behind.previous = previous;
        }
        if let Some(before) = self.entries.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut(at.0 as usize % SLOTS) {
            *head = next;
        }
    }

    /// Appends all due entries to `due`.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<usize>) {
        let Tick(today) = self.tick_before(now);
        if self.scheduled == 0 {
            self.now = self.now.max(today);
            return;
        }
        // One turn of the wheel passes every entry, however long ago the previous call was.
        let turn = today.min(self.now.saturating_add(SLOTS as u32));
        while self.now < turn {
            let position = self.now as usize % SLOTS;
            while let Some(&name) = self.heads.get(position).filter(|name| **name != NONE) {
                due.push(name as usize);
                self.unlink(name as usize);
            }
            self.now += 1;
        }
        self.now = self.now.max(today);
    }

    /// Earliest time at which [`Timers::expire`] can return an entry; `None` if the wheel is empty.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.scheduled == 0 {
            return None;
        }
        let slots = (0..SLOTS as u32).map(|offset| self.now.saturating_add(offset));
        let tick = slots
            .into_iter()
            .find(|tick| self.heads.get(*tick as usize % SLOTS).is_some_and(|head| *head != NONE));
        // A slot fires when its tick has passed.
        tick.map(|tick| self.start + TICK * tick.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(timers: &mut Timers, at: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        timers.expire(at, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn entries_fire_after_their_deadline_and_within_two_ticks_of_it() {
        let start = Instant::now();
        let mut timers = Timers::new(start, 8);
        for (index, seconds) in [(0, 1), (1, 10), (2, 120), (7, 1)] {
            let tick = timers.tick_after(start, Duration::from_secs(seconds));
            timers.schedule(index, tick);
        }
        for (seconds, due) in [(1, vec![0, 7]), (10, vec![1]), (120, vec![2])] {
            let deadline = start + Duration::from_secs(seconds);
            assert!(timers.next().unwrap() >= deadline);
            assert!(timers.next().unwrap() <= deadline + 2 * TICK);
            assert!(expired(&mut timers, deadline).is_empty());
            assert_eq!(expired(&mut timers, deadline + 2 * TICK), due);
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn an_entry_moves_only_to_fire_earlier() {
        let start = Instant::now();
        let mut timers = Timers::new(start, 8);
        let later = timers.tick_after(start, Duration::from_secs(50));
        let earlier = timers.tick_after(start, Duration::from_secs(5));
        timers.schedule(3, later);
        timers.schedule(4, later);
        timers.schedule(5, later);
        timers.schedule(4, earlier);
        timers.schedule(4, later);
        timers.cancel(5);
        assert_eq!(expired(&mut timers, start + Duration::from_secs(6)), [4]);
        assert_eq!(expired(&mut timers, start + Duration::from_secs(51)), [3]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_deadline_behind_the_horizon_fires_early_to_be_scheduled_again() {
        let start = Instant::now();
        let mut timers = Timers::new(start, 8);
        let far = timers.tick_after(start, Duration::from_secs(1000));
        timers.schedule(0, far);
        assert_eq!(expired(&mut timers, start + TICK * (SLOTS as u32 + 1)), [0]);
    }

    #[test]
    fn postponed_deadlines_keep_the_time_they_had_left() {
        let start = Instant::now();
        let mut timers = Timers::new(start, 8);
        let pause = Duration::from_secs(1000);
        timers.schedule(0, timers.tick_after(start, Duration::from_secs(10)));
        assert!(expired(&mut timers, start + Duration::from_secs(9)).is_empty());
        timers.postpone(pause);
        let resumed = start + pause + Duration::from_secs(9);
        assert!(expired(&mut timers, resumed).is_empty());
        timers.schedule(1, timers.tick_after(resumed, Duration::from_secs(2)));
        assert_eq!(expired(&mut timers, resumed + Duration::from_secs(1) + 2 * TICK), [0]);
        assert_eq!(expired(&mut timers, resumed + Duration::from_secs(2) + 2 * TICK), [1]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let start = Instant::now();
        let mut timers = Timers::new(start, 8);
        assert!(expired(&mut timers, start + Duration::from_secs(9)).is_empty());
        let past = timers.tick_after(start, Duration::from_secs(1));
        timers.schedule(0, past);
        assert_eq!(expired(&mut timers, start + Duration::from_secs(10)), [0]);
    }
}
