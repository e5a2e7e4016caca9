//! Replaced devices, by other hardware or by another device, and everything that is known about one.

use std::time::Duration;

use hub_domain::identity::AuthenticationSpec;
use hub_domain::retirement::RetireRequest;
use hub_engine::retirement::{Part, Replacement};
use hub_engine::{Credential, Error};
use hub_testkit::TestHub;
use serde_json::{Value, json};

use crate::configurations::{at_rest, create, device_content, spec, write};
use crate::retirement::{attached, device, lifecycle, report, retire, twin_of};
use crate::{desired, id, tags};

#[tokio::test]
async fn other_hardware_takes_over_an_id() {
    let test = TestHub::start().await;
    let (_, token) = test.register("d").await;
    let (module, module_token) = test.register("d/m").await;
    write(&test, "d", desired(json!({"rate": 5}))).await;
    report(&test, "d", json!({"rate": 4, "firmware": {"version": "1"}})).await;
    let (attachment, _queue) = attached(&test, "d").await;
    let hardware = |authentication: AuthenticationSpec, keep_reported| Replacement::Hardware {
        authentication,
        keep_reported,
    };
    let replace = async |replacement: Replacement| {
        test.hub.device_replace(&test.owner(), &device("d"), &replacement).await
    };
    let before = test.hub.identity_get(&test.owner(), &id("d")).expect("there").identity;
    let keys = before.authentication.keys().expect("keys").clone();
    let same = AuthenticationSpec {
        primary_key: Some(keys.secondary.to_base64()),
        secondary_key: Some(keys.primary.to_base64()),
        ..AuthenticationSpec::default()
    };
    let error = replace(hardware(same, false)).await.expect_err("the old keys");
    assert!(matches!(&error, Error::Invalid(text) if text.contains("must not have a key")), "{error:?}");

    test.advance(Duration::from_secs(1));
    let replaced = replace(hardware(AuthenticationSpec::default(), false)).await.expect("replaced");
    assert_ne!(replaced.device.identity.generation, before.generation);
    assert_eq!(
        replaced.device.identity,
        test.hub.identity_get(&test.owner(), &id("d")).expect("there").identity
    );
    attachment.ended().await;
    for (id, token) in [(&id("d"), &token), (&module, &module_token)] {
        assert!(test.hub.authenticate_device(id, Credential::Token(token)).is_err(), "{id}");
    }
    let twin = test.hub.twin_get(&test.owner(), &id("d")).expect("a twin").twin;
    assert_eq!(twin.desired.values, *desired(json!({"rate": 5})).desired.expect("some").object());
    assert_eq!((twin.reported.values.len(), twin.reported.version), (0, 3), "its versions go on");
    let [was] = &replaced.predecessors[..] else { panic!("{:?}", replaced.predecessors) };
    assert_eq!((&was.device, &was.generation), (&device("d"), &before.generation));

    report(&test, "d", json!({"rate": 3})).await;
    let kept = replace(hardware(AuthenticationSpec::default(), true)).await.expect("replaced");
    assert_eq!(kept.predecessors.len(), 2);
    assert_eq!(twin_of(&test, &id("d"))["properties"]["reported"]["rate"], 3);
    let absent =
        Replacement::Hardware { authentication: AuthenticationSpec::default(), keep_reported: false };
    let absent = test.hub.device_replace(&test.owner(), &device("x"), &absent).await.expect_err("unknown");
    assert_eq!(absent, Error::DeviceNotFound(device("x")));
}

