//! Imports between files, parsed from the source: re-exports are resolved to the file that defines the item.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Item, UseTree, Visibility,
    visit::{self, Visit},
};

/// A path of names from the crate root.
type Names = Vec<String>;

/// Names in a file.
#[derive(Default)]
struct File {
    module: Names,
    /// Items defined at its top level.
    items: BTreeSet<String>,
    /// Names that it uses, by absolute path.
    used: Vec<Names>,
    /// Names that it re-exports: the name, and its target; `*` for all.
    exported: Vec<(String, Names)>,
}

/// The imports between the files of a crate whose root is `directory/lib.rs`: the importing module path, and those it
/// imports. A re-export counts as an import of the file that re-exports if its target is in another top-level module.
pub fn imports(directory: &Path, files: &[PathBuf]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<Names> = files.iter().map(|file| module(directory, file)).collect();
    let read: BTreeMap<Names, File> = files
        .iter()
        .map(|path| read(path, module(directory, path), &modules))
        .map(|file| (file.module.clone(), file))
        .collect();
    let mut imports = BTreeMap::new();
    for file in read.values() {
        let named = |path: &Names| defining(path, &read, 0);
        let exported = file.exported.iter().map(|(_, target)| target);
        let exported =
            exported.filter(|target| !file.module.is_empty() && target.first() != file.module.first());
        let others = file.used.iter().chain(exported).filter_map(named).filter(|other| *other != file.module);
        imports.insert(display(&file.module), others.map(|other| display(&other)).collect());
    }
    imports
}

/// The cycles: groups of files in which each file imports every other, directly or through others of the group.
pub fn cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reachable = |from: &String| {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(others) = open.pop().and_then(|file| imports.get(file)) {
            open.extend(others.iter().filter(|other| found.insert((*other).clone())));
        }
        found
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|file| (file, reachable(file))).collect();
    let mut cycles = BTreeSet::new();
    for (file, others) in &reached {
        if others.contains(*file) {
            cycles.insert(others.iter().filter(|other| reached[other].contains(*file)).cloned().collect());
        }
    }
    cycles.into_iter().collect()
}

/// The module path of a file.
pub fn module_path(directory: &Path, file: &Path) -> String {
    display(&module(directory, file))
}

fn display(module: &[String]) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

fn module(directory: &Path, file: &Path) -> Names {
    let mut names: Names = file
        .strip_prefix(directory)
        .unwrap()
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    names.pop_if(|last| last == "mod" || (last == "lib"));
    names
}

/// The file that defines the item at `path`: the module, or the target of its re-export.
fn defining(path: &Names, files: &BTreeMap<Names, File>, depth: usize) -> Option<Names> {
    let known = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(known);
    let Some((name, behind)) = rest.split_first() else { return Some(module.to_vec()) };
    let file = &files[module];
    if depth < 10 && !file.items.contains(name) {
        for (exported, target) in &file.exported {
            let target = if exported == name {
                target.clone()
            } else if exported == "*" && files.get(target).is_some_and(|file| file.items.contains(name)) {
                target.iter().chain([name]).cloned().collect()
            } else {
                continue;
            };
            return defining(&target.iter().chain(behind).cloned().collect(), files, depth + 1);
        }
    }
    Some(module.to_vec())
}

fn read(path: &Path, module: Names, modules: &BTreeSet<Names>) -> File {
    let parsed = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
    let mut reader = Reader { file: File { module, ..File::default() }, modules };
    reader.visit_file(&parsed);
    let name = |item: &Item| match item {
        Item::Const(item) => Some(item.ident.to_string()),
        Item::Enum(item) => Some(item.ident.to_string()),
        Item::Fn(item) => Some(item.sig.ident.to_string()),
        Item::Static(item) => Some(item.ident.to_string()),
        Item::Struct(item) => Some(item.ident.to_string()),
        Item::Trait(item) => Some(item.ident.to_string()),
        Item::Type(item) => Some(item.ident.to_string()),
        Item::Union(item) => Some(item.ident.to_string()),
        _ => None,
    };
    reader.file.items = parsed.items.iter().filter_map(name).collect();
    reader.file
}

struct Reader<'a> {
    file: File,
    modules: &'a BTreeSet<Names>,
}

impl Reader<'_> {
    /// The path from the crate root, if it is within this crate.
    fn absolute(&self, names: &[String]) -> Option<Names> {
        let here = &self.file.module;
        let supers = names.iter().take_while(|name| *name == "super").count();
        let join = |base: &[String], rest: &[String]| Some(base.iter().chain(rest).cloned().collect());
        match names.first()?.as_str() {
            "crate" => join(&[], &names[1..]),
            "self" => join(here, &names[1..]),
            "super" => join(&here[..here.len().checked_sub(supers)?], &names[supers..]),
            first => {
                let child: Names = here.iter().cloned().chain([first.to_owned()]).collect();
                self.modules.contains(&child).then(|| join(here, names)).flatten()
            }
        }
    }
}

/// All paths of a `use`, with their local names.
fn flatten(tree: &UseTree, prefix: &[String], into: &mut Vec<(String, Names)>) {
    let with = |name: String| -> Names { prefix.iter().cloned().chain([name]).collect() };
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(path.ident.to_string()), into),
        UseTree::Name(name) if name.ident == "self" => {
            into.push((prefix.last().cloned().unwrap_or_default(), prefix.to_vec()));
        }
        UseTree::Name(name) => into.push((name.ident.to_string(), with(name.ident.to_string()))),
        UseTree::Rename(rename) => into.push((rename.rename.to_string(), with(rename.ident.to_string()))),
        UseTree::Glob(_) => into.push(("*".to_owned(), prefix.to_vec())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, into)),
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(
            |attribute| matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test"),
        );
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &[], &mut paths);
        for (name, path) in paths {
            let Some(path) = self.absolute(&path) else { continue };
            match item.vis {
                Visibility::Inherited => self.file.used.push(path),
                _ => self.file.exported.push((name, path)),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.len() > 1
            && let Some(absolute) = self.absolute(&names)
        {
            self.file.used.push(absolute);
        }
        visit::visit_path(self, path);
    }
}
