//! Which URLs a policy opens, by table.

use super::*;

fn policy() -> ContainerPolicy {
    let stores = ["acc.blob.core.windows.net", "http://127.0.0.1:10000", "s3://fleet", "https://h:8443"];
    ContainerPolicy {
        folder: Some("/srv/bulk".into()),
        stores: stores.iter().map(|text| StoreRule::parse(text).expect("a rule")).collect(),
        s3: S3Settings {
            region: "eu-1".into(),
            access_key_id: "id".into(),
            secret_access_key: "key".into(),
            ..S3Settings::default()
        },
        ..ContainerPolicy::default()
    }
}

#[test]
fn what_is_named_opens() {
    for url in [
        "file:///srv/bulk",
        "file:/srv/bulk/a/b",
        "file://localhost/srv/bulk/a%20b",
        "file:///srv/bulk/a/../b",
        "https://acc.blob.core.windows.net/fleet?sv=2024&sig=a%2Bb",
        "https://ACC.blob.core.windows.net:443/fleet/folder?sig=x",
        "http://127.0.0.1:10000/devstore/fleet?sig=x",
        "https://h:8443/c?sig=x",
        "s3://fleet",
        "s3://fleet/some/folder",
    ] {
        policy().open(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}

#[test]
fn everything_else_is_refused_with_the_setting_that_would_allow_it() {
    for (url, says) in [
        ("", "not a URL"),
        ("fleet", "not a URL"),
        ("ftp://h/c", "'ftp:' are not known"),
        ("data:text/plain,x", "'data:' are not known"),
        ("file:///etc", "bulk.folder allows /srv/bulk"),
        ("file:///srv/bulk2", "bulk.folder allows"),
        ("file:///srv/bulk/../../etc", "bulk.folder allows"),
        ("file:///srv/bulk/%2e%2e/%2e%2e/etc", "bulk.folder allows"),
        ("file:///srv/bulk/..%2f..%2fetc", "'..'"),
        ("file://host/srv/bulk", "path only"),
        ("file:///srv/bulk?x", "path only"),
        ("https://other.blob.core.windows.net/c?sig=x", "bulk.stores"),
        ("https://acc.blob.core.windows.net.evil.org/c?sig=x", "bulk.stores"),
        ("https://acc.blob.core.windows.net@evil.org/c?sig=x", "user name"),
        ("https://acc.blob.core.windows.net:8443/c?sig=x", "bulk.stores"),
        ("http://acc.blob.core.windows.net/c?sig=x", "bulk.stores"),
        ("https://127.0.0.1:10000/d/c?sig=x", "bulk.stores"),
        ("http://localhost:10000/d/c?sig=x", "bulk.stores"),
        ("http://169.254.169.254/latest?sig=x", "bulk.stores"),
        ("https://acc.blob.core.windows.net/fleet", "access signature"),
        ("https://acc.blob.core.windows.net/?sig=x", "names no container"),
        ("http://127.0.0.1:10000/c?sig=x", "account and container"),
        ("s3://other", "bulk.stores"),
        ("s3://fleet?x=1", "query"),
    ] {
        match policy().open(url) {
            Err(ContainerError::Refused(text)) => assert!(text.contains(says), "{url}: {text}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    for url in ["file:///srv/bulk", "https://acc.blob.core.windows.net/c?sig=x", "s3://fleet"] {
        let error = ContainerPolicy::default().open(url).expect_err("nothing is allowed");
        assert!(error.to_string().contains("the setting bulk."), "{error}");
    }
    let keyless = ContainerPolicy { s3: S3Settings::default(), ..policy() };
    let error = keyless.open("s3://fleet").expect_err("no keys").to_string();
    assert!(error.contains("bulk.s3_access_key_id"), "{error}");
}

#[test]
fn rules_are_hosts_or_buckets() {
    for bad in
        ["", "*", "*.blob.core.windows.net", "https://h/path", "ftp://h", "s3://", "s3://a/b", "u@h", "h?x"]
    {
        assert_eq!(StoreRule::parse(bad), None, "{bad}");
    }
    let host = |tls, port| Some(StoreRule::Host { tls, host: "h".into(), port });
    for (good, rule) in [("H", host(true, 443)), ("h:1", host(true, 1)), ("http://h", host(false, 80))] {
        assert_eq!(StoreRule::parse(good), rule, "{good}");
    }
}
