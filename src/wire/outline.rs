//! Where the outermost entries of a table begin, noted while it was checked: whoever looks for a name need not walk again.

use std::ops::Range;

use super::num::{u32_clamped, usize_of};

/// Top-level entries whose places an [`Outline`] holds: Celery writes about twenty.
const OUTLINE_MAX: usize = 32;
/// Names are told apart by their length first, as far as it goes.
const LENGTHS: usize = 16;

/// Where the top-level entries of a table begin, noted while it was checked: whoever looks for a name need not walk again.
#[derive(Debug, Clone)]
pub struct Outline {
    starts: [u32; OUTLINE_MAX],
    /// For each entry the one before it whose name is as long, counted from 1.
    before: [u8; OUTLINE_MAX],
    /// The last entry with a name of a length, counted from 1.
    last: [u8; LENGTHS],
    /// Entries there are, also where they are more than the places.
    count: u32,
}

impl Default for Outline {
    fn default() -> Self {
        Self::new()
    }
}

impl Outline {
    /// Of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { starts: [0; OUTLINE_MAX], before: [0; OUTLINE_MAX], last: [0; LENGTHS], count: 0 }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.last = [0; LENGTHS];
        self.count = 0;
    }

    /// So many entries there were.
    #[inline]
    pub(super) fn set_count(&mut self, count: usize) {
        self.count = u32_clamped(count);
    }

    /// Entry number `number`, counted from 0, begins there, and its name is so long.
    #[inline]
    pub(super) fn note(&mut self, number: usize, start: usize, len: u8) {
        // Those beyond the places overwrite others: the count says that nobody may look then.
        let at = number % OUTLINE_MAX;
        if let (Some(s), Some(b), Some(l)) =
            (self.starts.get_mut(at), self.before.get_mut(at), self.last.get_mut(usize::from(len) % LENGTHS))
        {
            *s = u32_clamped(start);
            *b = *l;
            *l = at.to_le_bytes()[0] + 1;
        }
    }

    /// The last entry of this name in the table that was outlined, which is `bytes`; `None`: not all entries are known.
    #[inline]
    pub(super) fn last<'a>(&self, bytes: &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
        if usize_of(self.count) > OUTLINE_MAX {
            return None;
        }
        let mut number = *self.last.get(name.len() % LENGTHS)?;
        while let Some(at) = usize::from(number).checked_sub(1) {
            let entry = bytes.get(usize_of(*self.starts.get(at)?)..)?;
            let (len, rest) = entry.split_first()?;
            if usize::from(*len) == name.len() && rest.get(..name.len())? == name {
                return Some(Some(entry));
            }
            number = *self.before.get(at)?;
        }
        Some(None)
    }

    /// The content of the outermost long string that the octet at `place` of the table that was outlined, which is `bytes`, belongs to.
    pub(super) fn text_at(&self, bytes: &[u8], place: usize) -> Option<Range<usize>> {
        let starts = self.starts.get(..usize_of(self.count))?;
        let number = starts.partition_point(|start| usize_of(*start) <= place).checked_sub(1)?;
        let start = usize_of(*starts.get(number)?);
        let tag_at = start + 1 + usize::from(*bytes.get(start)?);
        let Some(&[b'S', a, b, c, d]) = bytes.get(tag_at..tag_at + 5) else { return None };
        let content = tag_at + 5..tag_at + 5 + usize_of(u32::from_be_bytes([a, b, c, d]));
        content.contains(&place).then_some(content)
    }
}
