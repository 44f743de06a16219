//! TLS that the gateway looks into: it has a certificate for each name, signed by the operator's CA,
//! which the workload trusts, and begins TLS with the origin itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{H2, HTTP1, Origination, certificate};

/// Certificates that are kept; of more names the one that is renewed first goes.
const KEPT: usize = 1024;

/// How long a certificate is used, how long it is valid, and since when before it was made: clocks
/// of workloads may be behind.
const USED: Duration = Duration::from_hours(24);
const VALID: Duration = Duration::from_hours(7 * 24);
const BACKDATED: Duration = Duration::from_hours(1);

/// The longest common name (RFC 5280 appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// How TLS of workloads is looked into.
#[derive(Clone)]
pub struct Inspection {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) upstream: Arc<Origination>,
}

/// The operator's CA. Make one, and keep it: it keeps the certificates that it has signed.
#[derive(Clone)]
pub struct Authority {
    server: Arc<ServerConfig>,
    until: SystemTime,
}

/// Why TLS cannot be looked into: the CA or its key cannot be used.
#[derive(Debug)]
pub struct InspectionError(String);

impl fmt::Display for InspectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CA of the inspection cannot be used: {}", self.0)
    }
}

impl std::error::Error for InspectionError {}

impl Inspection {
    /// Signs with this CA, and begins TLS with origins so; its port is not looked at.
    pub fn new(authority: &Authority, upstream: Arc<Origination>) -> Self {
        Self {
            server: Arc::clone(&authority.server),
            upstream,
        }
    }
}

impl Authority {
    /// Signs with the CA whose certificate comes first in `chain`, followed by those that signed
    /// it, and whose `key` is PKCS #8; both PEM.
    ///
    /// # Errors
    /// [`InspectionError`], also for a certificate that clients would not believe: one that is no
    /// CA's, may not sign, is not in force, or whose key is another one.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, InspectionError> {
        let minter = Minter::new(chain, key)?;
        let until = minter.check()?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut server = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(minter));
        server.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        // Sessions that could be resumed would be kept for every workload that comes by.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self {
            server: Arc::new(server),
            until,
        })
    }

    /// When its certificate ends.
    pub fn until(&self) -> SystemTime {
        self.until
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inspection")
    }
}

fn unusable(reason: impl Into<Box<dyn std::error::Error>>) -> InspectionError {
    InspectionError(reason.into().to_string())
}

/// Makes certificates.
struct Minter {
    issuer: Issuer<'static, KeyPair>,
    /// The CA's certificate, and those that signed it.
    chain: Vec<CertificateDer<'static>>,
    /// The key of all certificates that are made.
    key: KeyPair,
    minted: Mutex<HashMap<Box<str>, Minted>>,
}

#[derive(Clone)]
struct Minted {
    since: Instant,
    key: Arc<CertifiedKey>,
}

impl Minter {
    fn new(chain: &[u8], key: &[u8]) -> Result<Self, InspectionError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| unusable(format!("its certificate: {error}")))?;
        let authority = chain
            .first()
            .ok_or_else(|| unusable("its file has no certificate"))?;
        let key = std::str::from_utf8(key).map_err(|_| unusable("its key is not PEM"))?;
        let key = KeyPair::from_pem(key).map_err(|error| {
            unusable(format!(
                "its key: {error}; it must be PKCS #8, as `openssl pkcs8 -topk8 -nocrypt` writes it"
            ))
        })?;
        let issuer = Issuer::from_ca_cert_der(authority, key)
            .map_err(|error| unusable(format!("its certificate: {error}")))?;
        Ok(Self {
            issuer,
            chain,
            key: KeyPair::generate().map_err(unusable)?,
            minted: Mutex::default(),
        })
    }

    /// Whether who trusts the CA believes what it signs now, and for how long.
    fn check(&self) -> Result<SystemTime, InspectionError> {
        let authority = certificate::read(&self.chain[0]).map_err(unusable)?;
        if !authority.is_ca() {
            return Err(unusable(
                "its certificate is no CA's: it lacks `basicConstraints = CA:TRUE`",
            ));
        }
        let usage = authority.key_usage().map_err(unusable)?;
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(unusable(
                "its certificate may not sign: its `keyUsage` lacks `keyCertSign`",
            ));
        }
        if authority.public_key().subject_public_key.data != self.issuer.key().public_key_raw() {
            return Err(unusable("its key is not the one of its certificate"));
        }
        // A subject that is written in an odd way is not the issuer that clients look for.
        let leaf = self.mint("sortie.invalid")?;
        let leaf = certificate::read(&leaf.cert[0]).map_err(unusable)?;
        if leaf.issuer().as_raw() != authority.subject().as_raw() {
            return Err(unusable(
                "its subject cannot be written again as it is: make one with plain names",
            ));
        }
        certificate::in_force(&authority).map_err(unusable)
    }

    /// The certificate of a name: made now, or less than [`USED`] ago.
    fn of(&self, name: &str) -> Result<Arc<CertifiedKey>, InspectionError> {
        let known = |minted: &HashMap<Box<str>, Minted>| {
            let known = minted.get(name)?;
            (known.since.elapsed() < USED).then(|| Arc::clone(&known.key))
        };
        let lock = || self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known(&lock()) {
            return Ok(key);
        }
        let key = Arc::new(self.mint(name)?);
        let mut minted = lock();
        if minted.len() >= KEPT {
            let first = minted.iter().min_by_key(|(_, minted)| minted.since);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                minted.remove(&first);
            }
        }
        let since = Instant::now();
        let key_of_name = Arc::clone(&key);
        minted.insert(
            name.into(),
            Minted {
                since,
                key: key_of_name,
            },
        );
        Ok(key)
    }

    fn mint(&self, name: &str) -> Result<CertifiedKey, InspectionError> {
        let mut params = CertificateParams::new([name.to_owned()]).map_err(unusable)?;
        params.distinguished_name = DistinguishedName::new();
        if name.len() <= MAX_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let now = SystemTime::now();
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + VALID).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&self.key, &self.issuer)
            .map_err(unusable)?;
        let chain = [leaf.der().clone()].into_iter().chain(self.chain.clone());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(unusable)?;
        let key = ring::sign::any_supported_type(&key).map_err(unusable)?;
        Ok(CertifiedKey::new(chain.collect(), key))
    }
}

impl ResolvesServerCert for Minter {
    /// `None`, which ends the handshake, for a client that asks for no name.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.of(&name).ok()
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Minter")
    }
}

#[cfg(test)]
mod tests;
