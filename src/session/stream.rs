//! The out-stream of a link: chunks of bytes, each kept until it is written *and* every publish in it is confirmed.
//!
//! One copy of a publish serves both the socket and a later resend. Chunks die in any order; the memory they hold is counted whole,
//! so that a bound on it is honest even when one old publish keeps a chunk alive.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes a chunk takes when nothing larger is asked for.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Recycled chunks kept at most.
const SPARE_MAX: usize = 64;

/// Where a piece of the stream is: which chunk since the stream began, and where in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spot {
    chunk: u64,
    start: u32,
    len: u32,
}

impl Spot {
    /// Whether both lie in one chunk.
    #[must_use]
    pub const fn is_beside(self, other: Self) -> bool {
        self.chunk == other.chunk
    }

    /// Its first so many octets, and the rest.
    #[must_use]
    pub fn split(self, len: u32) -> (Self, Self) {
        let len = len.min(self.len);
        (Self { len, ..self }, Self { start: self.start + len, len: self.len - len, ..self })
    }

    /// Octets of the piece.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Whether it is empty, which a publish never is.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Unconfirmed pieces inside.
    live: u32,
}

/// Chunks that have done their duty, shared by all streams of a thread.
#[derive(Debug, Default)]
pub struct Spares(Vec<Vec<u8>>);

impl Spares {
    fn chunk(&mut self, bytes_min: usize) -> Vec<u8> {
        if bytes_min <= CHUNK_BYTES {
            if let Some(spare) = self.0.pop() {
                return spare;
            }
            return Vec::with_capacity(CHUNK_BYTES);
        }
        Vec::with_capacity(bytes_min)
    }

    fn give_back(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() == CHUNK_BYTES && self.0.len() < SPARE_MAX {
            bytes.clear();
            self.0.push(bytes);
        }
    }

    /// Lets memory go that a burst needed; called when the thread has been quiet.
    pub fn shrink(&mut self) {
        self.0.truncate(4);
        self.0.shrink_to_fit();
    }
}

/// What is to be written to an upstream, and what must be kept of it.
#[derive(Debug, Default)]
pub struct OutStream {
    chunks: VecDeque<Chunk>,
    /// Number of the chunk at the front.
    front: u64,
    /// The chunk being written to the socket, and how much of it is gone.
    write_chunk: u64,
    write_at: usize,
    unwritten: usize,
    held: usize,
}

