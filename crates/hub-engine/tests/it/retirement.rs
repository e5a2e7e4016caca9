//! The end of a device's life: retired, restored, erased, released and replaced, with what each leaves behind.

use std::time::Duration;

use hub_domain::actor::Actor;
use hub_domain::event::{EventKind, EventSource};
use hub_domain::id::{DeviceId, JobId, TwinId};
use hub_domain::identity::{AuthenticationSpec, IdentitySpec};
use hub_domain::job::{JobAction, NewJob};
use hub_domain::link::Downlink;
use hub_domain::method::{MethodCall, MethodResult};
use hub_domain::retirement::{Receipt, RetireRequest, Retirement, RetirementState};
use hub_domain::sas::SymmetricKey;
use hub_domain::session::Family;
use hub_domain::twin::TwinUpdate;
use hub_domain::version::Precondition;
use hub_engine::bulk::{BulkAction, BulkItem};
use hub_engine::config::{RESTORABLE_DEFAULT, SESSION_QUEUE_MAX};
use hub_engine::events::EventFilter;
use hub_engine::retirement::Replacement;
use hub_engine::{Attachment, Credential, Error};
use hub_testkit::TestHub;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::configurations::{at_rest, create, device_content, spec, write};
use crate::jobs::patching;
use crate::{desired, id, patch, tags};

pub fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("an id")
}

pub async fn retire(test: &TestHub, name: &str) -> Retirement {
    let request = RetireRequest { reason: Some("worn out".into()), ..RetireRequest::default() };
    test.hub.device_retire(&test.owner(), &device(name), &request).await.expect("retired")
}

async fn refused(test: &TestHub, name: &str, request: RetireRequest) -> Error {
    test.hub.device_retire(&test.owner(), &device(name), &request).await.expect_err("refused")
}

pub async fn report(test: &TestHub, name: &str, value: Value) {
    let patch = patch(value);
    test.hub.twin_patch_reported(&test.owner(), &id(name), &patch, None).await.expect("reported");
}

async fn rows(test: &TestHub, query: &str) -> Vec<Value> {
    test.hub.query(&test.owner(), query, None, None).await.expect("an answer").values()
}

pub async fn lifecycle(test: &TestHub, name: &str) -> Vec<String> {
    let filter = EventFilter { sources: vec![EventSource::Lifecycle], device: Some(device(name)) };
    let (mut steps, mut after, mut at_end) = (Vec::new(), None, false);
    while !at_end {
        let page = test.hub.events_read(&test.owner(), &filter, after, 1000).await.expect("events");
        (after, at_end) = (Some(page.reached), page.at_end);
        steps.extend(page.events.into_iter().map(|(_, event)| match event.kind {
            EventKind::Lifecycle { step, actor, .. } => {
                format!("{} by {}", step.operation(), actor.expect("somebody"))
            }
            other => panic!("{other:?}"),
        }));
    }
    steps
}

pub async fn attached(test: &TestHub, name: &str) -> (Attachment, hub_engine::Downlinks) {
    let token = test.device_token(&id(name), test.hub.now().plus(Duration::from_secs(3600)));
    let who = test.hub.authenticate_device(&id(name), Credential::Token(&token)).expect("its own token");
    let (sender, queue) = hub_engine::downlinks(SESSION_QUEUE_MAX);
    let attachment = test.hub.attach(&who, &id(name), false, sender).await.expect("attached");
    test.hub.subscribe(&attachment, Family::Methods, false).await.expect("subscribed");
    (attachment, queue)
}

pub fn twin_of(test: &TestHub, id: &TwinId) -> Value {
    test.hub.twin_get(&test.owner(), id).expect("a twin").document().to_json()
}

