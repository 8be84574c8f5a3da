//! Tests of typed values.

use serde::Deserialize;

use crate::json::decode::tests::with_node;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Point,
    Circle { radius: f64 },
    Pair(i8, i8),
    Named(String),
}

#[derive(Debug, Deserialize, PartialEq)]
struct Arguments<'a> {
    name: &'a str,
    count: u8,
    ratio: f64,
    tags: Vec<String>,
    note: Option<String>,
    #[serde(default)]
    shape: Option<Shape>,
}

#[test]
fn typed_values_are_read_from_the_tape() {
    let text =
        r#"{"name":"a\nb","count":7,"ratio":3,"tags":["x","y"],"note":null,"shape":{"circle":{"radius":2}}}"#;
    with_node(text, |node| {
        let read = Arguments::deserialize(node).unwrap();
        assert_eq!((read.name, read.count, read.ratio), ("a\nb", 7, 3.0));
        assert_eq!(read.tags, ["x", "y"]);
        assert_eq!((read.note, read.shape), (None, Some(Shape::Circle { radius: 2.0 })));
    });
    for (text, shape) in [
        (r#""point""#, Shape::Point),
        (r#"{"pair":[1,-2]}"#, Shape::Pair(1, -2)),
        (r#"{"named":"n"}"#, Shape::Named("n".to_owned())),
    ] {
        assert_eq!(with_node(text, |node| Shape::deserialize(node).unwrap()), shape);
    }
}

#[test]
fn integral_number_is_an_integer_in_any_notation() {
    for text in ["7", "7.0", "0.7e1"] {
        assert_eq!(with_node(text, |node| u8::deserialize(node).unwrap()), 7, "{text}");
        assert_eq!(with_node(text, |node| Option::<i64>::deserialize(node).unwrap()), Some(7), "{text}");
    }
    assert!(with_node("7.5", |node| u8::deserialize(node)).is_err());
    assert!(with_node("300.0", |node| u8::deserialize(node)).is_err());
    let large = with_node("100000000000000000000", |node| f64::deserialize(node).unwrap());
    assert!((large - 1e20).abs() < 1.0);
}

#[test]
fn type_mismatch_has_a_reason() {
    let message = with_node(r#"{"name":1}"#, |node| Arguments::deserialize(node).unwrap_err().to_string());
    assert!(message.contains("invalid type: integer `1`"), "{message}");
    let message =
        with_node(r#"{"circle":{},"point":1}"#, |node| Shape::deserialize(node).unwrap_err().to_string());
    assert!(message.contains("one member"), "{message}");
}

mod like_serde_json {
    use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, fmt::Debug};

    use serde::de::DeserializeOwned;
    use serde_json::value::RawValue;

    use super::*;
    use crate::json::digits::tests::digits;

    /// Checks that a type reads `text` from the tape as `serde_json` does, or that both return an error. The digits of numbers
    /// are installed.
    fn same<T: DeserializeOwned + Debug>(text: &str) {
        let digits = digits(text);
        let tape = with_node(text, |node| {
            let _installed = digits.install(node);
            T::deserialize(node)
        });
        let expected = serde_json::from_str::<T>(text);
        let is_same = match (&tape, &expected) {
            (Ok(tape), Ok(expected)) => format!("{tape:?}") == format!("{expected:?}"),
            (Err(_), Err(_)) => true,
            _ => false,
        };
        assert!(is_same, "{} from {text}: {tape:?}, not {expected:?}", std::any::type_name::<T>());
    }

    /// Checks that a type reads `text`, which `serde_json` rejects because of its fractions, as `plain` without them.
    fn integral<T: DeserializeOwned + Debug>(text: &str, plain: &str) {
        let tape = with_node(text, |node| T::deserialize(node).unwrap());
        assert_eq!(format!("{tape:?}"), format!("{:?}", serde_json::from_str::<T>(plain).unwrap()), "{text}");
    }

    macro_rules! same {
        ($($type:ty),* => $($text:expr),* $(,)?) => {
            for text in [$($text),*] { $(same::<$type>(text);)* }
        };
    }

    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
    struct Id(u64);

    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(transparent)]
    struct Name {
        text: String,
    }

    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(rename_all = "kebab-case")]
    enum Color {
        DarkRed,
        #[serde(alias = "grey")]
        Gray,
    }

    #[derive(Debug, Deserialize)]
    struct Unit;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "compared by their debug output")]
    struct Pair(i32, Option<String>);

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "compared by their debug output")]
    enum External {
        Unit,
        New(u8),
        Optional(Option<u8>),
        Tuple(u8, String),
        Struct { a: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code, reason = "compared by their debug output")]
    enum Internal {
        Unit,
        Struct { a: u8, b: Option<i64> },
        New(Inner),
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", content = "value")]
    #[allow(dead_code, reason = "compared by their debug output")]
    enum Adjacent {
        Unit,
        New(u8),
        Tuple(u8, u8),
        Struct { a: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "compared by their debug output")]
    enum Untagged {
        Flag(bool),
        Small(u8),
        Large(i64),
        Text(String),
        List(Vec<u16>),
        Inner(Inner),
        Null(()),
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "compared by their debug output")]
    struct Inner {
        count: u32,
        ratio: f32,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "compared by their debug output")]
    struct Flat {
        id: u64,
        #[serde(flatten)]
        inner: Inner,
        #[serde(flatten)]
        rest: BTreeMap<String, i64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "compared by their debug output")]
    struct Strict {
        #[serde(alias = "amount", rename = "number")]
        a: u8,
        #[serde(default)]
        b: Vec<char>,
        #[serde(skip)]
        c: u8,
        d: Option<Option<bool>>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "compared by their debug output")]
    struct Bytes(std::ffi::CString);

    #[test]
    fn every_type_reads_the_same_from_tape_and_text() {
        same!(bool, char, String, (), Unit, Cow<'static, str>, Box<str>, std::path::PathBuf, Bytes,
            Option<bool>, Option<Option<u8>>, Option<()>, serde_json::Value, Color, External, Untagged,
            std::net::IpAddr, RefCell<String>, Box<[u8]>
            => "true", "null", "\"\"", "\"x\"", "\"xy\"", "\"\\u00e9\"", "\"dark-red\"", "\"grey\"", "\"Unit\"",
            "\"New\"", "[]", "[1,2]", "[1,256]", "{}", "7", "300", "\"::1\"", "{\"Unit\":null}", "{\"Unit\":1}",
            "{\"New\":7}", "{\"New\":null}", "{\"Optional\":null}", "{\"Optional\":1}", "{\"Tuple\":[1,\"a\"]}",
            "{\"Tuple\":[1]}", "{\"Tuple\":[1,\"a\",2]}", "{\"Tuple\":{}}", "{\"Struct\":{\"a\":1}}",
            "{\"Struct\":[1]}", "{\"Struct\":[1,2]}", "{\"New\":1,\"Unit\":null}", "{\"dark-red\":null}",
            "{\"count\":1,\"ratio\":0.5}");
        same!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64, Option<u64>, Id,
            serde_json::Number, serde_json::Value, std::num::NonZeroU8, Untagged
            => "0", "1", "-1", "127", "128", "255", "-128", "65535", "4294967296", "9223372036854775807",
            "-9223372036854775808", "18446744073709551615", "1.5", "-2.25", "1e-3", "true", "\"1\"", "null");
        same!(f64, f32, serde_json::Value, serde_json::Number => "5.0", "1e3", "100000000000000000000", "1e300");
        same!(i64, u64 => "-9223372036854775809", "18446744073709551616", "1e300", "100000000000000000000");
        same!(u128, i128, u64, i64, f64, Option<u128>, Vec<u128>, Vec<Option<i128>>, BTreeMap<String, i128>,
            std::num::NonZeroU128, Untagged, serde_json::Value
            => "340282366920938463463374607431768211455", "340282366920938463463374607431768211456",
            "18446744073709551616", "-9223372036854775809", "-170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105729", "1e30", "[18446744073709551616,1,-9223372036854775809]",
            "[18446744073709551616,1,18446744073709551617]", "{\"a\":-9223372036854775809,\"b\":5}");
        same!(Pair, (u8, u8), [u8; 2], Vec<u8>, std::collections::BTreeSet<u8>, (u8,), (u8, Option<u8>),
            Option<(u8, u8)>, std::time::Duration, Vec<Option<Vec<u8>>>
            => "[]", "[1]", "[1,2]", "[1,null]", "[1,2,3]", "[1,\"a\"]", "null", "{}", "[[1],null]");
        same!(Strict => "{\"number\":1}", "{\"amount\":1,\"b\":[\"a\"],\"d\":null}", "{\"number\":1,\"c\":1}",
            "{\"number\":1,\"d\":true}", "{}", "[1,[],true]", "[1,[],true,4]", "{\"number\":1,\"x\":1}");
        same!(Flat => "{\"id\":1,\"count\":2,\"ratio\":1,\"x\":3}", "{\"id\":1,\"count\":2}",
            "{\"id\":1,\"count\":2,\"ratio\":1.5,\"x\":\"y\"}");
        same!(Internal => "{\"kind\":\"Unit\"}", "{\"kind\":\"Struct\",\"a\":1}", "{\"a\":1,\"b\":-1,\"kind\":\"Struct\"}",
            "{\"kind\":\"New\",\"count\":1,\"ratio\":2.5}", "{\"kind\":\"Other\"}", "{}", "[\"Unit\"]");
        same!(Adjacent => "{\"kind\":\"Unit\"}", "{\"value\":7,\"kind\":\"New\"}", "{\"kind\":\"Tuple\",\"value\":[1,2]}",
            "{\"kind\":\"Tuple\",\"value\":[1,2,3]}", "{\"kind\":\"Struct\",\"value\":{\"a\":1}}", "{\"kind\":\"New\"}",
            "[\"New\",7]");
    }

    #[test]
    fn map_keys_are_read_as_numbers_and_booleans() {
        same!(BTreeMap<i8, u8>, BTreeMap<i64, u8>, BTreeMap<u8, u8>, BTreeMap<u64, u8>, BTreeMap<i128, u8>,
            BTreeMap<u128, u8>, BTreeMap<bool, u8>, BTreeMap<char, u8>, BTreeMap<String, u8>, BTreeMap<Id, u8>,
            BTreeMap<Name, u8>, BTreeMap<Color, u8>, BTreeMap<Option<u8>, u8>, BTreeMap<Option<Id>, u8>,
            BTreeMap<(), u8>, std::collections::HashMap<Id, u8>, Vec<BTreeMap<Id, BTreeMap<bool, u8>>>
            => "{}", "{\"1\":1}", "{\"-1\":1,\"2\":2}", "{\"300\":1}", "{\"true\":1,\"false\":2}", "{\"True\":1}",
            "{\"x\":1}", "{\"dark-red\":1,\"grey\":2}", "{\"\":1}", "{\" 1\":1}", "{\"1 \":1}", "{\"01\":1}", "{\"+1\":1}", "{\"null\":1}",
            "{\"1.0\":1}", "{\"340282366920938463463374607431768211455\":1}", "{\"1\":\"x\"}",
            "[{\"1\":{\"true\":1}}]");
    }

    #[test]
    fn integral_floats_are_integers_in_every_position() {
        integral::<u128>("5.0", "5");
        integral::<i128>("-5e0", "-5");
        integral::<u64>("1e18", "1000000000000000000");
        integral::<BTreeMap<Id, Id>>("{\"1\":2.0}", "{\"1\":2}");
        integral::<Flat>(
            "{\"id\":1.0,\"count\":2e0,\"ratio\":1.0,\"x\":3.0}",
            "{\"id\":1,\"count\":2,\"ratio\":1,\"x\":3}",
        );
        integral::<Internal>(
            "{\"kind\":\"Struct\",\"a\":1.0,\"b\":-2.0}",
            "{\"kind\":\"Struct\",\"a\":1,\"b\":-2}",
        );
        integral::<Internal>(
            "{\"kind\":\"New\",\"count\":1.0,\"ratio\":2}",
            "{\"kind\":\"New\",\"count\":1,\"ratio\":2}",
        );
        integral::<Adjacent>(
            "{\"value\":[1.0,2.0],\"kind\":\"Tuple\"}",
            "{\"value\":[1,2],\"kind\":\"Tuple\"}",
        );
        integral::<External>("{\"New\":7.0}", "{\"New\":7}");
        for (text, plain) in [("5.0", "5"), ("300.0", "300"), ("[1.0,2e0]", "[1,2]"), ("-0.0", "0")] {
            integral::<Untagged>(text, plain);
        }
        integral::<Untagged>("{\"count\":1.0,\"ratio\":2.0}", "{\"count\":1,\"ratio\":2}");
    }

    #[test]
    fn raw_values_are_encoded_again() {
        let text = r#"{ "a": [1, 2.0, null], "b": "\u00e9" }"#;
        let raw = with_node(text, |node| Box::<RawValue>::deserialize(node).unwrap());
        assert_eq!(raw.get(), r#"{"a":[1,2.0,null],"b":"é"}"#);
    }

    #[test]
    fn strings_and_bytes_are_borrowed_from_the_tape() {
        #[derive(Deserialize)]
        struct Borrowed<'a> {
            text: &'a str,
            bytes: &'a [u8],
            #[serde(borrow)]
            cow: Cow<'a, str>,
            #[serde(borrow)]
            keys: BTreeMap<&'a str, &'a str>,
        }
        let text = r#"{"text":"t","bytes":"b","cow":"c","keys":{"k":"v"}}"#;
        with_node(text, |node| {
            let read = Borrowed::deserialize(node).unwrap();
            assert_eq!((read.text, read.bytes, read.keys.get("k")), ("t", &b"b"[..], Some(&"v")));
            assert!(matches!(read.cow, Cow::Borrowed("c")));
        });
    }
}
