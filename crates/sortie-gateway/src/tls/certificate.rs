//! What a certificate says of itself, before anybody is shown it.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

pub(super) fn read<'c>(der: &'c CertificateDer<'_>) -> Result<X509Certificate<'c>, String> {
    match parse_x509_certificate(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(format!("its certificate: {error}")),
    }
}

/// Until when it is; why, if it is not now.
pub(super) fn in_force(certificate: &X509Certificate<'_>) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    let validity = certificate.validity();
    let (since, until) = (at(validity.not_before), at(validity.not_after));
    if until < now {
        Err(format!("its certificate has ended: {}", validity.not_after))
    } else if now < since {
        Err(format!(
            "its certificate begins later: {}",
            validity.not_before
        ))
    } else {
        Ok(until)
    }
}

/// Times before 1970 are all long ago.
fn at(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