#[tokio::test(start_paused = true)]
async fn another_device_takes_over_a_twin() {
    let test = TestHub::start().await;
    let (_, token) = test.register("old").await;
    for name in ["new", "used"] {
        test.register(name).await;
    }
    let content = device_content(json!({"properties.desired.from.site": 1}));
    create(&test, spec("site", "tags.site = 'a'", 1, content)).await;
    create(&test, spec("all", "*", 1, device_content(json!({"properties.desired.from.all": 1})))).await;
    at_rest(&test).await;
    write(&test, "old", tags(json!({"site": "a"}))).await;
    write(&test, "old", desired(json!({"rate": 5}))).await;
    report(&test, "old", json!({"rate": 5})).await;
    report(&test, "used", json!({"rate": 9})).await;
    let with = |new: &str, overwrite| Replacement::Device {
        new: device(new),
        overwrite,
        retire: RetireRequest { reason: Some("lightning".into()), ..RetireRequest::default() },
    };
    let replace = async |old: &str, replacement: &Replacement| {
        test.hub.device_replace(&test.owner(), &device(old), replacement).await
    };
    let itself = replace("old", &with("old", false)).await.expect_err("itself");
    assert!(matches!(&itself, Error::Invalid(text) if text.contains("cannot replace itself")), "{itself:?}");
    assert_eq!(
        replace("old", &with("x", false)).await.expect_err("unknown"),
        Error::DeviceNotFound(device("x"))
    );
    assert_eq!(
        replace("x", &with("new", false)).await.expect_err("unknown"),
        Error::DeviceNotFound(device("x"))
    );
    let used = replace("old", &with("used", false)).await.expect_err("it has a twin");
    assert!(
        matches!(&used, Error::Conflict(text) if text.contains("(reported properties)") && text.contains("overwrite")),
        "{used:?}"
    );

    let replaced = replace("old", &with("new", false)).await.expect("replaced");
    let retired = replaced.retirement.expect("a record");
    assert_eq!((retired.replaced_by, retired.reason.as_deref()), (Some(device("new")), Some("lightning")));
    assert!(test.hub.authenticate_device(&id("old"), Credential::Token(&token)).is_err());
    let twin = twin_of(&test, &id("new"));
    assert_eq!(twin["tags"], json!({"site": "a"}));
    let desired = &twin["properties"]["desired"];
    assert_eq!((&desired["rate"], &desired["from"]), (&json!(5), &json!({"site": 1, "all": 1})));
    assert_eq!(desired["$metadata"]["from"]["site"]["$lastUpdatedBy"], "site");
    assert_eq!(
        twin["configurations"].as_object().map(|all| all.len()),
        Some(2),
        "settled in the same commit"
    );
    assert_eq!(twin["properties"]["reported"]["rate"], Value::Null);
    assert_eq!(replaced.predecessors[0].device, device("old"));
    let owner = "by policy:iothubowner";
    let steps = [format!("createDeviceIdentity {owner}"), format!("replaceDeviceIdentity {owner}")];
    assert_eq!(lifecycle(&test, "new").await, steps);

    let next = replace("new", &with("used", true)).await.expect("overwritten");
    let line: Vec<_> = next.predecessors.iter().map(|one| one.device.to_string()).collect();
    assert_eq!(line, ["new", "old"]);
    let twin = twin_of(&test, &id("used"));
    assert_eq!((&twin["tags"]["site"], &twin["properties"]["reported"]["rate"]), (&json!("a"), &json!(9)));
    let again = replace("old", &with("used", true)).await.expect_err("retired");
    assert!(matches!(again, Error::Retired { .. }), "{again:?}");
}

#[tokio::test]
async fn everything_about_a_device_is_told() {
    let test = TestHub::start().await;
    for name in ["d", "d/m", "e"] {
        test.register(name).await;
    }
    write(&test, "d", tags(json!({"site": "a"}))).await;
    let hardware =
        Replacement::Hardware { authentication: AuthenticationSpec::default(), keep_reported: true };
    test.hub.device_replace(&test.owner(), &device("d"), &hardware).await.expect("replaced");
    let told = async |name: &str| {
        let mut all = test.hub.everything(&test.owner(), &device(name), false).await.expect("begun");
        let mut told = Vec::new();
        while let Some(page) = all.page().await.expect("a page") {
            told.extend(page.into_iter().map(|part| match part {
                Part::Twin(view) => format!("twin {}", view.identity.id),
                Part::Retired(view) => format!("retired {}", view.documents.len()),
                Part::Predecessor(one) => format!("predecessor {}", one.device),
                Part::Configuration(one) => format!("configuration {}", one.spec().id),
                Part::JobRecord(_) => "job".into(),
                Part::Event(_, event) => event.kind.operation().unwrap_or("telemetry").to_string(),
            }));
        }
        told
    };
    let known = ["createDeviceIdentity", "createDeviceIdentity", "updateTwin", "replaceDeviceIdentity"];
    let registered = [&["twin d", "twin d/m", "predecessor d"], &known[..]].concat();
    assert_eq!(told("d").await, registered);
    retire(&test, "d").await;
    assert_eq!(
        told("d").await,
        [&["retired 2", "predecessor d"], &known[..], &["retireDeviceIdentity"]].concat()
    );
    let unknown =
        test.hub.everything(&test.owner(), &device("x"), false).await.map(drop).expect_err("unknown");
    assert_eq!(unknown, Error::DeviceNotFound(device("x")));
}
