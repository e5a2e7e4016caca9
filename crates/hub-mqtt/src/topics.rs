//! The grammar of topics, filters and user names, in one place (D 1.3, 1.8, 2.1, 4.1, 5.1).
//!
//! Ids in topics and user names are not percent-encoded; property bags are.

use hub_domain::id::TwinId;
use hub_domain::link::CallId;
use hub_domain::session::Family;
use percent_encoding::percent_decode_str;

/// What a device publishes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceTopic {
    /// A message with its property bag.
    Telemetry {
        /// Whose topic it is; must be the sender's own.
        device: String,
        /// The module, if it is a module's topic.
        module: Option<String>,
        /// Keys and values, decoded.
        bag: Vec<(String, Option<String>)>,
    },
    /// Asks for the twin.
    TwinGet {
        /// Comes back in the answer.
        rid: String,
    },
    /// Merges into the reported properties.
    PatchReported {
        /// Comes back in the answer; without one there is none.
        rid: Option<String>,
        /// Only at this version.
        version: Option<String>,
    },
    /// Answers a method call.
    MethodAnswer {
        /// The device's status.
        status: i32,
        /// Which call.
        call: Option<CallId>,
    },
}

const TELEMETRY: &str = "/messages/events";
const TWIN_GET: &str = "$iothub/twin/GET/";
const PATCH_REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";
const METHOD_ANSWER: &str = "$iothub/methods/res/";
const TWIN_ANSWER: &str = "$iothub/twin/res/";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/";
const METHOD_CALL: &str = "$iothub/methods/POST/";

impl DeviceTopic {
    /// Parses the topic of a PUBLISH; `None` if the hub knows none like it.
    pub fn parse(topic: &str) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix(TWIN_GET) {
            return Some(Self::TwinGet { rid: parameter(rest, "$rid")? });
        }
        if let Some(rest) = topic.strip_prefix(PATCH_REPORTED) {
            return Some(Self::PatchReported {
                rid: parameter(rest, "$rid"),
                version: parameter(rest, "$version"),
            });
        }
        if let Some(rest) = topic.strip_prefix(METHOD_ANSWER) {
            let (status, rest) = rest.split_once('/')?;
            let call = parameter(rest, "$rid").and_then(|rid| CallId::parse(&rid));
            return Some(Self::MethodAnswer { status: status.parse().ok()?, call });
        }
        let (device, rest) = topic.strip_prefix("devices/")?.split_once('/')?;
        let (module, rest) = match rest.strip_prefix("modules/") {
            None => (None, rest),
            Some(rest) => rest.split_once('/').map(|(module, rest)| (Some(module.to_string()), rest))?,
        };
        let rest = rest.strip_prefix(&TELEMETRY[1..])?;
        let bag = match rest.strip_prefix('/') {
            None if rest.is_empty() => Vec::new(),
            None => return None,
            Some(bag) => parse_bag(bag),
        };
        Some(Self::Telemetry { device: device.into(), module, bag })
    }
}

/// The value of a parameter in `?a=b&c=d`.
fn parameter(rest: &str, name: &str) -> Option<String> {
    let query = rest.strip_prefix('?')?;
    query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=').map(str::to_string))
}

/// Parses a property bag: `key=value&key&…`, percent-encoded; `+` stays a plus (D 2.1).
pub fn parse_bag(bag: &str) -> Vec<(String, Option<String>)> {
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    let decode = |text: &str| {
        percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_string(), |t| t.into_owned())
    };
    bag.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some((key, value)) => (decode(key), Some(decode(value))),
            None => (decode(part), None),
        })
        .collect()
}

