//! The files that this process executes code from: their unwind tables, and addresses in them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use framehop::{
    CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module, Unwinder, UnwinderNative,
};
use object::{Object, ObjectSection, ObjectSegment, ReadCache, ReadRef, SegmentFlags, elf::PF_X};
use procfs::process::{MMPermissions, MMapPath, Process};

use super::{
    model::{CUT_OFF, Frame, SampledModule},
    sample::Registers,
};

/// Name of the kernel's own library.
const VDSO: &str = "[vdso]";

/// Maximum bytes read of the kernel's own library; it has 2 to 4 pages.
const VDSO_BYTES_MAX: u64 = 1 << 20;

/// The executable mappings of this process, by file.
#[derive(Default)]
pub(super) struct Modules {
    /// By the lowest address.
    modules: Vec<Mapped>,
    unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheNative<MayAllocateDuringUnwind>,
}

/// A file whose code is mapped.
#[derive(Clone, Debug)]
struct Mapped {
    path: String,
    is_program: bool,
    start: u64,
    end: u64,
    /// Start and file offset of the first executable mapping.
    code: (u64, u64),
    /// The difference between an address in memory and that of the file.
    bias: u64,
}

/// The unwind tables of a file.
struct Tables {
    bias: u64,
    eh_frame: Option<(u64, Vec<u8>)>,
    eh_frame_hdr: Option<(u64, Vec<u8>)>,
}

impl Modules {
    /// Reads the mappings and the unwind tables of the mapped files. Code of a file that cannot be read is unwound by frame pointers.
    ///
    /// # Errors
    /// `/proc/self/maps` cannot be read.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let mut modules = Self::default();
        let program =
            fs::read_link("/proc/self/exe").ok().and_then(|path| path.into_os_string().into_string().ok());
        for mut module in mapped(program.as_deref())? {
            if let Ok(tables) = tables(&module) {
                module.bias = tables.bias;
                modules.unwinder.add_module(for_unwinding(&module, tables));
            }
            modules.modules.push(module);
        }
        modules.modules.sort_by_key(|module| module.start);
        Ok(modules)
    }

    /// Adds the addresses of a stack to `addresses`, innermost first, at most `frames_max`. The last one is [`CUT_OFF`] where the outer
    /// frames are not known.
    pub(super) fn unwind(
        &mut self,
        registers: Registers,
        stack: &[u8],
        frames_max: usize,
        addresses: &mut Vec<u64>,
    ) {
        let mut read = |address: u64| {
            let offset = usize::try_from(address.checked_sub(registers.sp).ok_or(())?).map_err(|_| ())?;
            let bytes = offset.checked_add(8).and_then(|end| stack.get(offset..end)).ok_or(())?;
            bytes.try_into().map(u64::from_le_bytes).map_err(|_| ())
        };
        let native = registers.for_unwinding(self.unwinder.max_known_code_address());
        let mut frames = self.unwinder.iter_frames(registers.pc, native, &mut self.cache, &mut read);
        for _ in 1..frames_max {
            match frames.next() {
                Ok(Some(frame)) => addresses.push(frame.address_for_lookup()),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        addresses.push(CUT_OFF);
    }

    /// The module of an address.
    pub(super) fn locate(&self, address: u64) -> Frame {
        let above = self.modules.partition_point(|module| module.start <= address);
        let module = above.checked_sub(1).and_then(|index| Some((index, self.modules.get(index)?)));
        match module.filter(|(_, module)| address < module.end) {
            Some((index, module)) => {
                Frame { module: u32::try_from(index).ok(), address: address.wrapping_sub(module.bias) }
            }
            None => Frame { module: None, address },
        }
    }

    pub(super) fn describe(&self) -> Vec<SampledModule> {
        let describe =
            |module: &Mapped| SampledModule { path: module.path.clone(), is_program: module.is_program };
        self.modules.iter().map(describe).collect()
    }
}

/// The files of executable mappings.
fn mapped(program: Option<&str>) -> io::Result<Vec<Mapped>> {
    let maps = Process::myself()
        .and_then(|process| process.maps())
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut by_path: BTreeMap<String, Mapped> = BTreeMap::new();
    let mut ranges: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for map in maps {
        let path = match map.pathname {
            MMapPath::Path(path) => path.to_string_lossy().into_owned(),
            MMapPath::Vdso => VDSO.to_owned(),
            _ => continue,
        };
        let (start, end) = map.address;
        let range = ranges.entry(path.clone()).or_insert((start, end));
        *range = (range.0.min(start), range.1.max(end));
        if map.perms.contains(MMPermissions::EXECUTE) {
            let is_program = program == Some(path.as_str());
            let code = (start, map.offset);
            by_path.entry(path.clone()).or_insert(Mapped { path, is_program, start, end, code, bias: 0 });
        }
    }
    let widen = |mut module: Mapped| {
        if let Some(&(start, end)) = ranges.get(&module.path) {
            (module.start, module.end) = (start, end);
        }
        module
    };
    Ok(by_path.into_values().map(widen).collect())
}

/// Reads the unwind tables of a file.
fn tables(module: &Mapped) -> io::Result<Tables> {
    if module.path == VDSO {
        let bytes = usize::try_from((module.end - module.start).min(VDSO_BYTES_MAX)).unwrap_or(0);
        let mut image = vec![0; bytes];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, module.start)?;
        return tables_of(image.as_slice(), module);
    }
    // Also where the file was replaced meanwhile.
    let path = if module.is_program { "/proc/self/exe" } else { module.path.as_str() };
    tables_of(&ReadCache::new(File::open(path)?), module)
}

fn tables_of<'a, R: ReadRef<'a>>(data: R, module: &Mapped) -> io::Result<Tables> {
    let file = object::File::parse(data).map_err(io::Error::other)?;
    let is_code = |flags: SegmentFlags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & PF_X != 0);
    let code = file.segments().find(|segment| is_code(segment.flags()));
    let code = code.ok_or(ErrorKind::InvalidData)?;
    let (start, offset) = module.code;
    let in_file = start.wrapping_sub(offset).wrapping_add(code.file_range().0);
    let section = |name: &str| {
        let section = file.section_by_name(name)?;
        Some((section.address(), section.data().ok()?.to_vec()))
    };
    Ok(Tables {
        bias: in_file.wrapping_sub(code.address()),
        eh_frame: section(".eh_frame"),
        eh_frame_hdr: section(".eh_frame_hdr"),
    })
}

fn for_unwinding(module: &Mapped, tables: Tables) -> Module<Vec<u8>> {
    let range = |section: &Option<(u64, Vec<u8>)>| {
        section.as_ref().map(|(address, bytes)| *address..address.saturating_add(bytes.len() as u64))
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: range(&tables.eh_frame),
        eh_frame_hdr_svma: range(&tables.eh_frame_hdr),
        eh_frame: tables.eh_frame.map(|(_, bytes)| bytes),
        eh_frame_hdr: tables.eh_frame_hdr.map(|(_, bytes)| bytes),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(module.path.clone(), module.start..module.end, tables.bias, sections)
}
