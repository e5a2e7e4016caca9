//! The policy file: what is saved is loaded, and everything else is refused with a reason.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use hub_domain::rights::Rights;
use hub_domain::sas::SymmetricKey;
use hub_store::policies::{Policy, PolicyFile, PolicyFileError};

const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

fn policies() -> Vec<Policy> {
    let key = |fill| SymmetricKey::from_bytes(vec![fill; 32]).expect("a key");
    Rights::BUILT_IN_POLICIES
        .iter()
        .zip(1..)
        .map(|((name, rights), fill)| Policy {
            name: (*name).to_owned(),
            rights: *rights,
            primary: key(fill),
            secondary: key(fill + 100),
        })
        .collect()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = PolicyFile::new(folder.path().join("policies.json"));
    assert_eq!(file.load().expect("no file is no error"), None);
    file.save(&policies()).expect("saved");
    assert_eq!(file.load().expect("loaded"), Some(policies()));
    let mode = fs::metadata(file.path()).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A crash left a half-written file that others can read.
    let leftover = folder.path().join("policies.json.new");
    fs::write(&leftover, "{").expect("written");
    fs::set_permissions(&leftover, Permissions::from_mode(0o644)).expect("made readable");
    file.save(&policies()[..1]).expect("saved");
    assert_eq!(file.load().expect("loaded"), Some(policies()[..1].to_vec()));
    assert!(!leftover.exists());
}

#[test]
fn a_file_that_others_can_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = PolicyFile::new(folder.path().join("policies.json"));
    file.save(&policies()).expect("saved");
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("permissions");
        match file.load() {
            Ok(Some(_)) => assert!(good, "{mode:o}"),
            Err(PolicyFileError::NotPrivate { mode: told, .. }) => assert!(!good && told == mode, "{mode:o}"),
            other => panic!("{mode:o}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_set_of_policies_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = PolicyFile::new(folder.path().join("policies.json"));
    let check = |text: String, expected: &str| {
        file.save(&[]).expect("a private file");
        fs::write(file.path(), &text).expect("written");
        let error = file.load().expect_err(&text);
        let told = error.to_string();
        assert!(told.contains(expected), "{told} does not tell {expected}");
        assert!(!told.contains(KEY), "a key is told: {told}");
    };
    let policy = |name: &str, right: &str, key: &str| {
        format!(r#"{{"name":"{name}","rights":["{right}"],"primaryKey":"{key}","secondaryKey":"{KEY}"}}"#)
    };
    let whole = |policies: &str| format!(r#"{{"format":1,"policies":[{policies}]}}"#);
    let good = policy("a", "RegistryRead", KEY);
    check(String::new(), "line 1");
    check(good.clone(), "line 1");
    check(whole(&good).replace("format", "form"), "line 1");
    check(whole(&good).replace(":1", ":2"), "format 2, this release knows 1");
    check(whole(&good).replace(&format!("\"{KEY}\""), "7"), "line 1");
    check(whole(&format!("{good},{good}")), "two policies with the name 'a'");
    check(whole(&policy("a/b", "RegistryRead", KEY)), "'a/b' is no policy name");
    check(whole(&policy("", "RegistryRead", KEY)), "'' is no policy name");
    check(whole(&policy("a", "Everything", KEY)), "policy 'a': there is no right 'Everything'");
    check(whole(&policy("a", "RegistryRead", "c2hvcnQ=")), "policy 'a': primaryKey: the key has 5 bytes");
    check(" ".repeat(1024 * 1024 + 1), "larger than");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let file = PolicyFile::new("/nowhere-at-all/policies.json");
    let told = file.save(&[]).expect_err("no folder").to_string();
    assert_eq!(told, "cannot write /nowhere-at-all/policies.json");
}
