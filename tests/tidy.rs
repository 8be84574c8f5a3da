//! Guards the architecture: imports against the table in docs/ARCHITECTURE.md, `unsafe` inside its fence, sans-io modules
//! without I/O, no file that nobody uses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/imports.rs"]
mod imports;
#[path = "support/missing.rs"]
mod missing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files below a directory of the project.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing to check in {directory}");
    found
}

/// The file without comments: what the compiler reads, but for strings.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The module a file of `src` belongs to: its first path component below `src`.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// `crate::a::b` and the `a`s of `crate::{a::…, b::…}`.
fn used_modules(code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    if code.contains("corelane_ring") {
        used.insert("ring".to_owned());
    }
    for (position, _) in code.match_indices("crate::") {
        let rest = &code[position + "crate::".len()..];
        let mut depth = 0;
        let group = rest.find(|character: char| match character {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth -= 1;
                depth == 0
            }
            ';' => true,
            _ => false,
        });
        let paths = if rest.starts_with('{') { &rest[1..group.unwrap()] } else { rest };
        let mut depth = 0;
        for part in paths.split_inclusive(['{', '}', ',']) {
            if depth == 0 {
                let name: String =
                    part.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if modules.contains(&name) {
                    used.insert(name);
                }
            }
            depth += part.matches('{').count();
            depth -= part.matches('}').count().min(depth);
            if !rest.starts_with('{') {
                break;
            }
        }
    }
    used
}

/// The layer table.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let names =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = text.lines().skip_while(|line| *line != "| module | may use | what it is |").skip(2);
    let table: BTreeMap<_, _> = rows
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (names(cells[1]).pop_first().unwrap(), names(cells[2]))
        })
        .collect();
    assert!(table.len() > 10, "the table in docs/ARCHITECTURE.md is not where it was");
    table
}

#[test]
fn imports_point_the_way_of_the_table() {
    let allowed = allowed();
    let modules: BTreeSet<String> = allowed.keys().cloned().collect();
    let mut arrows = 0;
    for path in rust_files("src") {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        let may_use =
            allowed.get(&module).unwrap_or_else(|| panic!("{module} is not in docs/ARCHITECTURE.md"));
        for used in used_modules(&code(&path), &modules) {
            arrows += 1;
            assert!(
                used == module || may_use.contains(&used),
                "{}: {module} may not use {used}",
                path.display()
            );
        }
    }
    assert!(arrows > 30, "the imports are not found any more");
}

#[test]
fn imports_are_found_in_every_form() {
    let modules = ["a", "b", "c", "d"].map(str::to_owned).into();
    let code = "use crate::{\n    a::{X, b::Y},\n    c,\n};\nfn f() { crate::d::g(); other::b::h(); }";
    assert_eq!(used_modules(code, &modules), ["a", "c", "d"].map(str::to_owned).into());
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
    ];
    let cycles = imports::cycles(&imports::imports(&directory, &files));
    assert_eq!(cycles, [["a::inner", "b"].map(str::to_owned).into()], "c imports b in its tests only");
}

#[test]
fn no_file_imports_one_that_imports_it() {
    for directory in ["src", "ring/src", "loadgen/src"] {
        let imports = imports::imports(&root().join(directory), &rust_files(directory));
        assert!(imports.values().flatten().count() > 20, "the imports of {directory} are not found any more");
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
    assert!(inside > 0, "unsafe code is not found any more");
}

#[test]
fn sans_io_modules_do_no_io() {
    const WORLD: [&str; 11] = [
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
    let server = ["http1", "jsonl", "uri_template", "json", "jsonrpc", "mcp", "registry", "schema"]
        .map(|module| format!("src/{module}"));
    let generator = ["http", "compare", "markdown"].map(|module| format!("loadgen/src/{module}"));
    for module in server.iter().chain(&generator) {
        // A module's tests may do what it may not.
        for path in rust_files(module).into_iter().filter(|path| !path.ends_with("tests.rs")) {
            let code = code(&path);
            for word in WORLD {
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
        assert!(is_declared, "{} is not a module of anything", path.display());
    }
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let defaults = corelane::Config { admin: Some(corelane::Config::ADMIN), ..Default::default() };
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
    assert_eq!(corelane::Config::from_toml(&text).unwrap(), defaults, "corelane.toml says the defaults");
}

/// The rows of docs/CHECKLIST.md: an id, and what its last column says.
fn checklist_rows() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/CHECKLIST.md")).unwrap();
    let rows = text.lines().skip_while(|line| *line != "| id | demand | tests |").skip(2);
    let cells = rows.take_while(|line| line.starts_with('|')).map(|line| line.split('|').collect::<Vec<_>>());
    cells.map(|cells| (cells[1].trim().to_owned(), cells[3].trim().to_owned())).collect()
}

#[test]
fn every_demand_of_the_checklist_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    for path in ["src", "tests"].into_iter().flat_map(rust_files) {
        for part in code(&path).split("#[test]").skip(1) {
            let name = part.split("fn ").nth(1).unwrap();
            tests.insert(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        }
    }
    let rows = checklist_rows();
    assert!(rows.len() > 50, "the table in docs/CHECKLIST.md is not where it was");
    for (id, cell) in &rows {
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{id} names no test");
        for name in named {
            assert!(tests.contains(name), "{id}: there is no test {name}");
        }
    }
}

#[test]
fn every_must_of_the_checklist_has_its_row() {
    let path = root().join("../shared/mcp/checklist.md");
    let Ok(text) = fs::read_to_string(&path) else {
        missing::report("../shared/mcp/checklist.md", "only the project's developers have it");
        return;
    };
    let start = text.find("## 0. Constant tables").expect("the checklist is not where it was");
    let end = text.find("## 11. Authorization").expect("the checklist is not where it was");
    let rows = checklist_rows();
    let mut demands = 0;
    for line in text[start..end].lines() {
        let Some(id) = line.strip_prefix("- ").and_then(|rest| rest.split(' ').next()) else { continue };
        let is_id = id.split_once('-').is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if is_id && (line.contains("[M]") || line.contains("[!]")) {
            demands += 1;
            assert!(rows.contains_key(id), "{id} is not in docs/CHECKLIST.md");
        }
    }
    assert!(demands > 80, "the checklist is not read any more");
}
