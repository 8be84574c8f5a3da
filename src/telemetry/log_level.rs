//! The level of the process's log, which can be changed while the process runs.

#[cfg(feature = "cli")]
use std::sync::{Mutex, OnceLock, PoisonError};

#[cfg(feature = "cli")]
use tracing::level_filters::LevelFilter;
#[cfg(feature = "cli")]
use tracing_subscriber::{Registry, reload};

use crate::config::LogLevel;

/// The filter of the log that `Server::main` has started.
#[cfg(feature = "cli")]
static LOG: OnceLock<Mutex<LogControl>> = OnceLock::new();

/// Changes the level of a log.
#[cfg(feature = "cli")]
pub(super) struct LogControl {
    level: LogLevel,
    filter: reload::Handle<LevelFilter, Registry>,
}

/// A filter of this level, and what changes it.
#[cfg(feature = "cli")]
pub(super) fn reloadable(level: LogLevel) -> (reload::Layer<LevelFilter, Registry>, LogControl) {
    let (layer, filter) = reload::Layer::new(filter_of(level));
    (layer, LogControl { level, filter })
}

#[cfg(feature = "cli")]
impl LogControl {
    /// Makes [`level`] and [`set_level`] work on this log.
    pub(super) fn install(self) {
        let _ = LOG.set(Mutex::new(self));
    }
}

#[cfg(feature = "cli")]
fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// The level of the log. `None` in a program that has its own log.
#[cfg(feature = "cli")]
pub(crate) fn level() -> Option<LogLevel> {
    Some(LOG.get()?.lock().unwrap_or_else(PoisonError::into_inner).level)
}

/// Sets the level of the log, and returns the previous one. `None` in a program that has its own log.
#[cfg(feature = "cli")]
pub(crate) fn set_level(level: LogLevel) -> Option<LogLevel> {
    let mut log = LOG.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    log.filter.reload(filter_of(level)).ok()?;
    Some(std::mem::replace(&mut log.level, level))
}

#[cfg(not(feature = "cli"))]
pub(crate) fn level() -> Option<LogLevel> {
    None
}

#[cfg(not(feature = "cli"))]
pub(crate) fn set_level(_: LogLevel) -> Option<LogLevel> {
    None
}
