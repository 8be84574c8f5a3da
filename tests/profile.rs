//! CPU profiles of a running server.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Limits, NoArguments, Running, Server, Tool,
    internals::profile::{
        Profile, ProfileError, ProfileFormat, ProfileOptions, ProfileOutput, SampleSource, SampledThreads,
        capture, capture_from,
    },
};
use serde_json::json;
use support::peer::{PeerRequest, connect, end, start};

/// One test at a time: a process takes one profile at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(never)]
fn planted_hot_function(milliseconds: u64) -> u64 {
    let began = Instant::now();
    let mut sum = 0_u64;
    while began.elapsed() < Duration::from_millis(milliseconds) {
        for number in 0..10_000 {
            sum = sum.wrapping_add(black_box(number));
        }
    }
    sum
}

/// A server with a tool that uses the CPU in `planted_hot_function`.
fn hot_server() -> Running {
    let run = |_: NoArguments| planted_hot_function(20).to_string();
    let server = Server::builder("hot", "0")
        .tool(Tool::new("inline").run(move |arguments, _cx| run(arguments)))
        .tool(Tool::new("blocking").run_blocking(move |arguments, _cx| run(arguments)));
    start(server, 1, Limits::default())
}

/// Calls a tool again and again while `body` runs.
fn while_called<T>(running: &Running, tool: &str, body: impl FnOnce() -> T) -> T {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = connect(running);
            while !ended.load(Ordering::Relaxed) {
                peer.request(&PeerRequest::call(tool, json!({})));
            }
        });
        let result = body();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

fn options(threads: SampledThreads) -> ProfileOptions {
    ProfileOptions { seconds: 2, hz: 199, threads }
}

fn shard_0() -> SampledThreads {
    SampledThreads::Shards(vec![0])
}

/// The stacks of a profile, outermost function first, with their samples.
fn folded(profile: &Profile) -> Vec<(Vec<String>, u64)> {
    let mut text = Vec::new();
    ProfileFormat::Folded.write(profile, &mut text).unwrap();
    let line = |line: &str| {
        let (stack, samples) = line.rsplit_once(' ').unwrap();
        (stack.split(';').map(str::to_owned).collect(), samples.parse().unwrap())
    };
    String::from_utf8(text).unwrap().lines().map(line).collect()
}

/// The widest frames: from the outermost one down, the function with the most samples in the one above. With its samples.
fn widest_path(stacks: &[(Vec<String>, u64)]) -> Vec<(String, u64)> {
    let mut path: Vec<(String, u64)> = Vec::new();
    loop {
        let mut children: BTreeMap<&str, u64> = BTreeMap::new();
        for (stack, samples) in stacks {
            let is_within = stack.iter().zip(&path).all(|(function, (above, _))| function == above);
            if is_within && let Some(function) = stack.get(path.len()) {
                *children.entry(function).or_default() += samples;
            }
        }
        let Some((function, samples)) = children.into_iter().max_by_key(|(_, samples)| *samples) else {
            return path;
        };
        path.push((function.to_owned(), samples));
    }
}

#[track_caller]
fn check_hot_function_is_widest(profile: &Profile, thread: &str) {
    let path = widest_path(&folded(profile));
    let hot = path.iter().find(|(function, _)| function.contains("planted_hot_function"));
    let (_, samples) = hot.unwrap_or_else(|| panic!("{}\n{path:#?}", profile.summary()));
    assert!(path[0].0.starts_with(thread), "{path:#?}");
    // The functions that call it have as many samples; there is no wider one beside it.
    assert!(samples * 2 > profile.samples, "{samples} of {} samples: {path:#?}", profile.samples);
    let is_executor = |(function, _): &(String, u64)| function.contains("corelane::server::shard_thread");
    assert!(thread != "shard-0" || path.iter().any(is_executor), "the stack was cut off: {path:#?}");
}

#[test]
fn planted_hot_function_is_the_widest_frame_of_its_shard() {
    let _turn = turn();
    let running = hot_server();
    let taken = while_called(&running, "inline", || capture(&options(shard_0()), || false));
    check_hot_function_is_widest(&taken.unwrap(), "shard-0");
    end(running);
}

#[test]
fn planted_hot_function_is_the_widest_frame_by_every_source() {
    let _turn = turn();
    let running = hot_server();
    for source in [SampleSource::PerfWithKernel, SampleSource::Perf, SampleSource::Timer] {
        let take = || capture_from(source, &options(shard_0()), || false);
        match while_called(&running, "inline", take) {
            Ok(profile) => check_hot_function_is_widest(&profile, "shard-0"),
            // A container may forbid perf_event_open(2).
            Err(ProfileError::NotPermitted(_)) if source != SampleSource::Timer => {}
            Err(error) => panic!("{source:?}: {error}"),
        }
    }
    end(running);
}

