//! Kombu's compression registry (kombu/compression.py): its names, its content types, its bytes; unpacking within bounds.
//!
//! "gzip" there is a zlib stream (RFC 1950). A worker acknowledges and drops what it cannot decompress, so what is written here is
//! what the oldest reader of each format takes: zlib at its default level, zstd frames that carry their content size.

use std::io::{self, BufRead, Read, Write};

use super::body::BodyLimits;

/// Below this, a decompressed body is never called a bomb for its ratio alone.
const RATIO_FLOOR_BYTES: usize = 1 << 20;
/// What an .xz stream may ask its decoder to hold: the dictionary of preset 9 is 64 MiB.
const XZ_MEMORY_BYTES: u64 = 80 << 20;
/// The largest window of a zstd frame that is followed: 2^27, level 22's.
const ZSTD_WINDOW_LOG: u32 = 27;
/// How much is decompressed between two looks at the bounds.
const PIECE_BYTES: usize = 64 << 10;

/// A codec of Kombu's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// `gzip`, `zlib`: every worker since 3.0 reads it.
    Zlib,
    /// `bzip2`, `bzip`: every worker since 3.0 reads it.
    Bzip2,
    /// `lzma`, `xz`: Python 3 and Kombu 4.6.
    Lzma,
    /// `brotli`: where the worker has the module.
    Brotli,
    /// `zstd`, `zstandard`: where the worker has the module.
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::Zlib, Self::Bzip2, Self::Lzma, Self::Brotli, Self::Zstd];

    /// By alias or content type, case and all, as `get_decoder` looks it up.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"application/x-gzip" | b"gzip" | b"zlib" => Self::Zlib,
            b"application/x-bz2" | b"bzip2" | b"bzip" => Self::Bzip2,
            b"application/x-lzma" | b"lzma" | b"xz" => Self::Lzma,
            b"application/x-brotli" | b"brotli" => Self::Brotli,
            b"application/zstd" | b"zstd" | b"zstandard" => Self::Zstd,
            _ => return None,
        })
    }

    /// What Kombu writes into the `compression` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
            Self::Lzma => "application/x-lzma",
            Self::Brotli => "application/x-brotli",
            Self::Zstd => "application/zstd",
        }
    }

    /// The name that we use for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }

    /// Whether bytes begin as this codec's do; `None` where its format has nothing to tell it by.
    #[must_use]
    pub fn begins(self, body: &[&[u8]]) -> Option<bool> {
        let mut start = [0; 6];
        let read = Pieces::new(body).read(&mut start).unwrap_or(0);
        let start = start.get(..read).unwrap_or_default();
        match self {
            Self::Zlib => Some(match start {
                // RFC 1950: method 8, a window of at most 2^15, and the two octets a multiple of 31.
                [cmf, flg, ..] => {
                    cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flg]).is_multiple_of(31)
                }
                _ => false,
            }),
            Self::Bzip2 => Some(start.starts_with(b"BZh")),
            Self::Lzma => Some(start.starts_with(b"\xfd7zXZ\0") || start.starts_with(&[0x5d, 0, 0])),
            Self::Zstd => Some(
                start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
                    || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]),
            ),
            Self::Brotli => None,
        }
    }
}

/// Why bytes could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionError {
    /// They are not what the codec writes, or stop short.
    Corrupt,
    /// They decompress to more than the bounds allow.
    TooLarge,
}

impl std::fmt::Display for CompressionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "body is not what its compression header says",
            Self::TooLarge => "body decompresses to more than the limits allow",
        })
    }
}

impl std::error::Error for CompressionError {}

/// How hard the codecs try. The others have one setting that Kombu uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// 0 to 11. Kombu's is 11, which takes seconds for a megabyte; the bytes are as readable at any.
    pub brotli_quality: u32,
    /// 1 to 22; Kombu's is 3.
    pub zstd_level: i32,
}

impl Default for Effort {
    fn default() -> Self {
        Self { brotli_quality: 11, zstd_level: 3 }
    }
}

/// Appends the body, compressed as Kombu would have. An error is the codec's own (none is known); `out` is then as it was.
pub fn compress(codec: Codec, effort: Effort, body: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let done = compress_into(codec, effort, body, out);
    if done.is_err() {
        out.truncate(start);
    }
    done
}

