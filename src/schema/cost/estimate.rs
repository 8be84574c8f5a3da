//! The work of validating one value.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use foldhash::fast::FixedState;
use serde_json::Value;

use super::{
    graph::{Graph, Part},
    units::work_of_bytes,
    weights::{REMEMBERED, Weights},
};
use crate::{config::SchemaLimits, json::Node};

/// A subschema with its combinators and references resolved: all subschemas that are evaluated for a value if it is.
#[derive(Default)]
struct Subschema {
    weights: Weights,
    properties: HashMap<Box<str>, Vec<Target>>,
    members: Vec<Target>,
    names: Vec<Target>,
    positions: Vec<Vec<Target>>,
    elements: Vec<Target>,
    /// Whether no subschema is evaluated for a part of the value.
    is_leaf: bool,
    /// Whether it is evaluated for parts of the value again.
    is_recursive: bool,
}

/// A subschema that is evaluated for a part of the value.
#[derive(Clone, Copy)]
struct Target {
    index: usize,
    times: u64,
}

/// Upper bound of the work per JSON value, and per 64 bytes of strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bound {
    per_value: u64,
    per_block: u64,
}

/// The work of validating values against one schema.
pub(in crate::schema) struct Model {
    subschemas: Vec<Subschema>,
    /// `None` if the work may grow faster than the value: for a recursive schema and for `uniqueItems`.
    bound: Option<Bound>,
}

impl Model {
    /// Weighs a schema that is within the limits.
    pub(in crate::schema) fn of(schema: &Value, limits: &SchemaLimits) -> Self {
        let parts = Graph::of(schema, limits).parts;
        let mut closures = Closures { parts: &parts, known: vec![None; parts.len()], open: Vec::new() };
        let mut subschemas: Vec<_> = (0..parts.len()).map(|index| closures.subschema(index)).collect();
        let recursive: Vec<bool> =
            (0..parts.len()).map(|index| leads_to_itself(&subschemas, index)).collect();
        for (subschema, is_recursive) in subschemas.iter_mut().zip(recursive) {
            subschema.is_recursive = is_recursive;
        }
        let bound = Bounds { subschemas: &subschemas, known: vec![Known::No; subschemas.len()] }.of(0);
        Self { subschemas, bound }
    }

    /// Upper bound of the work for a value with this number of JSON values and bytes of strings.
    #[inline]
    pub(in crate::schema) fn bound(&self, values: usize, bytes: usize) -> u64 {
        match self.bound {
            Some(Bound { per_value, per_block }) => {
                per_value.saturating_mul(values as u64).saturating_add(work_of_bytes(bytes, per_block))
            }
            None => u64::MAX,
        }
    }

    /// Whether the work may grow faster than the value.
    pub(in crate::schema) fn is_recursive(&self) -> bool {
        self.bound.is_none()
    }

