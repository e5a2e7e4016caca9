//! Artifacts: stored once, fetched by grant only.

use std::time::Duration;

use futures_util::stream;
use hub_domain::artifact::Digest;
use hub_domain::time::Timestamp;
use hub_engine::Error;
use hub_testkit::TestHub;
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn an_image_is_stored_once_and_fetched_by_grant() {
    let test = TestHub::start().await;
    let (hub, owner) = (&test.hub, test.owner());
    let content = || stream::iter([Ok("ab".into()), Ok("c".into())]);
    let added = hub.artifact_add(&owner, "image", content()).await.expect("added");
    assert_eq!(added.digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hub.artifact_add(&owner, "same image", content()).await.expect("added again");
    assert_eq!(hub.artifact_list(&owner).await.expect("a list").len(), 1);
    let grant = hub.artifact_grant(&owner, &added.digest, Duration::from_secs(60)).await.expect("a grant");
    let (artifact, mut file) =
        hub.artifact_open(&added.digest, grant.expires, &grant.signature).await.expect("opened");
    let mut text = String::new();
    file.read_to_string(&mut text).await.expect("read");
    assert_eq!((artifact.bytes, artifact.name.as_str(), text.as_str()), (3, "same image", "abc"));
    let longer = Timestamp::from_seconds(grant.expires.seconds() + 60);
    for (expires, signature) in
        [(longer, grant.signature.as_str()), (grant.expires, "AAAA"), (grant.expires, "")]
    {
        let refused = hub.artifact_open(&added.digest, expires, signature).await.expect_err("no grant");
        assert!(matches!(refused, Error::Unauthenticated(_)));
    }
    test.advance(Duration::from_secs(61));
    let expired =
        hub.artifact_open(&added.digest, grant.expires, &grant.signature).await.expect_err("expired");
    assert!(expired.to_string().contains("expired"));
    let owner = test.owner();
    hub.artifact_remove(&owner, &added.digest).await.expect("removed");
    assert_eq!(hub.artifact_remove(&owner, &added.digest).await, Err(Error::ArtifactNotFound(added.digest)));
    let nobody = Digest::from_bytes(&[0; 32]);
    assert!(hub.artifact_grant(&owner, &nobody, Duration::from_secs(60)).await.is_err());
    assert!(hub.artifact_add(&owner, "", content()).await.is_err());
    assert!(hub.artifact_add(&test.service("service"), "x", content()).await.is_err());
}
