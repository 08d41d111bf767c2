//! Reads certificates back: whose they are and how long they last.
//!
//! `status` shows this table, and preflight of a renewed node compares it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use x509_parser::prelude::FromDer;

use crate::pki::error::PkiError;
use crate::sys::{files, tls_keys};

/// One certificate on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// `ca`, `node`, `admin`.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// `O=system:nodes, CN=system:node:a1`.
    pub subject: String,
    pub serial: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the public key.
    pub key_fingerprint: String,
}

impl CertificateInfo {
    /// Whole days until it expires; negative when it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(86_400)
    }

    /// Whether two thirds of its time are over: then there is time for many attempts, and for
    /// somebody to look when they fail.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let (begin, end) = (self.not_before.as_second(), self.not_after.as_second());
        // One of the future was signed while the clock was wrong.
        !(begin..begin + (end - begin) / 3 * 2).contains(&now.as_second())
    }
}

/// Describes the first certificate of a PEM text.
pub fn describe(pem: &str, name: &str) -> Result<CertificateInfo, PkiError> {
    let unreadable = |reason: String| PkiError::Crypto { action: "read a certificate", reason };
    let ders = tls_keys::certificates(pem).map_err(|error| unreadable(error.to_string()))?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&ders[0])
        .map_err(|error| unreadable(error.to_string()))?;
    let moment = |seconds: i64| {
        Timestamp::from_second(seconds).map_err(|error| unreadable(error.to_string()))
    };
    Ok(CertificateInfo {
        name: name.to_owned(),
        path: None,
        subject: parsed.subject().to_string(),
        serial: parsed.raw_serial_as_string(),
        not_before: moment(parsed.validity().not_before.timestamp())?,
        not_after: moment(parsed.validity().not_after.timestamp())?,
        key_fingerprint: tls_keys::fingerprint(parsed.public_key().raw),
    })
}

/// The certificates of a PKI directory that exist there.
pub fn certificates(dir: &Path) -> Result<Vec<CertificateInfo>, PkiError> {
    let mut found = Vec::new();
    for name in ["ca", "node", "admin"] {
        let path = dir.join(format!("{name}.crt"));
        if let Some(pem) = files::read_if_present(&path)? {
            let mut info = describe(&String::from_utf8_lossy(&pem), name)?;
            info.path = Some(path);
            found.push(info);
        }
    }
    Ok(found)
}
