//! The terminal: draws the view, and reads keys.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::{
    reader::SampleReader,
    render::render,
    view::{Action, View},
};
use crate::control::Sample;

/// Interval at which samples and signals are checked while no key is pressed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The first interval, where the others are longer: the view begins with numbers.
const FIRST_INTERVAL_MAX: Duration = Duration::from_millis(250);

/// Rows that a page key scrolls.
const PAGE_ROWS: usize = 10;

/// Samples that wait to be shown.
const SAMPLES_MAX: usize = 4;

/// Shows the samples until the user ends it, or until `count`. The terminal is restored on every way out, a panic included.
///
/// # Errors
/// One line: the terminal cannot be used, or the server has gone.
pub(super) fn show(samples: SampleReader, interval: Duration, count: Option<u64>) -> Result<(), String> {
    let unusable = |error: io::Error| format!("the terminal cannot be used: {error}");
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&is_ended)).map_err(unusable)?;
    }
    let samples = read_samples(samples, interval).map_err(unusable)?;
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let shown = run(&mut terminal, &samples, count, &is_ended);
    ratatui::restore();
    match shown {
        Ok(server) => server,
        Err(error) => Err(unusable(error)),
    }
}

/// Starts a thread that requests one sample after the other. The channel ends with the error of the last.
fn read_samples(
    mut samples: SampleReader,
    interval: Duration,
) -> io::Result<Receiver<Result<Sample, String>>> {
    let (sender, receiver) = bounded(SAMPLES_MAX);
    thread::Builder::new().name("samples".to_owned()).spawn(move || {
        let mut next = interval.min(FIRST_INTERVAL_MAX);
        loop {
            let sample = samples.next(next);
            let is_last = sample.is_err();
            if sender.send(sample).is_err() || is_last {
                break;
            }
            next = interval;
        }
    })?;
    Ok(receiver)
}

/// Draws until a key, a signal or the count ends it. The inner result is an error of the server.
fn run(
    terminal: &mut DefaultTerminal,
    samples: &Receiver<Result<Sample, String>>,
    mut count: Option<u64>,
    is_ended: &AtomicBool,
) -> io::Result<Result<(), String>> {
    let mut view = View::default();
    loop {
        terminal.draw(|frame| render(&view, frame))?;
        if count == Some(0) || is_ended.load(Ordering::Relaxed) {
            return Ok(Ok(()));
        }
        // A key, a change of the terminal's size, or nothing.
        if event::poll(POLL_INTERVAL)? {
            match event::read()? {
                Event::Key(key) if is_quit(key) => return Ok(Ok(())),
                Event::Key(key) => {
                    if let Some(action) = action(key) {
                        view.act(action);
                    }
                }
                _ => {}
            }
        }
        match samples.try_recv() {
            Ok(Ok(sample)) => {
                view.update(sample);
                count = count.map(|count| count - 1);
            }
            Ok(Err(error)) => return Ok(Err(error)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
    }
}

fn is_quit(key: KeyEvent) -> bool {
    let is_control_c =
        key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
    is_control_c || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc)
}

/// The action of a key.
fn action(key: KeyEvent) -> Option<Action> {
    let is_chord = key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
    if key.kind == KeyEventKind::Release || is_chord {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('s' | '>') | KeyCode::Right => Action::NextColumn,
        KeyCode::Char('S' | '<') | KeyCode::Left => Action::PreviousColumn,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Tab | KeyCode::BackTab => Action::SwitchTable,
        KeyCode::Char('j') | KeyCode::Down => Action::Down(1),
        KeyCode::Char('k') | KeyCode::Up => Action::Up(1),
        KeyCode::PageDown => Action::Down(PAGE_ROWS),
        KeyCode::PageUp => Action::Up(PAGE_ROWS),
        KeyCode::Home => Action::First,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_control_or_alt_are_not_those_without() {
        assert_eq!(action(KeyCode::Char(' ').into()), Some(Action::Pause));
        for modifier in [KeyModifiers::CONTROL, KeyModifiers::ALT] {
            for key in [' ', 'p', 'r', 's'] {
                assert_eq!(action(KeyEvent::new(KeyCode::Char(key), modifier)), None, "{modifier} {key}");
            }
        }
        assert!(is_quit(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
