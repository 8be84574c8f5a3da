//! The format of pprof: an uncompressed `perftools.profiles.Profile` message.
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>

use std::collections::HashMap;

use prost::Message;

use super::{
    folded::{Folded, UNKNOWN, clean},
    model::SampledModule,
    report::{IN_USE, Report},
    symbols::{Function as Symbol, Symbols},
};

/// `Profile` of profile.proto, with the fields used here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PprofProfile {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

/// `ValueType` of profile.proto.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) r#type: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

/// `Sample` of profile.proto.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

/// `Label` of profile.proto.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    #[prost(int64, tag = "2")]
    pub(super) str: i64,
}

/// `Mapping` of profile.proto.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
}

/// `Location` of profile.proto.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) address: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

/// `Line` of profile.proto.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

/// `Function` of profile.proto.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, tag = "3")]
    pub(super) system_name: i64,
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
}

/// The tables of strings and functions.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    strings_known: HashMap<String, i64>,
    functions: Vec<Function>,
    functions_known: HashMap<(i64, i64), u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.strings_known.get(text) {
            return index;
        }
        let index = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.strings_known.insert(text.to_owned(), index);
        index
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.string(file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions_known.entry((name, filename)).or_insert(next);
        if id == next {
            self.functions.push(Function { id, name, system_name: name, filename });
        }
        id
    }

    fn line(&mut self, symbol: &Symbol) -> Line {
        Line { function_id: self.function(&symbol.name, &symbol.file), line: symbol.line.into() }
    }
}

