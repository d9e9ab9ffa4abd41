//! Whom a client's certificate names: the words of RabbitMQ's `ssl_cert_login_from` (SPEC L4). It has been verified before it is read.

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{AnyRef, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::LoginFrom;

/// id-at-commonName (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The name that a certificate gives its bearer; `None` where it does not have one of that kind.
pub fn name(der: &CertificateDer<'_>, from: LoginFrom) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
    let subject = &certificate.subject;
    let name = match from {
        LoginFrom::CommonName => {
            let parts = subject.0.iter().flat_map(|rdn| rdn.0.iter()).filter(|a| a.oid == COMMON_NAME);
            // RabbitMQ joins several with a comma.
            parts.map(|a| text((&a.value).into())).collect::<Option<Vec<_>>>()?.join(",")
        }
        LoginFrom::DistinguishedName => subject.to_string(),
        LoginFrom::Dns | LoginFrom::Email | LoginFrom::Uri => {
            let (_, names) = certificate.get::<SubjectAltName>().ok()??;
            names.0.into_iter().find_map(|name| match (from, name) {
                (LoginFrom::Dns, GeneralName::DnsName(n))
                | (LoginFrom::Email, GeneralName::Rfc822Name(n))
                | (LoginFrom::Uri, GeneralName::UniformResourceIdentifier(n)) => Some(n.to_string()),
                _ => None,
            })?
        }
    };
    (!name.is_empty()).then_some(name)
}

/// A DirectoryString (RFC 5280 §4.1.2.4) of the kinds that are in use.
fn text(value: AnyRef<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|s| s.as_str().to_owned()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|s| s.as_str().to_owned())
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|s| s.as_str().to_owned()),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok().map(|s| s.as_str().to_owned()),
        _ => None,
    }
}
