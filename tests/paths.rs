//! Files that clients name by variables of templates or by arguments are below the directory that is served.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use corelane::{
    CallError, Limits, ProtocolError, ResourceTemplate, Server, ServerBuilder, Tool, open_within, path_within,
};
use serde_json::json;
use support::{
    peer::{PeerRequest, connect, end, start},
    session::Session,
};

/// A directory with a file, files beside it, and links into it and out of it.
fn tree(name: &str) -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("paths").join(name);
    let _ = fs::remove_dir_all(&base);
    let root = base.join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(base.join("root-beside")).unwrap();
    for (path, text) in [
        ("root/a.txt", "a"),
        ("root/sub/b.txt", "b"),
        ("root/50%", "percent"),
        ("root/back\\slash", "backslash"),
        ("root/...", "dots"),
        ("secret", "secret"),
        ("root-beside/secret", "secret"),
    ] {
        fs::write(base.join(path), text).unwrap();
    }
    symlink("../secret", root.join("out")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink(base.join("secret"), root.join("absolute_out")).unwrap();
    symlink("sub/b.txt", root.join("in")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    root
}

type Reading = fn(&Path, &str) -> Result<String, ProtocolError>;

const READERS: [(&str, Reading); 2] = [
    ("path_within", |root, path| Ok(fs::read_to_string(path_within(root, path)?).unwrap())),
    ("open_within", |root, path| Ok(std::io::read_to_string(open_within(root, path)?).unwrap())),
];

const INVALID_PARAMS: i64 = -32602;
const NOT_FOUND: i64 = -32002;

#[test]
fn path_that_leaves_the_root_is_rejected() {
    let root = tree("rejected");
    let encoded = ["%2e%2e%2fsecret", "%2E%2E/secret", "..%2fsecret", "sub%5c..", "a.txt%00"];
    let absolute = root.join("a.txt");
    let malformed = [
        "",
        ".",
        "/",
        "..",
        "../secret",
        "../root/a.txt",
        "sub/../a.txt",
        "sub/../../secret",
        "sub/..",
        "/etc/passwd",
        "//etc/passwd",
        "../root-beside/secret",
        "a.txt\0",
        "\0",
        absolute.to_str().unwrap(),
    ];
    let missing = ["none", "a.txt/b", "out", "up/secret", "absolute_out", "loop", "magic/etc/passwd"];
    let long = "x".repeat(5000);
    for (name, read) in READERS {
        let code = |path: &str| read(&root, path).map_err(|error| error.code);
        for path in encoded.iter().chain(&malformed) {
            assert_eq!(code(path), Err(INVALID_PARAMS), "{name} of {path:?}");
        }
        for path in missing.iter().copied().chain([long.as_str()]) {
            assert_eq!(code(path), Err(NOT_FOUND), "{name} of {path:?}");
        }
        let outside = read(&root, "out").unwrap_err();
        assert_eq!(outside, read(&root, "none").unwrap_err(), "a client learns nothing about files outside");
        assert_eq!(read(&root.join("none"), "a.txt").unwrap_err().code, -32603);
    }
    assert_eq!(open_within(&root, "sub").unwrap_err().code, NOT_FOUND, "a directory");
}

#[test]
fn path_below_the_root_is_found() {
    let root = tree("found");
    symlink(&root, root.with_file_name("link_to_root")).unwrap();
    for root in [root.clone(), root.join("."), root.with_file_name("link_to_root")] {
        for (path, text) in [
            ("a.txt", "a"),
            ("./sub//b.txt", "b"),
            ("in", "b"),
            ("50%", "percent"),
            ("back\\slash", "backslash"),
            ("...", "dots"),
        ] {
            for (name, read) in READERS {
                assert_eq!(read(&root, path).unwrap(), text, "{name} of {path:?}");
            }
        }
    }
    assert_eq!(path_within(&root, "in").unwrap(), root.canonicalize().unwrap().join("sub/b.txt"));
}

fn server(root: &Path) -> ServerBuilder {
    let [typed, boxed, text, called] = [(); 4].map(|()| root.to_owned());
    let read = |root: &Path, path: &str| -> Result<String, CallError> {
        Ok(std::io::read_to_string(open_within(root, path)?)?)
    };
    Server::builder("paths", "0")
        .template(
            ResourceTemplate::new("file:///data/{path}", "data")
                .run_blocking(move |get, _cx| read(&typed, &get.variables["path"])),
        )
        .template(ResourceTemplate::new("file:///deep/{+path}", "deep").run(move |get, _cx| {
            let path = path_within(&boxed, &get.variables["path"])?;
            Ok::<_, Box<dyn std::error::Error>>(fs::read_to_string(path)?)
        }))
        .template(ResourceTemplate::new("file:///text/{path}", "text").run(
            move |get, _cx| -> Result<String, ProtocolError> {
                let file = open_within(&text, &get.variables["path"])?;
                std::io::read_to_string(file).map_err(|error| ProtocolError::internal(error.to_string()))
            },
        ))
        .tool(Tool::new("read").input::<Argument>().run(move |argument, _cx| read(&called, &argument.path)))
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Argument {
    path: String,
}

/// Issue 12, D: `file:///data/{path}` hands `../etc/passwd` to the handler.
#[test]
fn resource_that_leaves_the_root_is_not_found() {
    let running = start(server(&tree("served")), 1, Limits::default());
    let mut peer = connect(&running);
    for base in ["data", "deep", "text"] {
        let uri = |path: &str| format!("file:///{base}/{path}");
        let found = peer.request(&PeerRequest::read(&uri("sub%2Fb.txt")));
        assert_eq!(found.result()["contents"][0]["text"], "b", "{base}");
        for path in
            ["..%2Fsecret", "%2e%2e%2fsecret", "%252e%252e%252fsecret", "%2Fetc%2Fpasswd", "out", "none"]
        {
            assert_eq!(
                peer.request(&PeerRequest::read(&uri(path))).refused().1,
                INVALID_PARAMS,
                "{base} {path}"
            );
        }
    }
    let session = Session::open(running.addresses()[0], "2025-11-25", json!({}));
    let read =
        |uri: &str| session.request(1, "resources/read", json!({"uri": uri})).response()["error"].clone();
    assert_eq!(read("file:///deep/../secret")["code"], INVALID_PARAMS);
    let missing = read("file:///data/out");
    assert_eq!(
        (&missing["code"], &missing["data"]),
        (&json!(NOT_FOUND), &json!({"uri": "file:///data/out"}))
    );
    let called = peer.request(&PeerRequest::call("read", json!({"path": "../secret"})));
    assert_eq!(called.error()["code"], INVALID_PARAMS);
    end(running);
}

#[test]
fn link_that_changes_while_a_file_is_opened_does_not_lead_outside() {
    let root = tree("race");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for target in ["sub", ".."] {
                    symlink(target, root.join("new")).unwrap();
                    fs::rename(root.join("new"), root.join("turning")).unwrap();
                }
            }
        });
        fs::write(root.join("sub/secret"), "harmless").unwrap();
        for _ in 0..2000 {
            // Below the root it is another file than outside.
            if let Ok(file) = open_within(&root, "turning/secret") {
                assert_eq!(std::io::read_to_string(file).unwrap(), "harmless");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
