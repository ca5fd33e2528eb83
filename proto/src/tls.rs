//! TLS of the client: whom it trusts, what it shows of itself, and what can go wrong, in words.
//!
//! Certificates and keys are read from PEM files when they are named, so that a wrong file is told before anything is
//! connected; the system's own authorities only when the first `https` URL needs them.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

/// Whom to trust and who to be.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// `None`: whom this system trusts.
    pub authorities: Option<Authorities>,
    /// Shown to servers that ask for it.
    pub identity: Option<Identity>,
}

/// What a PEM file holds, read once: it may be a pipe.
pub struct Pem {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    /// The file of that name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let file = File::open(path).map_err(|error| PemError::new(path, "cannot be read", Some(&error)))?;
        Self::read_from(path, file)
    }

    /// The same from the file when it is open.
    ///
    /// # Errors
    /// When it cannot be read, or is far too long.
    pub fn read_from(path: &Path, file: impl Read) -> Result<Self, PemError> {
        let mut bytes = Vec::new();
        let read = file.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| PemError::new(path, "cannot be read", Some(&error)))?;
        if bytes.len() as u64 > MAX_PEM_BYTES {
            return Err(PemError::new(path, "is too long for PEM", None));
        }
        Ok(Self { path: path.to_owned(), bytes })
    }
}

/// The authorities of a whole system take a quarter of it.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The certificates of those whose word counts.
#[derive(Clone)]
pub struct Authorities(RootCertStore);

impl Authorities {
    /// Every certificate of a PEM file.
    ///
    /// # Errors
    /// When it cannot be read, or there is none in it, or one that is none.
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&Pem::read(path)?)? {
            roots
                .add(certificate)
                .map_err(|error| PemError::new(path, "holds an unusable certificate", Some(&error)))?;
        }
        Ok(Self(roots))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

/// A client certificate and its key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// The certificate with those that lead to its authority from one PEM file, its key from another or the same.
    ///
    /// # Errors
    /// When one is no such thing, or the key is not the certificate's.
    pub fn new(certificate: &Pem, key: &Pem) -> Result<Self, PemError> {
        let chain = certificates(certificate)?;
        let (certificate, bytes, key) = (&certificate.path, &key.bytes, &key.path);
        let der =
            PrivateKeyDer::from_pem_slice(bytes).map_err(|error| PemError::from_pem(key, "private key", &error))?;
        CertifiedKey::from_der(chain.clone(), der.clone_key(), &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                PemError::new(key, &format!("is not the key of the certificate in {}", certificate.display()), None)
            }
            other => PemError::new(key, "cannot be used with its certificate", Some(&other)),
        })?;
        Ok(Self { chain, key: Arc::new(der) })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(<redacted>)")
    }
}

/// Why a PEM file is of no use; nothing of its content is told.
#[derive(Debug, thiserror::Error)]
#[error("{} {what}", path.display())]
pub struct PemError {
    path: PathBuf,
    what: String,
}

impl PemError {
    fn new(path: &Path, what: &str, error: Option<&dyn Error>) -> Self {
        let what = error.map_or_else(|| what.to_owned(), |error| format!("{what}: {error}"));
        Self { path: path.to_owned(), what }
    }

    fn from_pem(path: &Path, wanted: &str, error: &pem::Error) -> Self {
        match error {
            pem::Error::Io(error) => Self::new(path, "cannot be read", Some(error)),
            pem::Error::NoItemsFound => Self::new(path, &format!("holds no {wanted} in PEM form"), None),
            _ => Self::new(path, "is broken PEM", None),
        }
    }
}

fn certificates(Pem { path, bytes }: &Pem) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let failed = |error| PemError::from_pem(path, "certificate", &error);
    let found = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

/// Why there is no TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Nobody can be trusted.
    #[error("this system has no certificates of authorities")]
    NoAuthorities,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come, or this machine's clock is wrong.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// It is somebody else's.
    #[error("its certificate is for another host{}", names.as_ref().map(|names| format!(": {names}")).unwrap_or_default())]
    OtherHost {
        /// Whose, as far as it says.
        names: Option<String>,
    },
    /// Nobody trusted vouches for it.
    #[error("its certificate is from an authority that is not trusted here")]
    UnknownAuthority,
    /// It lets nobody in without one.
    #[error("it wants a client certificate")]
    ClientCertificateWanted,
    /// It does not like ours.
    #[error("it refuses the client certificate")]
    ClientCertificateRefused,
    /// It does not speak TLS.
    #[error("it does not speak TLS on this port")]
    NotTls,
    /// It closed the connection before there was TLS: what servers without TLS do, too.
    #[error("it broke the TLS handshake off")]
    BrokenOff,
    /// It speaks TLS only.
    #[error("it speaks TLS on this port, and nothing else")]
    OnlyTls,
    /// Anything else, in the library's words.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl TlsFault {
    /// Whether the same would happen again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::BrokenOff | Self::Other(_))
    }

    /// What TLS has to do with an error of the connection; `None`: nothing.
    pub fn in_chain(error: &(dyn Error + 'static)) -> Option<Self> {
        links(error).find_map(|link| link.downcast_ref().map(Self::from_rustls))
    }

    /// What TLS has to do with a refusal of the HTTP server behind it, in nginx' words; `None`: nothing.
    pub(crate) fn in_refusal(status: u16, body: &str) -> Option<Self> {
        let of_nginx = [
            ("No required SSL certificate was sent", Self::ClientCertificateWanted),
            ("The SSL certificate error", Self::ClientCertificateRefused),
            ("The plain HTTP request was sent to HTTPS port", Self::OnlyTls),
        ];
        of_nginx.into_iter().find(|(words, _)| status == 400 && body.contains(words)).map(|(_, fault)| fault)
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        use AlertDescription as Alert;
        use CertificateError as Certificate;
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                Certificate::Expired | Certificate::ExpiredContext { .. } => Self::Expired,
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => Self::NotYetValid,
                Certificate::NotValidForName => Self::OtherHost { names: None },
                Certificate::NotValidForNameContext { presented, .. } => {
                    Self::OtherHost { names: (!presented.is_empty()).then(|| presented.join(", ")) }
                }
                Certificate::UnknownIssuer => Self::UnknownAuthority,
                other => Self::Other(other.to_string()),
            },
            rustls::Error::AlertReceived(Alert::CertificateRequired) => Self::ClientCertificateWanted,
            rustls::Error::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied,
            ) => Self::ClientCertificateRefused,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Whether a connection that was made ended before there was TLS on it.
pub(crate) fn is_broken_off(error: &(dyn Error + 'static)) -> bool {
    links(error).any(|link| {
        let kind = link.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    })
}

/// An error, what it carries, and its sources.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        // It passes itself over when asked for its source.
        Some(inner) => Some(inner),
        None => error.source(),
    })
}

/// What connections are made with.
pub(crate) fn config(options: &TlsOptions) -> Result<ClientConfig, TlsFault> {
    let roots = match &options.authorities {
        Some(Authorities(roots)) => roots.clone(),
        None => of_the_system()?,
    };
    let builder = trusting(roots);
    match &options.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => {
            let config = builder.with_client_auth_cert(chain.clone(), key.clone_key());
            config.map_err(|error| TlsFault::Other(error.to_string()))
        }
    }
}

/// A configuration that trusts nobody, in place of one that reads certificates; it is never used.
pub(crate) fn none() -> ClientConfig {
    trusting(RootCertStore::empty()).with_no_client_auth()
}

fn of_the_system() -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that nobody can use; the others are what counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsFault::NoAuthorities) } else { Ok(roots) }
}

fn trusting(roots: RootCertStore) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots)
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}
