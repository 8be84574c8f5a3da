//! Reports of results: for the terminal, as an HTML page, and in HdrHistogram's formats.
//!
//! | what | for whom |
//! |---|---|
//! | [`terminal::run`], [`terminal::runs`] | who started the run; who looks over many |
//! | [`terminal::attacks`], [`terminal::endured`] | who attacked a server |
//! | [`terminal::ablation`], [`ablation_plot`] | who switched optimisations off |
//! | [`terminal::chaos`] | who did faults to a server |
//! | [`page`] | everybody: one HTML file with charts, which needs nothing else |
//! | [`hgrm`] | HdrHistogram's plotter |
//! | [`hlog`] | HdrHistogram's log processor and analyser |
//!
//! `wording` and `tables` contain the content, so that terminal and page are equal; `terminal` and `html` format it;
//! `charts` draws.

mod ablation_plot;
pub(crate) mod chaos;
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

pub use ablation_plot::ablation_plot;
pub use hgrm::hgrm;
pub use hlog::hlog;
pub use html::page;
pub use trend::trend;
