//! Reader of the configuration file: [`RawConfig`] is its content, [`Config`] the validated configuration.

use std::{fs, ops::Range, path::Path};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{
    Config, allowed,
    bound::Bound,
    error::ConfigError,
    raw::{RawConfig, known_keys},
};

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// All errors of the file, by line.
    pub fn read(path: &Path) -> Result<Self, Vec<ConfigError>> {
        Self::from_toml(&fs::read_to_string(path).map_err(|error| vec![error.into()])?)
    }

    /// Reads the text of a file. Missing keys have the defaults of the command line, including [`Config::ADMIN`].
    ///
    /// # Errors
    /// All errors of the text, by line.
    pub fn from_toml(text: &str) -> Result<Self, Vec<ConfigError>> {
        let syntax = |error: toml::de::Error| {
            vec![ConfigError::Syntax {
                line: line_of(text, error.span().map_or(0, |span| span.start)),
                reason: one_line(error.message()),
            }]
        };
        let document = DeTable::parse(text).map_err(syntax)?;
        let mut keys = Keys { text, found: Vec::new(), errors: Vec::new() };
        keys.collect("", document.get_ref(), &known_keys());
        let mut wrong: Vec<String> = Vec::new();
        loop {
            // Deserializes without the keys whose values have a wrong type, to find the errors of the others.
            let mut rest = document.clone();
            wrong.iter().for_each(|key| remove(rest.get_mut(), key));
            match RawConfig::deserialize(Deserializer::from(rest)) {
                Ok(raw) => {
                    keys.check_values(&raw, &wrong);
                    keys.errors.sort_by_key(ConfigError::line);
                    return if keys.errors.is_empty() { Ok(raw.into_config()) } else { Err(keys.errors) };
                }
                Err(error) => match keys.add_type_error(&error) {
                    Some(key) if !wrong.contains(&key) => wrong.push(key),
                    _ => {
                        keys.errors.sort_by_key(ConfigError::line);
                        return Err(keys.errors);
                    }
                },
            }
        }
    }

    /// Line of the text that sets `key`, such as `security.secret_file`; `None` if no line does.
    #[cfg(feature = "cli")]
    pub(crate) fn line_of_key(text: &str, key: &str) -> Option<usize> {
        let document = DeTable::parse(text).ok()?;
        let mut keys = Keys { text, found: Vec::new(), errors: Vec::new() };
        keys.collect("", document.get_ref(), &known_keys());
        keys.found.iter().find(|found| found.name == key).map(|found| line_of(text, found.span.start))
    }

    /// Encodes the configuration as a file.
    ///
    /// # Errors
    /// A value has no form in TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(&RawConfig::from(self))?)
    }
}

/// Removes `table.key`, or a whole table if `key` has no dot.
fn remove(document: &mut DeTable<'_>, key: &str) {
    match key.split_once('.') {
        Some((table, key)) => {
            if let Some(DeValue::Table(table)) = document.get_mut(table).map(|value| value.get_mut()) {
                table.remove(key);
            }
        }
        None => drop(document.remove(key)),
    }
}

/// Keys of a file, and its errors.
struct Keys<'a> {
    text: &'a str,
    found: Vec<Key>,
    errors: Vec<ConfigError>,
}

struct Key {
    /// The key with its table, such as `limits.json_depth_max`.
    name: String,
    /// Byte range from the key to the end of its value.
    span: Range<usize>,
}

