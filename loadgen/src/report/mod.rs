//! What was measured, told: to the person at the terminal, on a page for those who were not there, and to the tools of
//! HdrHistogram.
//!
//! | what | for whom |
//! |---|---|
//! | [`terminal::run`], [`terminal::runs`] | who started the run; who looks over many |
//! | [`page`] | everybody: one HTML file with charts, which needs nothing else |
//! | [`hgrm`] | HdrHistogram's plotter |
//! | [`hlog`] | HdrHistogram's log processor and analyser |
//!
//! `wording` and `tables` say what is told, so that the terminal and the page tell the same; `terminal` and `html` set
//! it; `charts` draws.

mod charts;
mod hgrm;
mod hlog;
mod html;
mod run_group;
#[cfg(test)]
pub(crate) mod sample;
mod tables;
pub mod terminal;
mod trend;
mod rating;
mod wording;

pub use hgrm::hgrm;
pub use hlog::hlog;
pub use html::page;
pub use trend::trend;
