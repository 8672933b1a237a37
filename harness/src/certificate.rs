//! A certificate authority of a test's own, and what it certifies, as files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// An authority with a folder of its own, which is removed with this.
pub struct Authority {
    dir: TempDir,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, each in a file in PEM, in the folder of who issued them.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, the key first, as MongoDB wants them.
    pub both: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    /// When the folder for temporary files cannot be written.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Roomcast's tests");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        let dir = tempfile::tempdir().expect("the folder for temporary files is writable");
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("the folder is new");
        Self {
            dir,
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The file that has the authority's own certificate, in PEM.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The folder of all its files.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Certifies a new key for these host names and addresses, in files called `name`, which are
    /// replaced where they are there already. Servers and clients may use it.
    ///
    /// # Panics
    /// When a host is neither a name nor an address.
    pub fn certify(&self, name: &str, hosts: &[&str]) -> Certified {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).expect("hosts are names or addresses");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the parameters are valid");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let write = |suffix: &str, text: &str| {
            let file = self.dir.path().join(format!("{name}{suffix}"));
            std::fs::write(&file, text).expect("the folder is ours");
            file
        };
        Certified {
            certificate: write(".pem", &certificate),
            key: write(".key", &key),
            both: write("-both.pem", &format!("{key}{certificate}")),
        }
    }

    /// What a client encrypts with that trusts this authority alone.
    ///
    /// # Panics
    /// Never: the authority's certificate is well-formed.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .expect("the certificate is an authority's");
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
