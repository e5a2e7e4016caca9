//! The peer of twins and queries: PostgreSQL with twins as `jsonb`, on the same machine and the same disk.
//!
//! Tuned as an operator would who gives it the machine: a quarter of the memory for its own pages, `synchronous_commit=on`, room
//! between checkpoints, a GIN index over the documents, expression indexes on what the queries test, and statistics.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

use crate::fleet::name;
use crate::hub::free_port;
use crate::population::twin;

/// Where Debian's package puts the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Who may run them: they refuse to run as root.
const USER: &str = "postgres";
/// Longest wait for the server to answer.
const READY_MAX: Duration = Duration::from_secs(30);
/// Bytes that are given to COPY at once.
const COPY_BYTES: usize = 1 << 20;

const SETTINGS: [&str; 10] = [
    "shared_buffers=4GB",
    "effective_cache_size=12GB",
    "work_mem=64MB",
    "maintenance_work_mem=1GB",
    "synchronous_commit=on",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "random_page_cost=1.1",
    "max_connections=300",
    "unix_socket_directories=",
];

/// Statements after the load: what the queries and the writes look up.
const INDEXES: [&str; 6] = [
    "ALTER TABLE twins ADD PRIMARY KEY (id)",
    "CREATE INDEX ON twins USING gin (doc jsonb_path_ops)",
    "CREATE INDEX ON twins ((doc #>> '{tags,location,site}'))",
    "CREATE INDEX ON twins (((doc #>> '{properties,reported,battery,level}')::numeric))",
    "CREATE INDEX ON twins ((doc #>> '{properties,reported,firmware,version}'))",
    "VACUUM ANALYZE twins",
];

/// A running server; it ends when this is dropped.
pub struct Postgres {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster in a folder of its own and starts it.
    pub async fn start() -> Result<Self> {
        let folder = PathBuf::from(output(&["mktemp", "-d"]).await?.trim());
        let data = folder.join("data");
        let text = data.display().to_string();
        let initdb = format!("{PROGRAMS}/initdb");
        output(&[&initdb, "-D", &text, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"])
            .await
            .context("making a cluster: is Debian's package 'postgresql-15' installed?")?;
        let port = free_port()?;
        let mut command = as_user(&[&format!("{PROGRAMS}/postgres"), "-D", &text, "-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(std::env::temp_dir().join("fleetyard-bench-postgres.log"))?;
        let process = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn()?;
        let server = Self { process, folder, port };
        let answers = async {
            while server.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(READY_MAX, answers).await.is_err() {
            bail!("PostgreSQL does not answer on port {port}");
        }
        Ok(server)
    }

    /// A connection of its own, without TLS.
    pub async fn connect(&self) -> Result<Client> {
        let settings = format!("host=127.0.0.1 port={} user={USER} dbname=postgres", self.port);
        let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("PostgreSQL: {error}");
            }
        });
        Ok(client)
    }

    /// A table of the first `count` twins of the fleet, with its indexes.
    pub async fn load(&self, count: usize) -> Result<Client> {
        let client = self.connect().await?;
        client.batch_execute("CREATE UNLOGGED TABLE twins (id text NOT NULL, doc jsonb NOT NULL)").await?;
        let copy = client.copy_in("COPY twins FROM STDIN").await?;
        let mut copy = std::pin::pin!(copy);
        let mut rows = String::new();
        for number in 0..count {
            let document = twin(number).to_string().replace('\\', "\\\\");
            rows.push_str(&format!("{}\t{document}\n", name(number)));
            if rows.len() > COPY_BYTES {
                copy.send(Bytes::from(std::mem::take(&mut rows))).await?;
            }
        }
        copy.send(Bytes::from(rows)).await?;
        copy.finish().await?;
        client.batch_execute("ALTER TABLE twins SET LOGGED").await?;
        for statement in INDEXES {
            client.batch_execute(statement).await?;
        }
        client.batch_execute("CHECKPOINT").await?;
        Ok(client)
    }

    /// Bytes of the table with its indexes.
    pub async fn table_bytes(client: &Client) -> Result<i64> {
        Ok(client.query_one("SELECT pg_total_relation_size('twins')", &[]).await?.get(0))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It dies with its session: what it held is thrown away with the folder.
        if let Some(id) = self.process.id() {
            let _ = std::process::Command::new("kill").args(["-QUIT", &id.to_string()]).status();
        }
        let _ = std::process::Command::new("rm").arg("-rf").arg(&self.folder).status();
    }
}

/// A command as the user who may run it.
fn as_user(words: &[&str]) -> Command {
    let is_root = Path::new("/root").read_dir().is_ok();
    let mut all: Vec<&str> = if is_root {
        vec!["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
    } else {
        Vec::new()
    };
    all.extend(words);
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).current_dir("/tmp");
    command
}

async fn output(words: &[&str]) -> Result<String> {
    let output = as_user(words).output().await?;
    if !output.status.success() {
        bail!("`{}` failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
