//! Validation of allowed hosts and origins: rejects entries that no request could match.

use std::num::NonZeroU16;

use fluent_uri::{
    Uri, UriRef,
    component::{Authority, Host},
};

/// Checks an entry of the form `name` or `name:port`, where the name may be an IP address.
pub(crate) fn check_host(entry: &str) -> Result<(), String> {
    if entry.contains("://") {
        return Err(format!("{entry:?} has a scheme; write it as name or name:port"));
    }
    let reference = format!("//{entry}");
    UriRef::parse(reference.as_str())
        .ok()
        .filter(|uri| uri.path().is_empty() && !uri.has_query() && !uri.has_fragment())
        .and_then(|uri| uri.authority().filter(|authority| is_host_and_port(*authority)))
        .map(|_| ())
        .ok_or_else(|| format!("{entry:?} is not a host; write it as name or name:port"))
}

/// Checks an entry of the form `scheme://host[:port]`, as browsers send it.
pub(crate) fn check_origin(entry: &str) -> Result<(), String> {
    if entry == "null" {
        return Err("\"null\" is refused, for any page can have this origin; name the page's own".to_owned());
    }
    let wrong = || format!("{entry:?} is not an origin; write it as scheme://host or scheme://host:port");
    let uri = Uri::parse(entry).map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| is_host_and_port(*authority)).ok_or_else(wrong)?;
    if !uri.path().is_empty() || uri.has_query() || uri.has_fragment() {
        return Err(format!("{entry:?} has a path; write it as scheme://host or scheme://host:port"));
    }
    if uri.scheme().default_port().is_some_and(|port| authority.port_to_u16() == Ok(Some(port))) {
        return Err(format!("{entry:?} names the port a browser leaves out; write it without"));
    }
    Ok(())
}

fn is_host_and_port(authority: Authority<'_>) -> bool {
    // The URI grammar allows names that no client sends.
    let is_name = match authority.host_parsed() {
        Host::RegName(name) => {
            let name = name.as_str();
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
        Host::Ipv4 { .. } | Host::Ipv6 { .. } => true,
        _ => false,
    };
    let is_port = authority.port().is_none_or(|port| port.as_str().parse::<NonZeroU16>().is_ok());
    is_name && is_port && !authority.has_userinfo()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_or_without_a_port() {
        for entry in ["mcp.example.com", "build_box:8080", "192.0.2.1", "[2001:db8::1]:443", "a"] {
            assert_eq!(check_host(entry), Ok(()), "{entry}");
        }
        for entry in [
            "",
            ":80",
            "http://a",
            "a/b",
            "a?b",
            "a#b",
            "a b",
            "*.example.com",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "user@a",
            "::1",
            "[::1",
            "[v7.x]",
            "ü",
            "%41",
        ] {
            let message = check_host(entry).unwrap_err();
            assert!(
                message.contains(&format!("{entry:?}")) && message.contains("name:port"),
                "{entry}: {message}"
            );
        }
    }

    #[test]
    fn origins_have_the_form_that_browsers_send() {
        for entry in [
            "https://app.example.com",
            "http://app.example.com:8443",
            "https://[2001:db8::1]",
            "vscode-webview://0a1b",
        ] {
            assert_eq!(check_origin(entry), Ok(()), "{entry}");
        }
        for (entry, reason) in [
            ("null", "any page"),
            ("app.example.com", "not an origin"),
            ("app.example.com:80", "not an origin"),
            ("https://", "not an origin"),
            ("https://*.example.com", "not an origin"),
            ("https://user@app.example.com", "not an origin"),
            ("https://app.example.com:0", "not an origin"),
            ("https://app.example.com/", "path"),
            ("https://app.example.com?x", "path"),
            ("https://app.example.com:443", "without"),
            ("http://app.example.com:80", "without"),
        ] {
            let message = check_origin(entry).unwrap_err();
            assert!(message.contains(reason), "{entry}: {message}");
        }
    }
}
