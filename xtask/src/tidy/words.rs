//! Words that must not stand in the code of a crate, each with its reason: what the crate graph
//! cannot see. Tests are free of them, comments and texts too.

use super::source::{Source, word_positions};

/// A word that is banned under `within`, except in files whose path ends with one of `except`.
struct Ban {
    within: &'static [&'static str],
    words: &'static [&'static str],
    except: &'static [&'static str],
    reason: &'static str,
}

const EVERYWHERE: &[&str] = &[""];
const SERVER: &[&str] =
    &["crates/hub-engine/", "crates/hub-store/", "crates/hub-index/", "crates/hub-mqtt/", "crates/hub-rest/"];
const FRONT_ENDS: &[&str] = &["crates/hub-mqtt/", "crates/hub-rest/"];

const BANS: &[Ban] = &[
    Ban {
        within: &["crates/hub-domain/", "crates/hub-index/"],
        words: &[
            "tokio",
            "SystemTime",
            "Instant",
            "Serialize",
            "Deserialize",
            "getrandom",
            "std::fs",
            "std::net",
        ],
        except: &[],
        reason: "values and rules only: time, chance and input are arguments",
    },
    Ban {
        within: &["crates/hub-engine/"],
        words: &["axum", "http::", "hyper", "rustls", "std::net"],
        except: &[],
        reason: "the engine knows no wire type, status code or socket",
    },
    Ban {
        within: FRONT_ENDS,
        words: &["hub_store", "hub_index"],
        except: &[],
        reason: "front ends translate and limit; they ask the engine",
    },
    Ban {
        within: &["crates/hub-mqtt/"],
        words: &["hub_rest", "axum"],
        except: &[],
        reason: "front ends do not know one another",
    },
    Ban {
        within: &["crates/hub-rest/"],
        words: &["hub_mqtt"],
        except: &[],
        reason: "front ends do not know one another",
    },
    Ban {
        within: &["crates/hub-cli/", "sdk/"],
        words: &["hub_domain", "hub_store", "hub_engine", "hub_rest", "hub_mqtt"],
        except: &[],
        reason: "clients know the public protocols and nothing else",
    },
    Ban {
        within: &["crates/hub-engine/", "crates/hub-mqtt/", "crates/hub-rest/"],
        words: &["SystemTime::now", "Timestamp::now"],
        except: &["hub-engine/src/clock.rs"],
        reason: "time comes through one door, so that tests can turn it",
    },
    Ban {
        within: &["crates/hub-engine/"],
        words: &["tokio::spawn", "task::spawn"],
        except: &["hub-engine/src/tasks.rs"],
        reason: "every task has a kind: spawn it through `tasks.rs`",
    },
    Ban {
        within: &["crates/hub-engine/"],
        words: &["store.commit(", "store().commit("],
        except: &["hub-engine/src/transact.rs"],
        reason: "only a transaction commits, with what it read as its expectations",
    },
    Ban {
        within: EVERYWHERE,
        words: &["thread::sleep"],
        except: &[],
        reason: "wait for what you wait for, or for the clock",
    },
    Ban {
        within: EVERYWHERE,
        words: &["process::exit"],
        except: &["fleetyard/src/signals.rs"],
        reason: "return an exit code from main, so that everything is dropped in order",
    },
    Ban {
        within: EVERYWHERE,
        words: &["unbounded_channel", "mpsc::channel()", "unbounded()"],
        except: &[],
        reason: "every queue has a limit with a name",
    },
    Ban {
        within: EVERYWHERE,
        words: &[".unwrap()"],
        except: &[],
        reason: "use `expect` with the reason why it cannot fail",
    },
    Ban {
        within: SERVER,
        words: &["thread_local!", "task_local!", "lazy_static!"],
        except: &[],
        reason: "no globals: state has an owner and is handed on",
    },
];

/// Problems with the words in `source`.
pub fn check(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for ban in BANS {
        let path = source.path.as_str();
        let concerned = ban.within.iter().any(|start| path.starts_with(start));
        if !concerned || ban.except.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        for word in ban.words {
            problems
                .extend(find(source, &source.code, word).map(|at| format!("{at}: `{word}`: {}", ban.reason)));
        }
    }
    problems.extend(check_conversions(source));
    problems.extend(check_topics(source));
    problems.extend(check_selects(source));
    problems
}

/// `PATH:LINE` of each product line with `word` in it.
fn find<'a>(source: &'a Source, view: &'a str, word: &'a str) -> impl Iterator<Item = String> + 'a {
    let hits =
        source.product_lines(view).filter(move |(_, line)| word_positions(line, word).next().is_some());
    hits.map(|(number, _)| format!("{}:{}", source.path, number + 1))
}

/// Conversions between the wire and the domain are pure, so they never wait.
fn check_conversions(source: &Source) -> Vec<String> {
    let is_conversion = ["from_wire", "to_wire"].iter().any(|name| {
        source.path.ends_with(&format!("/{name}.rs")) || source.path.contains(&format!("/{name}/"))
    });
    if !is_conversion {
        return Vec::new();
    }
    let hits = ["async", "await"].iter().flat_map(|word| find(source, &source.code, word));
    hits.map(|at| format!("{at}: conversions are pure: no `async` here")).collect()
}

