//! The lines of import and export jobs, as the service has them (S 3): `devices.txt`, `configurations.txt` and
//! `importErrors.log`. Pure; who reads and writes them is the engine's.

use hub_api::transfer::ImportErrorLine;
use hub_domain::configuration::{Configuration, ConfigurationSpec};
use hub_domain::id::ConfigurationId;
use hub_domain::transfer::Refusal;
use hub_domain::version::Precondition;
use hub_engine::Error;
use hub_engine::bulk::BulkItem;
use hub_engine::line_format::{ConfigurationItem, LineFormat, LinesOf};
use hub_engine::twins::TwinView;
use serde_json::Value;

use crate::status::{self, ApiError};
use crate::{from_wire, to_wire};

/// The service's lines.
pub struct ServiceLines;

fn refusal(line: u64, (subject, module): (String, String), error: &ApiError) -> Refusal {
    Refusal { line, subject, module, code: error.code(), text: error.message().into() }
}

impl LineFormat for ServiceLines {
    fn item(&self, line: u64, text: &[u8]) -> Result<BulkItem, Refusal> {
        from_wire::import_line(text, None).map_err(|(name, error)| refusal(line, name, &error))
    }

    fn print_item(&self, view: &TwinView, with_keys: bool, text: &mut Vec<u8>) {
        to_wire::export_line(view, with_keys, text);
    }

    fn configuration(&self, line: u64, text: &[u8]) -> Result<ConfigurationItem, Refusal> {
        let body: Value = from_wire::line(text).map_err(|error| refusal(line, Default::default(), &error))?;
        configuration(&body).map_err(|error| {
            let id = body["id"].as_str().unwrap_or_default().to_owned();
            refusal(line, (id, String::new()), &error)
        })
    }

    fn print_configuration(&self, configuration: &Configuration, text: &mut Vec<u8>) {
        to_wire::line(&configuration.to_json(), text);
    }

    fn print_refusal(&self, refusal: &Refusal, of: LinesOf, text: &mut Vec<u8>) {
        let Refusal { line, subject, module, code, text: status } = refusal;
        let subject = Some(subject.clone());
        let (device_id, configuration_id) = match of {
            LinesOf::Identities => (subject, None),
            LinesOf::Configurations => (None, subject),
        };
        let module_id = Some(module.clone()).filter(|module| !module.is_empty());
        let (line, error_code, error_status) = (*line, *code, status.clone());
        let entry =
            ImportErrorLine { line, device_id, module_id, configuration_id, error_code, error_status };
        to_wire::line(&entry, text);
    }

    fn code(&self, error: &Error) -> u32 {
        status::code(error).0
    }
}

/// A configuration's line. Its etag is compared only in the mode that says so.
fn configuration(body: &Value) -> Result<ConfigurationItem, ApiError> {
    let id = body["id"].as_str();
    let id = id.ok_or_else(|| ApiError::bad(400_005, "ArgumentNull", "the configuration has no id"))?;
    let spec = ConfigurationSpec::parse(ConfigurationId::parse(id)?, body).map_err(Error::from)?;
    let mode = body["importMode"].as_str().unwrap_or("createOrUpdate");
    let precondition = match mode.to_ascii_lowercase().as_str() {
        "createorupdate" => Precondition::Exists,
        "createorupdateifmatchetag" => Precondition::parse(body["etag"].as_str()),
        _ => {
            let text = format!(
                "importMode '{mode}' is not known for configurations; expected createOrUpdate or createOrUpdateIfMatchETag"
            );
            return Err(ApiError::invalid(text));
        }
    };
    Ok(ConfigurationItem { spec, precondition })
}