#[tokio::test]
async fn a_retired_device_is_gone_archived_and_comes_back_as_it_was() {
    let test = TestHub::start().await;
    let (_, token) = test.register("d").await;
    let (module, module_token) = test.register("d/m").await;
    write(&test, "d", tags(json!({"site": "a"}))).await;
    write(&test, "d", desired(json!({"rate": 5}))).await;
    report(&test, "d", json!({"rate": 4})).await;
    let before = (twin_of(&test, &id("d")), twin_of(&test, &module));
    let (attachment, _queue) = attached(&test, "d").await;

    let retirement = retire(&test, "d").await;
    assert_eq!((retirement.modules, retirement.state()), (1, RetirementState::Restorable));
    assert_eq!(retirement.restorable_until, test.hub.now().plus(RESTORABLE_DEFAULT));
    attachment.ended().await;
    for (id, token) in [(&id("d"), &token), (&module, &module_token)] {
        let refused = test.hub.authenticate_device(id, Credential::Token(token)).expect_err("retired");
        assert!(matches!(refused, Error::Unauthenticated(_)), "{refused:?}");
    }
    assert_eq!(test.hub.statistics(&test.owner()).expect("statistics").devices, 0);
    assert!(test.hub.identity_get(&test.owner(), &id("d")).is_err());
    let view = test.hub.retired_get(&test.owner(), &device("d")).await.expect("retired");
    assert_eq!(view.retirement, retirement);
    let ids: Vec<_> = view.documents.iter().map(|one| (&one["deviceId"], &one["moduleId"])).collect();
    assert_eq!(ids, [(&json!("d"), &Value::Null), (&json!("d"), &json!("m"))]);
    assert_eq!(view.documents[0]["properties"], before.0["properties"]);

    let again = refused(&test, "d", RetireRequest::default()).await;
    assert!(
        again.to_string().contains("was retired at") && matches!(again, Error::Retired { .. }),
        "{again}"
    );
    let unknown = refused(&test, "x", RetireRequest::default()).await;
    assert_eq!(unknown, Error::DeviceNotFound(device("x")));

    let back = test.hub.retired_restore(&test.owner(), &device("d"), false).await.expect("restored");
    assert_eq!(back.identity.generation, retirement.generation);
    assert!(test.hub.authenticate_device(&id("d"), Credential::Token(&token)).is_ok());
    assert!(test.hub.authenticate_device(&module, Credential::Token(&module_token)).is_ok());
    for (id, before) in [(&id("d"), &before.0), (&module, &before.1)] {
        let after = twin_of(&test, id);
        for member in ["properties", "tags", "etag", "version"] {
            assert_eq!(after[member], before[member], "{id} {member}");
        }
    }
    let gone = test.hub.retired_get(&test.owner(), &device("d")).await.expect_err("restored");
    assert_eq!(gone, Error::RetirementNotFound(device("d")));
    let owner = "by policy:iothubowner";
    assert_eq!(
        lifecycle(&test, "d").await,
        [
            format!("createDeviceIdentity {owner}"),
            format!("createDeviceIdentity {owner}"),
            format!("retireDeviceIdentity {owner}"),
            format!("restoreDeviceIdentity {owner}"),
        ]
    );
}

#[tokio::test]
async fn new_keys_are_given_to_those_who_ask() {
    let test = TestHub::start().await;
    let (_, token) = test.register("d").await;
    retire(&test, "d").await;
    test.hub.retired_restore(&test.owner(), &device("d"), true).await.expect("restored");
    assert!(test.hub.authenticate_device(&id("d"), Credential::Token(&token)).is_err());
}