#[test]
fn profile_of_all_threads_includes_the_blocking_pool() {
    let _turn = turn();
    let running = hot_server();
    let take = || capture(&options(SampledThreads::All), || false);
    let profile = while_called(&running, "blocking", take).unwrap();
    let stacks = folded(&profile);
    let is_hot = |stack: &[String]| stack.iter().any(|function| function.contains("planted_hot_function"));
    let hot = stacks.iter().find(|(stack, _)| is_hot(stack)).unwrap_or_else(|| panic!("{stacks:#?}"));
    assert!(!hot.0[0].starts_with("shard-"), "{hot:?}");
    end(running);
}

#[test]
fn flame_graph_and_pprof_name_the_hot_function() {
    let _turn = turn();
    let running = hot_server();
    let profile = while_called(&running, "inline", || capture(&options(shard_0()), || false)).unwrap();
    end(running);
    // As it is sent by the server.
    let profile: Profile = serde_json::from_str(&serde_json::to_string(&profile).unwrap()).unwrap();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, format) in [("hot.svg", ProfileFormat::Svg), ("hot.pb", ProfileFormat::Pprof)] {
        let path = directory.join(name);
        assert_eq!(ProfileFormat::of(&path), Some(format));
        ProfileOutput::create(&path, format).unwrap().write(&profile).unwrap();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(text.contains("planted_hot_function") && text.contains("shard-0"), "{name}");
        if format == ProfileFormat::Svg {
            assert!(
                text.contains("<script") && !text.contains("src=") && !text.contains("@import"),
                "{name}"
            );
        }
    }
}

#[test]
fn second_profile_is_refused_while_one_is_taken() {
    let _turn = turn();
    let running = hot_server();
    let (is_taken, is_cancelled) = (AtomicBool::new(false), AtomicBool::new(false));
    let long = ProfileOptions { seconds: 600, ..options(shard_0()) };
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            capture(&long, || {
                is_taken.store(true, Ordering::Relaxed);
                is_cancelled.load(Ordering::Relaxed)
            })
        });
        support::eventually("the first profile", || is_taken.load(Ordering::Relaxed));
        let second = capture(&options(shard_0()), || false);
        is_cancelled.store(true, Ordering::Relaxed);
        assert!(matches!(second, Err(ProfileError::Running)), "{second:?}");
        // Ends long before its 600 s.
        let first = first.join().unwrap().unwrap();
        assert!(first.milliseconds < 60_000);
    });
    // The next one is not refused.
    capture(&ProfileOptions { seconds: 1, ..options(shard_0()) }, || true).unwrap();
    end(running);
}

#[test]
fn options_out_of_range_are_refused() {
    let _turn = turn();
    let running = hot_server();
    let good = options(shard_0());
    let refuse = |options: ProfileOptions| capture(&options, || true).unwrap_err();
    for seconds in [0, 601] {
        let error = refuse(ProfileOptions { seconds, ..good.clone() });
        assert!(matches!(error, ProfileError::Seconds(refused) if refused == seconds), "{error}");
    }
    for hz in [0, 1000] {
        let error = refuse(ProfileOptions { hz, ..good.clone() });
        assert!(matches!(error, ProfileError::Hz(refused) if refused == hz), "{error}");
    }
    let error = refuse(ProfileOptions { threads: SampledThreads::Shards(vec![0, 7]), ..good });
    assert!(matches!(error, ProfileError::NoShard(7)), "{error}");
    end(running);
}

#[test]
fn output_that_cannot_be_written_is_an_error_before_the_profile() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    assert!(ProfileOutput::create(&directory.join("missing/cpu.svg"), ProfileFormat::Svg).is_err());
    assert!(ProfileOutput::create(directory, ProfileFormat::Svg).is_err());
    assert_eq!(ProfileFormat::of(Path::new("cpu.png")), None);
    // Until the profile is written, which a kill may prevent, there is no new file, and an existing one is left as it is.
    let (fresh, existing) = (directory.join("fresh.svg"), directory.join("existing.svg"));
    let _ = fs::remove_file(&fresh);
    fs::write(&existing, "kept").unwrap();
    let [new, replaced] =
        [&fresh, &existing].map(|path| ProfileOutput::create(path, ProfileFormat::Svg).unwrap());
    assert!(!fresh.exists());
    assert_eq!(fs::read_to_string(&existing).unwrap(), "kept");
    for (output, path) in [(new, &fresh), (replaced, &existing)] {
        output.write(&Profile::default()).unwrap();
        assert!(fs::read_to_string(path).unwrap().contains("</svg>"));
        assert!(!fs::read_to_string(path).unwrap().contains("kept"));
    }
}
