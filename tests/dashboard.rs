//! The dashboard of the admin address: its page, its data, and that nothing on the address changes state.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::Read,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use corelane::{Config, Limits, NoArguments, Running, Server, Tool, demo};
use serde_json::{Value, json};
use support::{Client, Reply, eventually, post};

const PATHS: [&str; 7] = ["/", "/dashboard", "/dashboard.json", "/healthz", "/livez", "/metrics", "/readyz"];

fn config() -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config { listen: vec![any.into()], admin: Some(any), shards: Some(2), ..Config::default() }
}

fn ask(running: &Running, method: &str, path: &str, headers: &str) -> Reply {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    read_to_end(Client::connect(running.admin_address().unwrap()).send(request))
}

/// Reads the only reply of a connection, whose JSON is no protocol message.
fn read_to_end(client: &mut Client) -> Reply {
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    Reply { status: head[9..12].parse().unwrap(), head, body }
}

fn data(running: &Running) -> Value {
    let reply = ask(running, "GET", "/dashboard.json", "");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

fn call(tool: &str, arguments: &Value) -> Vec<u8> {
    let params = json!({"name": tool, "arguments": arguments});
    post("", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string())
}

#[test]
fn page_may_load_nothing_but_its_own_style_and_script() {
    let running = demo::server().build().start(&config()).unwrap();
    let root = ask(&running, "GET", "/", "");
    assert_eq!((root.status, root.header("location")), (302, Some("dashboard")));
    let page = ask(&running, "GET", "/dashboard", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for directive in ["connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(directive), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(ask(&running, "GET", "/dashboard.json", "Origin: http://localhost\r\n").status, 403);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn data_is_of_the_last_interval_and_shared_by_all_viewers() {
    let fails = Tool::new("fails").run(|_: NoArguments, _| Err::<(), _>("no"));
    let running = demo::server().tool(fails).build().start(&config()).unwrap();
    assert_eq!(data(&running)["sample"]["total"]["requests"], 0);
    let mut client = Client::connect(running.addresses()[0]);
    for _ in 0..10 {
        assert_eq!(client.send(call("echo", &json!({"message": "x"}))).read().status, 200);
    }
    client.send(call("fails", &json!({}))).read();
    let mut newest = Value::Null;
    eventually("a sample with the requests", || {
        newest = data(&running);
        newest["sample"]["total"]["requests"] != 0
    });
    let sample = &newest["sample"];

    assert_eq!(sample["total"]["requests"], 11);
    assert_eq!(sample["total"]["errors"], 1, "{sample}");
    let tools = sample["tools"].as_array().unwrap();
    assert_eq!((&tools[0]["name"], &tools[0]["requests"]), (&json!("echo"), &json!(10)), "{sample}");
    assert_eq!((&tools[1]["name"], &tools[1]["errors"]), (&json!("fails"), &json!(1)), "{sample}");
    assert_eq!(sample["shards"].as_array().unwrap().len(), 2);
    assert_eq!(sample["flags"].as_array().unwrap().len(), 6);
    assert!(sample["resident_bytes"].as_u64() > Some(1 << 20) && sample["is_draining"] == false, "{sample}");
    assert!(newest["history"].as_array().unwrap().len() >= 2);
    eventually("two viewers with the same sample", || data(&running) == data(&running));
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn requests_for_the_dashboard_do_not_delay_health_or_take_its_places() {
    let (begun, sticking) = std::sync::mpsc::channel();
    let stick = Tool::new("stick").run(move |_: NoArguments, _| {
        begun.send(()).unwrap();
        thread::sleep(Duration::from_secs(3));
    });
    let limits = Limits { admin_connections_max: 8, turn_slow: Duration::from_secs(60), ..Limits::default() };
    let running =
        Server::builder("test", "0").tool(stick).build().start(&Config { limits, ..config() }).unwrap();
    let mut client = Client::connect(running.addresses()[0]);
    client.send(call("stick", &json!({})));
    sticking.recv_timeout(Duration::from_secs(20)).unwrap();
    // Each sample now waits for the shard that is stuck; a quarter of the connections may wait for one.
    let request = "GET /dashboard.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut viewers: Vec<Client> = (0..6)
        .map(|_| {
            let mut viewer = Client::connect(running.admin_address().unwrap());
            viewer.send(request);
            viewer
        })
        .collect();
    assert_eq!(ask(&running, "GET", "/healthz", "").status, 503, "answered, by the stuck shard");
    let mut statuses: Vec<u16> = viewers.iter_mut().map(|viewer| read_to_end(viewer).status).collect();
    statuses.sort_unstable();
    assert!(statuses.starts_with(&[200, 200]) && statuses.ends_with(&[503]), "{statuses:?}");
    let sample = &data(&running)["sample"];
    let states: Vec<&Value> =
        sample["shards"].as_array().unwrap().iter().map(|shard| &shard["state"]).collect();
    assert!(states.contains(&&json!("unresponsive")) || client.read().status == 200, "{sample}");
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn no_method_on_the_admin_address_changes_state() {
    let running = demo::server().build().start(&config()).unwrap();
    let before = data(&running)["sample"]["flags"].clone();
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let reply = ask(&running, method, path, "Content-Length: 0\r\n");
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for path in ["/drain", "/dashboard/flags", "/dashboard.json/", "//dashboard", "/Dashboard"] {
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(ask(&running, method, path, "").status, 404, "{method} {path}");
        }
    }
    // A query changes nothing.
    assert_eq!(ask(&running, "GET", "/dashboard.json?drain=1&flag=zero_copy", "").status, 200);
    let after = data(&running);
    let positions = |flags: &Value| -> Vec<Value> {
        flags.as_array().unwrap().iter().map(|flag| flag["position"].clone()).collect()
    };
    assert_eq!(positions(&after["sample"]["flags"]), positions(&before));
    assert_eq!(after["sample"]["is_draining"], false);
    assert_eq!(ask(&running, "GET", "/readyz", "").status, 200);
    assert_eq!(
        Client::connect(running.addresses()[0]).send(call("echo", &json!({"message": "x"}))).read().status,
        200
    );
    running.stopper().drain();
    running.join().unwrap();
}

/// The document of the page after its script has run for some seconds; `None` without a browser.
fn rendered(url: &str) -> Option<String> {
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })?;
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=6000",
            "--dump-dom",
            url,
        ])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn names_with_markup_are_text_in_a_browser() {
    const NAME: &str = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>";
    let running = Server::builder(NAME, "1")
        .tool(Tool::new("plain").run(|_: NoArguments, _| "x"))
        .build()
        .start(&config())
        .unwrap();
    let ended = AtomicBool::new(false);
    let address = running.addresses()[0];
    let document = thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(address);
            while !ended.load(Ordering::Relaxed) {
                client.send(call("plain", &json!({}))).read();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let document = rendered(&format!("http://{}/dashboard", running.admin_address().unwrap()));
        ended.store(true, Ordering::Relaxed);
        document
    });
    match document {
        None => support::missing::report("a browser", "install the package chromium"),
        Some(document) => {
            let title =
                document.split("<h1 id=\"server\">").nth(1).and_then(|rest| rest.split("</h1>").next());
            let title = title.unwrap_or_else(|| panic!("{document}"));
            assert!(title.starts_with("&lt;img src=x onerror="), "{title}");
            assert!(document.contains("<td class=\"name\" title=\"plain\">plain</td>"), "{document}");
            assert!(document.contains("1 tool called since the start"), "{document}");
            assert!(!document.contains("<title>run"), "markup of a name was run");
        }
    }
    running.stopper().drain();
    running.join().unwrap();
}
