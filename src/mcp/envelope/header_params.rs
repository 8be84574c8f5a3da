//! `Mcp-Param-*` headers, which repeat arguments of a tool
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#custom-headers-from-tool-parameters>).

use crate::mcp::{envelope::era::expect, error::RequestError};
use crate::{
    call::Headers,
    json::{Node, Number},
    registry::HeaderParam,
};

/// Checks an annotated argument that is present against its header. Absent arguments and unrelated headers are ignored. The
/// type of an argument is validated with the schema.
pub(crate) fn check(
    param: &HeaderParam,
    headers: Headers<'_>,
    arguments: Node<'_>,
) -> Result<(), RequestError> {
    let argument = param.path.iter().try_fold(arguments, |node, key| node.get(key));
    let Some(argument) = argument.filter(|argument| is_scalar(*argument)) else { return Ok(()) };
    let header = headers.head.field(headers.bytes, &param.header);
    expect(header, &param.header, |value| equals(argument, value))
}

fn is_scalar(argument: Node<'_>) -> bool {
    argument.as_str().is_some() || argument.as_number().is_some() || argument.as_bool().is_some()
}

fn equals(argument: Node<'_>, value: &[u8]) -> bool {
    if let Some(text) = argument.as_str() {
        return text.as_bytes() == value;
    }
    if let Some(boolean) = argument.as_bool() {
        return value == if boolean { b"true".as_slice() } else { b"false" };
    }
    let Some(value) = std::str::from_utf8(value).ok() else { return false };
    let Some(number) = argument.as_number() else { return false };
    // Numbers are compared by value (`42.0` equals `42`), exactly where both are written as integers.
    let whole = match number {
        Number::Signed(number) => Some(i128::from(number)),
        Number::Unsigned(number) => Some(i128::from(number)),
        Number::Float(_) => None,
    };
    match (whole, value.parse::<i128>(), value.parse::<f64>()) {
        (Some(number), Ok(value), _) => number == value,
        (_, _, Ok(value)) => number.to_f64() == value && value.abs() <= EXACT_MAX,
        _ => false,
    }
}

/// The largest integer below which a double represents every integer.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
