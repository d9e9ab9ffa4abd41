//! Sockets that systemd holds for us (`sd_listen_fds(3)`): it listens before we live and after we have gone, so nobody is refused.
//!
//! One is AMQP's: the one that LISTEN_FDNAMES (FileDescriptorName=) calls `amqp`, else the first that is not `admin`; `admin` is the
//! admin page's. The addresses in `[listen]` do not count for those.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// Sockets that were handed over.
#[derive(Debug, Default)]
pub struct Handed {
    /// For AMQP.
    pub amqp: Option<TcpListener>,
    /// For the admin page.
    pub admin: Option<TcpListener>,
}

/// The place of AMQP's socket and of the admin page's among so many of these names.
fn places(names: &str, count: usize) -> (Option<usize>, Option<usize>) {
    let names: Vec<&str> = names.split(':').collect();
    let is = |n: usize, name: &str| names.get(n).is_some_and(|given| *given == name);
    let admin = (0..count).find(|n| is(*n, "admin"));
    let amqp = (0..count).find(|n| is(*n, "amqp")).or_else(|| (0..count).find(|n| Some(*n) != admin));
    (amqp, admin)
}

impl Handed {
    /// What was handed to this process, if anything.
    ///
    /// # Errors
    /// Something was, and is no socket that can be listened on.
    pub fn take() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let (amqp, admin) = places(&names, sockets.len());
        let mut take = |place: Option<usize>| -> io::Result<Option<TcpListener>> {
            let Some(place) = place else { return Ok(None) };
            let listener = sockets.take_tcp_listener(place)?;
            if let Some(listener) = &listener {
                listener.set_nonblocking(true)?;
            }
            Ok(listener)
        };
        Ok(Self { amqp: take(amqp)?, admin: take(admin)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_told_by_their_names_and_a_nameless_one_is_for_amqp() {
        for (names, count, expected) in [
            ("", 0, (None, None)),
            ("", 1, (Some(0), None)),
            ("umbel.socket", 1, (Some(0), None)),
            ("admin:amqp", 2, (Some(1), Some(0))),
            ("admin:umbel.socket", 2, (Some(1), Some(0))),
            ("admin", 1, (None, Some(0))),
            ("amqp:admin", 1, (Some(0), None)),
        ] {
            assert_eq!(places(names, count), expected, "{names} {count}");
        }
    }
}
