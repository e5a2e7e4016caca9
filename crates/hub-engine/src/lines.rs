//! A stream as lines of JSON objects, one at a time: whatever is sent, never more of it is held than one line may have.
//! It must not look into an object.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines that end with `\n` or the end of the input.
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    line_bytes_max: usize,
    bytes_read: u64,
    count: u64,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'l> {
    /// It begins with `{`; without blanks around.
    Text(&'l [u8]),
    /// It is blank or begins otherwise: no object, passed over (S 3).
    Skipped,
    /// It is longer than it may be; it was read to its end and dropped.
    TooLong,
    /// There are no more.
    End,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of `input`; those of more than `line_bytes_max` bytes are dropped.
    pub fn new(input: R, line_bytes_max: usize) -> Self {
        Self { input, line: Vec::new(), line_bytes_max, bytes_read: 0, count: 0 }
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Lines read so far: the number of the last one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The next line.
    pub async fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        let (mut is_long, mut has_any) = (false, false);
        loop {
            let chunk = self.input.fill_buf().await?;
            if chunk.is_empty() {
                break;
            }
            has_any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            is_long |= self.line.len() + part.len() > self.line_bytes_max;
            if !is_long {
                self.line.extend_from_slice(part);
            }
            let taken = end.map_or(chunk.len(), |end| end + 1);
            self.bytes_read += taken as u64;
            self.input.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if !has_any {
            return Ok(Line::End);
        }
        self.count += 1;
        if is_long {
            return Ok(Line::TooLong);
        }
        let text = self.line.as_slice();
        // Editors put a mark of UTF-8 before the first line.
        let text =
            text.strip_prefix("\u{feff}".as_bytes()).filter(|_| self.count == 1).unwrap_or(text).trim_ascii();
        Ok(if text.first() == Some(&b'{') { Line::Text(text) } else { Line::Skipped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<&str> = None;

    /// `""` stands for a line that is skipped.
    async fn check(text: &str, chunk: usize, lines: &[Option<&str>]) {
        let input = tokio::io::BufReader::with_capacity(chunk, text.as_bytes());
        let mut reader = Lines::new(input, 6);
        for line in lines {
            let expected = match line {
                None => Line::TooLong,
                Some("") => Line::Skipped,
                Some(text) => Line::Text(text.as_bytes()),
            };
            assert_eq!(reader.next().await.expect("memory can be read"), expected, "{text:?} by {chunk}");
        }
        assert_eq!(reader.next().await.expect("memory can be read"), Line::End, "{text:?} by {chunk}");
        assert_eq!(reader.count(), lines.len() as u64);
        assert_eq!(reader.bytes_read(), text.len() as u64);
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_chunks_end() {
        for chunk in [1, 2, 3, 7, 100] {
            check("", chunk, &[]).await;
            check("\n", chunk, &[Some("")]).await;
            check(
                "{bc}\n\n{2345\r\n # \n{end",
                chunk,
                &[Some("{bc}"), Some(""), Some("{2345"), Some(""), Some("{end")],
            )
            .await;
            check("{234567\n{2345}\n", chunk, &[LONG, Some("{2345}")]).await;
            check("{far too long for a line", chunk, &[LONG]).await;
            check("\u{feff}{a}\n\u{feff}{b}", chunk, &[Some("{a}"), Some("")]).await;
        }
    }
}
