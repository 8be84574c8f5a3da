//! Names of the functions at sampled addresses.

use std::{collections::HashMap, fs, path::PathBuf};

use addr2line::{Loader, demangle_auto};

use super::{
    model::{Frame, SampledModule},
    report::Report,
};

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    /// Demangled.
    pub(super) name: String,
    /// Empty if unknown.
    pub(super) file: String,
    /// 0 if unknown.
    pub(super) line: u32,
    pub(super) is_kernel: bool,
}

/// The function that std calls the function of a thread through; backtraces of std leave out what is outside.
const THREAD_START: &str = "std::sys::backtrace::__rust_begin_short_backtrace";

/// The functions of a profile's frames: for each frame its function, after the functions that were inlined there, innermost first.
pub(super) struct Symbols(Vec<Frames>);

/// The functions of one address.
struct Frames {
    functions: Vec<Function>,
    /// Whether [`THREAD_START`] was among them, which is left out with its callers.
    starts_thread: bool,
    /// Whether functions of the allocator were among them, which are left out with those that they call.
    allocates: bool,
}

impl Symbols {
    /// Reads the symbols of the files and of the kernel. The program is read from the process that was sampled, if it still runs:
    /// its file may have been replaced. An address without a symbol gets the name of its file.
    pub(super) fn of(profile: &Report<'_>) -> Self {
        let mut loaders: HashMap<u32, Option<Loader>> = HashMap::new();
        let kernel = if profile.frames.iter().any(Frame::is_kernel) { kernel_symbols() } else { Vec::new() };
        let functions = profile.frames.iter().map(|frame| {
            let Some(index) = frame.module else { return vec![in_kernel(frame, &kernel)] };
            let Some(module) = usize::try_from(index).ok().and_then(|index| profile.modules.get(index))
            else {
                return vec![unnamed("[unknown]")];
            };
            let loader = loaders.entry(index).or_insert_with(|| load(profile.pid, module));
            let functions = loader.as_ref().map(|loader| in_file(loader, frame.address)).unwrap_or_default();
            if functions.is_empty() { vec![unnamed(file_name(module))] } else { functions }
        });
        let frames = functions.map(|mut functions: Vec<Function>| {
            let start = functions.iter().position(|function| function.name == THREAD_START);
            functions.truncate(start.unwrap_or(functions.len()));
            let is_allocator = |function: &Function| profile.is_heap && is_allocator(&function.name);
            let allocator = functions.iter().rposition(is_allocator);
            functions.drain(..allocator.map_or(0, |innermost| innermost + 1));
            Frames { functions, starts_thread: start.is_some(), allocates: allocator.is_some() }
        });
        Self(frames.collect())
    }

    /// The frames of a stack within the function of its thread and outside of the allocator, innermost first.
    pub(super) fn within_thread<'a>(&self, stack: &'a [u32]) -> &'a [u32] {
        let last = |property: fn(&Frames) -> bool| {
            stack.iter().rposition(|frame| self.get(*frame).is_some_and(property))
        };
        // Functions of the thread may be inlined into the frame of its start, and callers of the allocator into one of its own.
        let is_empty = |index: usize| stack.get(index).is_none_or(|frame| self.functions(*frame).is_empty());
        let end = last(|frames| frames.starts_thread).unwrap_or(stack.len());
        let end = if is_empty(end) { end } else { end + 1 };
        let begin = last(|frames| frames.allocates);
        let begin = begin.map_or(0, |allocator| if is_empty(allocator) { allocator + 1 } else { allocator });
        stack.get(begin..end).unwrap_or_default()
    }

    /// The functions of a frame, innermost first.
    pub(super) fn functions(&self, frame: u32) -> &[Function] {
        self.get(frame).map_or(&[], |frames| frames.functions.as_slice())
    }

    fn get(&self, frame: u32) -> Option<&Frames> {
        self.0.get(usize::try_from(frame).ok()?)
    }
}

/// Whether a function is one of jemalloc, or one that std calls it through.
fn is_allocator(name: &str) -> bool {
    let calls = ["__rust_alloc", "__rust_realloc", "tikv_jemallocator::", "alloc::alloc::"];
    name.starts_with("_rjem_") || calls.iter().any(|call| name.contains(call))
}

