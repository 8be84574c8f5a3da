//! Incremental decoder of chunked bodies (RFC 9112, section 7.1).

/// Maximum length of a chunk's first line and of a trailer, in bytes.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Decoder state of a chunked body.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    line: Vec<u8>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
}

/// Error: the bytes are not a chunked body.
#[derive(Debug, PartialEq)]
pub(super) struct InvalidChunk;

impl Chunked {
    /// Consumes bytes from the front of `bytes` and passes data to `sink`. Returns `true` once the body is complete.
    pub(super) fn take(
        &mut self,
        bytes: &mut &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<bool, InvalidChunk> {
        while !bytes.is_empty() {
            if let State::Data(left) = &mut self.state {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let (data, rest) = bytes.split_at(length);
                sink(data);
                *bytes = rest;
                *left -= length as u64;
                if *left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            if !self.take_line(bytes)? {
                return Ok(false);
            }
            let line = std::mem::take(&mut self.line);
            match self.state {
                State::Size => {
                    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                    let digits = std::str::from_utf8(digits).map_err(|_| InvalidChunk)?.trim();
                    let size = u64::from_str_radix(digits, 16).map_err(|_| InvalidChunk)?;
                    self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                }
                State::DataEnd if line.is_empty() => self.state = State::Size,
                State::DataEnd => return Err(InvalidChunk),
                State::Trailer if line.is_empty() => return Ok(true),
                State::Trailer | State::Data(_) => {}
            }
        }
        Ok(false)
    }

    /// Moves bytes to `line`. Returns whether it is complete, in which case its line end is removed.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<bool, InvalidChunk> {
        let end = memchr::memchr(b'\n', bytes);
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        *bytes = rest;
        self.line.extend_from_slice(part);
        if self.line.len() > LINE_BYTES_MAX {
            return Err(InvalidChunk);
        }
        if end.is_some() {
            self.line.pop();
            self.line.pop_if(|byte| *byte == b'\r');
        }
        Ok(end.is_some())
    }
}