impl OutStream {
    /// Octets that have not been handed to the socket.
    #[must_use]
    pub const fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// Octets of memory that chunks hold, confirmed parts of living chunks included.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    fn back_number(&self) -> u64 {
        self.front + crate::wire::num::u64_of(self.chunks.len().saturating_sub(1))
    }

    /// A chunk at the end of the stream with room for `bytes`. Whatever the caller appends is part of the stream once `appended`
    /// is called.
    fn tail(&mut self, spares: &mut Spares, bytes: usize) -> &mut Chunk {
        let fits = self
            .chunks
            .back()
            .is_some_and(|c| c.bytes.capacity() - c.bytes.len() >= bytes && c.bytes.capacity() > 0);
        if !fits {
            let chunk = Chunk { bytes: spares.chunk(bytes), live: 0 };
            self.held += chunk.bytes.capacity();
            self.chunks.push_back(chunk);
        }
        let last = self.chunks.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "a chunk was pushed above if there was none")]
        &mut self.chunks[last]
    }

    /// How much fits beside a first piece of so many octets, it included.
    pub fn room(&mut self, spares: &mut Spares, bytes: usize) -> usize {
        let tail = self.tail(spares, bytes);
        tail.bytes.capacity() - tail.bytes.len()
    }

    /// Appends bytes that nobody needs again: control methods, heartbeats.
    pub fn push(&mut self, spares: &mut Spares, bytes: &[u8]) {
        self.tail(spares, bytes.len()).bytes.extend_from_slice(bytes);
        self.unwritten += bytes.len();
    }

    /// Appends what `write` writes (`bytes` at most, which is reserved) and keeps it until `release`.
    pub fn keep(&mut self, spares: &mut Spares, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Spot {
        self.keep_run(spares, bytes, 1, write)
    }

    /// The same for so many pieces, each of which is released.
    pub fn keep_run(
        &mut self,
        spares: &mut Spares,
        bytes: usize,
        pieces: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Spot {
        let tail = self.tail(spares, bytes);
        tail.live += pieces;
        let start = tail.bytes.len();
        write(&mut tail.bytes);
        let len = tail.bytes.len() - start;
        self.unwritten += len;
        let chunk = self.back_number();
        Spot { chunk, start: crate::wire::num::u32_clamped(start), len: crate::wire::num::u32_clamped(len) }
    }

    /// The bytes kept at `spot`; empty if it was released.
    #[must_use]
    pub fn bytes_at(&self, spot: Spot) -> &[u8] {
        let start = crate::wire::num::usize_of(spot.start);
        let end = start + crate::wire::num::usize_of(spot.len);
        self.chunk_index(spot.chunk)
            .and_then(|i| self.chunks.get(i))
            .and_then(|c| c.bytes.get(start..end))
            .unwrap_or(&[])
    }

    /// Whether the socket has taken all of the piece at `spot`.
    #[must_use]
    pub fn is_written(&self, spot: Spot) -> bool {
        let end = crate::wire::num::usize_of(spot.start) + crate::wire::num::usize_of(spot.len);
        spot.chunk < self.write_chunk || (spot.chunk == self.write_chunk && end <= self.write_at)
    }

    fn chunk_index(&self, chunk: u64) -> Option<usize> {
        chunk.checked_sub(self.front).map(crate::wire::num::usize_clamped)
    }

    /// The piece at `spot` is confirmed: its chunk may go once nothing else needs it.
    pub fn release(&mut self, spares: &mut Spares, spot: Spot) {
        self.release_run(spares, spot, 1);
    }

    /// So many pieces of the chunk that `spot` lies in are confirmed.
    pub fn release_run(&mut self, spares: &mut Spares, spot: Spot, pieces: u32) {
        let Some(chunk) = self.chunk_index(spot.chunk).and_then(|i| self.chunks.get_mut(i)) else { return };
        chunk.live = chunk.live.saturating_sub(pieces);
        if chunk.live == 0 && spot.chunk < self.write_chunk {
            self.free(spares, spot.chunk);
        }
    }

    fn free(&mut self, spares: &mut Spares, number: u64) {
        if let Some(chunk) = self.chunk_index(number).and_then(|i| self.chunks.get_mut(i)) {
            let bytes = std::mem::take(&mut chunk.bytes);
            self.held -= bytes.capacity();
            spares.give_back(bytes);
        }
        while self.front < self.write_chunk && self.chunks.front().is_some_and(|c| c.bytes.capacity() == 0) {
            self.chunks.pop_front();
            self.front += 1;
        }
    }

    /// What to write next, into `slices`; how many of them are filled.
    pub fn writable<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let first = self.chunk_index(self.write_chunk).unwrap_or(0);
        let mut filled = 0;
        let mut at = self.write_at;
        for chunk in self.chunks.range(first.min(self.chunks.len())..) {
            let Some(slot) = slices.get_mut(filled) else { break };
            let rest = chunk.bytes.get(at..).unwrap_or(&[]);
            at = 0;
            if !rest.is_empty() {
                *slot = IoSlice::new(rest);
                filled += 1;
            }
        }
        filled
    }

    /// `bytes` of what `writable` showed are in the socket.
    pub fn written(&mut self, spares: &mut Spares, bytes: usize) {
        let mut left = bytes.min(self.unwritten);
        self.unwritten -= left;
        loop {
            let Some(chunk) = self.chunk_index(self.write_chunk).and_then(|i| self.chunks.get(i)) else {
                return;
            };
            let rest = chunk.bytes.len() - self.write_at;
            if left < rest {
                self.write_at += left;
                return;
            }
            left -= rest;
            let (live, is_last) = (chunk.live, self.write_chunk == self.back_number());
            if is_last {
                self.write_at = chunk.bytes.len();
                // A chunk with nothing to keep starts again at its beginning: an idle link holds one chunk at most.
                if live == 0 {
                    self.write_chunk += 1;
                    self.write_at = 0;
                    self.free(spares, self.write_chunk - 1);
                }
                return;
            }
            self.write_chunk += 1;
            self.write_at = 0;
            if live == 0 {
                self.free(spares, self.write_chunk - 1);
            }
        }
    }

    /// Forgets everything; the link is dead and what was kept has been copied out.
    pub fn clear(&mut self, spares: &mut Spares) {
        for chunk in self.chunks.drain(..) {
            spares.give_back(chunk.bytes);
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(s: &mut OutStream, spares: &mut Spares, at_most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let n = s.writable(&mut slices);
        let mut all: Vec<u8> = slices[..n].iter().flat_map(|s| s.to_vec()).collect();
        all.truncate(at_most);
        s.written(spares, all.len());
        all
    }

    #[test]
    fn what_is_kept_survives_the_write_and_goes_with_its_release() {
        let (mut s, mut spares) = (OutStream::default(), Spares::default());
        s.push(&mut spares, b"open");
        let spot = s.keep(&mut spares, 7, |b| b.extend_from_slice(b"publish"));
        assert_eq!(drain(&mut s, &mut spares, 10), b"openpublis");
        assert!(!s.is_written(spot));
        assert_eq!(drain(&mut s, &mut spares, 100), b"h");
        assert!(s.is_written(spot));
        assert_eq!(s.bytes_at(spot), b"publish");
        assert_eq!(s.unwritten(), 0);
        assert!(s.held() > 0);
        s.release(&mut spares, spot);
        s.push(&mut spares, b"more");
        assert_eq!(drain(&mut s, &mut spares, 100), b"more");
        assert_eq!(s.held(), 0);
    }

    #[test]
    fn a_piece_larger_than_a_chunk_has_one_of_its_own_and_short_writes_lose_nothing() {
        let (mut s, mut spares) = (OutStream::default(), Spares::default());
        let big = vec![7; CHUNK_BYTES * 2];
        let a = s.keep(&mut spares, 1, |b| b.push(1));
        let b = s.keep(&mut spares, big.len(), |o| o.extend_from_slice(&big));
        let c = s.keep(&mut spares, 1, |o| o.push(9));
        let mut seen = Vec::new();
        while s.unwritten() > 0 {
            seen.extend(drain(&mut s, &mut spares, 1000));
        }
        assert_eq!(seen.len(), big.len() + 2);
        assert_eq!(s.bytes_at(b), big);
        s.release(&mut spares, b);
        assert!(s.bytes_at(b).is_empty());
        assert_eq!(s.bytes_at(a), [1]);
        assert_eq!(s.bytes_at(c), [9]);
        s.release(&mut spares, c);
        s.release(&mut spares, a);
        s.push(&mut spares, b"x");
        drain(&mut s, &mut spares, 100);
        assert_eq!(s.held(), 0);
    }

    #[test]
    fn a_stream_that_is_never_fully_written_keeps_no_written_and_confirmed_chunks() {
        let (mut s, mut spares) = (OutStream::default(), Spares::default());
        let mut spots = VecDeque::new();
        for _ in 0..2000 {
            spots.push_back(s.keep(&mut spares, 1000, |b| b.extend_from_slice(&[1; 1000])));
            drain(&mut s, &mut spares, 999);
            if spots.len() > 100 {
                let spot = spots.pop_front().unwrap();
                s.release(&mut spares, spot);
            }
            assert!(s.held() <= CHUNK_BYTES * 6, "held {}", s.held());
        }
    }
}
