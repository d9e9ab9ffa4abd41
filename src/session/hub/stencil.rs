//! A stencil: the shape of one publish that has been read, laid over those behind it (SPEC F1).
//!
//! ```text
//! read:     method frame │ header frame … task S 14 ▒▒▒▒▒ id S 36 ▒▒▒▒ … │ body frame's head │ body │ end
//! the next:   the same   │     the same            any         any       │     the same      │ any  │ end
//! ```
//! Producers send the same names, types and lengths again and again. Where every octet that says where something is, or what it is, is
//! the same as in a publish that was read and checked, the next one *is* read and checked: what may differ are the octets of strings. So a
//! stencil decides nothing that the ordinary reading would decide otherwise, and whatever it does not fit is read the ordinary way.

use std::ops::Range;

use crate::wire::frame::FRAME_END;
use crate::wire::method::Publish;
use crate::wire::num::{same, u32_clamped, u64_of, usize_of};
use crate::wire::props::ContentHeader;
use crate::wire::table::Outline;

/// Places that may differ: Celery's messages have about six of them that do.
const HOLES_MAX: usize = 12;

/// See the module.
pub(super) struct Stencil<'a> {
    /// The publish that was read, up to the first octet of its body.
    pub(super) lead: &'a [u8],
    /// Octets of all of it.
    pub(super) len: usize,
    pub(super) method_payload: &'a [u8],
    pub(super) publish: Publish<'a>,
    pub(super) header: ContentHeader<'a>,
    /// Where its header's payload is.
    pub(super) header_at: Range<usize>,
    /// What has been seen to differ, in order.
    holes: [Range<u32>; HOLES_MAX],
    count: usize,
}

impl<'a> Stencil<'a> {
    /// Of a publish that has been read, its body in one piece or none.
    #[inline(always)]
    pub(super) fn of(
        frames: &'a [u8],
        body: &[&[u8]],
        method_payload: &'a [u8],
        publish: Publish<'a>,
        header: ContentHeader<'a>,
    ) -> Option<Self> {
        let body = match body {
            [] => 0,
            [body] => body.len() + 1,
            _ => return None,
        };
        let len = frames.len();
        Some(Self {
            lead: frames.get(..len.checked_sub(body)?)?,
            len,
            method_payload,
            publish,
            header,
            header_at: header_at(frames)?,
            holes: [const { 0..0 }; HOLES_MAX],
            count: 0,
        })
    }

    /// Whether none has been seen to differ from it but in its body.
    pub(super) const fn is_solid(&self) -> bool {
        self.count == 0
    }

    /// Whether the publish at the front of `rest` has this shape. `outline` is that of the header table that was read.
    #[inline(always)]
    pub(super) fn fits(&mut self, rest: &[u8], outline: &Outline) -> bool {
        let Some(frames) = rest.get(..self.len) else { return false };
        if frames.last() != Some(&FRAME_END) {
            return false;
        }
        match self.misfit(frames) {
            None => true,
            Some(at) => self.learn(frames, at, outline),
        }
    }

    /// Whether what differs, from `at` on first, is all content: then it is a hole from now on.
    #[cold]
    #[inline(never)]
    fn learn(&mut self, frames: &[u8], at: usize, outline: &Outline) -> bool {
        // What most often differs is told first.
        if at == 0 && header_at(frames).as_ref() != Some(&self.header_at) {
            return false;
        }
        let mut misfit = Some(at);
        while let Some(at) = misfit {
            if self.add_hole(frames, at, outline).is_none() {
                return false;
            }
            misfit = self.misfit(frames);
        }
        true
    }

    /// From where on something differs that has not been seen to differ yet.
    #[inline(always)]
    fn misfit(&self, frames: &[u8]) -> Option<usize> {
        let mut at = 0;
        for hole in self.holes.iter().take(self.count) {
            if !self.is_same(frames, at..usize_of(hole.start)) {
                return Some(at);
            }
            at = usize_of(hole.end);
        }
        (!self.is_same(frames, at..self.lead.len())).then_some(at)
    }

    #[inline]
    fn is_same(&self, frames: &[u8], at: Range<usize>) -> bool {
        let (Some(a), Some(b)) = (frames.get(at.clone()), self.lead.get(at)) else { return false };
        same(a, b)
    }

    /// The first difference from `at` on may be one of content.
    fn add_hole(&mut self, frames: &[u8], at: usize, outline: &Outline) -> Option<()> {
        let (theirs, ours) = (frames.get(at..self.lead.len())?, self.lead.get(at..)?);
        let place = at + first_difference(theirs, ours)?;
        let start = self.header_at.start;
        let header = self.header.over(self.lead.get(self.header_at.clone())?, Some(outline));
        let content = header.content_at(place.checked_sub(start)?)?;
        let hole = u32_clamped(start + content.start)..u32_clamped(start + content.end);
        let index =
            self.holes.iter().take(self.count).position(|h| h.start > hole.start).unwrap_or(self.count);
        if self.count == HOLES_MAX {
            return None;
        }
        *self.holes.get_mut(self.count)? = hole;
        self.count += 1;
        self.holes.get_mut(index..self.count)?.rotate_right(1);
        Some(())
    }
}

/// Where the header's payload is, going by the lengths of the first two frames. Seven octets stand before a payload, one behind it.
#[inline]
pub(super) fn header_at(frames: &[u8]) -> Option<Range<usize>> {
    let len_at = |at: usize| Some(usize_of(u32::from_be_bytes(*frames.get(at + 3..)?.first_chunk()?)));
    let second = 7 + len_at(0)? + 1;
    Some(second + 7..second + 7 + len_at(second)?)
}

/// Where it is, in one number.
pub(super) fn key(header_at: &Range<usize>) -> u64 {
    u64_of(header_at.start) << 32 | u64_of(header_at.end)
}

/// Where two runs of octets first differ: by eights as long as they do not.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let (eights, _) = a.as_chunks::<8>();
    let same = eights.iter().zip(b.as_chunks::<8>().0).take_while(|(a, b)| a == b).count() * 8;
    let (a, b) = (a.get(same..)?, b.get(same..)?);
    Some(same + a.iter().zip(b).position(|(a, b)| a != b)?)
}
