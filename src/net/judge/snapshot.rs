//! One configuration in force, and what the judge asks of it for every message.

use std::sync::Arc;

use crate::celery::BodyLimits;
use crate::celery::compression::Effort;
use crate::config::{Config, Mandatory};
use crate::policy::edit::Means;
use crate::wire::num::usize_clamped;

/// Kombu's 11 takes seconds for a megabyte, on the thread that serves everybody. The bytes are as readable at any.
const BROTLI_QUALITY: u32 = 5;

/// What a reload swaps as one (C2).
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration, policy and all.
    pub config: Arc<Config>,
    pub(super) limits: BodyLimits,
    pub(super) means: Means,
    pub(super) speaks_of_expiry: bool,
    pub(super) watches_deliveries: bool,
}

impl Snapshot {
    /// Takes a configuration into force.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        let limits = BodyLimits {
            body_bytes: usize_clamped(config.limits.message_bytes),
            decompressed_bytes: usize_clamped(config.limits.decompressed_bytes),
            ratio: usize_clamped(config.limits.decompressed_ratio),
            ..BodyLimits::default()
        };
        let effort = Effort { brotli_quality: BROTLI_QUALITY, ..Effort::default() };
        Self {
            limits,
            means: Means { limits, effort },
            speaks_of_expiry: config.policy.rules().iter().any(|rule| rule.expiry.is_some()),
            watches_deliveries: config.policy.watches_deliveries(),
            config,
        }
    }

    /// The upstream's name, for people and metrics.
    #[must_use]
    pub fn upstream_name(&self, index: usize) -> &str {
        self.config.upstreams.get(index).map_or("", |upstream| &upstream.name)
    }

    pub(super) fn has_upstream(&self, index: usize) -> bool {
        index < self.config.upstreams.len()
    }

    /// Whether tasks go to this upstream mandatory, so that we hear of those that no queue takes (D6).
    pub(super) fn watches_returns(&self, index: usize) -> bool {
        self.config.upstreams.get(index).is_some_and(|upstream| upstream.mandatory != Mandatory::Off)
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}
