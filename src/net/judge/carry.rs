//! A verdict that lets a message go on, as the Hub's edits: where to, and with which bytes.

use std::rc::Rc;

use super::tally::{Did, Kind};
use super::target::{Still, Targets};
use super::{Case, Desk, OWN};
use crate::celery::compression::Codec;
use crate::metrics::{self, Mistake, TaskVerdict};
use crate::policy::edit::{self, Packed, edit};
use crate::policy::{Because, Edits, Packing, Tier, Verdict};
use crate::session::{Decision, Edited, Place, UpstreamId};
use crate::wire::frame::FRAME_OVERHEAD;
use crate::wire::num::{u64_of, usize_of};

/// The largest body that a codec is given on the thread that serves everybody: what takes it about a third of a second, for a
/// producer whose socket is left unread for longer gives up (D4).
const fn body_bytes_max(codec: Codec) -> u64 {
    match codec {
        Codec::Zlib => 8 << 20,
        Codec::Zstd => 64 << 20,
        Codec::Brotli => 8 << 20,
        Codec::Bzip2 => 3 << 20,
        Codec::Lzma => 1 << 20,
    }
}

impl Desk {
    pub(super) fn forward(&mut self, case: &Case<'_>, verdict: &mut Verdict<'_>) -> Decision {
        let is_task = case.message.task.is_some();
        let plain = verdict.edits.is_empty() && !(is_task && case.snapshot.watches_returns(OWN.0));
        if plain {
            return self.pass(case, verdict);
        }
        if let Some(upstream) = verdict.edits.upstream
            && !case.snapshot.has_upstream(upstream)
        {
            self.mistake(case, Mistake::UnknownUpstream, verdict.because.route);
            return self.pass(case, verdict);
        }
        self.spare(case, &mut verdict.edits);
        let made = edit(
            &verdict.edits,
            &case.message,
            case.publish.header_payload,
            case.publish.body,
            &case.snapshot.means,
        );
        let Some(made) = made.ok().filter(|made| fits(case, made)) else {
            self.mistake(case, Mistake::PatchDoesNotFit, first(&verdict.because));
            return self.pass(case, verdict);
        };
        self.packed(case, &verdict.because, &made);
        self.carry(case, verdict, made)
    }

    /// Everything that changes, in one decision; `Pass` where it comes to nothing.
    fn carry(&mut self, case: &Case<'_>, verdict: &Verdict<'_>, made: edit::Edited) -> Decision {
        let edits = &verdict.edits;
        let upstream = edits.upstream.map(UpstreamId).filter(|upstream| *upstream != OWN);
        let to = upstream.unwrap_or(OWN);
        let durable = edits.tier.map(|tier| tier == Tier::Durable);
        let watch_return =
            case.message.task.is_some() && (edits.mandatory || case.snapshot.watches_returns(to.0));
        let make = |targets: &mut Targets, made: edit::Edited| {
            let target = match edits.destination {
                Some(destination) => targets.of(destination, edits.delayed_key.is_some()),
                None if upstream.is_some() => targets.of_meant(case),
                None => None,
            };
            let place = edits.place(case.publish.exchange).map(|(exchange, routing_key)| Place {
                exchange: exchange.to_vec(),
                routing_key: routing_key.to_vec(),
            });
            Rc::new(Edited {
                upstream,
                place,
                target,
                header: made.header,
                body: made.body,
                durable,
                watch_return,
            })
        };
        let plain = made.header.is_none() && made.body.is_none() && edits.delayed_key.is_none();
        let edited = match edits.destination.filter(|_| plain) {
            Some(destination) => {
                let key = Still { destination, upstream, durable, watch_return };
                match self.targets.still(&key) {
                    Some(known) => known,
                    None => {
                        let edited = make(&mut self.targets, made);
                        self.targets.keep_still(key, Rc::clone(&edited));
                        edited
                    }
                }
            }
            None => make(&mut self.targets, made),
        };
        let changed = edited.upstream.is_some()
            || edited.place.is_some()
            || edited.header.is_some()
            || edited.body.is_some();
        let kind = Kind {
            verdict: if changed { TaskVerdict::Edit } else { TaskVerdict::Forward },
            because: verdict.because,
            upstream: to.0,
            did: Did {
                rerouted: edited.place.is_some() || edited.upstream.is_some(),
                reprioritised: edits.priority.is_some(),
                imposed: edits.expires.is_some() || edits.ttl_ms.is_some(),
                passed_expired: verdict.passed_expired,
                unjudged_expiry: verdict.unjudged_expiry,
            },
        };
        self.count(case, &kind, edits.destination);
        if changed || edited.watch_return || edited.durable.is_some() {
            Decision::Edit(edited)
        } else {
            Decision::Pass
        }
    }

    /// Leaves alone a body that would take its codec too long.
    fn spare(&self, case: &Case<'_>, edits: &mut Edits<'_>) {
        let Some(rule) = &mut edits.compression else { return };
        if let Packing::Compress(codec) = rule.packing
            && case.publish.header.body_size > body_bytes_max(codec)
        {
            rule.packing = Packing::Keep;
            self.metrics.tasks.compression_skipped.inc();
        }
    }

    /// Counts what was done to the body.
    fn packed(&mut self, case: &Case<'_>, because: &Because, made: &edit::Edited) {
        if made.expiry_unfit {
            self.mistake(case, Mistake::PatchDoesNotFit, because.expiry);
        }
        match made.packed {
            Packed::Untouched | Packed::Decompressed(_) | Packed::Repaired => {}
            Packed::NotSmaller | Packed::NotUnderEncoding => self.metrics.tasks.compression_skipped.inc(),
            Packed::NotDecompressed => self.mistake(case, Mistake::Codec, because.compression),
            Packed::Compressed(codec) => {
                let word = codec_word(codec);
                let after = made.body.as_ref().map_or(0, |body| u64_of(body.len()));
                self.metrics.tasks.compression_before.of(word).inc_by(case.publish.header.body_size);
                self.metrics.tasks.compression_after.of(word).inc_by(after);
                if let Some(by) = because.compression {
                    self.tally.rule(case.policy(), by).compressed.of(word).inc();
                }
            }
        }
    }
}

/// What every broker of today takes, and what we never ask less than (L6).
const FRAME_BYTES_SURE: u32 = 8192;

/// A content header travels in one frame: one that grows must still fit what was agreed with the client, which is no more than the
/// upstream takes.
fn fits(case: &Case<'_>, made: &edit::Edited) -> bool {
    let agreed = match case.publish.session.frame_max {
        0 => case.snapshot.config.limits.frame_max,
        agreed => agreed,
    };
    let most = usize_of(agreed.max(FRAME_BYTES_SURE)) - FRAME_OVERHEAD;
    let before = case.publish.header_payload.len();
    made.header.as_ref().is_none_or(|header| header.len() <= most.max(before))
}

/// Any rule that decided, for a log line.
fn first(because: &Because) -> Option<crate::policy::By> {
    crate::policy::Aspect::ALL.into_iter().find_map(|aspect| because.of(aspect))
}

pub(super) const fn codec_word(codec: Codec) -> metrics::Codec {
    match codec {
        Codec::Zlib => metrics::Codec::Zlib,
        Codec::Bzip2 => metrics::Codec::Bzip2,
        Codec::Lzma => metrics::Codec::Lzma,
        Codec::Brotli => metrics::Codec::Brotli,
        Codec::Zstd => metrics::Codec::Zstd,
    }
}