#[tokio::test]
async fn the_id_is_kept_over_a_restart_until_it_is_released() {
    let first = TestHub::start().await;
    for name in ["d", "e"] {
        first.register(name).await;
    }
    retire(&first, "d").await;
    let test = first.killed().await;
    let owner = test.owner();
    let spec = IdentitySpec::default;
    let check = |error: Error| {
        let text = error.to_string();
        let told = text.contains("was retired at 2027-01-15T08:00:00") && text.contains("restore it until");
        assert!(matches!(error, Error::Retired { .. }) && told, "{text}");
    };
    check(test.hub.identity_create(&owner, id("d"), spec()).await.expect_err("retired"));
    let upsert = BulkAction::CreateOrUpdate {
        spec: spec(),
        twin: TwinUpdate::default(),
        precondition: Precondition::Exists,
        twin_precondition: Precondition::Exists,
    };
    let create = BulkAction::Create { spec: spec(), twin: tags(json!({"a": 1})) };
    for action in [upsert, create] {
        let item = BulkItem { id: id("d"), action, record: None };
        let bulk = test.hub.device_bulk(&owner, vec![item.clone()]).await.expect("ran");
        check(bulk.into_iter().next().expect("one").expect_err("retired"));
        let mut import = test.hub.import(&owner).expect("begun");
        import.add(1, item).await.expect("taken");
        import.finish().await.expect("finished");
        check(import.refused().into_iter().next().expect("one").error);
    }
    let absent = test.hub.identity_update(&owner, &id("d"), spec(), &Precondition::Exists).await;
    assert_eq!(absent.expect_err("absent"), Error::DeviceNotFound(device("d")));
    let early = test.hub.retired_release(&owner, &device("d")).await.expect_err("it can be restored");
    assert!(matches!(&early, Error::Conflict(text) if text.contains("erase it first")), "{early:?}");

    test.hub.retired_erase(&owner, &device("d")).await.expect("erased");
    let error = test.hub.identity_create(&owner, id("d"), spec()).await.expect_err("still kept");
    assert!(error.to_string().contains("must be released"), "{error}");
    let released = test.hub.retired_release(&owner, &device("d")).await.expect("released");
    assert_eq!(released.state(), RetirementState::Released);
    test.hub.identity_create(&owner, id("d"), spec()).await.expect("free");
    let proof = test.hub.retired_get(&owner, &device("d")).await.expect("the proof stays");
    assert!(proof.retirement.erasure.is_some_and(|erasure| erasure.ended.is_some()));
    retire(&test, "d").await;
    check(test.hub.identity_create(&owner, id("d"), spec()).await.expect_err("retired again"));
}

#[tokio::test]
async fn an_erasure_removes_everything_and_proves_it() {
    let test = TestHub::start().await;
    for name in ["d", "d/m", "e", "e2"] {
        test.register(name).await;
    }
    write(&test, "d", tags(json!({"secret": "of d"}))).await;
    write(&test, "e", tags(json!({"secret": "of e"}))).await;
    let job = patching("roll", "*", json!({"rate": 2}));
    test.hub.job_create(&test.owner(), job).await.expect("created");
    while !test
        .hub
        .job_get(&test.owner(), &JobId::parse("roll").expect("an id"))
        .await
        .expect("a job")
        .state
        .is_over()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let events = async |name: &str| {
        let filter = EventFilter { sources: Vec::new(), device: Some(device(name)) };
        test.hub.events_read(&test.owner(), &filter, None, 1000).await.expect("events").events.len()
    };
    retire(&test, "d").await;
    let (of_d, of_e) = (events("d").await, events("e").await);
    let documents = test.hub.retired_get(&test.owner(), &device("d")).await.expect("retired").documents;
    let jobs = "SELECT COUNT() AS n FROM devices.jobs WHERE deviceId = 'd'";
    assert_eq!(rows(&test, jobs).await, [json!({"n": 1})]);

    let erased =
        test.hub.retired_erase(&test.service("registryReadWrite"), &device("d")).await.expect("erased");
    assert_eq!(erased.state(), RetirementState::Erased);
    let erasure = erased.erasure.expect("it was erased");
    let removed = erasure.removed;
    assert_eq!((removed.identities, removed.twins, removed.job_records), (2, 2, 1));
    assert_eq!(removed.events, of_d as u64);
    assert_eq!(erasure.by, Actor::Policy("registryReadWrite".into()));
    let lines: String = documents.iter().map(|one| format!("{one}\n")).collect();
    let digest: String = Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(erasure.ended.expect("it ended").1.as_str(), digest);
    assert_eq!(lifecycle(&test, "d").await, ["eraseDeviceIdentity by hub"]);
    assert_eq!((events("d").await, events("e").await), (1, of_e), "those of others stay");
    assert_eq!(rows(&test, jobs).await, [json!({"n": 0})]);
    let view = test.hub.retired_get(&test.owner(), &device("d")).await.expect("the proof");
    assert_eq!(view.documents, Vec::<Value>::new());
    let late = test.hub.retired_restore(&test.owner(), &device("d"), false).await.expect_err("too late");
    assert!(matches!(&late, Error::Gone(text) if text.contains("could be restored until")), "{late:?}");
    assert_eq!(rows(&test, "SELECT COUNT() AS n FROM devices").await, [json!({"n": 2})]);
    let twice = test.hub.retired_erase(&test.owner(), &device("d")).await.expect("it is erased");
    assert_eq!(twice, view.retirement);
}