/// MQTT topics are parsed and printed in one place.
fn check_topics(source: &Source) -> Vec<String> {
    if !source.path.starts_with("crates/hub-mqtt/") || source.path.contains("/topics") {
        return Vec::new();
    }
    let hits =
        ["\"$iothub/", "\"devices/", "\"$aws/"].iter().flat_map(|word| find(source, &source.text, word));
    hits.map(|at| format!("{at}: topics are written in `topics.rs` alone")).collect()
}

/// Without `biased;` a select takes its branches at random, and a seed does not reproduce a run.
fn check_selects(source: &Source) -> Vec<String> {
    let is_biased = |at: &usize| {
        let rest = source.code[at + "select!".len()..].trim_start();
        rest.strip_prefix('{').is_some_and(|body| body.trim_start().starts_with("biased;"))
    };
    let selects = word_positions(&source.code, "select!").filter(|at| !is_biased(at));
    selects
        .map(|at| format!("{}:{}: `select!` begins with `biased;`", source.path, source.line_of(at) + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_words(path: &str, raw: &str, expected: usize) {
        let problems = check(&Source::new(path, raw));
        assert_eq!(problems.len(), expected, "{path}: {raw}: {problems:?}");
    }

    #[test]
    fn bans_hold_in_their_crates_only() {
        check_words("crates/hub-domain/src/a.rs", "use tokio::time;", 1);
        check_words("crates/hub-domain/src/a.rs", "// tokio\nconst A: &str = \"tokio\";", 0);
        check_words("crates/hub-domain/src/a.rs", "fn a(now: SystemTime) {}", 1);
        check_words("crates/hub-domain/src/a.rs", "#[cfg(test)]\nmod tests { use std::time::Instant; }", 0);
        check_words("crates/hub-engine/src/a.rs", "use axum::Router; use http::StatusCode;", 2);
        check_words("crates/hub-engine/src/a.rs", "use tokio::time;", 0);
        check_words("crates/hub-engine/src/a.rs", "let now = SystemTime::now();", 1);
        check_words("crates/hub-engine/src/clock.rs", "let now = SystemTime::now();", 0);
        check_words("crates/hub-engine/src/a.rs", "tokio::spawn(x);", 1);
        check_words("crates/hub-engine/src/tasks.rs", "tokio::spawn(x);", 0);
        check_words("crates/hub-engine/src/a.rs", "self.store.commit(batch); txn.commit();", 1);
        check_words("crates/hub-engine/src/transact.rs", "self.store.commit(batch);", 0);
        check_words("crates/fleetyard/src/a.rs", "std::process::exit(1); std::thread::sleep(x);", 2);
        check_words("crates/hub-mqtt/src/a.rs", "use hub_store::Store; use hub_rest::x;", 2);
        check_words("crates/hub-rest/src/a.rs", "use hub_mqtt::x;", 1);
        check_words("crates/hub-cli/src/a.rs", "use hub_engine::Hub;", 1);
        check_words("sdk/device/src/a.rs", "use hub_domain::id;", 1);
        check_words("crates/hub-sim/src/a.rs", "let (a, b) = mpsc::unbounded_channel();", 1);
    }

    #[test]
    fn unwraps_belong_to_tests() {
        check_words("crates/x/src/a.rs", "let a = b.unwrap();", 1);
        check_words("crates/x/src/a.rs", "let a = b.unwrap_or(1); // .unwrap()", 0);
        check_words("crates/x/tests/it/a.rs", "let a = b.unwrap();", 0);
    }

    #[test]
    fn conversions_are_pure() {
        check_words("crates/x/src/from_wire.rs", "pub async fn f() {}", 1);
        check_words("crates/x/src/to_wire/twin.rs", "x.await;", 1);
        check_words("crates/x/src/wire.rs", "pub async fn f() {}", 0);
    }

    #[test]
    fn topics_have_one_place() {
        check_words("crates/hub-mqtt/src/a.rs", "let t = format!(\"devices/{id}/messages/\");", 1);
        check_words("crates/hub-mqtt/src/a.rs", "if t.starts_with(\"$iothub/twin\") {}", 1);
        check_words("crates/hub-mqtt/src/topics.rs", "let t = \"$iothub/twin\";", 0);
        check_words("crates/hub-mqtt/src/auth.rs", "let r = format!(\"{host}/devices/{id}\");", 0);
        check_words("crates/hub-rest/src/a.rs", "let r = \"devices/x\";", 0);
    }

    #[test]
    fn selects_are_biased() {
        check_words("crates/x/src/a.rs", "tokio::select! {\n    biased;\n    x = y => {}\n}", 0);
        check_words("crates/x/src/a.rs", "tokio::select! {\n    x = y => {}\n}", 1);
    }
}
