//! A hub in its own process, and the command line as somebody at a shell calls it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_rustls::client::TlsStream;

/// Longest wait for anything that the hub is to do.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A command of the program, without what the tests' own environment would add.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetyard"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLEETYARD_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// `future`, or a failed test.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Runs the program to its end.
pub async fn run(arguments: &[&str]) -> Ended {
    soon("the command", program().args(arguments).output()).await.expect("it starts").into()
}

/// A running hub.
pub struct Hub {
    pub process: Child,
    pub https: String,
    /// What it printed until it was ready.
    pub printed: Vec<String>,
    /// Open as long as the hub is: it may print more.
    _out: Lines<BufReader<ChildStdout>>,
    pub log: Lines<BufReader<ChildStderr>>,
    pub data: PathBuf,
}

impl Hub {
    /// Starts a hub on a folder.
    pub async fn start(data: &Path) -> Hub {
        Hub::start_with(data, &[]).await
    }

    /// Likewise, with further arguments.
    pub async fn start_with(data: &Path, more: &[&str]) -> Hub {
        Hub::start_at("127.0.0.1:0", data, more).await
    }

    /// Likewise, with HTTPS at this address.
    pub async fn start_at(https: &str, data: &Path, more: &[&str]) -> Hub {
        let mut process = program()
            .args(["serve", "--https-address", https, "--mqtt-address", "127.0.0.1:0"])
            .args(["--metrics-address", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the hub starts");
        let mut out = BufReader::new(process.stdout.take().expect("piped")).lines();
        let log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut printed = Vec::new();
        let ready = soon("the hub to be ready", async {
            while let Some(line) = out.next_line().await.expect("text") {
                printed.push(line.clone());
                if line.starts_with("ready ") {
                    return line;
                }
            }
            panic!("the hub ended before it was ready: {printed:?}");
        });
        let ready = ready.await;
        let https =
            ready.split(' ').find_map(|word| word.strip_prefix("https=")).expect("its address").to_string();
        Hub { process, https, printed, _out: out, log, data: data.to_owned() }
    }

    /// Sends a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let id = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().await.expect("kill runs");
        assert!(sent.success());
    }

    /// Reads its log up to a line with `text` in it.
    pub async fn logged(&mut self, text: &str) -> String {
        soon(text, async {
            while let Some(line) = self.log.next_line().await.expect("text") {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("the log ended without '{text}'");
        })
        .await
    }

    /// Ends it in order; gives its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("INT").await;
        soon("the hub to end", self.process.wait()).await.expect("it ends").code()
    }

    /// Runs a command on it.
    pub async fn cli(&self, arguments: &[&str]) -> Ended {
        let data = self.data.to_str().expect("text");
        let all: Vec<_> = arguments.iter().copied().chain(["--data", data]).collect();
        run(&all).await
    }

    /// Runs a command that must end with this code.
    pub async fn expect(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.cli(arguments).await;
        assert_eq!(ended.code, code, "{arguments:?}\n{}\n{}", ended.out, ended.err);
        ended
    }

    /// Runs a command that must succeed and print JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        let ended = self.expect(0, &all).await;
        serde_json::from_str(&ended.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ended.out))
    }
}

/// A folder for one test.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A TLS connection to the hub at `address`, by somebody who trusts nobody but the authority in `ca`.
pub async fn dial(address: &str, ca: &Path) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a CA")).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    soon("the handshake", connector.connect(name, socket)).await.expect("it is trusted")
}
