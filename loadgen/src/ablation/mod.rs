//! Ablation: what each optimisation of the server gains, by switching it off.
//!
//! Every measurement is made once with all flags on and once with the flag off, in turn, by a new server process each time; the
//! order of a round is that of the previous one reversed, so that a drift of the machine affects both. The runs are an ordinary
//! result whose contestants name the positions of the flags, and the gains are computed from it ([`Ablation::of`]).
//!
//! Servers run without spinning, so that a closed loop is rated by requests per second of processor time: the rate alone would be
//! the generator's where the server is faster.

mod gains;
mod measurement;
mod plan;
mod position;
mod run;
mod validation;
mod wording;

pub use self::{
    gains::{Ablation, Gain},
    measurement::{Measurement, of_workload},
    plan::{Part, Settings},
    position::Position,
    run::{PLANTED_FLAG, run, run_planted},
};