#[tokio::test(start_paused = true)]
async fn after_its_time_it_is_erased_by_itself() {
    let test = TestHub::start().await;
    for name in ["a", "b"] {
        test.register(name).await;
    }
    let hour = Duration::from_secs(3600);
    let request = RetireRequest { restorable_for: Some(hour), ..RetireRequest::default() };
    test.hub.device_retire(&test.owner(), &device("a"), &request).await.expect("retired");
    retire(&test, "b").await;
    test.advance(hour - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let state = async |name: &str| {
        test.hub.retired_get(&test.owner(), &device(name)).await.expect("retired").retirement.state()
    };
    assert_eq!(state("a").await, RetirementState::Restorable);
    test.advance(Duration::from_secs(1));
    let late = test.hub.retired_restore(&test.owner(), &device("a"), false).await.expect_err("too late");
    assert!(matches!(late, Error::Gone(_)), "{late:?}");
    for _ in 0..1000 {
        if state("a").await == RetirementState::Erased {
            assert_eq!(state("b").await, RetirementState::Restorable);
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it was not erased: {:?}", state("a").await);
}

#[tokio::test]
async fn retired_devices_are_queried_and_listed() {
    let test = TestHub::start().await;
    for name in ["a", "b", "c", "d", "d/m"] {
        test.register(name).await;
    }
    for (name, site) in [("a", "x"), ("b", "y"), ("d", "x")] {
        write(&test, name, tags(json!({"site": site}))).await;
        retire(&test, name).await;
    }
    test.hub.retired_erase(&test.owner(), &device("b")).await.expect("erased");
    let all = rows(&test, "SELECT * FROM devices.retired WHERE tags.site = 'x' ORDER BY deviceId DESC").await;
    assert_eq!((all.len(), &all[0]["deviceId"]), (2, &json!("d")));
    assert_eq!(all[0]["retirement"]["reason"], "worn out");
    assert_eq!(all[0]["retirement"]["by"], "policy:iothubowner");
    let text = "SELECT deviceId, retirement.reason FROM devices.retired WHERE retirement.time > '2000' AND deviceId IN ['c', 'd']";
    assert_eq!(rows(&test, text).await, [json!({"deviceId": "d", "reason": "worn out"})]);
    assert_eq!(rows(&test, "SELECT COUNT() AS n FROM devices.retired").await, [json!({"n": 2})]);
    let owner = test.owner();
    let first =
        test.hub.query(&owner, "SELECT deviceId FROM devices.retired", Some(1), None).await.expect("a page");
    let token = first.continuation.expect("there is more");
    let next = test.hub.query(&owner, "SELECT deviceId FROM devices.retired", Some(1), Some(&token)).await;
    let next = next.expect("a page");
    assert_eq!((next.values(), next.continuation), (vec![json!({"deviceId": "d"})], None));

    let mut listed = Vec::new();
    let mut token = None;
    loop {
        let page = test.hub.retired_list(&owner, Some(1), token.as_deref()).await.expect("a page");
        assert_eq!(page.retired.len(), 1);
        listed.extend(page.retired.into_iter().map(|one| (one.device.to_string(), one.state())));
        token = page.continuation;
        if token.is_none() {
            break;
        }
    }
    let states = [RetirementState::Restorable, RetirementState::Erased, RetirementState::Restorable];
    assert_eq!(listed, ["a", "b", "d"].map(String::from).into_iter().zip(states).collect::<Vec<_>>());
    let forged = test.hub.retired_list(&owner, None, Some("AAAA")).await.expect_err("forged");
    assert_eq!(forged, Error::InvalidContinuation);
}

#[tokio::test]
async fn rights_are_asked_for() {
    let test = TestHub::start().await;
    test.register("d").await;
    let (reader, writer) = (test.service("registryRead"), test.service("registryReadWrite"));
    let forbidden = |error: Error| assert!(matches!(error, Error::Forbidden(_)), "{error:?}");
    let call = MethodCall::new("wipe", None, None, None).expect("a call");
    let erase = RetireRequest { erase: Some(call), ..RetireRequest::default() };
    let (of, plain) = (device("d"), RetireRequest::default());
    forbidden(test.hub.device_retire(&reader, &of, &plain).await.expect_err("read only"));
    forbidden(test.hub.device_retire(&writer, &of, &erase).await.expect_err("calls no methods"));
    forbidden(test.hub.retired_list(&test.service("service"), None, None).await.expect_err("no registry"));
    forbidden(test.hub.everything(&reader, &of, false).await.map(drop).expect_err("no service"));
    let hardware =
        Replacement::Hardware { authentication: AuthenticationSpec::default(), keep_reported: false };
    forbidden(test.hub.device_replace(&reader, &of, &hardware).await.expect_err("read only"));
    test.hub.device_retire(&writer, &of, &plain).await.expect("retired");
    assert_eq!(test.hub.retired_list(&reader, None, None).await.expect("a list").retired.len(), 1);
    test.hub.retired_get(&reader, &of).await.expect("read");
    forbidden(test.hub.retired_restore(&reader, &of, false).await.expect_err("read only"));
    forbidden(test.hub.retired_erase(&reader, &of).await.expect_err("read only"));
    forbidden(test.hub.retired_release(&reader, &of).await.expect_err("read only"));
    test.hub.retired_restore(&writer, &of, false).await.expect("restored");
    for request in [
        RetireRequest { reason: Some("x".repeat(513)), ..RetireRequest::default() },
        RetireRequest { restorable_for: Some(Duration::MAX), ..RetireRequest::default() },
    ] {
        let error = refused(&test, "d", request).await;
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
}

/// Retires a device that answers its erase method so.
async fn with_answer(
    test: &TestHub,
    name: &str,
    force: bool,
    answer: impl Fn(&Value) -> (i32, Value),
) -> Result<Retirement, Error> {
    let (attachment, mut queue) = attached(test, name).await;
    let call = MethodCall::new("wipe", Some("{\"deep\":true}".into()), Some(5), None).expect("a call");
    let request = RetireRequest { erase: Some(call), force, ..RetireRequest::default() };
    let (of, owner) = (device(name), test.owner());
    let retire = test.hub.device_retire(&owner, &of, &request);
    let device = async {
        if let Some(Downlink::Call { call, payload, name }) = queue.next().await {
            assert_eq!(&*name, "wipe");
            let given: Value = serde_json::from_str(&payload).expect("JSON");
            assert_eq!(given["deep"], true);
            let (status, payload) = answer(&given);
            let result = MethodResult { status, payload: payload.to_string() };
            test.hub.method_complete(&attachment, call, result);
        }
    };
    tokio::join!(retire, device).0
}

fn signed(test: &TestHub, name: &str, nonce: &Value) -> Value {
    let view = test.hub.identity_get(&test.owner(), &id(name)).expect("registered");
    signed_by(&view.identity.authentication.keys().expect("keys").secondary, &device(name), nonce)
}

/// A receipt as a device with this key gives it.
pub fn signed_by(key: &SymmetricKey, device: &DeviceId, nonce: &Value) -> Value {
    let at = "2026-05-04T08:15:30Z";
    let nonce = nonce.as_str().expect("a nonce");
    let signature = key.sign(&Receipt::text(device, at, nonce));
    json!({ "receipt": { "deviceId": device.as_str(), "erasedAt": at, "nonce": nonce, "signature": signature } })
}

#[tokio::test]
async fn a_signed_receipt_is_believed_and_nothing_else() {
    let test = TestHub::start().await;
    for name in ["d", "other"] {
        test.register(name).await;
    }
    for (status, wrong) in [(200, json!({})), (200, json!({"receipt": 1})), (500, Value::Null)] {
        let error =
            with_answer(&test, "d", false, |_| (status, wrong.clone())).await.expect_err("no receipt");
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
    }
    let of_other =
        with_answer(&test, "d", false, |given| (200, signed(&test, "other", &given["nonce"]))).await;
    assert!(of_other.expect_err("of another").to_string().contains("not this device"));
    let replayed = signed(&test, "d", &json!("an older nonce"));
    let error = with_answer(&test, "d", false, |_| (200, replayed.clone())).await.expect_err("replayed");
    assert!(error.to_string().contains("receipt.nonce"), "{error}");
    test.hub.identity_get(&test.owner(), &id("d")).expect("refused retirements change nothing");

    let retired = with_answer(&test, "d", false, |given| (200, signed(&test, "d", &given["nonce"]))).await;
    let receipt = retired.expect("proven").receipt.expect("a receipt");
    assert_eq!(receipt.erased_at, "2026-05-04T08:15:30Z");
    let forced = with_answer(&test, "other", true, |_| (200, json!({}))).await.expect("forced");
    let unproven = forced.unproven.expect("it says so");
    assert!(forced.receipt.is_none() && unproven.contains("no object 'receipt'"), "{unproven}");
}

#[tokio::test]
async fn an_erase_method_of_a_device_that_is_not_there_fails_unless_forced() {
    let test = TestHub::start().await;
    test.register("d").await;
    let call = MethodCall::new("wipe", None, Some(5), None).expect("a call");
    let erase = RetireRequest { erase: Some(call), ..RetireRequest::default() };
    let error = refused(&test, "d", erase.clone()).await;
    assert!(matches!(error, Error::DeviceOffline { .. }), "{error:?}");
    let forced = RetireRequest { force: true, ..erase.clone() };
    let retired = test.hub.device_retire(&test.owner(), &device("d"), &forced).await.expect("forced");
    assert!(retired.unproven.is_some_and(|text| text.contains("Timed out waiting for device to connect")));
    assert_eq!(refused(&test, "none", forced).await, Error::DeviceNotFound(device("none")));
}

#[tokio::test(start_paused = true)]
async fn a_device_in_a_running_job_fails_there_and_the_job_goes_on() {
    let test = TestHub::start().await;
    for name in ["a", "b"] {
        test.register(name).await;
    }
    let name = || JobId::parse("reboot").expect("an id");
    let call = MethodCall::new("reboot", None, Some(5), None).expect("a call");
    let job = NewJob {
        id: name(),
        action: JobAction::CallMethod { call, wait_for_devices: true },
        condition: "*".into(),
        listed: None,
        start: None,
        execution_max: None,
        device_timeout: None,
        rollout: None,
        gates: None,
        roll_back: None,
    };
    test.hub.job_create(&test.owner(), job).await.expect("created");
    let job = async || test.hub.job_get(&test.owner(), &name()).await.expect("a job").state;
    while job().await.counts.pending < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    retire(&test, "a").await;
    for _ in 0..1000 {
        if job().await.counts.failed == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let failed = rows(&test, "SELECT deviceId, error FROM devices.jobs WHERE status = 'failed'").await;
    let error = json!({"code": "DeviceRetired", "description": "The device was retired."});
    assert_eq!(failed, [json!({"deviceId": "a", "error": error})]);
    assert!(!job().await.is_over(), "it waits for the other device");
    let (attachment, mut queue) = attached(&test, "b").await;
    let Some(Downlink::Call { call, .. }) = queue.next().await else { panic!("a call") };
    test.hub.method_complete(&attachment, call, MethodResult { status: 200, payload: "null".into() });
    for _ in 0..1000 {
        if job().await.is_over() {
            assert_eq!(job().await.counts.succeeded, 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the job does not end: {:?}", job().await);
}

#[tokio::test(start_paused = true)]
async fn configurations_settle_with_a_restore() {
    let test = TestHub::start().await;
    test.register("d").await;
    write(&test, "d", tags(json!({"site": "a"}))).await;
    let content = |rate: u32| device_content(json!({"properties.desired.rate": rate}));
    create(&test, spec("old", "tags.site = 'a'", 1, content(1))).await;
    at_rest(&test).await;
    retire(&test, "d").await;
    let old = crate::configurations::name("old");
    test.hub.configuration_delete(&test.owner(), &old, &Precondition::None).await.expect("deleted");
    create(&test, spec("new", "tags.site = 'a'", 1, content(2))).await;
    at_rest(&test).await;
    test.hub.retired_restore(&test.owner(), &device("d"), false).await.expect("restored");
    let twin = twin_of(&test, &id("d"));
    assert_eq!(
        (&twin["properties"]["desired"]["rate"], &twin["configurations"]),
        (&json!(2), &json!({"new": {"status": "Applied"}}))
    );
}