/// The family that a filter enables for `id`; `None` for filters of others and of unknown topics.
pub fn family_of(filter: &str, id: &TwinId) -> Option<Family> {
    match filter {
        "$iothub/twin/res/#" => return Some(Family::TwinAnswers),
        "$iothub/twin/PATCH/properties/desired/#" => return Some(Family::Desired),
        "$iothub/methods/POST/#" => return Some(Family::Methods),
        _ => {}
    }
    let (device, rest) = filter.strip_prefix("devices/")?.split_once('/')?;
    if device != "+" && device != id.device.as_str() {
        return None;
    }
    match (&id.module, rest) {
        (None, "messages/devicebound/#") => Some(Family::Messages),
        (Some(module), rest) => {
            let rest = rest.strip_prefix("modules/")?.strip_prefix(module.as_str())?;
            matches!(rest, "/#" | "/inputs/#" | "/messages/devicebound/#").then_some(Family::Messages)
        }
        _ => None,
    }
}

/// The topic of an answer to a twin request.
pub fn twin_answer(status: u16, rid: &str, version: Option<u64>) -> String {
    let version = version.map(|version| format!("&$version={version}")).unwrap_or_default();
    format!("{TWIN_ANSWER}{status}/?$rid={rid}{version}")
}

/// The topic of a change of desired properties.
pub fn desired_changed(version: u64) -> String {
    format!("{DESIRED}?$version={version}")
}

/// The topic of a method call.
pub fn method_call(name: &str, call: CallId) -> String {
    format!("{METHOD_CALL}{name}/?$rid={call}")
}

/// What a user name says (D 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    /// Who connects.
    pub id: TwinId,
    /// The model that the device announces.
    pub model_id: Option<String>,
}

