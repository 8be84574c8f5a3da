//! `peer_vanishes`: clients vanish without a FIN or a reset. The kernel drops every packet of their address, in both directions
//! (nftables), while they have streams. An idle connection is closed by the kernel's keep-alive, in five seconds at best.
//!
//! The timeouts of the server are shortened: `write_timeout` to 200 ms, `stream_keep_alive` to 200 ms.
//!
//! - Right refusal: there is no client to refuse; each connection is closed and counted, with reason `peer_lost`.
//! - Detected: `corelane_refusals_total` with reason `peer_lost` grows.
//! - Recovered: all connections of the clients are closed and counted. The fault ends when it begins: the clients do not return.
//! - Lost: nothing is in flight.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    definition::Fault,
    observation::{Failure, Observation},
    scene::{Scene, patient_reply},
};
use crate::attack::wire::{Connection, listen};

/// Address of the clients that vanish.
const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
/// Clients with a stream.
const CLIENTS: usize = 20;
/// Time limit for the rules to apply.
const RULES_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[("limits", "write_timeout", "\"200ms\""), ("limits", "stream_keep_alive", "\"200ms\"")],
        permitted: || Blackout::begin(1).map(|_| ()),
        ..Fault::new("peer_vanishes", "the packets of 20 clients with streams are dropped", inject)
    }
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let (target, address) = (&scene.server.target, scene.server.address());
    let request = listen(target, &["page://1".to_owned()]);
    let mut victims = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(address, VICTIM, None)?;
        connection.send(&request)?;
        patient_reply(&mut connection)?;
        victims.push(connection);
    }
    let before = scene.sample().refusals("peer_lost");
    let mut observation = Observation::new("refusals_total", "peer_lost");
    let (blackout, shown) =
        scene.watch(|sample| sample.refusals("peer_lost") > before, || Blackout::begin(address.port()));
    let blackout = blackout.map_err(Failure::NotPermitted)?;
    observation.shown_at(shown);
    let all = before + CLIENTS as f64;
    observation.recovered = scene.settle(observation.injected, |sample| sample.refusals("peer_lost") >= all);
    // Their resets are dropped too.
    drop(victims);
    drop(blackout);
    Ok(observation)
}

/// Rules that drop all packets between [`VICTIM`] and a port. They belong to a table that the kernel removes when its owner, the process
/// `nft`, ends (nft(8), "owner").
struct Blackout(Child);

impl Blackout {
    /// Adds the rules, and waits until they apply.
    fn begin(port: u16) -> Result<Self, String> {
        let needs = |reason: &str| format!("needs root and nft to drop packets: {reason}");
        let table = format!("corelane_chaos_{}_{port}", std::process::id());
        let mut command = Command::new("nft");
        command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut blackout = Self(command.spawn().map_err(|error| needs(&error.to_string()))?);
        let rules = format!(
            "add table inet {table} {{ flags owner; }}\n\
             add chain inet {table} input {{ type filter hook input priority 0; }}\n\
             add rule inet {table} input ip saddr {VICTIM} tcp dport {port} drop\n\
             add rule inet {table} input ip daddr {VICTIM} tcp sport {port} drop\n"
        );
        let stdin = blackout.0.stdin.as_mut().ok_or_else(|| needs("no pipe"))?;
        stdin.write_all(rules.as_bytes()).map_err(|error| needs(&error.to_string()))?;
        let until = Instant::now() + RULES_TIMEOUT;
        while Instant::now() < until {
            let listed = Command::new("nft").args(["list", "table", "inet", &table]).output();
            let listed =
                listed.map(|output| String::from_utf8_lossy(&output.stdout).matches(" drop").count());
            if listed.is_ok_and(|rules| rules == 2) {
                return Ok(blackout);
            }
        }
        Err(needs("the rules do not apply"))
    }
}

impl Drop for Blackout {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
