//! The hub's own certificate authority and the server certificate that it signs, kept in the folder `tls`.
//! It must never replace the authority, which clients trust, nor a certificate that somebody else put there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority is good.
const AUTHORITY_DAYS: u32 = 20 * 365;
/// How long a server certificate is good; some clients refuse more.
const SERVER_DAYS: u32 = 397;
/// A server certificate with less left is made anew.
const RENEWAL_DAYS: u32 = 60;
/// Certificates begin so much before now, for clients whose clock is slow.
const BACKDATED_DAYS: u32 = 2;
/// The name of the authority begins so; a random number follows, so that two hubs' authorities differ.
const AUTHORITY_NAME: &str = "Fleetyard local CA";

/// The files of the folder `tls`.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// The authority in `folder`, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Authority {
        Authority { folder: folder.into() }
    }

    /// The authority's certificate, which clients need.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn ca_key(&self) -> PathBuf {
        self.folder.join("ca-key.pem")
    }

    /// The server's certificate.
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The server's key.
    pub fn server_key(&self) -> PathBuf {
        self.folder.join("server-key.pem")
    }

    /// Makes what is missing, and the server's certificate anew when it ends soon or lacks one of `names`.
    pub fn ensure(&self, names: &[String], now: SystemTime) -> Result<()> {
        let folder = &self.folder;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        match (self.ca().exists(), self.ca_key().exists()) {
            (true, true) => {}
            (false, false) => self.make_authority(now)?,
            // Without the key nothing can be signed; that is no harm while the certificate is good.
            (true, false) if self.server_is_good(names, now)? => return Ok(()),
            (true, false) => bail!(
                "the server certificate must be made anew and {} is missing: restore it, or remove {} to begin with a new authority, which all clients then need",
                self.ca_key().display(),
                self.ca().display()
            ),
            (false, true) => bail!(
                "{} is missing and its key is there: restore it, or remove {} to begin with a new authority",
                self.ca().display(),
                self.ca_key().display()
            ),
        }
        if !self.server_is_good(names, now)? {
            self.make_server(names, now)?;
            tracing::info!(names = names.join(", "), "made a server certificate");
        }
        Ok(())
    }

    fn make_authority(&self, now: SystemTime) -> Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let mut params = params(now, AUTHORITY_DAYS);
        let name = format!("{AUTHORITY_NAME} {:08x}", u32::from_be_bytes(random));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        // The key first: a certificate without its key would be trusted and useless.
        replace_file(&self.ca_key(), &key.serialize_pem())?;
        replace_file(&self.ca(), &certificate.pem())
    }

    fn make_server(&self, names: &[String], now: SystemTime) -> Result<()> {
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let damaged = || format!("{} and its key are damaged", self.ca().display());
        let ca_key = KeyPair::from_pem(&read(self.ca_key())?).with_context(damaged)?;
        let issuer = Issuer::from_ca_cert_pem(&read(self.ca())?, ca_key).with_context(damaged)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(now, SERVER_DAYS);
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        // The field of the name is short, and nobody reads it any more; the alternative names count.
        let shown = names.iter().find(|name| name.len() <= 64).map_or("fleetyard", String::as_str);
        params.distinguished_name.push(DnType::CommonName, shown);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?;
        replace_file(&self.server_key(), &key.serialize_pem())?;
        replace_file(&self.server(), &certificate.pem())
    }

    /// Whether the present server certificate may stay in use.
    fn server_is_good(&self, names: &[String], now: SystemTime) -> Result<bool> {
        if !self.server().exists() || !self.server_key().exists() {
            return Ok(false);
        }
        let (ca, server) = (first_certificate(&self.ca())?, first_certificate(&self.server())?);
        let damaged = |path: PathBuf| {
            move |_| {
                anyhow::anyhow!("{} is damaged: restore it, or remove it to get a new one", path.display())
            }
        };
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).map_err(damaged(self.ca()))?;
        let (_, server) = x509_parser::parse_x509_certificate(&server).map_err(damaged(self.server()))?;
        if server.issuer().as_raw() != ca.subject().as_raw() {
            bail!(
                "{} was not made by the hub's own authority: to bring your own certificate, keep it elsewhere and set tls.certificate and tls.key; else remove the file to get a new one",
                self.server().display()
            );
        }
        let mut wanted: Vec<SanType> = CertificateParams::new(names)?.subject_alt_names;
        wanted.retain(|name| !has_name(&server, name));
        let ends = server.validity().not_after.timestamp();
        let needed = seconds_since_1970(now + DAY * RENEWAL_DAYS);
        Ok(wanted.is_empty() && ends > needed)
    }
}

fn has_name(certificate: &x509_parser::certificate::X509Certificate<'_>, wanted: &SanType) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        names.value.general_names.iter().any(|name| match (name, wanted) {
            (GeneralName::DNSName(have), SanType::DnsName(want)) => *have == want.as_str(),
            (GeneralName::IPAddress(have), SanType::IpAddress(IpAddr::V4(want))) => **have == want.octets(),
            (GeneralName::IPAddress(have), SanType::IpAddress(IpAddr::V6(want))) => **have == want.octets(),
            _ => false,
        })
    })
}

fn params(now: SystemTime, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds_since_1970(now).unsigned_abs());
    params.not_before = now - DAY * BACKDATED_DAYS;
    params.not_after = now + DAY * (days - BACKDATED_DAYS);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn seconds_since_1970(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn first_certificate(path: &Path) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("{} is no certificate in PEM: {error}", path.display()))
}

/// Puts `text` in place of a file that only its owner may read; after a crash it is the old or the new one, whole.
pub fn replace_file(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        match std::fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(temporary, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
