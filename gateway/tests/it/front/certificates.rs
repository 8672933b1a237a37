//! Files that cannot be used.

use std::path::Path;

use clap::Parser;
use gateway::config::{GatewayArgs, Settings};
use gateway::front::Front;
use harness::Authority;
use shared::exit::Failure;
use shared::metrics::Metrics;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// What is said of these files.
fn refusal(certificate: &Path, key: &Path) -> String {
    let flags = Flags::parse_from([
        "gateway".as_ref(),
        "--tls-cert".as_ref(),
        certificate.as_os_str(),
        "--tls-key".as_ref(),
        key.as_os_str(),
    ]);
    let settings = Settings::from_args(&flags.gateway).unwrap();
    match Front::open(&settings.front, &Metrics::new()) {
        Err(Failure::Config(line)) => line,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it opens"),
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_what_is_wrong_and_nothing_of_a_key() {
    let authority = Authority::new();
    let (good, other) = (
        authority.certify("good", &["localhost"]),
        authority.certify("other", &["localhost"]),
    );
    let secret = std::fs::read_to_string(&good.key).unwrap();
    let file = |name: &str, text: &str| {
        let path = authority.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let missing = authority.folder().join("missing.pem");
    let empty = file("empty.pem", "");
    let encrypted = file(
        "encrypted.key",
        &secret.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
    );
    let old = secret.replace(
        "-----BEGIN PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
    );
    let old = file("old.key", &old.replace("END PRIVATE", "END RSA PRIVATE"));
    let cut = file("cut.key", &secret[..secret.len() / 2]);
    let smudged = file("smudged.key", &secret.replace("MI", "M*"));
    let wrong = secret.replace("PRIVATE KEY", "CERTIFICATE");
    let wrong = file("wrong.pem", &wrong);
    for (certificate, key, hint) in [
        (&missing, &good.key, "missing.pem cannot be read"),
        (&good.certificate, &missing, "missing.pem cannot be read"),
        (&empty, &good.key, "empty.pem has no certificate"),
        (&good.certificate, &empty, "empty.pem has no private key"),
        (&good.key, &good.key, "good.key has no certificate"),
        (&good.certificate, &good.certificate, "has no private key"),
        (&good.certificate, &encrypted, "encrypted.key is encrypted"),
        (&good.certificate, &old, "old.key is encrypted"),
        (&good.certificate, &cut, "cut.key is no file in PEM"),
        (&good.certificate, &smudged, "smudged.key is no file in PEM"),
        (&good.certificate, &other.key, "is not the key of"),
        (&wrong, &good.key, "cannot be used"),
    ] {
        let line = refusal(certificate, key);
        assert!(line.contains(hint), "{line}");
        assert!(line.starts_with("--tls-") && !line.contains('\n'), "{line}");
        let leaks = secret.lines().skip(1).any(|part| line.contains(&part[..8]));
        assert!(!leaks, "{line}");
    }
}
