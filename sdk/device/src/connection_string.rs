//! Connection strings as Azure IoT SDKs use them: who the device is, where its hub is, how it proves itself.
//!
//! Parses and keeps; never connects. `Debug` shows no key.

use std::fmt;

use crate::Error;

/// MQTT over TLS, unless the host names another port.
const PORT: u16 = 8883;

/// `HostName=…;DeviceId=…;SharedAccessKey=…`, with optional `ModuleId`, `GatewayHostName`, `x509=true` and `:port` after a host.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    /// The hub's name with its port, exactly as written; part of user name and tokens.
    pub host_name: String,
    /// Who the device is.
    pub device_id: String,
    /// Which module of it, if it is one.
    pub module_id: Option<String>,
    /// Base64; `None` with `x509=true`.
    pub shared_access_key: Option<String>,
    /// Where to connect instead of the hub itself.
    pub gateway_host_name: Option<String>,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionString({} at {})", self.client_id(), self.host_name)
    }
}

impl ConnectionString {
    /// Parses a connection string. Errs with the key that is missing, empty, unknown or given twice.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |problem: String| Error::ConnectionString(problem);
        let (mut host, mut device, mut module, mut key, mut gateway, mut x509) =
            (None, None, None, None, None, None);
        for part in text.trim().split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(format!("'{part}' has no '='")))?;
            let slot = match name.to_ascii_lowercase().as_str() {
                "hostname" => &mut host,
                "deviceid" => &mut device,
                "moduleid" => &mut module,
                "sharedaccesskey" => &mut key,
                "gatewayhostname" => &mut gateway,
                "x509" => &mut x509,
                _ => return Err(wrong(format!("'{name}' is not known"))),
            };
            if value.is_empty() {
                return Err(wrong(format!("'{name}' is empty")));
            }
            if slot.replace(value.to_string()).is_some() {
                return Err(wrong(format!("'{name}' is given twice")));
            }
        }
        let is_x509 = x509.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if key.is_none() != is_x509 {
            return Err(wrong("exactly one of SharedAccessKey and x509=true is needed".into()));
        }
        Ok(Self {
            host_name: host.ok_or_else(|| wrong("HostName is missing".into()))?,
            device_id: device.ok_or_else(|| wrong("DeviceId is missing".into()))?,
            module_id: module,
            shared_access_key: key,
            gateway_host_name: gateway,
        })
    }

    /// `device` or `device/module`.
    pub fn client_id(&self) -> String {
        match &self.module_id {
            None => self.device_id.clone(),
            Some(module) => format!("{}/{module}", self.device_id),
        }
    }

    /// Host and port to connect to.
    pub fn address(&self) -> (String, u16) {
        let host = self.gateway_host_name.as_deref().unwrap_or(&self.host_name);
        let split =
            host.rsplit_once(':').and_then(|(name, port)| Some((name.to_string(), port.parse().ok()?)));
        split.unwrap_or_else(|| (host.to_string(), PORT))
    }

    /// What a token must be for: `host/devices/device[/modules/module]`.
    pub fn resource(&self) -> String {
        let module = self.module_id.as_ref().map(|module| format!("/modules/{module}")).unwrap_or_default();
        format!("{}/devices/{}{module}", self.host_name, self.device_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        let parsed = ConnectionString::parse("HostName=localhost:18883;DeviceId=d=1;SharedAccessKey=YQ==")
            .expect("valid");
        assert_eq!((parsed.client_id().as_str(), parsed.address()), ("d=1", ("localhost".into(), 18883)));
        assert_eq!(parsed.shared_access_key.as_deref(), Some("YQ=="));
        assert!(!format!("{parsed:?}").contains("YQ"));
        let module = ConnectionString::parse("HostName=h;DeviceId=d;ModuleId=m;x509=true;GatewayHostName=g")
            .expect("valid");
        assert_eq!(
            (module.resource().as_str(), module.address()),
            ("h/devices/d/modules/m", ("g".into(), 8883))
        );
        for (bad, part) in [
            ("HostName=h;SharedAccessKey=a", "DeviceId is missing"),
            ("DeviceId=d;SharedAccessKey=a", "HostName is missing"),
            ("HostName=h;DeviceId=d", "exactly one"),
            ("HostName=h;DeviceId=d;SharedAccessKey=a;x509=true", "exactly one"),
            ("HostName=h;DeviceId=d;x509=false", "exactly one"),
            ("HostName=h;HostName=h;DeviceId=d;x509=true", "twice"),
            ("hostname=h;HOSTNAME=h", "twice"),
            ("HostName=h;DeviceId=;SharedAccessKey=a", "'DeviceId' is empty"),
            (
                "HostName=h;DeviceId=d;SharedAccessKeyName=p;SharedAccessKey=a",
                "'SharedAccessKeyName' is not known",
            ),
            ("", "exactly one"),
            ("HostName=h;Color=red", "'Color' is not known"),
            ("nonsense", "no '='"),
        ] {
            let error = ConnectionString::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
