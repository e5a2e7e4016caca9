//! Azure blob storage and S3, each against a server on a real socket, and servers that err or stall.

use std::time::Duration;

use bytes::Bytes;
use hub_container::{Container, ContainerError, ContainerPolicy, PART_BYTES, S3Settings, StoreRule};
use hub_testkit::blob_server::{BlobServer, Fault};

use super::{name, pattern, read, write};

/// Longer than a busy machine needs for an answer, and short enough to wait for.
const TIMEOUT: Duration = Duration::from_secs(2);

fn policy(server: &BlobServer) -> ContainerPolicy {
    ContainerPolicy {
        stores: [&server.rule(), "s3://fleet"].map(|rule| StoreRule::parse(rule).expect("a rule")).into(),
        s3: S3Settings {
            endpoint: server.rule(),
            region: "eu-1".into(),
            access_key_id: "key-id".into(),
            secret_access_key: "key".into(),
        },
        timeout: TIMEOUT,
        ..ContainerPolicy::default()
    }
}

fn both(server: &BlobServer) -> [(Container, &'static str); 2] {
    let policy = policy(server);
    let open = |url: &str| policy.open(url).expect("an allowed container");
    [(open(&server.azure("fleet")), "account/fleet"), (open("s3://fleet/folder"), "fleet/folder")]
}

#[tokio::test]
async fn blobs_go_there_and_come_back_in_one_piece_or_many() {
    let server = BlobServer::start().await;
    for (container, path) in both(&server) {
        for (blob, len) in [("small.txt", 1000), ("empty.txt", 0), ("a/large ü.txt", 2 * PART_BYTES + 12345)]
        {
            write(&container, blob, &pattern(len), 1_000_000)
                .await
                .unwrap_or_else(|error| panic!("{blob}: {error}"));
            assert_eq!(server.blob(&format!("{path}/{blob}")).expect("there").len(), len, "{blob}");
            assert_eq!(read(&container, blob).await.expect("read"), pattern(len), "{blob}");
        }
    }
    let requests = server.requests();
    let parts = |sign: &str| requests.iter().filter(|request| request.contains(sign)).count();
    assert_eq!((parts("comp=block&"), parts("partNumber=")), (3, 3), "large blobs go in parts");
}

#[tokio::test]
async fn a_blob_that_is_given_up_is_as_before() {
    let server = BlobServer::start().await;
    for (container, path) in both(&server) {
        write(&container, "b", b"before", 10).await.expect("written");
        let mut writer = container.write(&name("b")).await.expect("begun");
        writer.write(Bytes::from(pattern(2 * PART_BYTES))).await.expect("written");
        writer.abort().await;
        assert_eq!(server.blob(&format!("{path}/b")).expect("there"), "before");
    }
}

#[tokio::test]
async fn a_store_that_errs_is_told_and_its_signature_is_not() {
    let server = BlobServer::start().await;
    for (container, path) in both(&server) {
        let missing = container.read(&name("none")).await.err().expect("not there");
        assert!(matches!(missing, ContainerError::NotFound(_)), "{missing}");
        server.put(&format!("{path}/b"), "content");
        for (fault, says) in
            [(Fault::Answer(403), "403"), (Fault::Answer(500), "500"), (Fault::Answer(503), "503")]
        {
            server.set_fault(fault);
            for error in [
                container.info(&name("b")).await.expect_err("told to err"),
                container.read(&name("b")).await.err().expect("told to err"),
                write(&container, "b", b"x", 10).await.expect_err("told to err"),
            ] {
                let text = error.to_string();
                assert!(
                    matches!(error, ContainerError::Failed(_)) && text.contains(says),
                    "{fault:?}: {text}"
                );
                assert!(!text.contains("cret") && !text.contains("sig="), "{text}");
            }
        }
        server.set_fault(Fault::None);
    }
}

#[tokio::test]
async fn a_store_that_stalls_is_left_in_time() {
    let server = BlobServer::start().await;
    for (container, path) in both(&server) {
        server.put(&format!("{path}/b"), pattern(100_000));
        server.set_fault(Fault::Stall);
        for error in [
            container.info(&name("b")).await.expect_err("silent"),
            container.read(&name("b")).await.err().expect("silent"),
            write(&container, "b", b"x", 10).await.expect_err("silent"),
        ] {
            let text = error.to_string();
            assert!(text.contains("did not answer within 2 s"), "{text}");
            assert!(!text.contains("cret"), "{text}");
        }
        server.set_fault(Fault::StallWithin);
        let error = read(&container, "b").await.expect_err("silent within");
        assert!(error.to_string().contains("fell silent for 2 s"), "{error}");
        server.set_fault(Fault::None);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, other) = (BlobServer::start().await, BlobServer::start().await);
    server.set_fault(Fault::Redirect(other.address()));
    for (container, _) in both(&server) {
        container.read(&name("b")).await.err().expect("no blob");
        write(&container, "b", b"x", 10).await.expect_err("no blob");
    }
    assert_eq!(other.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn nobody_listens() {
    let server = BlobServer::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let rule = format!("http://{address}");
    let policy = ContainerPolicy { stores: StoreRule::parse(&rule).into_iter().collect(), ..policy(&server) };
    let container = policy.open(&format!("{rule}/a/c?sig=secret")).expect("allowed");
    let error = container.read(&name("b")).await.err().expect("nobody answers").to_string();
    assert!(!error.contains("secret"), "{error}");
}
