//! Profiles of the running process: in which functions its threads spend CPU time, and which functions allocated the memory in use
//! ([`HeapProfile`]).
//!
//! [`capture`] samples threads by the clock of their CPU time and counts distinct stacks. A profile consists of addresses; symbols
//! are resolved by the process that writes the output ([`write`]), so that the server reads no debugging information. Nothing here
//! is on the path of a request, and nothing runs while no profile is taken.
//!
//! A sample contains the top of the thread's stack, which is unwound afterwards by the tables in `.eh_frame`: no frame pointers are
//! needed, and no thread is unwound while it is interrupted.

mod capture;
mod error;
#[cfg(feature = "cli")]
mod flame_graph;
#[cfg(feature = "cli")]
mod folded;
mod heap;
mod model;
mod modules;
mod options;
#[cfg(feature = "cli")]
mod output;
mod perf;
#[cfg(feature = "cli")]
mod pprof;
#[cfg(feature = "cli")]
mod report;
mod sample;
mod sampler;
mod stacks;
#[cfg(feature = "cli")]
mod symbols;
mod threads;

pub use capture::{capture, capture_from};
pub use error::ProfileError;
pub use heap::{HeapProfile, HeapStack};
pub use model::{Frame, Profile, SampledModule, Stack};
pub use options::ProfileOptions;
#[cfg(feature = "cli")]
pub use output::{EarlierHeap, Growth, ProfileFormat, ProfileOutput};
#[cfg(feature = "cli")]
pub use report::ToReport;
pub use sampler::SampleSource;
pub use threads::SampledThreads;
