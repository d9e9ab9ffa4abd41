//! Where a tool publishes to: a broker's addresses, its TLS, a login.

use super::tls::Outgoing;
use crate::config;
use crate::session::{Credentials, Url};

/// A broker, and how to log in to it.
pub struct Destination {
    /// Tried in turn.
    pub urls: Vec<Url>,
    /// For those that have TLS.
    pub tls: Option<Outgoing>,
    /// The login.
    pub credentials: Credentials,
    /// Instead of the messages' own.
    pub vhost: Option<String>,
}

impl Destination {
    /// An upstream of the configuration, with its own login.
    ///
    /// # Errors
    /// It has none, or its TLS settings are not in order.
    pub fn upstream(upstream: &config::Upstream) -> Result<Self, String> {
        let (user, password) = upstream.login().ok_or_else(|| {
            format!("upstream '{}' has no login in the configuration: say where to with --to", upstream.name)
        })?;
        let vhost = upstream.urls.iter().find_map(|url| url.vhost.clone());
        Self::new(&upstream.urls, &upstream.tls, Credentials::plain(user, password.reveal()), vhost)
    }

    /// One address.
    ///
    /// # Errors
    /// Its TLS settings are not in order.
    pub fn url(url: &config::BrokerUrl, tls: &config::ClientTls) -> Result<Self, String> {
        let (user, password) =
            url.login.as_ref().map_or(("guest", "guest"), |(user, password)| (user, password.reveal()));
        let login = Credentials::plain(user, password);
        Self::new(std::slice::from_ref(url), tls, login, url.vhost.clone())
    }

    fn new(
        urls: &[config::BrokerUrl],
        tls: &config::ClientTls,
        credentials: Credentials,
        vhost: Option<String>,
    ) -> Result<Self, String> {
        let tls = urls.iter().any(|url| url.tls).then(|| Outgoing::new(tls)).transpose()?;
        let urls = urls.iter().map(|u| Url { host: u.host.clone(), port: u.port, tls: u.tls }).collect();
        Ok(Self { urls, tls, credentials, vhost })
    }
}
