//! A believable fleet from a seed: several types of devices, skewed values, the same in every run and for every peer.

use serde_json::{Value, json};

use crate::fleet::{authentication, name};

/// A generator of numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Small numbers much more often than large ones.
    fn skewed(&mut self, end: u64) -> u64 {
        self.below(end).min(self.below(end)).min(self.below(end))
    }
}

/// The text of a device's report, the `number`th.
pub fn report_text(number: u64) -> String {
    json!({"battery": {"level": number % 100, "voltage": 3.7}, "uptime": number}).to_string()
}

/// Twin `number` as a line of an import: 20 to 40 paths, by the type of the device.
pub fn twin(number: usize) -> Value {
    let mut dice = Dice(number as u64);
    let kind = ["pump", "meter", "camera"][dice.skewed(3) as usize];
    let site = dice.skewed(50);
    let link = ["wifi", "lte", "ethernet"][dice.skewed(3) as usize];
    let mut reported = json!({
        "firmware": {"version": format!("1.{}.0", dice.skewed(9)), "status": "current", "updates": dice.skewed(20)},
        "battery": {"level": dice.below(101), "voltage": 3.0 + dice.below(1200) as f64 / 1000.0},
        "temperature": 15.0 + dice.below(100_000) as f64 / 4000.0,
        "uptime": dice.below(10_000_000), "rssi": -30 - dice.below(60) as i64,
        "connectivity": link,
        "serial": format!("SN-{number:012}"),
        "lastBoot": format!("2026-01-{:02}T{:02}:{:02}:00Z", 1 + dice.below(28), dice.below(24), dice.below(60)),
    });
    match kind {
        "pump" => {
            reported["pressure"] =
                json!({"in": dice.below(400), "out": dice.below(900), "alarm": dice.below(50) == 0});
        }
        "meter" => {
            let total = dice.below(1_000_000) as f64 / 10.0;
            reported["reading"] =
                json!({"total": total, "unit": "kWh", "phase": dice.below(3), "sealed": true});
        }
        _ => {
            let lens = json!({"type": format!("lens-{}", dice.below(5)), "focus": dice.below(100), "zoom": dice.below(10)});
            reported["video"] = json!({"width": 1920, "height": 1080, "rate": 25, "lens": lens});
        }
    }
    json!({
        "id": name(number), "importMode": "create", "status": "enabled",
        "authentication": authentication(),
        "tags": {
            "kind": kind, "ring": dice.skewed(4), "owner": format!("team-{}", dice.skewed(12)),
            "location": {"site": format!("site-{site}"), "country": format!("c{}", site % 17), "floor": dice.below(6)},
        },
        "properties": {
            "desired": {
                "interval": 60, "report": {"level": "info", "batch": 20},
                "firmware": {"version": format!("1.{}.0", dice.skewed(3)), "url": format!("https://example.com/{kind}")},
            },
            "reported": reported,
        },
    })
}
