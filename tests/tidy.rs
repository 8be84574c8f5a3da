//! Checks of the source tree: imports against the table in docs/ARCHITECTURE.md and its order, no import cycles, the size of
//! files and functions, `unsafe` in `ring/` only, sans-io modules without I/O, no unused file, names of tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/imports.rs"]
mod imports;
#[path = "support/source_tree.rs"]
mod source_tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source_tree::{code, root, rust_files, tests_in};
use syn::visit::{self, Visit};

/// A row of the table of modules in docs/ARCHITECTURE.md, which lists lower modules first.
struct Row {
    module: String,
    may_use: BTreeSet<String>,
}

/// The rows of the table of modules in a text.
fn module_table(text: &str) -> Vec<Row> {
    let names =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().skip_while(|line| *line != "| module | may use | what it is |").skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            Row { module: names(cells[1]).remove(0), may_use: names(cells[2]).into_iter().collect() }
        })
        .collect()
}

fn architecture_table() -> Vec<Row> {
    let rows = module_table(&fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap());
    assert!(rows.len() > 20, "the table in docs/ARCHITECTURE.md was not found");
    rows
}

/// The top-level module of a module path.
fn top(path: &str) -> &str {
    path.split("::").next().unwrap()
}

/// Contradictions to the order of the rows: a row that lists a module which is not above it in the table, an import that the
/// row of its module does not list, a listed module that is not imported. `imports` has module paths of files. The files `lib`
/// and `main`, which are above all modules, may import everything and be imported by nothing.
fn layer_faults(rows: &[Row], imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut lower = BTreeSet::new();
    let mut unused: BTreeSet<(&str, &str)> = BTreeSet::new();
    for Row { module, may_use } in rows {
        let not_lower = may_use.iter().filter(|other| !lower.contains(*other));
        faults.extend(not_lower.map(|other| format!("{module} lists {other}, which is not a lower row")));
        unused.extend(may_use.iter().map(|other| (module.as_str(), other.as_str())));
        lower.insert(module.clone());
    }
    for (file, others) in imports.iter().filter(|(file, _)| !["lib", "main"].contains(&top(file))) {
        let Some(row) = rows.iter().find(|row| row.module == top(file)) else {
            faults.push(format!("{file} is in no row"));
            continue;
        };
        for other in others.iter().map(|other| top(other)).filter(|other| *other != row.module) {
            unused.remove(&(row.module.as_str(), other));
            if !row.may_use.contains(other) {
                faults.push(format!("{file} imports {other}, which {} does not list", row.module));
            }
        }
    }
    faults.extend(
        unused.iter().map(|(module, other)| format!("{module} lists {other} and does not import it")),
    );
    faults
}

/// The code of a file without its unit tests.
fn code_without_tests(path: &Path) -> String {
    let code = code(path);
    code.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

/// The files of `src` that are not unit tests.
fn source_files() -> Vec<PathBuf> {
    rust_files("src").into_iter().filter(|path| !path.ends_with("tests.rs")).collect()
}

#[test]
fn modules_import_lower_modules_only() {
    let files = source_files();
    let mut imports = imports::imports(&root().join("src"), &files);
    for path in files.iter().filter(|path| code_without_tests(path).contains("corelane_ring")) {
        let module = imports::module_path(&root().join("src"), path);
        imports.get_mut(&module).unwrap().insert("ring".to_owned());
    }
    // The demo imports the crate's root, so that it uses the public API only.
    let demo = imports.get_mut("demo").unwrap();
    assert!(demo.remove("lib"), "the demo does not use the crate's root");
    let demo = code(&root().join("src/demo.rs"));
    for Row { module, .. } in architecture_table() {
        assert!(!demo.contains(&format!("crate::{module}::")), "the demo uses {module} past the public API");
    }
    let faults = layer_faults(&architecture_table(), &imports);
    assert!(faults.is_empty(), "docs/ARCHITECTURE.md and the imports disagree:\n{}", faults.join("\n"));
}

#[test]
fn imports_against_the_order_of_modules_are_reported() {
    let table = |rows: [&str; 3]| {
        module_table(&format!("| module | may use | what it is |\n|---|---|---|\n{}\n", rows.join("\n")))
    };
    let imports: BTreeMap<String, BTreeSet<String>> =
        [("b::inner", vec!["a::x"]), ("c", vec!["a", "b"]), ("lib", vec!["c"])]
            .map(|(file, others)| (file.to_owned(), others.into_iter().map(str::to_owned).collect()))
            .into();
    let faults = |rows| layer_faults(&table(rows), &imports);
    assert_eq!(faults(["| `a` | | |", "| `b` | `a` | |", "| `c` | `a`, `b` | |"]), [""; 0]);
    assert_eq!(
        faults(["| `b` | `a` | |", "| `a` | | |", "| `c` | `a`, `b` | |"]),
        ["b lists a, which is not a lower row"]
    );
    assert_eq!(
        faults(["| `a` | | |", "| `b` | | |", "| `c` | `a`, `b` | |"]),
        ["b::inner imports a, which b does not list"]
    );
    assert_eq!(
        faults(["| `a` | | |", "| `d` | `a` | |", "| `c` | `a`, `b` | |"]),
        ["c lists b, which is not a lower row", "b::inner is in no row", "d lists a and does not import it"]
    );
}

#[test]
fn modules_are_declared_in_the_order_of_the_architecture_table() {
    let lib = code(&root().join("src/lib.rs"));
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let rows = architecture_table();
    let rows: Vec<&str> =
        rows.iter().map(|row| row.module.as_str()).filter(|module| *module != "ring").collect();
    assert_eq!(declared, rows, "src/lib.rs and docs/ARCHITECTURE.md");
}

#[test]
fn import_cycles_are_found_through_reexports_and_paths() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("imports");
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let files = [
        write("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n"),
        write("a/mod.rs", "mod inner;\npub use inner::A;\n"),
        write("a/inner.rs", "pub struct A;\nfn f() { crate::b::g() }\n"),
        write("b.rs", "use crate::a::A;\nuse super::c::C;\npub fn g() {}\n"),
        write("c.rs", "pub struct C;\n#[cfg(test)]\nmod tests { use crate::b::g; }\n"),
        write("d.rs", "pub use crate::a::A;\n"),
        write("e.rs", "use crate::{a::{A, self}, c};\nfn f() { super::d::A; other::b::h(); }\n"),
    ];
    let imports = imports::imports(&directory, &files);
    assert_eq!(imports["d"], ["a::inner".to_owned()].into());
    assert_eq!(imports["e"], ["a", "a::inner", "c"].map(str::to_owned).into());
    let cycles = imports::cycles(&imports);
    assert_eq!(cycles, [["a::inner", "b"].map(str::to_owned).into()], "c imports b in its tests only");
}

