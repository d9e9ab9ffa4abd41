//! The plain numbers of one data thread.

/// Plain numbers of the thread; net copies them into metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the metrics' own, documented there")]
pub struct Counters {
    pub sessions_opened: u64,
    pub frames_in: u64,
    pub accepted: u64,
    pub forwarded: u64,
    pub spooled: u64,
    pub expired: u64,
    pub refused_window: u64,
    pub refused_spool: u64,
    pub refused_policy: u64,
    pub refused_nack: u64,
    pub refused_error: u64,
    pub refused_retries: u64,
    pub records_done: u64,
    pub records_moved: u64,
    pub replayed_forwarded: u64,
    pub replayed_expired: u64,
    pub replayed_refused: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub authored: u64,
    pub authored_left_out: u64,
    pub implied: u64,
    pub returned: u64,
    pub returned_watched: u64,
    pub returned_declared: u64,
    pub retries: u64,
    pub links_lost: u64,
    pub leases: u64,
    pub crowds_left: u64,
    pub pins: u64,
    pub channel_errors: u64,
    pub connection_errors: u64,
    pub limit_sessions: u64,
    pub limit_sessions_per_ip: u64,
    pub limit_idle: u64,
    pub limit_memory: u64,
    pub limit_backlog: u64,
    pub limit_window: u64,
    pub limit_message: u64,
    pub limit_assembly: u64,
    pub limit_table: u64,
    pub limit_frame: u64,
    pub limit_channels: u64,
    pub limit_handshake: u64,
    pub heartbeats_missed: u64,
    pub logins_remembered: u64,
    pub logins_accepted: u64,
    pub logins_refused: u64,
    pub logins_unreachable: u64,
    pub targets_declared: u64,
    pub targets_missing: u64,
    pub routes_turned_back: u64,
    pub confirm_count: u64,
    pub confirm_wait_ms: u64,
    pub reads_paused_ms: u64,
    pub poisoned: u64,
    pub deliveries_held: u64,
    pub put_aside: u64,
    pub spool_given_back: u64,
    pub spool_aged: u64,
    pub replayed: u64,
    pub declares_remembered: u64,
}

impl Counters {
    /// Publishes that came in and were meant to go on: neither expired nor refused.
    #[must_use]
    pub const fn let_in(&self) -> u64 {
        self.accepted.saturating_sub(self.expired.saturating_add(self.refused_policy))
    }
}