impl Username {
    /// Parses `host/device[/module]/?api-version=…&…` and its older forms.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut segments: Vec<&str> = text.split('/').collect();
        // A very old form has the client's name behind another slash.
        if segments.len() > 3 && segments.last().is_some_and(|last| last.starts_with("DeviceClientType=")) {
            segments.pop();
        }
        // Only the last segment can be the query: `?` and `=` are legal in ids.
        let query = match segments.last() {
            Some(last) if segments.len() > 2 && (last.starts_with('?') || last.contains("api-version=")) => {
                segments.pop().unwrap_or_default()
            }
            _ => "",
        };
        while segments.len() > 2
            && segments.last().is_some_and(|s| s.is_empty() || s.contains("api-version="))
        {
            segments.pop();
        }
        let [_, device, module @ ..] = segments.as_slice() else {
            return Err("the user name must be 'host/device/?api-version=…'".into());
        };
        let module = match module {
            [] => None,
            [module] => Some(*module),
            _ => {
                return Err(
                    "the user name has too many parts; expected 'host/device[/module]/?api-version=…'".into(),
                );
            }
        };
        let id = TwinId::parse(device, module).map_err(|error| error.to_string())?;
        let parameters = query.trim_start_matches('?').split('&');
        let model_id = parameters
            .filter_map(|part| part.strip_prefix("model-id="))
            .find_map(|value| percent_decode_str(value).decode_utf8().ok().map(|value| value.into_owned()));
        Ok(Self { id, model_id: model_id.filter(|model| !model.is_empty()) })
    }

    /// The client id that must go with it.
    pub fn client_id(&self) -> String {
        self.id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_official_clients_are_known() {
        let telemetry = |topic: &str| match DeviceTopic::parse(topic) {
            Some(DeviceTopic::Telemetry { device, module, bag }) => (device, module, bag),
            other => panic!("{topic}: {other:?}"),
        };
        let some = |text: &str| Some(text.to_string());
        for empty in
            ["devices/d1/messages/events", "devices/d1/messages/events/", "devices/d1/messages/events/?"]
        {
            assert_eq!(telemetry(empty), ("d1".into(), None, vec![]), "{empty}");
        }
        let (_, _, bag) = telemetry(
            "devices/d1/messages/events/%24.mid=x%20y&%24.ct=application%2Fjson&k%20v=a%2Bb%2F%C3%A9%24&e=&n",
        );
        let expected = [
            ("$.mid", some("x y")),
            ("$.ct", some("application/json")),
            ("k v", some("a+b/é$")),
            ("e", some("")),
            ("n", None),
        ];
        assert_eq!(bag, expected.map(|(key, value)| (key.to_string(), value)));
        let (_, _, bag) = telemetry("devices/d1/messages/events/kv=a+b/c&%24.mid=x y");
        assert_eq!(bag, [("kv".to_string(), some("a+b/c")), ("$.mid".to_string(), some("x y"))]);
        let (device, module, bag) = telemetry("devices/d1/modules/m1/messages/events/%24.on=out1/");
        assert_eq!(
            (device.as_str(), module, bag),
            ("d1", some("m1"), vec![("$.on".to_string(), some("out1"))])
        );
        assert_eq!(
            DeviceTopic::parse("$iothub/twin/GET/?$rid=4"),
            Some(DeviceTopic::TwinGet { rid: "4".into() })
        );
        assert_eq!(
            DeviceTopic::parse("$iothub/twin/PATCH/properties/reported/?$rid=a-b&$version=7"),
            Some(DeviceTopic::PatchReported { rid: some("a-b"), version: some("7") })
        );
        assert_eq!(
            DeviceTopic::parse("$iothub/methods/res/-3/?$rid=1f"),
            Some(DeviceTopic::MethodAnswer { status: -3, call: Some(CallId(31)) })
        );
        for foreign in [
            "",
            "a/b",
            "$iothub/twin/GET/",
            "$iothub/other",
            "devices/d1",
            "devices/d1/messages/eventsx",
            "$iothub/methods/res/x/?$rid=1",
        ] {
            assert_eq!(DeviceTopic::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn filters_enable_families_of_their_own_device_only() {
        let device = TwinId::parse("d1", None).expect("an id");
        let module = TwinId::parse("d1", Some("m1")).expect("an id");
        let check = |filter: &str, id: &TwinId, family: Option<Family>| {
            assert_eq!(family_of(filter, id), family, "{filter}")
        };
        check("devices/d1/messages/devicebound/#", &device, Some(Family::Messages));
        check("devices/+/messages/devicebound/#", &device, Some(Family::Messages));
        check("devices/d2/messages/devicebound/#", &device, None);
        check("devices/d1/modules/m1/inputs/#", &module, Some(Family::Messages));
        check("devices/d1/modules/m1/#", &module, Some(Family::Messages));
        check("devices/d1/modules/m2/#", &module, None);
        check("$iothub/twin/res/#", &module, Some(Family::TwinAnswers));
        check("#", &device, None);
        check("devices/#", &device, None);
    }

    #[test]
    fn user_names_in_every_spelling() {
        let check = |text: &str, id: &str, model: Option<&str>| {
            let parsed = Username::parse(text).expect(text);
            assert_eq!((parsed.client_id().as_str(), parsed.model_id.as_deref()), (id, model), "{text}");
        };
        check("localhost/d1/?api-version=2019-10-01&DeviceClientType=py%2F2", "d1", None);
        check("localhost/d1/m1/?api-version=2019-10-01", "d1/m1", None);
        check("localhost/d1/api-version=2016-11-14", "d1", None);
        check("localhost/d1/m1/api-version=2016-11-14", "d1/m1", None);
        check("localhost/d1", "d1", None);
        check("localhost/d1/", "d1", None);
        check("localhost/d1/api-version=2016-11-14/DeviceClientType=x", "d1", None);
        check(
            "h/d1/?api-version=2021-04-12&model-id=dtmi:com:ex:T;1&DeviceClientType=x",
            "d1",
            Some("dtmi:com:ex:T;1"),
        );
        check("h/d1/?api-version=2020-09-30&model-id=dtmi%3aa%3ab%3b1", "d1", Some("dtmi:a:b;1"));
        for bad in ["", "host", "host/", "host/a b/?api-version=1", "host/d/m/x/y/?api-version=1"] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }
}
