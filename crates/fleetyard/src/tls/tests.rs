//! The authority and its certificates on a real folder, with the time as an argument, and handshakes in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::layers::Sources;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    files
}

fn sans(path: &Path) -> BTreeSet<String> {
    let der = CertificateDer::from_pem_file(path).expect("a certificate");
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let names = certificate.subject_alternative_name().expect("valid").expect("there are names");
    names.value.general_names.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_start_makes_files_for_the_owner_alone_and_the_second_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let tls = folder.path().join("tls");
    let authority = Authority::new(&tls);
    let names = names(&["hub.example.com", "localhost", "127.0.0.1", "::1"]);
    authority.ensure(&names, SystemTime::now()).expect("made");
    let made = files(&tls);
    assert_eq!(made.len(), 4);
    for (path, _) in &made {
        let mode = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
    }
    let found = sans(&authority.server());
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().any(|name| name.contains("hub.example.com")), "{found:?}");
    authority.ensure(&names, SystemTime::now() + DAY).expect("good");
    assert_eq!(files(&tls), made);
}

#[test]
fn another_name_or_a_near_end_makes_a_new_certificate_by_the_same_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path());
    let now = SystemTime::now();
    authority.ensure(&names(&["a"]), now).expect("made");
    let read = |path: std::path::PathBuf| std::fs::read(path).expect("readable");
    let (ca, server) = (read(authority.ca()), read(authority.server()));
    authority.ensure(&names(&["a", "b"]), now).expect("made anew");
    let second = read(authority.server());
    assert_ne!(second, server);
    authority.ensure(&names(&["b"]), now + DAY * 300).expect("still good");
    assert_eq!(read(authority.server()), second);
    authority.ensure(&names(&["b"]), now + DAY * 380).expect("made anew");
    assert_ne!(read(authority.server()), second);
    assert_eq!(read(authority.ca()), ca);
}

#[test]
fn a_strange_certificate_and_a_lost_key_are_errors_and_stay() {
    let (ours, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (authority, stranger) = (Authority::new(ours.path()), Authority::new(other.path()));
    let now = SystemTime::now();
    authority.ensure(&names(&["a"]), now).expect("made");
    stranger.ensure(&names(&["a"]), now).expect("made");
    std::fs::copy(stranger.server(), authority.server()).expect("copied");
    let error = authority.ensure(&names(&["a"]), now).expect_err("not ours");
    assert!(format!("{error:#}").contains("tls.certificate"), "{error:#}");
    std::fs::remove_file(authority.server()).expect("removed");
    std::fs::remove_file(ours.path().join("ca-key.pem")).expect("removed");
    let before = files(ours.path());
    let error = authority.ensure(&names(&["a"]), now).expect_err("it cannot sign");
    assert!(format!("{error:#}").contains("ca-key.pem is missing"), "{error:#}");
    assert_eq!(files(ours.path()), before);
}

/// Settings whose certificate is `a.pem` of `folder`, made by an authority in `a`.
fn brought(folder: &Path) -> Settings {
    copy_pair(folder, "a");
    let flags = [("tls.certificate", "a.pem"), ("tls.key", "a-key.pem")]
        .map(|(key, file)| (key, folder.join(file).display().to_string()));
    let data = ("hub.data", folder.join("data").display().to_string());
    let flags = flags.into_iter().chain([data]).collect();
    Settings::load(&Sources { flags, ..Sources::default() }).expect("valid")
}

fn copy_pair(folder: &Path, authority: &str) {
    let authority = Authority::new(folder.join(authority));
    authority.ensure(&names(&["localhost"]), SystemTime::now()).expect("made");
    std::fs::copy(authority.server(), folder.join("a.pem")).expect("copied");
    std::fs::copy(authority.server_key(), folder.join("a-key.pem")).expect("copied");
}

#[test]
fn a_reload_takes_a_good_pair_and_keeps_the_former_instead_of_a_bad_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = ServerCertificate::open(&brought(folder.path())).expect("a pair");
    let shown = || certificate.current.read().expect("not poisoned").cert[0].clone();
    let first = shown();
    std::fs::write(folder.path().join("a.pem"), "no certificate").expect("written");
    certificate.reload().expect_err("not PEM");
    assert_eq!(shown(), first);
    let other = Authority::new(folder.path().join("b"));
    other.ensure(&names(&["localhost"]), SystemTime::now()).expect("made");
    std::fs::copy(other.server(), folder.path().join("a.pem")).expect("copied");
    let error = certificate.reload().expect_err("the key is of another certificate");
    assert!(format!("{error:#}").contains("do not serve together"), "{error:#}");
    assert_eq!(shown(), first);
    copy_pair(folder.path(), "b");
    certificate.reload().expect("a pair");
    assert_ne!(shown(), first);
}

#[test]
fn no_suite_is_lost_and_the_cheapest_are_preferred() {
    let usual = rustls::crypto::ring::default_provider();
    let ours = super::cheapest_first(usual.clone());
    let is_cheap =
        |suite: &rustls::SupportedCipherSuite| format!("{suite:?}").ends_with("AES_128_GCM_SHA256");
    let cheap = ours.cipher_suites.iter().take_while(|suite| is_cheap(suite)).count();
    assert_eq!(cheap, usual.cipher_suites.iter().filter(|suite| is_cheap(suite)).count());
    assert!(cheap > 0 && usual.cipher_suites.iter().all(|suite| ours.cipher_suites.contains(suite)));
}
