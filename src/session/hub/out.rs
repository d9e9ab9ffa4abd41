//! What is to be written: bytes appended for links and clients, and what the sockets have taken of them.

use std::io::IoSlice;

use super::Hub;
use crate::session::client::State;
use crate::session::{LinkId, Now, SessionId};
use crate::wire::frame::{ChannelId, FrameKind, write_frame};

impl Hub {
    /// Links that have something to write since the last call, appended to `links`.
    pub fn take_dirty_links(&mut self, links: &mut Vec<LinkId>) {
        for &id in &self.dirty_links {
            if let Some(link) = self.links.get_mut(id.0) {
                link.dirty = false;
            }
        }
        links.append(&mut self.dirty_links);
    }

    /// Sessions that have something to write since the last call, appended to `sessions`.
    pub fn take_dirty_sessions(&mut self, sessions: &mut Vec<SessionId>) {
        for &id in &self.dirty_sessions {
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.dirty = false;
            }
        }
        sessions.append(&mut self.dirty_sessions);
    }

    /// What is to be written to a client.
    #[must_use]
    pub fn client_out(&self, sid: SessionId) -> &[u8] {
        self.sessions.get(sid.0).map_or(&[], |s| s.out.get(s.unsent..).unwrap_or(&[]))
    }

    /// So much of it is in the socket.
    pub fn client_written(&mut self, now: Now, sid: SessionId, bytes: usize) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if bytes > 0 {
            s.tx_ms = now.ms;
        }
        s.unsent += bytes;
        if s.unsent >= s.out.len() {
            s.unsent = 0;
            // An idle client costs no buffer.
            if s.out.capacity() > 1024 {
                s.out = Vec::new()
            } else {
                s.out.clear()
            }
            s.whole_bytes = 0;
        } else if s.unsent > 256 * 1024 && s.unsent >= s.out.len() / 2 {
            // No octet is moved more than once on the average, however much lies here.
            s.out.drain(..s.unsent);
            s.unsent = 0;
        }
    }

    /// What is to be written to an upstream; how many slices are filled.
    pub fn link_out<'a>(&'a self, lid: LinkId, slices: &mut [IoSlice<'a>]) -> usize {
        self.links.get(lid.0).map_or(0, |l| l.out.writable(slices))
    }

    /// So much of it is in the socket.
    pub fn link_written(&mut self, now: Now, lid: LinkId, bytes: usize) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if bytes > 0 {
                link.tx_ms = now.ms;
            }
            link.out.written(&mut self.spares, bytes);
        }
    }

    pub(super) fn mark_link(&mut self, lid: LinkId) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if !link.dirty {
                link.dirty = true;
                self.dirty_links.push(lid);
            }
        }
    }

    /// Appends a frame to what goes upstream; nobody needs it again.
    pub(super) fn link_push(&mut self, lid: LinkId, channel: u16, payload: &[u8]) {
        if let Some(link) = self.links.get_mut(lid.0) {
            if link.said_close && channel != 0 {
                return;
            }
            let mut frame = Vec::with_capacity(payload.len() + 8);
            write_frame(&mut frame, FrameKind::Method, ChannelId(channel), payload);
            link.out.push(&mut self.spares, &frame);
        }
        self.mark_link(lid);
    }

    pub(super) fn link_push_raw(&mut self, lid: LinkId, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(lid.0) {
            link.out.push(&mut self.spares, bytes);
        }
        self.mark_link(lid);
    }

    pub(super) fn mark_client(&mut self, sid: SessionId) {
        let Some(s) = self.sessions.get_mut(sid.0) else { return };
        if !s.dirty {
            s.dirty = true;
            self.dirty_sessions.push(sid);
        }
        // A client with a link of its own is held back there; any other has no reason to leave so much unread. One message is never cut
        // into, whatever its size.
        let bound = self.limits.output_backlog_bytes + s.whole_bytes;
        if s.out.len() - s.unsent > bound && s.state != State::Done {
            self.counters.limit_backlog += 1;
            s.out.clear();
            s.unsent = 0;
            self.finish(sid);
        }
    }

    /// Appends a method frame to what goes to a client, unless it has been told goodbye.
    pub(super) fn client_push(&mut self, sid: SessionId, channel: u16, payload: &[u8]) {
        if let Some(s) = self.sessions.get_mut(sid.0) {
            if matches!(s.state, State::Done | State::Draining) || (s.state == State::Leaving && channel != 0)
            {
                return;
            }
            write_frame(s.out_for(channel), FrameKind::Method, ChannelId(channel), payload);
        }
        self.mark_client(sid);
    }
}
