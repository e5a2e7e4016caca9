//! Errors of binding, by table.

use super::*;

fn check(key: &'static str, kind: io::ErrorKind, parts: &[&str]) {
    let listen = Listen { address: "127.0.0.1:443".parse().expect("an address"), key };
    let text = explain_bind_error(&listen, &kind.into());
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn a_port_that_cannot_be_had_names_the_setting_and_what_helps() {
    check(
        "https.address",
        io::ErrorKind::PermissionDenied,
        &["setcap", "--https-address", "FLEETYARD_HTTPS_ADDRESS", "[https] address"],
    );
    check(
        "mqtt.address",
        io::ErrorKind::AddrInUse,
        &["ss -ltnp", ":443", "--mqtt-address", "FLEETYARD_MQTT_ADDRESS"],
    );
    check("metrics.address", io::ErrorKind::AddrNotAvailable, &["0.0.0.0", "--metrics-address"]);
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let first = Listen { address: "127.0.0.1:0".parse().expect("an address"), key: "mqtt.address" };
    let taken = bind(&first).expect("a free port");
    let second = Listen { address: taken.local_addr().expect("bound"), ..first };
    let error = bind(&second).expect_err("the port is taken");
    assert!(error.to_string().contains("something else listens there"), "{error}");
}
