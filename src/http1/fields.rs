//! The field lines of a request head.

/// The field lines of a head that has been parsed, in their order: name, and value without the whitespace around it
/// (<https://www.rfc-editor.org/rfc/rfc9112#section-5>).
pub fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let behind_request_line = lines.skip_while(|line| line.is_empty()).skip(1);
    behind_request_line.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, value.get(1..)?.trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Limits,
        http1::{Field, RequestHead},
    };

    #[test]
    fn fields_are_those_of_the_parser() {
        let head = b"\r\nPOST /mcp?a:b HTTP/1.1\r\nHost: a:1\r\nX-Empty:\r\nX-Tab:\t one, two \t\r\nX-Byte: \xff\r\nX-Colon: a:b\r\n\r\nX-Body: 1\r\n\r\n";
        let parsed = RequestHead::parse(head, &Limits::default()).unwrap().unwrap();
        let found: Vec<_> = fields(head).collect();
        assert_eq!(found.len(), 5);
        for (name, value) in found {
            let name = std::str::from_utf8(name).unwrap();
            assert_eq!(parsed.field(&head[..parsed.length], name), Field::Value(value), "{name}");
        }
    }
}
