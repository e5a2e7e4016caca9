//! A body as lines, one at a time: whatever is sent, never more of it is held than one line may have.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines that end with `\n` or the end of the input.
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    line_bytes_max: usize,
    read: u64,
}

/// A line is longer than it may be; it was read to its end and dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Lines of `input`; those of more than `line_bytes_max` bytes are dropped.
    pub fn new(input: R, line_bytes_max: usize) -> Self {
        Self { input, line: Vec::new(), line_bytes_max, read: 0 }
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The next line without its `\n`; `None` after the last.
    pub async fn next(&mut self) -> io::Result<Option<Result<&[u8], TooLong>>> {
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
            self.read += taken as u64;
            self.input.consume(taken);
            if end.is_some() {
                break;
            }
        }
        Ok(match (has_any, is_long) {
            (false, _) => None,
            (true, true) => Some(Err(TooLong)),
            (true, false) => Some(Ok(&self.line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(text: &str, chunk: usize, lines: &[Option<&str>]) {
        let input = tokio::io::BufReader::with_capacity(chunk, text.as_bytes());
        let mut reader = Lines::new(input, 5);
        for line in lines {
            let read = reader.next().await.expect("memory can be read").expect("a line");
            assert_eq!(read.ok(), line.map(str::as_bytes), "{text:?} by {chunk}");
        }
        assert!(reader.next().await.expect("memory can be read").is_none(), "{text:?} by {chunk}");
        assert_eq!(reader.bytes_read(), text.len() as u64);
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_chunks_end() {
        for chunk in [1, 2, 3, 7, 100] {
            check("", chunk, &[]).await;
            check("\n", chunk, &[Some("")]).await;
            check("abc\n\n12345\r\nend", chunk, &[Some("abc"), Some(""), None, Some("end")]).await;
            check("123456\n12345\n", chunk, &[None, Some("12345")]).await;
            check("far too long for a line", chunk, &[None]).await;
        }
    }
}
