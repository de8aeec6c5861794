//! A driver's log as Kubernetes returns it: output and errors in one stream, with marks that distinguish them and mark their ends. Pure.

use crate::render::driver::{END_OF_ERRORS, END_OF_OUTPUT, ERROR_MARK};

/// The stream of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    Output,
    Errors,
}

/// A driver's line without its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmarked<'a> {
    pub stream: OutputStream,
    /// Empty if the line was only a mark.
    pub text: &'a [u8],
    /// It is the last line of its stream.
    pub is_last: bool,
}

/// Removes the marks from a line, which may have its newline. A job's last line may lack one: then the end mark follows it.
pub fn unmarked(line: &[u8]) -> Unmarked<'_> {
    let whole = line.strip_suffix(b"\n").unwrap_or(line);
    let (text, is_last) = match whole.strip_suffix(END_OF_ERRORS).or(whole.strip_suffix(END_OF_OUTPUT)) {
        Some(text) => (text, true),
        None => (line, false),
    };
    let of_errors = whole.ends_with(END_OF_ERRORS) || whole.first() == Some(&ERROR_MARK);
    Unmarked {
        stream: match of_errors {
            true => OutputStream::Errors,
            false => OutputStream::Output,
        },
        text: text.strip_prefix(&[ERROR_MARK]).unwrap_or(text),
        is_last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_the_end_are_marked() {
        let is = |line, stream, text, is_last| assert_eq!(unmarked(line), Unmarked { stream, text, is_last });
        is(b"\x1ewarn\n", OutputStream::Errors, &b"warn\n"[..], false);
        is(b"out", OutputStream::Output, &b"out"[..], false);
        is(b"\x1d\x04\n", OutputStream::Output, &b""[..], true);
        is(b"\x1d\x1e\x04\n", OutputStream::Errors, &b""[..], true);
        is(b"no newline\x1d\x04\n", OutputStream::Output, &b"no newline"[..], true);
        is(
            b"\x1eno newline\x1d\x1e\x04\n",
            OutputStream::Errors,
            &b"no newline"[..],
            true,
        );
    }
}