impl Keys<'_> {
    /// Collects the known keys of a table, and adds an error for each of the others.
    fn collect(&mut self, prefix: &str, table: &DeTable<'_>, known: &toml::Table) {
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in pairs {
            let name = format!("{prefix}{}", key.get_ref());
            let start = key.span().start;
            match (known.get(key.get_ref().as_ref()), value.get_ref()) {
                (None, _) if name == "rollout.server_pooling" => self.errors.push(ConfigError::WrongValue {
                    reason:
                        "server_pooling takes effect at a start only, for all sessions, so it has no share; \
                             set performance.server_pooling and restart the server"
                            .to_owned(),
                    line: line_of(self.text, start),
                    key: name,
                }),
                (None, _) => self.errors.push(ConfigError::UnknownKey {
                    nearest: nearest(prefix, key.get_ref()),
                    line: line_of(self.text, start),
                    key: name,
                }),
                (Some(toml::Value::Table(known)), DeValue::Table(table)) => {
                    self.collect(&format!("{name}."), table, known);
                }
                (Some(toml::Value::Table(_)), _) => self.errors.push(ConfigError::WrongValue {
                    reason: format!("is a table; write [{name}] and its keys below"),
                    line: line_of(self.text, start),
                    key: name,
                }),
                (Some(_), _) => self.found.push(Key { name, span: start..value.span().end }),
            }
        }
    }

    fn line(&self, name: &str) -> usize {
        let offset = self.found.iter().find(|key| key.name == name).map_or(0, |key| key.span.start);
        line_of(self.text, offset)
    }

    /// Adds serde's error for a value, with the key's range instead of its type. Returns the key.
    fn add_type_error(&mut self, error: &toml::de::Error) -> Option<String> {
        let offset = error.span().map_or(0, |span| span.start);
        let line = line_of(self.text, offset);
        let mut reason = one_line(error.message());
        for number in ["usize", "u32"] {
            reason = reason.replace(&format!("expected {number}"), "expected a whole number");
        }
        let Some(key) = self.found.iter().find(|key| key.span.contains(&offset)) else {
            // A value in place of a table already has a clearer error.
            let table = self.errors.iter().find_map(|error| match error {
                ConfigError::WrongValue { key, line: at, .. } if *at == line && !key.contains('.') => {
                    Some(key.clone())
                }
                _ => None,
            });
            if self.errors.is_empty() {
                self.errors.push(ConfigError::Syntax { line, reason });
            }
            return table;
        };
        if let Some(bound) = RawConfig::default().bounds().into_iter().find(|bound| bound.key == key.name) {
            reason.push_str(&format!(", {}", bound.range));
        }
        let key = key.name.clone();
        self.errors.push(ConfigError::WrongValue { key: key.clone(), line, reason });
        Some(key)
    }

    /// Adds errors of values that their types allow.
    fn check_values(&mut self, raw: &RawConfig, wrong: &[String]) {
        for Bound { key, value, range, .. } in raw.bounds().into_iter().filter(|bound| !bound.is_valid) {
            self.errors.push(ConfigError::OutOfRange { line: self.line(&key), key, value, range });
        }
        let lists: [(_, _, fn(&str) -> _); 3] = [
            ("admin.allowed_hosts", &raw.admin.allowed_hosts, allowed::check_host),
            ("http.allowed_hosts", &raw.http.allowed_hosts, allowed::check_host),
            ("http.allowed_origins", &raw.http.allowed_origins, allowed::check_origin),
        ];
        for (key, entries, check) in lists {
            for reason in entries.iter().filter_map(|entry| check(entry).err()) {
                self.errors.push(ConfigError::WrongValue {
                    key: key.to_owned(),
                    line: self.line(key),
                    reason,
                });
            }
        }
        if raw.server.listen.is_empty() && !wrong.iter().any(|key| key == "server.listen") {
            self.errors.push(ConfigError::WrongValue {
                key: "server.listen".to_owned(),
                line: self.line("server.listen"),
                reason: "no address; name at least one".to_owned(),
            });
        }
    }
}

/// The known key that is most similar to `key`: without its table if that is the same, otherwise with it.
fn nearest(prefix: &str, key: &str) -> Option<String> {
    /// Minimum similarity of a suggestion; the threshold that clap uses.
    const SIMILARITY_MIN: f64 = 0.7;
    let known = known_keys();
    let mut names: Vec<(String, String)> = Vec::new();
    for (table, keys) in &known {
        names.push((String::new(), table.clone()));
        for name in keys.as_table().into_iter().flat_map(toml::Table::keys) {
            names.push((format!("{table}."), name.clone()));
        }
    }
    // Keys of the same table are preferred slightly.
    let similarity =
        |table: &str, name: &str| strsim::jaro_winkler(key, name) + if table == prefix { 0.05 } else { 0.0 };
    names
        .into_iter()
        .map(|(table, name)| (similarity(&table, &name), table, name))
        .filter(|(similarity, ..)| *similarity > SIMILARITY_MIN)
        .max_by(|(left, ..), (right, ..)| left.total_cmp(right))
        .map(|(_, table, name)| if table == prefix { name } else { format!("{table}{name}") })
}

fn line_of(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|&byte| byte == b'\n').count() + 1
}

