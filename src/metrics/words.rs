//! The closed vocabularies of labels: what a label may say where it does not come from traffic or from the config.

use std::marker::PhantomData;

/// A label whose values are known when the program is built.
pub trait Word: Copy + 'static {
    /// The label's name.
    const LABEL: &'static str;
    /// Every word, in the order of [`Word::index`].
    const ALL: &'static [Self];
    /// The label's value.
    fn word(self) -> &'static str;
    /// Its place in [`Word::ALL`].
    fn index(self) -> usize;
}

/// One metric a word, resolved when built: a look-up is an index.
#[derive(Debug, Clone)]
pub struct ByWord<W, M> {
    metrics: Box<[M]>,
    words: PhantomData<W>,
}

impl<W: Word, M> ByWord<W, M> {
    pub(super) fn new(make: impl FnMut(W) -> M) -> Self {
        Self { metrics: W::ALL.iter().copied().map(make).collect(), words: PhantomData }
    }

    /// The word's metric.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "built from W::ALL, and index() is a place in it")]
    pub fn of(&self, word: W) -> &M {
        &self.metrics[word.index()]
    }

    /// All of them, to sum up.
    pub fn all(&self) -> impl Iterator<Item = (W, &M)> {
        W::ALL.iter().copied().zip(&self.metrics)
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident($label:literal) { $($variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant,)+ }

        impl Word for $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            #[expect(clippy::as_conversions, reason = "a fieldless enum's discriminant is its place")]
            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}

words! {
    /// What became of a task at the moment of judgement.
    TaskVerdict("verdict") {
        Forward = "forward", Edit = "edit", Expire = "expire", Refuse = "refuse", DeadLetter = "dead_letter",
    }
    /// Whether a rule that matched acts or only counts (P8).
    Mode("mode") { Enforce = "enforce", Observe = "observe", }
    /// What became of a task that had expired (P4).
    ExpiryAction("action") {
        Revoke = "revoke", DeadLetter = "dead_letter", Return = "return", Nack = "nack", Pass = "pass",
    }
    /// Kombu's compression registry (P5).
    Codec("codec") {
        Zlib = "zlib", Bzip2 = "bzip2", Lzma = "lzma", Brotli = "brotli", Zstd = "zstd",
    }
    /// A message that is not a task (T4).
    NonTask("kind") { Result = "result", Event = "event", Control = "control", Other = "other", }
    /// Why a body could not be read as its headers say; it was forwarded untouched (P7).
    Unreadable("reason") {
        Syntax = "syntax", Compression = "compression", TooLarge = "too_large", TooDeep = "too_deep",
        UnknownType = "unknown_type",
    }
    /// A rule's own mistake; the task went where it was going (P9).
    Mistake("mistake") {
        MissingTarget = "missing_target", UnknownUpstream = "unknown_upstream", PatchDoesNotFit = "patch_does_not_fit",
        Codec = "codec",
    }
    /// Why a message was put into a dead-letter place.
    DeadLetter("reason") {
        Expired = "expired", Refused = "refused", Unroutable = "unroutable",
    }
    /// Why a publish was refused so that its producer can know it (D4, P6).
    Refusal("reason") {
        WindowFull = "window_full", SpoolFull = "spool_full", SpoolFailed = "spool_failed", Policy = "policy",
        UpstreamNack = "upstream_nack", UpstreamError = "upstream_error", RetriesExhausted = "retries_exhausted",
        Illegal = "illegal", ClientGone = "client_gone",
    }
    /// Why the broker returned a message (basic.return's codes).
    Returned("reason") { NoRoute = "no_route", NoConsumers = "no_consumers", Other = "other", }
    /// Who said basic.nack to a producer.
    NackOrigin("origin") { Upstream = "upstream", Umbel = "umbel", }
    /// What a link is doing.
    LinkState("state") {
        Dialing = "dialing", Login = "login", Open = "open", Blocked = "blocked", Draining = "draining",
    }
    /// How a link ended: never reached, hung up on, lost, or closed by a word of either side (the log has the word).
    LinkDeath("reason") { DialFailed = "dial_failed", Eof = "eof", Reset = "reset", Closed = "closed", }
    /// Whether an upstream channel is lent out or waits in the pool.
    LeaseState("state") { Lent = "lent", Free = "free", }
    /// What a session is doing.
    SessionState("state") { Handshake = "handshake", Pooled = "pooled", Pinned = "pinned", Closing = "closing", }
    /// How a session ended: by its end of file without a close, by a lost connection, by a close of either side, by a panic of ours.
    SessionEnd("reason") { Eof = "eof", Reset = "reset", Closed = "closed", Panic = "panic", }
    /// How a login ended (L4).
    Login("result") {
        Accepted = "accepted", WrongPassword = "wrong_password", UnknownVhost = "unknown_vhost",
        GuestRefused = "guest_refused", Malformed = "malformed", UpstreamDown = "upstream_down",
    }
    /// Whether a login was answered from what was seen working before (L1, L4).
    CacheAnswer("result") { Hit = "hit", Miss = "miss", Stale = "stale", }
    /// How far an AMQP error of ours to a client reaches (T5).
    Scope("scope") { Channel = "channel", Connection = "connection", }
    /// How a reload ended (C2).
    Reload("result") { Applied = "applied", Unchanged = "unchanged", Invalid = "invalid", }
    /// How a record left the spool.
    SpoolExit("outcome") {
        Forwarded = "forwarded", Moved = "moved", Expired = "expired", Refused = "refused", Purged = "purged", Quarantined = "quarantined",
    }
    /// What of the spool failed.
    SpoolFault("fault") { Append = "append", Sync = "sync", Read = "read", Remove = "remove", Full = "full", }
    /// A bound that was reached (S1); the names are those of `[limits]`.
    Limit("limit") {
        FrameSize = "frame_size", MessageSize = "message_size", Channels = "channels", Connections = "connections",
        ConnectionsPerHost = "connections_per_host", HandshakeTime = "handshake_time", IdleTime = "idle_time",
        ContentTime = "content_time", TableDepth = "table_depth", TableEntries = "table_entries",
        DecompressedSize = "decompressed_size", Window = "window", OutBacklog = "out_backlog", Assembly = "assembly",
        Memory = "memory", Links = "links", LinkChannels = "link_channels", SpoolSize = "spool_size", SpoolAge = "spool_age",
        Rate = "rate", Labels = "labels",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_finds_its_own_metric() {
        let by = ByWord::<Codec, &str>::new(Word::word);
        for codec in Codec::ALL {
            assert_eq!(*by.of(*codec), codec.word());
        }
        assert_eq!(by.all().count(), Codec::ALL.len());
    }
}