#[test]
fn files_have_no_import_cycles() {
    for directory in ["src", "ring/src", "loadgen/src"] {
        let imports = imports::imports(&root().join(directory), &rust_files(directory));
        assert!(imports.values().flatten().count() > 20, "too few imports of {directory} were found");
        let cycles = imports::cycles(&imports);
        for cycle in &cycles {
            let within = imports.iter().filter(|(file, _)| cycle.contains(*file));
            for (file, others) in within {
                let others: Vec<&String> = others.intersection(cycle).collect();
                eprintln!("{directory}: {file} imports {others:?}");
            }
        }
        assert!(cycles.is_empty(), "{directory} has {} import cycles", cycles.len());
    }
}

#[test]
fn loadgen_modules_import_only_modules_declared_before_them() {
    let lib = fs::read_to_string(root().join("loadgen/src/lib.rs")).unwrap();
    let declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let layer = |file: &str| declared.iter().position(|module| Some(*module) == file.split("::").next());
    let imports = imports::imports(&root().join("loadgen/src"), &rust_files("loadgen/src"));
    for (file, others) in imports.iter().filter(|(file, _)| layer(file).is_some()) {
        for other in others {
            assert!(layer(other) <= layer(file), "{file} imports {other}, which is declared later");
        }
    }
}

/// The most lines of a file, and of a function without a reason in a comment `// Long: …` above it.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// The functions of a source text that have more lines than the limit, each with its number of lines.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    struct Functions<'a> {
        lines: Vec<&'a str>,
        long: Vec<(String, usize)>,
    }
    impl Functions<'_> {
        fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
            let first = signature.fn_token.span.start().line;
            let lines = block.brace_token.span.close().end().line + 1 - first;
            let above = self.lines[..first - 1].iter().rev().map(|line| line.trim_start());
            let has_reason = above
                .take_while(|line| line.starts_with("//") || line.starts_with("#["))
                .any(|line| line.strip_prefix("// Long: ").is_some_and(|reason| reason.len() > 10));
            if lines > FUNCTION_LINES_MAX && !has_reason {
                self.long.push((signature.ident.to_string(), lines));
            }
        }
    }
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
        fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
            self.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
        fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
            if let Some(block) = &item.default {
                self.function(&item.sig, block);
            }
            visit::visit_trait_item_fn(self, item);
        }
    }
    let mut functions = Functions { lines: text.lines().collect(), long: Vec::new() };
    functions.visit_file(&syn::parse_file(text).unwrap());
    functions.long
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = Vec::new();
    for path in ["src", "ring/src", "loadgen/src"].into_iter().flat_map(rust_files) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{} has {lines} lines", path.display()));
        }
        let long = long_functions(&text);
        faults.extend(
            long.into_iter().map(|(name, lines)| format!("{}: {name} has {lines} lines", path.display())),
        );
    }
    assert!(
        faults.is_empty(),
        "split what is more than one idea, or state the reason:\n{}",
        faults.join("\n")
    );
}