    /// The work of validating `value`; `None` if it exceeds `work_max`. Takes a fraction of the time that it computes, and ends
    /// at `work_max`.
    pub(in crate::schema) fn work(&self, value: Node<'_>, work_max: u64) -> Option<u64> {
        let mut work: u64 = 0;
        let mut seen = HashSet::<_, FixedState>::default();
        let mut stack = vec![(Target { index: 0, times: 1 }, value)];
        while let Some((Target { index, mut times }, value)) = stack.pop() {
            let Some(subschema) = self.subschemas.get(index) else { continue };
            if subschema.is_recursive && value.node_count() > 1 {
                // The library remembers the result.
                work = work.saturating_add(times.saturating_mul(REMEMBERED));
                if !seen.insert((index, value.address())) {
                    continue;
                }
                times = times.min(REPEATED_MAX);
            }
            work = work.saturating_add(subschema.weights.work(value).saturating_mul(times));
            if work > work_max {
                return None;
            }
            if !subschema.names.is_empty() {
                let names =
                    value.members().into_iter().flatten().map(|(name, _)| self.work_of_name(subschema, name));
                work = work.saturating_add(names.fold(0, u64::saturating_add).saturating_mul(times));
            }
            let mut push = |targets: &[Target], value| {
                for target in targets {
                    let repeated = target.times.saturating_mul(times);
                    match self.subschemas.get(target.index) {
                        Some(inner) if inner.is_leaf => {
                            work = work.saturating_add(inner.weights.work(value).saturating_mul(repeated));
                        }
                        _ => stack.push((Target { times: repeated, ..*target }, value)),
                    }
                }
            };
            if subschema.has_members() {
                for (name, member) in value.members().into_iter().flatten() {
                    if let Some(targets) = subschema.properties.get(name) {
                        push(targets, member);
                    }
                    push(&subschema.members, member);
                }
            }
            if subschema.has_elements() {
                for (position, element) in value.elements().into_iter().flatten().enumerate() {
                    if let Some(targets) = subschema.positions.get(position) {
                        push(targets, element);
                    }
                    push(&subschema.elements, element);
                }
            }
        }
        (work <= work_max).then_some(work)
    }

    fn work_of_name(&self, subschema: &Subschema, name: &str) -> u64 {
        let of_target = |target: &Target| {
            let inner = self.subschemas.get(target.index)?;
            let work = Node::with_string(name, |name| inner.weights.work(name));
            Some(work.saturating_mul(target.times))
        };
        subschema.names.iter().filter_map(of_target).fold(0, u64::saturating_add)
    }
}

impl Subschema {
    fn has_members(&self) -> bool {
        !(self.properties.is_empty() && self.members.is_empty())
    }

    fn has_elements(&self) -> bool {
        !(self.positions.is_empty() && self.elements.is_empty())
    }
}

/// Upper bound of the evaluations of a recursive subschema for one object or array. The library remembers the result where the subschema
/// was evaluated 16 times within.
const REPEATED_MAX: u64 = 4;

/// Whether a subschema is evaluated for a part of the value that it is evaluated for.
fn leads_to_itself(subschemas: &[Subschema], index: usize) -> bool {
    let mut seen = HashSet::<_, FixedState>::default();
    let mut stack = vec![index];
    while let Some(next) = stack.pop() {
        let Some(subschema) = subschemas.get(next) else { continue };
        let named = subschema.properties.values().chain(&subschema.positions).flatten();
        let targets = named.chain(&subschema.members).chain(&subschema.elements);
        for target in targets.map(|target| target.index) {
            if target == index {
                return true;
            }
            if seen.insert(target) {
                stack.push(target);
            }
        }
    }
    false
}

/// Subschemas that are evaluated for the same value, and how often.
struct Closures<'a> {
    parts: &'a [Part<'a>],
    known: Vec<Option<Rc<Vec<Target>>>>,
    /// Subschemas whose closures are being computed. One that leads to itself for the same value is evaluated once: the library
    /// ends such a cycle.
    open: Vec<usize>,
}

