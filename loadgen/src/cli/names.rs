//! Names of attacks, faults and workloads.

use crate::error::LoadError;

/// Checks that each name is one of `known`. `kind`: what is named; `list`: the command that lists all.
///
/// # Errors
/// That of [`unknown`] for the first that is unknown.
pub(super) fn check_names<'a>(
    names: &[String],
    known: impl Iterator<Item = &'a str> + Clone,
    kind: &str,
    list: &str,
) -> Result<(), LoadError> {
    let is_known = |name: &String| known.clone().any(|known| known == name);
    names.iter().find(|name| !is_known(name)).map_or(Ok(()), |name| Err(unknown(name, known, kind, list)))
}

/// The error for a name that is none of `known`, which contains the one that is most like it.
pub(super) fn unknown<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    kind: &str,
    list: &str,
) -> LoadError {
    let similarity = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest = known.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let nearest = nearest.unwrap_or_default();
    LoadError::Usage(format!(
        "no {kind} {name:?}; the nearest name is {nearest}, and corelane-loadgen {list} lists all"
    ))
}