fn compress_into(codec: Codec, effort: Effort, body: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        Codec::Zlib => {
            // FLEVEL "default" (78 9c): py-amqp takes 78 01 and 78 da of tiny bodies for UTF-8 text at times.
            let mut encoder = flate2::write::ZlibEncoder::new(out, flate2::Compression::default());
            write_all(&mut encoder, body)?;
            encoder.finish()?;
        }
        Codec::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(out, bzip2::Compression::best());
            write_all(&mut encoder, body)?;
            encoder.finish()?;
        }
        Codec::Lzma => {
            let stream = liblzma::stream::Stream::new_easy_encoder(6, liblzma::stream::Check::Crc64)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(out, stream);
            write_all(&mut encoder, body)?;
            encoder.finish()?;
        }
        Codec::Brotli => {
            let quality = effort.brotli_quality.min(11);
            let mut encoder = brotli::CompressorWriter::new(out, 4096, quality, 22);
            write_all(&mut encoder, body)?;
            encoder.flush()?;
            // Ends the stream; there is nothing else to take from it.
            let _: &mut Vec<u8> = encoder.into_inner();
        }
        Codec::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, effort.zstd_level.clamp(1, 22))?;
            let total: usize = body.iter().map(|piece| piece.len()).sum();
            // Kombu up to 5.6.2 reads only frames that carry their content size.
            encoder.set_pledged_src_size(Some(crate::wire::num::u64_of(total)))?;
            encoder.include_contentsize(true)?;
            write_all(&mut encoder, body)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

fn write_all(to: &mut impl Write, body: &[&[u8]]) -> io::Result<()> {
    body.iter().try_for_each(|piece| to.write_all(piece))
}

/// Decompresses a body within [`BodyLimits::decompressed_bytes`] and [`BodyLimits::ratio`].
pub fn decompress(codec: Codec, body: &[&[u8]], limits: &BodyLimits) -> Result<Vec<u8>, CompressionError> {
    let packed: usize = body.iter().map(|piece| piece.len()).sum();
    let by_ratio = packed.saturating_mul(limits.ratio).max(RATIO_FLOOR_BYTES);
    let most = limits.decompressed_bytes.min(by_ratio);
    let input = Pieces::new(body);
    match codec {
        Codec::Zlib => drain(flate2::bufread::ZlibDecoder::new(input), most),
        Codec::Bzip2 => drain(bzip2::bufread::MultiBzDecoder::new(input), most),
        Codec::Lzma => {
            let stream = liblzma::stream::Stream::new_auto_decoder(XZ_MEMORY_BYTES, 0)
                .map_err(|_| CompressionError::Corrupt)?;
            drain(liblzma::bufread::XzDecoder::new_stream(input, stream), most)
        }
        Codec::Brotli => drain(brotli::Decompressor::new(input, 4096), most),
        Codec::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(input).map_err(|_| CompressionError::Corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| CompressionError::Corrupt)?;
            drain(decoder, most)
        }
    }
}

fn drain(mut decoder: impl Read, most: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return Ok(out),
            Ok(n) if n > most - out.len() => return Err(CompressionError::TooLarge),
            Ok(n) => out.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(CompressionError::Corrupt),
        }
    }
}

/// Whether a body that goes under a `compression` header is in truth plain: Celery 5.3.0 to 5.3.5 publish retries like that
/// (wire/CELERY.md §3). Only the first bytes are looked at, but for brotli, which has no mark: that is tried. What bears another
/// codec's mark, or real gzip's, is not plain: it is a mistake that is not ours to repair.
#[must_use]
pub fn is_plain(codec: Codec, body: &[&[u8]], limits: &BodyLimits) -> bool {
    let mut start = [0; 2];
    let _ = Pieces::new(body).read(&mut start);
    if start == [0x1f, 0x8b] || Codec::ALL.iter().any(|any| any.begins(body) == Some(true)) {
        return false;
    }
    codec != Codec::Brotli || decompress(codec, body, limits) == Err(CompressionError::Corrupt)
}

/// Reads slices one after the other.
struct Pieces<'a> {
    pieces: std::slice::Iter<'a, &'a [u8]>,
    current: &'a [u8],
}

