//! Tests of URI templates.

use proptest::prelude::*;

use super::*;

fn template(text: &str) -> UriTemplate {
    UriTemplate::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The matched values as `a=1 b=2`, or `-` without a match.
fn matched(text: &str, uri: &str) -> String {
    let template = template(text);
    let values = template.matches(uri);
    assert_eq!(template.is_match(uri), values.is_some(), "{text} {uri}");
    let Some(values) = values else { return "-".into() };
    values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// The variables of <https://www.rfc-editor.org/rfc/rfc6570#section-3.2>, with joined lists.
const VALUES: [(&str, &str); 18] = [
    ("dom", "example.com"),
    ("hello", "Hello World!"),
    ("half", "50%"),
    ("var", "value"),
    ("who", "fred"),
    ("base", "http://example.com/home/"),
    ("path", "/foo/bar"),
    ("v", "6"),
    ("x", "1024"),
    ("y", "768"),
    ("empty", ""),
    ("comma_list", "red,green,blue"),
    ("dot_list", "red.green.blue"),
    ("slash_list", "red/green/blue"),
    ("dub", "me/too"),
    ("semi", ";"),
    ("name.first", "fred"),
    ("r%C3%A9", "1"),
];

/// The examples of <https://www.rfc-editor.org/rfc/rfc6570> with their expansions.
const EXAMPLES: [(&str, &str); 65] = [
    // Level 1 to 3 (section 1.2).
    ("{var}", "value"),
    ("{hello}", "Hello%20World%21"),
    ("{+var}", "value"),
    ("{+hello}", "Hello%20World!"),
    ("{+path}/here", "/foo/bar/here"),
    ("here?ref={+path}", "here?ref=/foo/bar"),
    ("X{#var}", "X#value"),
    ("X{#hello}", "X#Hello%20World!"),
    ("map?{x,y}", "map?1024,768"),
    ("{x,hello,y}", "1024,Hello%20World%21,768"),
    ("{+x,hello,y}", "1024,Hello%20World!,768"),
    ("{+path,x}/here", "/foo/bar,1024/here"),
    ("{#x,hello,y}", "#1024,Hello%20World!,768"),
    ("{#path,x}/here", "#/foo/bar,1024/here"),
    ("X{.var}", "X.value"),
    ("X{.x,y}", "X.1024.768"),
    ("{/var}", "/value"),
    ("{/var,x}/here", "/value/1024/here"),
    ("{;x,y}", ";x=1024;y=768"),
    ("{;x,y,empty}", ";x=1024;y=768;empty"),
    ("{?x,y}", "?x=1024&y=768"),
    ("{?x,y,empty}", "?x=1024&y=768&empty="),
    ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
    ("{&x,y,empty}", "&x=1024&y=768&empty="),
    // Level 4 (section 1.2).
    ("{var:3}", "val"),
    ("{var:30}", "value"),
    ("{comma_list*}", "red,green,blue"),
    ("{+path:6}/here", "/foo/b/here"),
    ("{+comma_list*}", "red,green,blue"),
    ("{#path:6}/here", "#/foo/b/here"),
    ("X{.var:3}", "X.val"),
    ("X{.dot_list*}", "X.red.green.blue"),
    ("{/slash_list*}", "/red/green/blue"),
    ("{;hello:5}", ";hello=Hello"),
    ("{?var:3}", "?var=val"),
    ("{&var:3}", "&var=val"),
    // Section 3.2.
    ("{half}", "50%25"),
    ("O{empty}X", "OX"),
    ("O{undef}X", "OX"),
    ("?{x,empty}", "?1024,"),
    ("?{x,undef}", "?1024"),
    ("?{undef,y}", "?768"),
    ("{+half}", "50%25"),
    ("{base}index", "http%3A%2F%2Fexample.com%2Fhome%2Findex"),
    ("{+base}index", "http://example.com/home/index"),
    ("O{+empty}X", "OX"),
    ("up{+path}{/who}", "up/foo/bar/fred"),
    ("{#half}", "#50%25"),
    ("foo{#empty}", "foo#"),
    ("foo{#undef}", "foo"),
    ("{.half,who}", ".50%25.fred"),
    ("www{.dom*}", "www.example.com"),
    ("X{.empty}", "X."),
    ("X{.undef}", "X"),
    ("{/half,who}", "/50%25/fred"),
    ("{/who,dub}", "/fred/me%2Ftoo"),
    ("{/var,empty}", "/value/"),
    ("{/var,undef}", "/value"),
    ("{/slash_list*,path:4}", "/red/green/blue/%2Ffoo"),
    ("{;half}", ";half=50%25"),
    ("{;v,empty,who}", ";v=6;empty;who=fred"),
    ("{;x,y,undef}", ";x=1024;y=768"),
    ("{?x,y,undef}", "?x=1024&y=768"),
    ("{semi:2}", "%3B"),
    ("é/{name.first}{?r%C3%A9}", "%C3%A9/fred?r%C3%A9=1"),
];

#[test]
fn templates_expand_as_the_examples_of_rfc_6570() {
    for (text, expected) in EXAMPLES {
        let text = format!("t:{text}");
        let uri = template(&text).expand(&VALUES);
        assert_eq!(uri, format!("t:{expected}"), "{text}");
        assert!(template(&text).is_match(&uri), "{text}");
    }
}

#[test]
fn templates_match_their_expansions() {
    for text in [
        "t:{var}",
        "t:{hello}/{half}",
        "t:{+path}/here",
        "t:{+path,x}/here",
        "t:{+base}{?x,y}",
        "t:{#hello,y}",
        "t:{x,hello,y}",
        "t:{dub}{.who,v}{/path,dom}{;x,empty}{?y,hello}{&half}{#semi}",
        "t:{dub}{.v}",
        "t:{/slash_list*}",
        "t:{/slash_list*,path}",
        "t:{comma_list*}",
        "t:www{.dom*}",
        "t:{+comma_list*}{?r%C3%A9}",
        "t:{;name.first,semi}",
    ] {
        let template = template(text);
        let uri = template.expand(&VALUES);
        let values = template.matches(&uri).unwrap_or_else(|| panic!("{text} does not match {uri}"));
        let expected: Vec<_> = template
            .variables()
            .map(|name| {
                let (_, value) = VALUES.iter().find(|(other, _)| *other == name).unwrap();
                (name, (*value).to_owned())
            })
            .collect();
        assert_eq!(values, expected, "{text} {uri}");
    }
}

#[test]
fn absent_variables_are_omitted() {
    for (text, uri, expected) in [
        ("t:x{?a,b,c}", "t:x", ""),
        ("t:x{?a,b,c}", "t:x?b=2", "b=2"),
        ("t:x{?a,b,c}", "t:x?a=1&c=3", "a=1 c=3"),
        ("t:x{?a,b,c}", "t:x?a=1&b=&c=3", "a=1 b= c=3"),
        ("t:x?y{&a,b}", "t:x?y&b=2", "b=2"),
        ("t:x{;a,b}", "t:x;b", "b="),
        ("t:x{;a,ab}", "t:x;ab=1", "ab=1"),
        ("t:x{/a,b}", "t:x/1", "a=1"),
        ("t:x{/a,b}", "t:x", ""),
        ("t:x{#a,b}", "t:x", ""),
        ("t:x{#a,b}", "t:x#1", "-"),
        ("t:x{.a,b}", "t:x.1", "-"),
        ("t:{a,b}", "t:1", "a=1"),
        ("t:{a,b}", "t:", "a="),
    ] {
        assert_eq!(matched(text, uri), expected, "{text} {uri}");
    }
}

#[test]
fn ambiguous_uri_has_one_match() {
    for (text, uri, expected) in [
        ("t:{a}-{b}", "t:1-2-3", "a=1-2 b=3"),
        ("t:{+a}/{+b}", "t:1/2/3", "a=1/2 b=3"),
        ("t:{+path}{?q}", "t:a/b?q=1", "path=a/b q=1"),
        ("t:{+path}{?q}", "t:a/b?r=1", "path=a/b?r=1"),
        ("t:{+path}.md{?q}", "t:a.md?q=b.md", "path=a q=b.md"),
        ("t:{+path}{#f}", "t:a#b", "path=a f=b"),
        ("t:{name}{.suffix}", "t:a.tar.gz", "name=a suffix=tar.gz"),
        ("t:{/list*}{/last}", "t:/a/b", "list=a last=b"),
        ("t:{a:2}-{b}", "t:1-2-3", "a=1 b=2-3"),
        ("t:{a:3}", "t:%C3%A9%F0%9F%92%AFx", "a=é💯x"),
    ] {
        assert_eq!(matched(text, uri), expected, "{text} {uri}");
    }
}

/// ECMAScript's `encodeURIComponent`, with which the official SDKs expand templates.
fn encode_uri_component(text: &str) -> String {
    let mut encoded = String::new();
    let keeps = |character: char| character.is_ascii_alphanumeric() || "-_.!~*'()".contains(character);
    percent::encode(text, keeps, false, &mut encoded);
    encoded
}

#[test]
fn raw_characters_that_rfc_3986_allows_match_in_every_operator() {
    for character in "!$&'()*+,;=:@".chars() {
        let value = format!("O{character}Brien");
        for (text, before, after) in [
            ("t:{a}", "t:", ""),
            ("t://{a}/x", "t://", "/x"),
            ("t:x/{a}/y", "t:x/", "/y"),
            ("t:x{/a}", "t:x/", ""),
            ("t:x{/a*}", "t:x/", ""),
            ("t:x{.a}", "t:x.", ""),
            ("t:x{;a}", "t:x;a=", ""),
            ("t:x{?a}", "t:x?a=", ""),
            ("t:x{?a,b}", "t:x?a=", "&b=1"),
            ("t:x?y{&a}", "t:x?y&a=", ""),
            ("t:x?a={a}", "t:x?a=", ""),
            ("t:{+a}/x", "t:", "/x"),
            ("t:x{#a}", "t:x#", ""),
            ("t:{a:9}", "t:", ""),
            ("t:{a}-{b}", "t:", "-1"),
        ] {
            // The separator of parameters ends a value.
            if (text.contains("{;") && character == ';')
                || ((text.contains("{?") || text.contains("{&")) && character == '&')
            {
                continue;
            }
            let uri = format!("{before}{value}{after}");
            let expected = if after.ends_with('1') { format!("a={value} b=1") } else { format!("a={value}") };
            assert_eq!(matched(text, &uri), expected, "{text} {uri}");
        }
    }
    for text in ["t:x{?a}", "t:x?a={a}", "t:x?y{&a}", "t:x?{a}"] {
        let uri = template(text).expand(&[("a", "HERE")]).replace("HERE", "b/c?d");
        assert_eq!(matched(text, &uri), "a=b/c?d", "{text} {uri}");
    }
}

#[test]
fn first_character_of_following_literal_ends_a_value() {
    for (text, uri, expected) in [
        ("t:{a}:{b}", "t:1:2:3", "a=1 b=2:3"),
        ("t:{a},{b}", "t:1,2,3", "a=1 b=2,3"),
        ("t:{a,b}", "t:1,2", "a=1 b=2"),
        ("t:{a,b}", "t:1,2,3", "-"),
        ("t:x?a={a}&b={b}", "t:x?a=1&b=2", "a=1 b=2"),
        ("t:x?a={a}&b={b}", "t:x?a=1&c=3&b=2", "-"),
        ("t:{a}!{b}", "t:1!2!3", "a=1 b=2!3"),
        ("t:notes('{a}')", "t:notes('O'Brien')", "a=O'Brien"),
        ("t:({a})", "t:(f(x))", "a=f(x)"),
        ("t:{a}{;b}", "t:1;b=2", "a=1 b=2"),
        ("t:{a}-{b}{;c}", "t:1-2;c=3-4", "a=1 b=2 c=3-4"),
        ("t:x{?a,b}", "t:x?a=1?b=2", "a=1?b=2"),
        ("t:x{?a,b}", "t:x?a=1b=2", "a=1b=2"),
        ("t:x{?a,b}", "t:x?a=b=2&b=a=1", "a=b=2 b=a=1"),
    ] {
        assert_eq!(matched(text, uri), expected, "{text} {uri}");
    }
}

#[test]
fn other_uris_do_not_match() {
    for (text, uri) in [
        ("t:{a}", "t"),
        ("t:{a}", "u:x"),
        ("t:{a}", "T:x"),
        ("t:{a}", " t:x"),
        ("t:{a}", "t:x\n"),
        ("t:{a}", "t:x/y"),
        ("t:{a}", "t:x?y"),
        ("t:{a}", "t:é"),
        ("t:{a}", "t:%"),
        ("t:{a}", "t:%4"),
        ("t:{a}", "t:%zz"),
        ("t:{a}", "t:a b"),
        ("t:{a:3}", "t:abcd"),
        ("t:{a:1}", "t:%C3%A9%C3%A9"),
        ("t:a.c", "t:abc"),
        ("t:{+a}", "t:{a}"),
        ("t:x{?a,b}", "t:x?"),
        ("t:x{?a,b}", "t:x&a=1"),
        ("t:x{?a,b}", "t:x?a"),
        ("t:x{?a,b}", "t:x?b=2&a=1"),
        ("t:x{?a,b}", "t:x?a=1&a=2"),
        ("t:x{?a,b}", "t:x?a=1&c=2"),
        ("t:x{?a}", "t:x?A=1"),
        ("t:x{;a}", "t:x;a="),
    ] {
        assert_eq!(matched(text, uri), "-", "{text} {uri}");
    }
}

#[test]
fn literals_are_compared_as_written_and_percent_encoding_in_either_case() {
    assert_eq!(matched("t:é/%c3%a9cab/{a}", "t:%c3%A9/%C3%a9cab/1"), "a=1");
    assert_eq!(matched("t:%c3%a9cab", "t:%c3%a9CAB"), "-");
    assert_eq!(matched("t:a", "t:%61"), "-");
}

#[test]
fn values_are_decoded_and_contain_no_control_characters() {
    assert_eq!(matched("t:{a}/x", "t:..%2F..%2f/x"), "a=../../");
    assert_eq!(matched("t:{a}", "t:.."), "a=..");
    assert_eq!(matched("t:{+a}", "t:../..%2fetc"), "a=../../etc");
    assert_eq!(matched("t:{a}", "t:%2541"), "a=%41");
    for hostile in ["%00", "%0A", "%1f", "%7F", "%C2%80", "%FF", "%C3", "%A9", "%C0%AF", "%ED%A0%80"] {
        for text in ["t:{a}", "t:{a:9}", "t:{+a}", "t:{/a*}", "t:{?a}", "t:{;a}"] {
            let template = template(text);
            assert!(template.is_match(&template.expand(&[("a", "HERE")])), "{text}");
            let uri = template.expand(&[("a", "xHEREy")]).replace("HERE", hostile);
            assert_eq!(matched(text, &uri), "-", "{text} {uri}");
        }
    }
    // A character that is split between two values is rejected.
    assert_eq!(matched("t:{a}/{b}", "t:%C3/%A9"), "-");
}

#[test]
fn long_uris_and_many_variables_match_in_bounded_time() {
    let list =
        |separator: &str| (0..64).map(|number| format!("v{number}")).collect::<Vec<_>>().join(separator);
    let chain = format!("t:{{{}}}", list("}-{"));
    let slashes = format!("t:{{+{}}}", list("}/{+"));
    let query = format!("t:{{?{}}}", list(","));
    for text in [&*chain, &slashes, &query, "t:{a:300}-{b:300}", "t:{+a}{?b}{#c}"] {
        let template = template(text);
        for unit in ["-", "/", "?", "?v0=", "%41", "%C3", "a-/"] {
            for length in [1 << 20, URI_BYTES_MAX - 2] {
                let uri = format!("t:{}", unit.repeat(length / unit.len()));
                assert!(length < URI_BYTES_MAX || template.matches(&uri).is_none());
                assert_eq!(template.is_match(&uri), template.matches(&uri).is_some());
            }
        }
    }
    let values: Vec<_> = (0..64).map(|number| (format!("v{number}"), number.to_string())).collect();
    for text in [chain, slashes, query] {
        let template = template(&text);
        let uri = template.expand(&values);
        let matched = template.matches(&uri).unwrap();
        assert!(matched.iter().map(|(name, value)| (*name, value)).eq(values.iter().map(|(n, v)| (&**n, v))));
    }
}

#[test]
fn invalid_templates_are_rejected_with_a_reason() {
    let long = format!("t:{}", "a".repeat(TEMPLATE_BYTES_MAX));
    let many = format!("t:{}", (0..65).map(|number| format!("/{{v{number}}}")).collect::<String>());
    for (text, message) in [
        (&*long, "the template has 4098 bytes, more than 4096"),
        (&many, "the template has more than 64 variables"),
        ("t:{a:9999}", "the template compiles to more than 1048576 bytes"),
        ("", "the template does not begin with a scheme and a colon"),
        ("notes/{a}", "the template does not begin with a scheme and a colon"),
        ("{scheme}://x", "the template does not begin with a scheme and a colon"),
        ("1t:{a}", "the template does not begin with a scheme and a colon"),
        ("t:{a", "at byte 2: this brace is not closed"),
        ("t:a}", "at byte 3: this brace was not opened"),
        ("t:{a{b}}", "at byte 3: \"a{b\" is not a variable's name"),
        ("t:{}", "at byte 3: the expression names no variable"),
        ("t:{?}", "at byte 3: the expression names no variable"),
        ("t:{a,}", "at byte 5: \"\" is not a variable's name"),
        ("t:{?ab,c-d}", "at byte 7: \"c-d\" is not a variable's name"),
        ("t:{a..b}", "at byte 3: \"a..b\" is not a variable's name"),
        ("t:{%0A}", "at byte 3: \"%0A\" is not a variable's name"),
        ("t:{é}", "at byte 3: \"é\" is not a variable's name"),
        ("t:{*}", "at byte 3: \"\" is not a variable's name"),
        ("t:{a:3*}", "at byte 3: \"a:3\" is not a variable's name"),
        ("t:{=a}", "at byte 3: the operator '=' is reserved"),
        ("t:{,a}", "at byte 3: the operator ',' is reserved"),
        ("t:{!a}", "at byte 3: the operator '!' is reserved"),
        ("t:{@a}", "at byte 3: the operator '@' is reserved"),
        ("t:{|a}", "at byte 3: the operator '|' is reserved"),
        ("t:{a}/{?b,a}", "at byte 10: the variable \"a\" occurs twice"),
        ("t:{a:0}", "at byte 3: the length of a prefix must be a number from 1 to 9999"),
        ("t:{a:10000}", "at byte 3: the length of a prefix must be a number from 1 to 9999"),
        ("t:{a:+1}", "at byte 3: the length of a prefix must be a number from 1 to 9999"),
        ("t:{a:}", "at byte 3: the length of a prefix must be a number from 1 to 9999"),
        ("t:{?a*}", "at byte 4: a list of named parameters is not supported"),
        ("t:{a}{b}", "at byte 5: the end of the value of the preceding expression is undefined"),
        ("t:{?a}{+b}", "at byte 6: the end of the value of the preceding expression is undefined"),
        ("t:a b", "at byte 3: ' ' is not allowed in a URI"),
        ("t:a\n", "at byte 3: '\\n' is not allowed in a URI"),
        ("t:a\u{85}", "at byte 3: '\\u{85}' is not allowed in a URI"),
        ("t:<a>", "at byte 2: '<' is not allowed in a URI"),
        ("t:a%4", "at byte 3: the percent sign is not followed by two hexadecimal digits"),
        ("t:{a}%C3{/b}", "at byte 5: the percent-encoded bytes from here on are not text"),
        ("t:%00", "at byte 0: the percent-encoded bytes from here on are not text"),
    ] {
        let error = UriTemplate::parse(text).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(message), "{text}");
    }
}

#[test]
fn template_has_its_text_and_its_variables() {
    let template = template("t:{b}/{a:3}{?d,c}");
    assert_eq!(template.as_str(), "t:{b}/{a:3}{?d,c}");
    assert_eq!(template.variables().collect::<Vec<_>>(), ["b", "a", "d", "c"]);
}

proptest! {
    #[test]
    fn expansion_by_encode_uri_component_matches_and_decodes_to_the_original(
        values in prop::collection::vec("([^\\p{Cc}]|[!'()*@:$&+,;=/?#%\\[\\]]){1,20}", 3),
    ) {
        let names = ["a", "b", "c"];
        let values: Vec<_> = names.into_iter().zip(values).collect();
        let encoded: Vec<_> =
            values.iter().map(|(name, value)| (format!("<{name}>"), encode_uri_component(value))).collect();
        // Every operator, `<a>` standing for the value of `a`.
        for (text, uri) in [
            ("t://{a}/{b}/{c}", "t://<a>/<b>/<c>"),
            ("t:({a})/'{b}'/*{c}*", "t:(<a>)/'<b>'/*<c>*"),
            ("t:{a,b,c}", "t:<a>,<b>,<c>"),
            ("t:x{/a,b,c}", "t:x/<a>/<b>/<c>"),
            ("t:{a}:{b}@{c}", "t:<a>:<b>@<c>"),
            ("t:x?a={a}&b={b}{&c}", "t:x?a=<a>&b=<b>&c=<c>"),
            ("t:{a}{?b,c}", "t:<a>?b=<b>&c=<c>"),
            ("t:{a}{;b,c}", "t:<a>;b=<b>;c=<c>"),
            ("t:{+a}/{b}/{c:20}", "t:<a>/<b>/<c>"),
            ("t:{a}/{b}{#c}", "t:<a>/<b>#<c>"),
        ] {
            let uri = encoded.iter().fold(uri.to_owned(), |uri, (variable, value)| uri.replace(variable.as_str(), value));
            let template = template(text);
            prop_assert!(template.is_match(&uri), "{} {}", text, uri);
            prop_assert_eq!(template.matches(&uri), Some(values.clone()), "{} {}", text, uri);
        }
        // Values of labels contain unencoded dots, so only a single one is certain to match.
        let [(name, value), ..] = &values[..] else { return Ok(()) };
        let uri = format!("t:x.{}", encode_uri_component(value));
        let template = template("t:x{.a}");
        prop_assert_eq!(template.matches(&uri), Some(vec![(*name, value.clone())]));
    }

    #[test]
    fn any_text_matches_its_expansion(values in prop::collection::vec("[^\\p{Cc}]{0,20}", 8)) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let values: Vec<_> = names.into_iter().zip(values).collect();
        for text in ["t:{a}/{b,c}{/d}{;e}{?f,g}{#h}", "t:/{a,b}/x{/c,d}{?e,f}{&g,h}", "t:{;a,b,c}{?d,e,f,g,h}"] {
            // Percent signs in a fragment's value are not encoded.
            if text.contains('#') && values.iter().any(|(name, value)| *name == "h" && value.contains('%')) {
                continue;
            }
            let template = template(text);
            let uri = template.expand(&values);
            prop_assert!(template.is_match(&uri));
            prop_assert_eq!(template.matches(&uri), Some(values.clone()), "{}", uri);
        }
    }

    #[test]
    fn any_parameters_may_be_absent(values in prop::collection::vec(prop::option::of("[^\\p{Cc}]{0,9}"), 9)) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let values: Vec<_> = names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect();
        for text in ["t:x{?a,b,c,d,e,f,g,h,i}", "t:x{;a,b,c,d}{&e,f,g,h,i}"] {
            let template = template(text);
            prop_assert_eq!(template.matches(&template.expand(&values)), Some(values.clone()));
        }
    }

    #[test]
    fn matches_and_is_match_agree_for_any_template_and_uri(text in "t:[{}a-c+#./;?&:*,%3é]{0,20}", uri in "t:[a-c+#./;?&=,%4]{0,20}") {
        if let Ok(template) = UriTemplate::parse(&text) {
            let values = template.matches(&uri);
            prop_assert_eq!(template.is_match(&uri), values.is_some());
        }
    }
}