#[test]
fn long_functions_are_found() {
    let body = "    f();\n".repeat(FUNCTION_LINES_MAX - 2);
    assert_eq!(long_functions(&format!("fn f() {{\n{body}}}\n")), []);
    let long = format!("fn f() {{\n{body}    f();\n}}\n");
    let found = [("f".to_owned(), FUNCTION_LINES_MAX + 1)];
    assert_eq!(long_functions(&long), found);
    assert_eq!(long_functions(&format!("/// Doc.\n// Long: one table of methods.\n#[inline]\n{long}")), []);
    assert_eq!(long_functions(&format!("// Long: one table of methods.\n\n{long}")), found);
    assert_eq!(long_functions(&format!("impl X {{\n{long}}}\ntrait T {{\n{long}}}\n")).len(), 2);
}

#[test]
fn unsafe_stays_inside_the_ring() {
    let mut inside = 0;
    for path in ["src", "tests", "benches", "examples", "loadgen", "ring"].into_iter().flat_map(rust_files) {
        let code = code(&path);
        let found = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code)"]
            .into_iter()
            .filter(|word| code.contains(word))
            .count();
        if path.starts_with(root().join("ring/src")) {
            inside += found;
        } else if !path.ends_with("tests/tidy.rs") {
            assert_eq!(found, 0, "{} has unsafe code", path.display());
        }
    }
    assert!(inside > 0, "no unsafe code was found in ring/src");
}

#[test]
fn sans_io_modules_do_no_io() {
    const FORBIDDEN: [&str; 11] = [
        "glommio",
        "io_uring",
        "crossbeam",
        "core_affinity",
        "TcpStream",
        "std::fs",
        "std::thread",
        "std::io::",
        "::now()",
        "rand::",
        "std::process",
    ];
    let server =
        ["policy", "http1", "jsonl", "uri_template", "json", "jsonrpc", "mcp", "call", "registry", "schema"]
            .map(|module| format!("src/{module}"));
    let generator = ["http", "compare", "markdown"].map(|module| format!("loadgen/src/{module}"));
    for module in server.iter().chain(&generator) {
        // The restrictions do not apply to unit tests.
        for path in rust_files(module).into_iter().filter(|path| !path.ends_with("tests.rs")) {
            let code = code(&path);
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn every_file_is_part_of_a_module() {
    for path in ["src", "loadgen/src"].into_iter().flat_map(rust_files) {
        if path.parent().unwrap().ends_with("src/bin") {
            continue;
        }
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let directory = path.parent().unwrap();
        let declared_in = match stem {
            "lib" | "main" => continue,
            "mod" => directory.parent().unwrap(),
            _ => directory,
        };
        let name = if stem == "mod" { directory.file_name().unwrap().to_str().unwrap() } else { stem };
        let declaration = format!("mod {name};");
        let parents = ["mod.rs", "lib.rs"].map(|parent| declared_in.join(parent));
        let is_declared =
            parents.iter().filter(|parent| parent.exists()).any(|parent| code(parent).contains(&declaration));
        assert!(is_declared, "{} is not declared by any module", path.display());
    }
}

#[test]
fn every_configuration_key_has_a_comment() {
    let defaults = corelane::Config {
        admin: Some(corelane::Config::ADMIN),
        control: corelane::ControlSocket::Auto,
        ..Default::default()
    };
    let text = fs::read_to_string(root().join("corelane.toml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let keys = |toml: &str| -> Vec<String> {
        let mut table = "";
        let mut keys = Vec::new();
        for line in toml.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with('[') {
                table = line;
            } else if let Some((key, _)) = line.split_once(" = ") {
                keys.push(format!("{table} {key}"));
            }
        }
        keys.sort();
        keys
    };
    assert_eq!(keys(&text), keys(&defaults.to_toml().unwrap()));
    for (number, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[number - 1].starts_with("# "), "{line:?} has no comment above it");
        }
    }
    assert_eq!(corelane::Config::from_toml(&text).unwrap(), defaults, "corelane.toml contains the defaults");
}

/// Whether a text has an id of the project's checklist (`B-02`), which readers of the code do not have.
fn has_checklist_id(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| {
        let bytes = word.as_bytes();
        bytes.len() == 4
            && bytes[0].is_ascii_uppercase()
            && bytes[1] == b'-'
            && bytes[2..].iter().all(u8::is_ascii_digit)
    })
}

/// Whether the name of a test begins with an id of the project's checklist (`b_02_`).
fn starts_with_checklist_id(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 4 && bytes[1] == b'_' && bytes[2..4].iter().all(u8::is_ascii_digit)
}

#[test]
fn tests_cite_the_specification_by_url() {
    // These two files have examples of ids.
    let examples = ["tests/tidy.rs", "tests/documentation.rs"];
    for path in
        rust_files("tests").into_iter().filter(|path| !examples.iter().any(|file| path.ends_with(file)))
    {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            assert!(!has_checklist_id(line), "{}:{}: {line}", path.display(), number + 1);
        }
        for name in tests_in(&code(&path)) {
            assert!(!starts_with_checklist_id(&name), "{}: {name}", path.display());
        }
    }
    assert!(has_checklist_id("see L-24.") && !has_checklist_id("UTF-8 and SHA-256, RFC-3986, X-1"));
    assert!(starts_with_checklist_id("b_02_ids") && !starts_with_checklist_id("http_1_0"));
}