impl<'a> Pieces<'a> {
    fn new(body: &'a [&'a [u8]]) -> Self {
        Self { pieces: body.iter(), current: &[] }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        while !out.is_empty() {
            if self.fill_buf()?.is_empty() {
                break;
            }
            let n = self.current.read(out)?;
            total += n;
            out = out.get_mut(n..).unwrap_or_default();
        }
        Ok(total)
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.current = piece,
                None => break,
            }
        }
        Ok(self.current)
    }

    fn consume(&mut self, amount: usize) {
        self.current = self.current.get(amount..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(codec: Codec, body: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, Effort { brotli_quality: 5, ..Effort::default() }, body, &mut out).unwrap();
        out
    }

    fn unpacked(codec: Codec, body: &[u8]) -> Result<Vec<u8>, CompressionError> {
        decompress(codec, &[body], &BodyLimits::default())
    }

    #[test]
    fn every_codec_reads_what_it_wrote_in_whatever_pieces() {
        let body = b"[[1, 2], {}, {\"callbacks\": null}]".repeat(50);
        for codec in Codec::ALL {
            let bytes = packed(codec, &[&body[..7], &[], &body[7..]]);
            assert!(bytes.len() < body.len());
            let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
            assert_eq!(decompress(codec, &pieces, &BodyLimits::default()).as_ref(), Ok(&body), "{codec:?}");
            assert!(!is_plain(codec, &pieces, &BodyLimits::default()), "{codec:?}");
            assert!(is_plain(codec, &[&body], &BodyLimits::default()), "{codec:?}");
        }
    }

    #[test]
    fn the_bytes_are_the_ones_that_old_workers_read() {
        let body = b"x".repeat(1000);
        assert!(packed(Codec::Zlib, &[&body]).starts_with(&[0x78, 0x9c]));
        assert!(packed(Codec::Bzip2, &[&body]).starts_with(b"BZh9"));
        let xz = packed(Codec::Lzma, &[&body]);
        // Stream flags: two octets, the second names the check; 4 is CRC64.
        assert_eq!(&xz[..8], b"\xfd7zXZ\0\0\x04");
        let zstd = packed(Codec::Zstd, &[&body]);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&zstd).ok(), Some(Some(1000)));
    }

    #[test]
    fn a_body_cut_at_every_byte_is_corrupt() {
        for codec in Codec::ALL {
            let bytes = packed(codec, &[&b"cut me anywhere ".repeat(9)]);
            for cut in 0..bytes.len() {
                assert_eq!(
                    unpacked(codec, &bytes[..cut]),
                    Err(CompressionError::Corrupt),
                    "{codec:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_ratio_and_by_size() {
        let body = vec![0; 8 << 20];
        for codec in Codec::ALL {
            let bytes = packed(codec, &[&body]);
            assert_eq!(unpacked(codec, &bytes), Err(CompressionError::TooLarge), "{codec:?}");
            let small =
                BodyLimits { decompressed_bytes: (8 << 20) - 1, ratio: usize::MAX, ..BodyLimits::default() };
            assert_eq!(decompress(codec, &[&bytes], &small), Err(CompressionError::TooLarge), "{codec:?}");
            let enough =
                BodyLimits { decompressed_bytes: 8 << 20, ratio: usize::MAX, ..BodyLimits::default() };
            assert_eq!(decompress(codec, &[&bytes], &enough).map(|out| out.len()), Ok(8 << 20), "{codec:?}");
        }
    }

    #[test]
    fn names_are_looked_up_case_and_all() {
        for codec in Codec::ALL {
            assert_eq!(Codec::named(codec.content_type().as_bytes()), Some(codec));
            assert_eq!(Codec::named(codec.name().as_bytes()), Some(codec));
        }
        assert_eq!(Codec::named(b"gzip"), Some(Codec::Zlib));
        assert_eq!(Codec::named(b"GZIP"), None);
        assert_eq!(Codec::named(b""), None);
    }

    #[test]
    fn real_gzip_is_not_what_kombu_calls_gzip() {
        let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(unpacked(Codec::Zlib, &gzip), Err(CompressionError::Corrupt));
        assert!(!is_plain(Codec::Zlib, &[&gzip], &BodyLimits::default()));
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0_usize..5) {
            let codec = Codec::ALL[which];
            let _ = unpacked(codec, &bytes);
            let mut marked = packed(codec, &[b"seed seed seed"]);
            marked.extend_from_slice(&bytes);
            let _ = unpacked(codec, &marked);
        }
    }
}