impl Closures<'_> {
    /// The closure of a subschema, and whether it is independent of `open`.
    fn of(&mut self, index: usize) -> (Rc<Vec<Target>>, bool) {
        if let Some(Some(known)) = self.known.get(index) {
            return (Rc::clone(known), true);
        }
        if self.open.contains(&index) {
            return (Rc::default(), false);
        }
        self.open.push(index);
        let mut times_of = HashMap::from([(index, 1_u64)]);
        let mut is_whole = true;
        for inner in self.parts.get(index).into_iter().flat_map(|part| &part.same) {
            let (closure, is_independent) = self.of(*inner);
            is_whole &= is_independent;
            let repeated = self.parts.get(index).map_or(1, |part| part.times);
            for target in &*closure {
                let times = times_of.entry(target.index).or_default();
                *times = times.saturating_add(target.times.saturating_mul(repeated));
            }
        }
        self.open.pop();
        let closure: Vec<_> = times_of.into_iter().map(|(index, times)| Target { index, times }).collect();
        let closure = Rc::new(closure);
        let is_whole = is_whole || self.open.is_empty();
        if is_whole && let Some(known) = self.known.get_mut(index) {
            *known = Some(Rc::clone(&closure));
        }
        (closure, is_whole)
    }

    fn subschema(&mut self, index: usize) -> Subschema {
        let mut whole = Subschema::default();
        for Target { index, times } in &*self.of(index).0 {
            let Some(part) = self.parts.get(*index) else { continue };
            let target = |index: &usize| Target { index: *index, times: *times };
            whole.weights.add(&part.weights, *times);
            for (name, index) in &part.properties {
                add(whole.properties.entry((*name).into()).or_default(), target(index));
            }
            part.members.iter().for_each(|index| add(&mut whole.members, target(index)));
            part.names.iter().for_each(|index| add(&mut whole.names, target(index)));
            part.elements.iter().for_each(|index| add(&mut whole.elements, target(index)));
            if whole.positions.len() < part.positions.len() {
                whole.positions.resize(part.positions.len(), Vec::new());
            }
            for (targets, index) in whole.positions.iter_mut().zip(&part.positions) {
                add(targets, target(index));
            }
        }
        whole.is_leaf = !whole.has_members() && !whole.has_elements() && whole.names.is_empty();
        whole
    }
}

/// Adds a target to others, of which each subschema is one.
fn add(targets: &mut Vec<Target>, new: Target) {
    match targets.iter_mut().find(|target| target.index == new.index) {
        Some(target) => target.times = target.times.saturating_add(new.times),
        None => targets.push(new),
    }
}

#[derive(Clone, Copy)]
enum Known {
    No,
    Open,
    Bound(Bound),
}

/// Bounds of the work of each subschema.
struct Bounds<'a> {
    subschemas: &'a [Subschema],
    known: Vec<Known>,
}

impl Bounds<'_> {
    /// The bound of a subschema; `None` if it has none.
    fn of(&mut self, index: usize) -> Option<Bound> {
        match self.known.get(index)? {
            Known::Bound(bound) => return Some(*bound),
            Known::Open => return None,
            Known::No => {}
        }
        self.set(index, Known::Open);
        let subschema = self.subschemas.get(index)?;
        let mut bound =
            Bound { per_value: subschema.weights.per_value()?, per_block: subschema.weights.per_block() };
        // Each JSON value is in one member at most, so members of different names are not added.
        let mut named = Bound::default();
        for targets in subschema.properties.values() {
            named.raise(self.sum(targets)?);
        }
        let mut members = self.sum(&subschema.members)?;
        members.add(named, 1);
        members.add(self.sum(&subschema.names)?, 1);
        let mut positioned = Bound::default();
        for targets in &subschema.positions {
            positioned.raise(self.sum(targets)?);
        }
        let mut elements = self.sum(&subschema.elements)?;
        elements.add(positioned, 1);
        members.raise(elements);
        bound.add(members, 1);
        self.set(index, Known::Bound(bound));
        Some(bound)
    }

    fn sum(&mut self, targets: &[Target]) -> Option<Bound> {
        let mut sum = Bound::default();
        for target in targets {
            sum.add(self.of(target.index)?, target.times);
        }
        Some(sum)
    }

    fn set(&mut self, index: usize, known: Known) {
        if let Some(slot) = self.known.get_mut(index) {
            *slot = known;
        }
    }
}

impl Bound {
    fn add(&mut self, other: Self, times: u64) {
        self.per_value = self.per_value.saturating_add(other.per_value.saturating_mul(times));
        self.per_block = self.per_block.saturating_add(other.per_block.saturating_mul(times));
    }

    fn raise(&mut self, other: Self) {
        self.per_value = self.per_value.max(other.per_value);
        self.per_block = self.per_block.max(other.per_block);
    }
}
