//! How the bytes of a stream are packed: what a request says of its body, and what an answer's reader can unpack.
//! It never unpacks into memory: whoever reads decides how much.

use async_compression::Level;
use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::io::{AsyncBufRead, BufReader};
use tokio_util::io::ReaderStream;

use crate::from_wire;
use crate::status::ApiError;

/// Bytes that are unpacked or packed at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Largest window of zstd, as a power of two: what its highest ordinary level makes, and the memory that unpacking takes.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// A way to pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not packed.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// What a request's body is packed with.
    pub fn of_body(headers: &HeaderMap) -> Result<Self, ApiError> {
        match from_wire::header(headers, CONTENT_ENCODING.as_str())?.map(str::trim) {
            None | Some("" | "identity") => Ok(Self::Identity),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(other) => {
                let text =
                    format!("Content-Encoding '{other}' is not known; expected gzip, zstd or identity");
                Err(ApiError::bad(415_000, "GenericUnsupportedMediaType", text))
            }
        }
    }

    /// The best that an answer may be packed with.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let words: Vec<String> =
            texts.flat_map(|text| text.split(',')).map(|word| word.replace(' ', "").to_lowercase()).collect();
        let takes = |name: &str| {
            words.iter().any(|word| {
                let (coding, weight) = word.split_once(";q=").unwrap_or((word, "1"));
                coding == name && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
            })
        };
        [Self::Zstd, Self::Gzip].into_iter().find(|coding| takes(coding.name())).unwrap_or(Self::Identity)
    }

    /// As headers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Unpacks what is read from `input`.
    pub fn unpack(
        self,
        input: impl AsyncBufRead + Send + Unpin + 'static,
    ) -> Box<dyn AsyncBufRead + Send + Unpin> {
        match self {
            Self::Identity => Box::new(input),
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(input);
                decoder.multiple_members(true);
                Box::new(BufReader::with_capacity(CHUNK_BYTES, decoder))
            }
            Self::Zstd => {
                let limit = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut decoder = ZstdDecoder::with_params(input, &[limit]);
                decoder.multiple_members(true);
                Box::new(BufReader::with_capacity(CHUNK_BYTES, decoder))
            }
        }
    }

    /// A body that packs what is read from `input`.
    pub fn pack(self, input: impl AsyncBufRead + Send + Unpin + 'static) -> Body {
        match self {
            Self::Identity => Body::from_stream(ReaderStream::with_capacity(input, CHUNK_BYTES)),
            Self::Gzip => {
                let encoder = GzipEncoder::with_quality(input, Level::Fastest);
                Body::from_stream(ReaderStream::with_capacity(encoder, CHUNK_BYTES))
            }
            Self::Zstd => {
                let encoder = ZstdEncoder::new(input);
                Body::from_stream(ReaderStream::with_capacity(encoder, CHUNK_BYTES))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_packed_as_the_reader_can_take_it() {
        for (text, coding) in [
            ("", Coding::Identity),
            ("gzip, deflate", Coding::Gzip),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip;q=0.5, zstd;q=0", Coding::Gzip),
            ("GZIP ; q=1.0", Coding::Gzip),
            ("*", Coding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, text.parse().expect("a header"));
            assert_eq!(Coding::accepted(&headers), coding, "{text}");
        }
    }
}