fn one_line(message: &str) -> String {
    message.trim_end().replace('\n', ", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            ControlSocket, ForwardedHeader, JsonBackend, Limits, Log, Percent, Performance, Proxy, Rollout,
            ShardPlacement,
        },
        *,
    };

    fn messages(text: &str) -> String {
        let errors = Config::from_toml(text).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn empty_file_has_the_defaults_of_the_command_line() {
        let of_command_line =
            Config { admin: Some(Config::ADMIN), control: ControlSocket::Auto, ..Config::default() };
        assert_eq!(Config::from_toml("").unwrap(), of_command_line);
    }

    #[test]
    fn defaults_are_within_their_ranges() {
        for bound in RawConfig::default().bounds() {
            assert!(bound.is_valid, "{} = {}: {}", bound.key, bound.value, bound.range);
        }
    }

    #[test]
    fn written_configuration_reads_back_the_same() {
        let backtracking = Config::from_toml("[schema]\nbacktracking = true").unwrap();
        assert!(backtracking.limits.schema_backtracking);
        assert_eq!(Config::from_toml(&backtracking.to_toml().unwrap()).unwrap(), backtracking);
        let config = Config {
            listen: ["0.0.0.0:1", "http+unix:a", "tcp://[::1]:0", "unix:/b"]
                .map(|text| text.parse().unwrap())
                .into(),
            shards: Some(3),
            memory_max: Some(1 << 30),
            cpus: Some(vec![0, 2, 1]),
            placement: ShardPlacement::None,
            spin_before_park: Some(Duration::ZERO),
            blocking_threads: Some(9),
            stats: true,
            admin: None,
            control: ControlSocket::Path("/run/c.sock".into()),
            admin_allowed_hosts: vec!["m".to_owned()],
            allowed_hosts: vec!["a".to_owned(), "b:1".to_owned()],
            allowed_origins: vec!["https://a".to_owned()],
            proxy: Proxy {
                trusted: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                header: ForwardedHeader::Forwarded,
            },
            secret_file: Some("key".into()),
            log: Log { level: super::super::LogLevel::Off, format: super::super::LogFormat::Json },
            performance: Performance {
                json_backend: JsonBackend::Serde,
                zero_copy: false,
                ..Performance::default()
            },
            rollout: Rollout {
                zero_copy: Some(Percent::from_hundredths(25)),
                async_tools: Some(Percent::ALL),
                latency_increase_percent: Percent::ZERO,
                ..Rollout::default()
            },
            limits: Limits { turn_slow: Duration::from_millis(1500), headers_max: 8, ..Limits::default() },
        };
        for config in [config, Config::default()] {
            assert_eq!(Config::from_toml(&config.to_toml().unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn unknown_key_is_rejected_with_the_most_similar_one() {
        for (text, line) in [
            (
                "[limits]\n\njson_dept_max = 1",
                "unknown key limits.json_dept_max (line 3); did you mean json_depth_max?",
            ),
            ("limits.headers_mx = 1", "unknown key limits.headers_mx (line 1); did you mean headers_max?"),
            ("[limit]\njson_depth_max = 1", "unknown key limit (line 1); did you mean limits?"),
            ("listen = []", "unknown key listen (line 1); did you mean server.listen?"),
            (
                "[server]\nallowed_hosts = []",
                "unknown key server.allowed_hosts (line 2); did you mean http.allowed_hosts?",
            ),
            ("[log]\nqqq = 1", "unknown key log.qqq (line 2)"),
            (
                "[performance]\nzerocopy = false",
                "unknown key performance.zerocopy (line 2); did you mean zero_copy?",
            ),
            ("[rollout]\nzerocopy = 1", "unknown key rollout.zerocopy (line 2); did you mean zero_copy?"),
        ] {
            assert_eq!(messages(text), line);
        }
    }

    #[test]
    fn value_of_another_type_is_rejected_with_key_and_line() {
        for (text, words) in [
            (
                "[limits]\njson_depth_max = \"deep\"",
                vec!["limits.json_depth_max (line 2)", "\"deep\"", "a whole number, 8 to 128"],
            ),
            ("[limits]\n\nheaders_max = -1", vec!["limits.headers_max (line 3)", "-1", "8 to 128"]),
            ("[limits]\nheaders_max = 1.5", vec!["limits.headers_max (line 2)", "1.5"]),
            (
                "[limits]\nconnections_max = 5000000000",
                vec!["limits.connections_max (line 2)", "5000000000", "1 to 1048576"],
            ),
            ("[limits]\nhead_timeout = 10", vec!["limits.head_timeout (line 2)", "a duration, 1ms to 1day"]),
            ("[limits]\nhead_timeout = \"10 parsecs\"", vec!["limits.head_timeout (line 2)", "10 parsecs"]),
            ("[limits]\nheaders_max = { a = 1 }", vec!["limits.headers_max (line 2)", "map"]),
            ("limits = 1", vec!["limits (line 1)", "[limits]"]),
            ("[[server]]\nstats = true", vec!["server (line 1)", "[server]"]),
            (
                "[server]\nlisten = [\n\"127.0.0.1\"]",
                vec!["server.listen (line 3)", "127.0.0.1", "unix:PATH"],
            ),
            ("[server]\nlisten = []", vec!["server.listen (line 2)", "at least one"]),
            ("[server]\nshards = \"many\"", vec!["server.shards (line 2)", "\"many\"", "1 to 1024"]),
            ("[server]\nshards = true", vec!["server.shards (line 2)", "\"auto\""]),
            ("[server]\ncpus = \"3-1\"", vec!["server.cpus (line 2)", "descending range"]),
            ("[server]\nadmin = \"nowhere\"", vec!["server.admin (line 2)", "nowhere", "none"]),
            (
                "[performance]\njson_backend = \"fast\"",
                vec!["performance.json_backend (line 2)", "fast", "simd", "serde"],
            ),
            ("[performance]\nzero_copy = 1", vec!["performance.zero_copy (line 2)", "1", "a boolean"]),
            ("[rollout]\nzero_copy = 0.001", vec!["rollout.zero_copy (line 2)", "two decimals", "0 to 100"]),
            ("[rollout]\nzero_copy = -1", vec!["rollout.zero_copy (line 2)", "-1", "0 to 100"]),
            ("[rollout]\nzero_copy = \"most\"", vec!["rollout.zero_copy (line 2)", "most", "0 to 100"]),
            (
                "[rollout]\nserver_pooling = 1",
                vec!["rollout.server_pooling (line 2)", "at a start only", "performance.server_pooling"],
            ),
            ("[log]\nlevel = \"loud\"", vec!["log.level (line 2)", "loud", "warn"]),
            ("a = ", vec!["line 1 is not TOML"]),
            ("[log]\nlevel = 1\nlevel = 2", vec!["line 3 is not TOML", "duplicate"]),
        ] {
            let messages = messages(text);
            assert!(!messages.contains('\n'), "{messages}");
            for word in words {
                assert!(messages.contains(word), "{word:?} is not in {messages:?}");
            }
        }
    }

    #[test]
    fn value_out_of_range_is_rejected_with_the_range() {
        for (text, line) in [
            (
                "[limits]\nhead_bytes_max = 65536",
                "limits.head_bytes_max = 65536 (line 2) is out of range: 256 to 65535",
            ),
            ("[limits]\nheaders_max = 0", "limits.headers_max = 0 (line 2) is out of range: 8 to 128"),
            (
                "[limits]\nhead_timeout = \"0s\"",
                "limits.head_timeout = 0s (line 2) is out of range: 1ms to 1day",
            ),
            ("[server]\nshards = 0", "server.shards = 0 (line 2) is out of range: 1 to 1024"),
            (
                "[server]\nspin_us = 1000001",
                "server.spin_us = 1000001 (line 2) is out of range: 0 to 1000000",
            ),
            (
                "[rollout]\nzero_copy = 100.01",
                "rollout.zero_copy = 100.01 (line 2) is out of range: 0 to 100",
            ),
        ] {
            assert_eq!(messages(text), line);
        }
        let several = messages(
            "[server]\nshards = true\nlisten = [\"x\"]\n[limits]\nheaders_max = \"a\"\nhead_timeout = 1\nfoo = 1\n\
             json_depth_max = 1\n[log]\nlevel = 3",
        );
        let lines: Vec<bool> = several
            .lines()
            .zip([2, 3, 5, 6, 7, 8, 10])
            .map(|(messages, line)| messages.contains(&format!("(line {line})")))
            .collect();
        assert_eq!(lines, [true; 7], "{several}");
        let sizes =
            Config::from_toml("[limits]\nbody_bytes_max = \"8MiB\"\noutbox_bytes_max = 4096").unwrap();
        assert_eq!((sizes.limits.body_bytes_max, sizes.limits.outbox_bytes_max), (8 << 20, 4096));
        assert!(messages("[limits]\nbody_bytes_max = \"8 parsecs\"").contains("\"4MiB\""));
        assert_eq!(messages("[limits]\nheaders_max = 0\nhead_timeout = \"9d\"\nfoo = 1").lines().count(), 3);
        let hosts = messages("[http]\nallowed_hosts = [\"ok\", \"https://a\"]\nallowed_origins = [\"null\"]");
        assert!(hosts.starts_with("http.allowed_hosts (line 2): \"https://a\" has a scheme"), "{hosts}");
        assert!(hosts.contains("\nhttp.allowed_origins (line 3): \"null\" is refused"), "{hosts}");
    }
}
