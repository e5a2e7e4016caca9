//! Who gets in, and who does not.

use std::time::Duration;

use hub_domain::id::TwinId;
use hub_domain::identity::{IdentitySpec, Status};
use hub_domain::sas::make_token;
use hub_domain::version::Precondition;
use hub_engine::registry::KeyChoice;
use hub_engine::{Credential, Error};
use hub_testkit::{HOSTNAME, TestHub};

use crate::id;

#[tokio::test]
async fn a_device_gets_in_with_its_own_token_only() {
    let test = TestHub::start().await;
    let (one, token) = test.register("one").await;
    let (two, _) = test.register("two").await;
    let (module, module_token) = test.register("one/m").await;
    let check = |id: &TwinId, token: &str| test.hub.authenticate_device(id, Credential::Token(token));
    assert!(check(&one, &token).is_ok());
    assert!(check(&module, &module_token).is_ok());
    for (id, token) in [(&two, &token), (&module, &token), (&one, &module_token), (&self::id("none"), &token)]
    {
        assert!(matches!(check(id, token), Err(Error::Unauthenticated(_))), "{id}");
    }
    let owner = test.policy_token("iothubowner");
    assert!(check(&two, &owner).is_ok(), "a policy with DeviceConnect may be any device");
    assert!(matches!(check(&two, &test.policy_token("service")), Err(Error::Forbidden(_))));
}

#[tokio::test]
async fn expired_forged_foreign_and_narrow_tokens_are_refused() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let check = |token: &str| test.hub.authenticate_device(&device, Credential::Token(token));
    let key = test.hub.policy_get(&test.owner(), "service").expect("a policy").primary;
    let later = hub_domain::time::Timestamp::from_seconds(hub_testkit::START_SECONDS + 600);
    let foreign = make_token("other.hub", &key, later, Some("service"));
    let refused = test.hub.authenticate_service(&foreign, &["twins", "d"]).expect_err("another hub's token");
    assert!(refused.to_string().contains("Hostname does not match"), "{refused}");
    let narrow = make_token(&format!("{HOSTNAME}/twins/d"), &key, later, Some("service"));
    assert!(test.hub.authenticate_service(&narrow, &["twins", "d"]).is_ok());
    assert!(test.hub.authenticate_service(&narrow, &["twins", "d2"]).is_err());
    assert!(
        test.hub.authenticate_service(&token, &["twins", "d"]).is_err(),
        "a device's token is no policy's"
    );
    assert!(check(&token.replace("sig=", "sig=A")).is_err());
    test.advance(Duration::from_secs(3600 + 299));
    assert!(check(&token).is_ok(), "clocks may differ by five minutes");
    test.advance(Duration::from_secs(2));
    let refused = check(&token).expect_err("expired");
    assert!(refused.to_string().contains("expired"), "{refused}");
    // A clock that jumps back makes it good again, and nothing worse happens.
    test.clock.set(hub_domain::time::Timestamp::from_seconds(0));
    assert!(check(&token).is_ok());
}

#[tokio::test]
async fn rights_are_checked_by_every_kind_of_command() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (reader, service, device) =
        (test.service("registryRead"), test.service("service"), test.service("device"));
    let hub = &test.hub;
    assert!(hub.identity_get(&reader, &id("d")).is_ok());
    assert!(hub.identity_get(&service, &id("d")).is_err());
    assert!(hub.identity_create(&reader, id("e"), IdentitySpec::default()).await.is_err());
    assert!(hub.twin_get(&service, &id("d")).is_ok());
    assert!(hub.twin_get(&reader, &id("d")).is_err());
    assert!(hub.query(&device, "SELECT * FROM devices", None, None).await.is_err());
    assert!(hub.policy_list(&service).is_err());
    assert!(hub.statistics(&service).is_err());
}

#[tokio::test]
async fn a_disabled_device_is_told_so_and_rotated_policies_shut_out_old_tokens() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let spec = IdentitySpec { status: Some(Status::Disabled), ..IdentitySpec::default() };
    let view = test.hub.identity_get(&test.owner(), &device).expect("registered");
    let keys = view.identity.authentication.keys().expect("keys").clone();
    let authentication = hub_domain::identity::AuthenticationSpec {
        primary_key: Some(keys.primary.to_base64()),
        secondary_key: Some(keys.secondary.to_base64()),
        ..Default::default()
    };
    let spec = IdentitySpec { authentication, ..spec };
    test.hub.identity_update(&test.owner(), &device, spec, &Precondition::Exists).await.expect("disabled");
    let refused = test.hub.authenticate_device(&device, Credential::Token(&token)).expect_err("disabled");
    assert_eq!(refused, Error::Disabled(device));

    let owner = test.owner();
    let old = test.policy_token("service");
    test.hub.policy_rotate(&owner, "service", KeyChoice::Primary).await.expect("rotated");
    assert!(test.hub.authenticate_service(&old, &["twins"]).is_err());
}
