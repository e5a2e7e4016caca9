//! `fleetyard status`: the hub in numbers.

use crate::Context;
use crate::error::Result;

const FIELDS: [(&str, &str); 20] = [
    ("hub", "hostname"),
    ("version", "version"),
    ("ready", "ready"),
    ("started", "startedAt"),
    ("now", "now"),
    ("devices", "devices"),
    ("devices enabled", "devicesEnabled"),
    ("modules", "modules"),
    ("connected", "connected"),
    ("commits", "commits"),
    ("store bytes", "storeBytes"),
    ("telemetry messages", "telemetryMessages"),
    ("reported patches", "reportedPatches"),
    ("method calls", "methodCalls"),
    ("pages of queries", "queries"),
    ("index bytes", "index.bytes"),
    ("twins packed, bytes", "index.twinsBytes"),
    ("index paths", "index.pathsIndexed"),
    ("paths not indexed", "index.pathsNotIndexed"),
    ("twins not indexed", "index.twinsNotIndexed"),
];

/// Nothing to say.
#[derive(clap::Args, Debug)]
pub struct Arguments {}

/// Shows it.
pub(crate) async fn run(context: &Context) -> Result<()> {
    context.output.one(&context.client.get(&["api", "status"]).await?, &FIELDS)
}
