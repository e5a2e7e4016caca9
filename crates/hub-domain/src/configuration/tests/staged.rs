//! Waves of configurations: who is in which, how each twin counts, and what comes next.

use super::*;
use crate::id::TwinId;
use crate::rollout::{Phase, RolloutState};
use crate::twin::{ConfigurationStatus, TwinPatch};

fn staging(rollout: Value) -> Staging {
    Staging::parse(&rollout).expect("a rollout")
}

fn twin_id(n: usize) -> TwinId {
    TwinId::parse(&format!("d{n}"), None).expect("an id")
}

fn planned(rollout: Value, count: usize) -> Configuration {
    let body = json!({
        "content": {"deviceContent": {"properties.desired.a": 1}}, "targetCondition": "*", "rollout": rollout,
    });
    let spec = spec("c", body).expect("a configuration");
    let staging = spec.rollout.clone().expect("a rollout");
    let numbers = (0..count).map(|n| staging.number(&twin_id(n))).collect();
    let stages = Stages::plan(&staging, "ops", numbers).expect("a plan");
    Configuration::create(spec, at(0)).staged(Some(stages))
}

fn open(configuration: Configuration, waves: usize) -> Configuration {
    let stages = configuration.stages().expect("waves").clone();
    let mut state = stages.state().clone();
    state.waves.iter_mut().take(waves).for_each(|wave| wave.opened = Some(at(100)));
    let stages = Stages::of_parts(stages.bounds().to_vec(), state).expect("it fits");
    configuration.staged(Some(stages))
}

#[test]
fn waves_have_their_sizes_and_latecomers_have_a_wave() {
    let three = json!({"waves": [{"devices": 7}, {"percent": 25}, {"rest": true}], "seed": 5});
    let configuration = planned(three, 100);
    let mut sizes = [0; 3];
    for n in 0..100 {
        let (wave, is_open) = configuration.wave_of(&twin_id(n)).expect("waves");
        sizes[wave] += 1;
        assert!(!is_open && !configuration.admits(&twin_id(n)));
    }
    assert_eq!(sizes, [7, 25, 68]);
    let two = open(configuration, 2);
    let admitted = |from: usize, to: usize| (from..to).filter(|n| two.admits(&twin_id(*n))).count();
    assert_eq!(admitted(0, 100), 32);
    let late = admitted(100, 10_100);
    assert!((1500..5000).contains(&late), "{late} of 10000 latecomers");
    let mut back = two.stages().expect("waves").clone();
    back.state_mut().roll_back("ops", "why not").expect("it runs");
    let back = two.staged(Some(back));
    assert_eq!((0..100).filter(|n| back.admits(&twin_id(*n))).count(), 0);
    assert!(planned(json!({}), 3).staged(None).admits(&twin_id(1)), "without waves all are let in");
}

#[test]
fn what_a_twin_shows_decides_how_it_counts() {
    let conditions = json!({
        "success": {"condition": "properties.reported.ok = true"},
        "failure": {"condition": "properties.reported.ok = false"}, "deviceTimeoutInSeconds": 60,
    });
    let waiting = planned(conditions, 1);
    let opened = open(waiting.clone(), 1);
    let applied = Some(ConfigurationStatus::Applied);
    for (status, reported, now, expected) in [
        (None, json!({}), 101, Standing::Underway),
        (Some(ConfigurationStatus::Targeted), json!({"ok": true}), 101, Standing::Overridden),
        (applied, json!({}), 159, Standing::Underway),
        (applied, json!({}), 160, Standing::TimedOut),
        (applied, json!({"ok": true}), 999, Standing::Succeeded),
        (applied, json!({"ok": false}), 101, Standing::Failed),
        (applied, json!({"ok": "?"}), 999, Standing::TimedOut),
    ] {
        let twin = Twin::new(at(0));
        let patch = TwinPatch::from_value(reported.clone()).expect("a patch");
        let mut twin = twin.patch_reported(&patch, None, at(1)).expect("it fits").0;
        twin.configurations.extend(status.map(|status| (id("c"), status)));
        let identity = identity(None, false);
        let document = TwinDocument { identity: &identity, twin: &twin, connection: Connection::NEVER };
        assert_eq!(
            opened.standing(&document, &document, at(now)),
            Some((0, expected)),
            "{status:?} {reported} {now}"
        );
        assert_eq!(waiting.standing(&document, &document, at(now)), Some((0, Standing::Waiting)));
    }
}

#[test]
fn counts_open_waves_stop_and_end() {
    let policy = json!({"waves": [{"devices": 2}, {"rest": true}], "stop": {"failures": {"count": 1}}});
    let configuration = planned(policy.clone(), 5);
    let policy = staging(policy).policy;
    let counted = |stages: &Stages, counts: &[(usize, Standing, u64)]| {
        let mut stages = stages.uncounted();
        for (wave, standing, count) in counts {
            (0..*count).for_each(|_| stages.count(*wave, *standing));
        }
        stages
    };
    let opened = |state: &RolloutState| state.opened().len();
    let fresh = configuration.stages().expect("waves");
    let mut stages = counted(fresh, &[(0, Standing::Waiting, 2), (1, Standing::Waiting, 3)]);
    assert!(stages.advance(&policy, at(1)) && opened(stages.state()) == 1);
    assert!(!stages.advance(&policy, at(2)), "its twins are to be brought up to it first");
    let mut stages = counted(
        &stages,
        &[(0, Standing::Succeeded, 1), (0, Standing::Underway, 1), (1, Standing::Waiting, 3)],
    );
    assert!(!stages.advance(&policy, at(3)));
    let mut bad =
        counted(&stages, &[(0, Standing::Succeeded, 1), (0, Standing::Failed, 1), (1, Standing::Waiting, 3)]);
    assert!(bad.advance(&policy, at(4)) && matches!(bad.state().phase, Phase::Stopped(_)), "{bad:?}");
    assert_eq!(opened(bad.state()), 1);
    let mut good = counted(
        &stages,
        &[(0, Standing::Succeeded, 1), (0, Standing::Overridden, 1), (1, Standing::Waiting, 3)],
    );
    assert!(good.advance(&policy, at(4)) && opened(good.state()) == 2);
    let mut done = counted(&good, &[(0, Standing::Succeeded, 2), (1, Standing::Succeeded, 3)]);
    assert!(done.advance(&policy, at(5)) && done.state().is_over() && done.state().phase == Phase::Done);
    stages.state_mut().abort("ops", "enough").expect("it runs");
    assert!(stages.advance(&policy, at(6)) && stages.state().is_over() && opened(stages.state()) == 1);
}