fn load(pid: u32, module: &SampledModule) -> Option<Loader> {
    let running = module.is_program.then(|| PathBuf::from(format!("/proc/{pid}/exe")));
    running.and_then(|path| Loader::new(path).ok()).or_else(|| Loader::new(&module.path).ok())
}

/// The functions at an address of a file, innermost first.
fn in_file(loader: &Loader, address: u64) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let Some(function) = frame.function else { continue };
            let Ok(name) = function.demangle() else { continue };
            let (file, line) = frame
                .location
                .map_or(("", 0), |location| (location.file.unwrap_or_default(), location.line.unwrap_or(0)));
            let name = name.into_owned();
            functions.push(Function { name, file: file.to_owned(), line, is_kernel: false });
        }
    }
    let symbol = loader.find_symbol(address).map(|symbol| demangle_auto(symbol.into(), None));
    match (functions.last_mut(), symbol) {
        (Some(outermost), symbol) => {
            // With line tables only, debugging information has names without their modules.
            if let Some(symbol) = symbol {
                outermost.name = symbol.into_owned();
            }
        }
        (None, Some(symbol)) => functions.push(unnamed(&symbol)),
        (None, None) => {}
    }
    functions
}

/// A function of which only the name is known.
fn unnamed(name: &str) -> Function {
    Function { name: name.to_owned(), file: String::new(), line: 0, is_kernel: false }
}

fn file_name(module: &SampledModule) -> &str {
    module.path.rsplit('/').next().unwrap_or(&module.path)
}

fn in_kernel(frame: &Frame, symbols: &[(u64, String)]) -> Function {
    if !frame.is_kernel() {
        return unnamed(if frame.is_cut_off() { "[cut off]" } else { "[unknown]" });
    }
    let above = symbols.partition_point(|(start, _)| *start <= frame.address);
    let name = above.checked_sub(1).and_then(|index| symbols.get(index)).map_or("[kernel]", |(_, name)| name);
    Function { is_kernel: true, ..unnamed(name) }
}

/// The functions of the kernel by address; empty where the kernel hides their addresses (`kernel.kptr_restrict`).
fn kernel_symbols() -> Vec<(u64, String)> {
    let text = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let mut symbols: Vec<(u64, String)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let address = u64::from_str_radix(fields.next()?, 16).ok()?;
            let is_function = matches!(fields.next()?, "t" | "T" | "w" | "W");
            let name = fields.next()?;
            (is_function && address != 0).then(|| (address, name.to_owned()))
        })
        .collect();
    symbols.sort_unstable();
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_of_the_function_of_a_thread_are_left_out() {
        let frames = |names: &[&str], starts_thread| Frames {
            functions: names.iter().map(|name| unnamed(name)).collect(),
            starts_thread,
            allocates: false,
        };
        let symbols = Symbols(vec![
            frames(&["leaf"], false),
            frames(&["inlined"], true),
            frames(&[], true),
            frames(&["[cut off]"], false),
        ]);
        assert_eq!(symbols.within_thread(&[0, 1, 3]), [0, 1]);
        assert_eq!(symbols.within_thread(&[0, 2, 3]), [0]);
        assert_eq!(symbols.within_thread(&[0, 3]), [0, 3]);
    }

    #[test]
    fn functions_of_the_allocator_are_left_out_of_a_heap_profile() {
        let frames = |names: &[&str], allocates| Frames {
            functions: names.iter().map(|name| unnamed(name)).collect(),
            starts_thread: false,
            allocates,
        };
        let symbols = Symbols(vec![
            frames(&["prof_backtrace_impl"], false),
            frames(&[], true),
            frames(&["grow"], true),
            frames(&["push"], false),
        ]);
        assert_eq!(symbols.within_thread(&[0, 1, 3]), [3]);
        assert_eq!(symbols.within_thread(&[0, 1, 2, 3]), [2, 3]);
        assert_eq!(symbols.within_thread(&[0, 1]), [0_u32; 0]);
        for name in ["_rjem_je_prof_tctx_create", "__rustc::__rust_alloc", "alloc::alloc::alloc"] {
            assert!(is_allocator(name), "{name}");
        }
        assert!(!is_allocator("alloc::raw_vec::RawVecInner<A>::grow_amortized"));
    }
}