/// Encodes a profile: the values of a sample are the number of samples and CPU time in nanoseconds, or the number of objects and
/// bytes in use. The outermost frame and the label `thread` are the name of the thread, where it is known.
pub(super) fn encode(profile: &Report<'_>, symbols: &Symbols) -> Vec<u8> {
    let mut tables = Tables::default();
    // Index 0 is the empty string.
    tables.string("");
    let mut kind =
        |(name, unit): (&str, &str)| ValueType { r#type: tables.string(name), unit: tables.string(unit) };
    let sample_type = profile.kinds.map(&mut kind).to_vec();
    let (name, unit, period) = profile.period;
    let period_type = Some(kind((name, unit)));
    let mapping = profile.modules.iter().zip(1..).map(|(module, id)| mapping(module, id, &mut tables));
    let mapping = mapping.collect();
    let mut location: Vec<Location> = Vec::new();
    for (frame, index) in profile.frames.iter().zip(0..) {
        let line = symbols.functions(index).iter().map(|symbol| tables.line(symbol)).collect();
        let mapping_id = frame.module.map_or(0, |module| u64::from(module) + 1);
        location.push(Location { id: u64::from(index) + 1, mapping_id, address: frame.address, line });
    }
    let first_thread = location.len() as u64 + 1;
    for (name, id) in profile.threads.iter().zip(first_thread..) {
        let line = vec![Line { function_id: tables.function(name, ""), line: 0 }];
        location.push(Location { id, mapping_id: 0, address: 0, line });
    }
    let key = tables.string("thread");
    let mut sample = Vec::new();
    for stack in &profile.stacks {
        let name = stack.thread_name(profile);
        let label = name.map(|name| Label { key, str: tables.string(name) });
        let root = stack.thread.map(|thread| first_thread + u64::from(thread));
        let frames = symbols.within_thread(stack.frames).iter().map(|frame| u64::from(*frame) + 1);
        sample.push(Sample {
            location_id: frames.chain(root).collect(),
            value: stack.values.map(signed).to_vec(),
            label: label.into_iter().collect(),
        });
    }
    let comment = vec![tables.string(&profile.summary)];
    let default_sample_type = profile.kinds.get(profile.folded).map_or(0, |(name, _)| tables.string(name));
    let encoded = PprofProfile {
        sample_type,
        sample,
        mapping,
        location,
        function: tables.functions,
        string_table: tables.strings,
        duration_nanos: signed(profile.milliseconds.saturating_mul(1_000_000)),
        period_type,
        period: signed(period),
        comment,
        default_sample_type,
    };
    encoded.encode_to_vec()
}

/// A number of the format; the largest one, if it is larger.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Reads the bytes in use of a heap profile, by stack.
///
/// # Errors
/// One line: the file is not such a profile, or is compressed.
pub(super) fn parse_heap(bytes: &[u8]) -> Result<Folded, String> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err("it is compressed; remedy: gunzip".to_owned());
    }
    let profile = PprofProfile::decode(bytes).map_err(|error| format!("it is not a profile: {error}"))?;
    let text = |index: i64| {
        usize::try_from(index)
            .ok()
            .and_then(|index| profile.string_table.get(index))
            .map_or("", String::as_str)
    };
    let in_use = profile.sample_type.iter().position(|kind| text(kind.r#type) == IN_USE);
    let in_use = in_use.ok_or_else(|| format!("it is no heap profile: it has no values of {IN_USE}"))?;
    let functions: HashMap<u64, i64> =
        profile.function.iter().map(|function| (function.id, function.name)).collect();
    let locations: HashMap<u64, &[Line]> =
        profile.location.iter().map(|location| (location.id, location.line.as_slice())).collect();
    let mut folded = Folded::new();
    for sample in &profile.sample {
        let lines = sample.location_id.iter().filter_map(|id| locations.get(id)).copied().flatten();
        let name = |line: &Line| clean(text(functions.get(&line.function_id).copied().unwrap_or(0)));
        let mut names: Vec<String> = lines.map(name).collect();
        names.reverse();
        if names.is_empty() {
            names.push(UNKNOWN.to_owned());
        }
        let value = sample.value.get(in_use).and_then(|value| u64::try_from(*value).ok()).unwrap_or(0);
        let total = folded.entry(names.join(";")).or_default();
        *total = total.saturating_add(value);
    }
    Ok(folded)
}

fn mapping(module: &SampledModule, id: u64, tables: &mut Tables) -> Mapping {
    Mapping {
        id,
        // Addresses are those of the file.
        memory_limit: u64::MAX,
        filename: tables.string(&module.path),
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::profile::{
        folded::fold,
        heap::{HeapProfile, HeapStack},
        model::{Frame, Profile, Stack},
        report::ToReport,
    };

    #[test]
    fn encoded_profile_decodes_to_its_samples() {
        let kernel = |address: u64| Frame { module: None, address: (1 << 63) | address };
        let profile = Profile {
            hz: 100,
            samples: 5,
            threads: vec!["shard-0".to_owned(), "shard-1".to_owned()],
            frames: vec![kernel(1), Frame { module: None, address: 2 }],
            stacks: vec![
                Stack { thread: 0, frames: vec![0, 1], samples: 3 },
                Stack { thread: 1, frames: vec![1], samples: 2 },
            ],
            ..Profile::default()
        };
        let report = profile.to_report();
        let bytes = encode(&report, &Symbols::of(&report));
        assert!(parse_heap(&bytes).unwrap_err().contains("no heap profile"));
        let decoded = PprofProfile::decode(bytes.as_slice()).unwrap();
        let text = |index: i64| decoded.string_table[usize::try_from(index).unwrap()].as_str();
        assert_eq!(text(0), "");
        let types: Vec<_> =
            decoded.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        let values: Vec<_> = decoded.sample.iter().map(|sample| sample.value.clone()).collect();
        assert_eq!(values, [[3, 30_000_000], [2, 20_000_000]]);
        let names = |sample: &Sample| -> Vec<&str> {
            let function = |id: &u64| {
                let location = decoded.location.iter().find(|location| location.id == *id).unwrap();
                let id = location.line[0].function_id;
                text(decoded.function.iter().find(|function| function.id == id).unwrap().name)
            };
            sample.location_id.iter().map(function).collect()
        };
        assert_eq!(names(&decoded.sample[0])[1..], ["[unknown]", "shard-0"]);
        assert_eq!(names(&decoded.sample[1]), ["[unknown]", "shard-1"]);
        assert_eq!(
            decoded.sample[0].label.iter().map(|label| text(label.str)).collect::<Vec<_>>(),
            ["shard-0"]
        );
    }

    #[test]
    fn heap_profile_has_the_same_stacks_in_both_formats() {
        let profile = HeapProfile {
            frames: vec![Frame { module: None, address: 1 }, Frame { module: None, address: 2 }],
            stacks: vec![
                HeapStack { frames: vec![0, 1], objects: 3, bytes: 4096 },
                HeapStack { frames: vec![1], objects: 1, bytes: 100 },
                HeapStack { frames: vec![], objects: 1, bytes: 7 },
            ],
            ..HeapProfile::default()
        };
        let report = profile.to_report();
        let symbols = Symbols::of(&report);
        let folded = fold(&report, &symbols);
        assert_eq!(folded.values().copied().collect::<Vec<_>>(), [107, 4096]);
        assert_eq!(parse_heap(&encode(&report, &symbols)), Ok(folded));
        assert!(parse_heap(&[0x1f, 0x8b, 8]).unwrap_err().contains("gunzip"));
        assert!(parse_heap(b"no profile").is_err());
    }
}
