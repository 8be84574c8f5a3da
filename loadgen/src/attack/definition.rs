//! What an attack is.

use super::{attacker::Attacker, bystander::Bystander};

/// An attack of one client.
pub struct Attack {
    /// Its name on the command line.
    pub id: &'static str,
    /// The actions of the attacker.
    pub description: &'static str,
    pub(super) bystander: Bystander,
    /// Attacks until [`Attacker::is_over`].
    pub(super) run: fn(&Attacker<'_>),
}
