//! One read of a socket, a client's or an upstream's: nothing is copied that need not be, and an idle one holds no buffer.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::tls::Transport;
use crate::wire::frame::missing;

/// Octets asked for at a time where a large frame is read to where it is kept: at least, and at most.
const LARGE: (usize, usize) = (16 * 1024, 1 << 20);
/// Less room than this in the thread's buffer is not worth a read.
const ROOM_MIN: usize = 4096;

/// Reads at most `most` octets into the thread's buffer, behind what was kept of the read before; a large frame is read to where it is kept.
/// All there is now, which is not kept any more, and how much of it has come with this read: 0 at the end of the stream.
pub(super) fn poll<'b>(
    cx: &mut Context<'_>,
    io: &mut Transport,
    kept: &mut Vec<u8>,
    buffer: &'b mut [u8],
    most: usize,
) -> Poll<io::Result<(Cow<'b, [u8]>, usize)>> {
    let held = kept.len();
    if held + ROOM_MIN > buffer.len() / 2 {
        kept.resize(held + missing(kept).clamp(LARGE.0, LARGE.1), 0);
        let mut room = ReadBuf::new(kept.get_mut(held..).unwrap_or(&mut []));
        let polled = Pin::new(io).poll_read(cx, &mut room);
        let read = room.filled().len();
        kept.truncate(held + read);
        ready!(polled)?;
        return Poll::Ready(Ok((Cow::Owned(std::mem::take(kept)), read)));
    }
    let Some((front, room)) = buffer.split_at_mut_checked(held) else { return Poll::Pending };
    let most = most.min(room.len());
    let mut room = ReadBuf::new(room.get_mut(..most).unwrap_or_default());
    ready!(Pin::new(io).poll_read(cx, &mut room))?;
    let read = room.filled().len();
    front.copy_from_slice(kept);
    kept.clear();
    Poll::Ready(Ok((Cow::Borrowed(buffer.get(..held + read).unwrap_or(&[])), read)))
}
