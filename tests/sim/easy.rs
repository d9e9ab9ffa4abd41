//! Whom a Hub talks to where all goes well: what a client says to be let in, what a link's socket takes, and what its broker answers.

use std::io::IoSlice;

use umbel::session::{Hub, LinkId, Now};
use umbel::wire::frame::{Frame, FrameKind, parse_frame};
use umbel::wire::method::{self, MethodId, Tune};

use crate::kit;

/// What a client says, one after the other, until a channel is open.
pub fn login(channel: u16, confirms: bool) -> Vec<Vec<u8>> {
    let methods = [
        (0, kit::start_ok("guest", "guest", b"")),
        (0, kit::tune_ok(2047, 131_072, 0)),
        (0, kit::open("/")),
        (channel, kit::channel_open()),
        (channel, kit::confirm_select()),
    ];
    let frames = methods.iter().take(if confirms { 5 } else { 4 }).map(|(channel, method)| {
        let mut frame = Vec::new();
        kit::push_method(&mut frame, *channel, method);
        frame
    });
    std::iter::once(HEADER.to_vec()).chain(frames).collect()
}

/// All that the Hub has for a link.
pub fn taken(hub: &mut Hub, now: Now, lid: LinkId) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = hub.link_out(lid, &mut slices);
        if filled == 0 {
            return sent;
        }
        let before = sent.len();
        slices[..filled].iter().for_each(|slice| sent.extend_from_slice(slice));
        let wrote = sent.len() - before;
        hub.link_written(now, lid, wrote);
    }
}

/// Appends a broker's replies to methods in these frames, each of which is also `seen`, with its method if it is one.
pub fn answer(sent: &[u8], answers: &mut Vec<u8>, mut seen: impl FnMut(&Frame<'_>, Option<MethodId>)) {
    let mut rest = sent.strip_prefix(HEADER).unwrap_or(sent);
    if rest.len() < sent.len() {
        kit::push_method(answers, 0, &kit::start(b""));
    }
    while let Some(frame) = parse_frame(rest, 0).unwrap() {
        rest = &rest[frame.wire_len()..];
        if frame.kind != FrameKind::Method {
            seen(&frame, None);
            continue;
        }
        let id = method::split(frame.payload).unwrap().0;
        seen(&frame, Some(id));
        let reply = match id {
            MethodId::CONNECTION_START_OK => {
                let tune = Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
                method::write_tune(MethodId::CONNECTION_TUNE, tune)
            }
            MethodId::CONNECTION_OPEN => {
                method::MethodWriter::new(MethodId::CONNECTION_OPEN_OK).shortstr(b"").done()
            }
            MethodId::CHANNEL_OPEN => kit::channel_open_ok(),
            MethodId::CONFIRM_SELECT => kit::bare(MethodId::CONFIRM_SELECT_OK),
            MethodId::QUEUE_DECLARE => kit::queue_declare_ok(b"new"),
            MethodId::EXCHANGE_DECLARE => kit::bare(MethodId::EXCHANGE_DECLARE_OK),
            MethodId::QUEUE_BIND => kit::bare(MethodId::QUEUE_BIND_OK),
            _ => continue,
        };
        kit::push_method(answers, frame.channel.0, &reply);
    }
    assert!(rest.is_empty(), "half a frame went upstream");
}

const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
