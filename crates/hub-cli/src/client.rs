//! The public REST API as commands use it: addresses, tokens, paging, and answers turned into errors that say what to do.
//! It must never print a key or a token.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::utf8_percent_encode;
use reqwest::header::{AUTHORIZATION, HeaderMap, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use crate::credential::{Credential, ESCAPED};
use crate::error::{Error, Exit, Result};

/// Sent with every request, as the SDKs do.
const API_VERSION: &str = "2021-04-12";
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for any part of an answer, but for methods and events, which take their time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest text of a hub's error that is shown.
const ERROR_CHARS_MAX: usize = 2000;

/// Where a hub is and how to prove who is asking.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Of a policy.
    pub connection_string: String,
    /// The authority to trust; without it the machine's own ones.
    pub ca: Option<PathBuf>,
    /// Where to connect, if not where the name leads: for a hub on this machine whose name is known elsewhere only.
    pub address: Option<SocketAddr>,
    /// Name and port where devices connect over MQTT; without it the hub's name and the usual port.
    pub mqtt_host: Option<String>,
}

/// A client of one hub.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    credential: Arc<Credential>,
}

impl Client {
    /// A client; connects at the first request.
    pub fn new(target: &Target) -> Result<Client> {
        let credential = Credential::parse(&target.connection_string)?;
        // Whoever set a provider before has set the same one: there is no other in the program.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        if let Some(ca) = &target.ca {
            builder = builder.tls_backend_preconfigured(trust(ca)?);
        }
        if let Some(address) = target.address {
            builder = builder.resolve(&credential.host, address);
        }
        let http =
            builder.build().map_err(|error| Error::failed(format!("cannot use TLS: {}", chain(&error))))?;
        Ok(Client { http, credential: Arc::new(credential) })
    }

    /// The hub's name, with port if it has one.
    pub fn authority(&self) -> &str {
        &self.credential.authority
    }

    /// The hub's name alone.
    pub fn host(&self) -> &str {
        &self.credential.host
    }

    /// A URL of the hub for somebody else.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("https://{}{path_and_query}", self.authority())
    }

    /// A request to the path of these segments.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let escaped = segments.iter().map(|segment| utf8_percent_encode(segment, ESCAPED).to_string());
        let path: String = escaped.map(|segment| format!("/{segment}")).collect();
        self.http
            .request(method, self.url(&path))
            .query(&[("api-version", API_VERSION)])
            .header(AUTHORIZATION, self.credential.token())
    }

    /// Sends, and turns every answer but a good one into an error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        Err(answer_error(status, &body))
    }

    /// Sends, and gives status and body of whatever the answer is.
    pub async fn raw(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>)> {
        let response =
            request.timeout(REQUEST_TIMEOUT).send().await.map_err(|error| self.transport_error(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.transport_error(&error))?;
        Ok((status, body.to_vec()))
    }

    /// Sends and reads a JSON answer; nothing is `null`.
    pub async fn json(&self, request: RequestBuilder) -> Result<Value> {
        Ok(self.json_with_headers(request.timeout(REQUEST_TIMEOUT)).await?.0)
    }

    /// Likewise, with the answer's headers and without a timeout of its own.
    pub async fn json_with_headers(&self, request: RequestBuilder) -> Result<(Value, HeaderMap)> {
        let response = self.send(request).await?;
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(|error| self.transport_error(&error))?;
        if body.is_empty() {
            return Ok((Value::Null, headers));
        }
        let value = serde_json::from_slice(&body)
            .map_err(|error| Error::failed(format!("the hub's answer is not JSON: {error}")))?;
        Ok((value, headers))
    }

    /// Reads one resource.
    pub async fn get(&self, segments: &[&str]) -> Result<Value> {
        self.json(self.request(Method::GET, segments)).await
    }

    /// Writes one resource, if it is at the etag.
    pub async fn write(
        &self,
        method: Method,
        segments: &[&str],
        body: &Value,
        etag: Option<&str>,
    ) -> Result<Value> {
        self.json(if_match(self.request(method, segments), etag).json(body)).await
    }

    /// Deletes one resource, if it is at the etag.
    pub async fn delete(&self, segments: &[&str], etag: Option<&str>) -> Result<()> {
        self.json(if_match(self.request(Method::DELETE, segments), etag)).await.map(drop)
    }

    /// A request for the first page of a query.
    pub fn query(&self, text: &str) -> RequestBuilder {
        self.request(Method::POST, &["devices", "query"]).json(&serde_json::json!({ "query": text }))
    }

    /// One page of a list that goes on in others, and the token for the next.
    pub async fn page(
        &self,
        request: RequestBuilder,
        size: usize,
        token: Option<&str>,
    ) -> Result<(Vec<Value>, Option<String>)> {
        let mut request = request.header("x-ms-max-item-count", size.to_string()).timeout(REQUEST_TIMEOUT);
        if let Some(token) = token {
            request = request.header("x-ms-continuation", token);
        }
        let (page, headers) = self.json_with_headers(request).await?;
        let next = headers.get("x-ms-continuation").and_then(|token| token.to_str().ok()).map(str::to_string);
        match page {
            Value::Array(rows) => Ok((rows, next)),
            _ => Err(Error::failed("the hub's answer is not a list")),
        }
    }

    /// What went wrong on the way, and what helps.
    fn transport_error(&self, error: &reqwest::Error) -> Error {
        let (hub, text) = (self.authority(), chain(error));
        let lower = text.to_lowercase();
        let advice = if lower.contains("unknownissuer")
            || lower.contains("unknown issuer")
            || lower.contains("certificate")
        {
            "the hub's certificate is not trusted: give its authority with --ca DATA/tls/ca.pem or FLEETYARD_CA, and dial a name that the certificate has"
        } else if error.is_timeout() {
            "it did not answer in time: try again, and look at 'fleetyard status'"
        } else if error.is_connect() {
            "nothing answers there: check the HostName of the connection string, and whether the hub runs"
        } else {
            "the connection broke: try again"
        };
        Error::new(Exit::Offline, format!("cannot reach {hub}: {advice} ({text})"))
    }
}

fn if_match(request: RequestBuilder, etag: Option<&str>) -> RequestBuilder {
    match etag {
        None => request,
        Some(etag) => {
            request.header(IF_MATCH, format!("\"{}\"", etag.trim_start_matches("W/").trim_matches('"')))
        }
    }
}

fn trust(ca: &Path) -> Result<rustls::ClientConfig> {
    let unusable = |error: &dyn std::fmt::Display| {
        Error::usage(format!("cannot use {} as an authority (--ca): {error}", ca.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    let mut certificates = CertificateDer::pem_file_iter(ca).map_err(|error| unusable(&error))?;
    certificates.try_for_each(|certificate| {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))
    })?;
    if roots.is_empty() {
        return Err(unusable(&"it has no certificate in PEM"));
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// What an answer says that is not a good one.
pub fn answer_error(status: StatusCode, body: &[u8]) -> Error {
    let (code, text) = explain(body);
    let exit = match (status.as_u16(), code.as_str()) {
        (_, "404103" | "404104" | "DeviceNotOnline" | "504101") => Exit::Offline,
        (404 | 410, _) => Exit::NotFound,
        (409 | 412, _) => Exit::Conflict,
        (401 | 403, _) => Exit::Unauthorized,
        (408 | 503 | 504, _) => Exit::Offline,
        _ => Exit::Failed,
    };
    let advice = match exit {
        Exit::Unauthorized => {
            "; use a connection string of a policy with the needed rights: fleetyard connection-string --policy NAME"
        }
        Exit::Conflict if status == StatusCode::PRECONDITION_FAILED => {
            "; it was changed meanwhile: look at it again, or give its present etag"
        }
        _ => "",
    };
    let code = if code.is_empty() { String::new() } else { format!(" {code}") };
    let shown: String = text.chars().take(ERROR_CHARS_MAX).collect();
    Error::new(exit, format!("the hub answered {}{code}: {shown}{advice}", status.as_u16()))
}

/// Code and text of the shapes of S 1.6.
fn explain(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (String::new(), String::from_utf8_lossy(body).trim().to_string());
    };
    let field = |value: &Value, names: &[&str]| names.iter().find_map(|name| value.get(name).cloned());
    let text_of = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let Some(message) = field(&value, &["Message", "message"]).map(text_of) else {
        return (String::new(), value.to_string());
    };
    if let Ok(inner @ Value::Object(_)) = serde_json::from_str::<Value>(&message) {
        let code = field(&inner, &["errorCode"]).map(text_of).unwrap_or_default();
        return (code, field(&inner, &["message"]).map_or(message, text_of));
    }
    match message.strip_prefix("ErrorCode:").and_then(|rest| rest.split_once(';')) {
        Some((code, text)) => (code.to_string(), text.to_string()),
        None => (field(&value, &["errorCode", "code"]).map(text_of).unwrap_or_default(), message),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, exit: Exit, shown: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        let error = answer_error(status, body.as_bytes());
        assert_eq!(error.exit, exit, "{body}");
        assert!(error.message.contains(shown), "{}", error.message);
    }

    #[test]
    fn answers_become_exit_codes() {
        check(
            404,
            r#"{"Message":"ErrorCode:DeviceNotFound;d1","ExceptionMessage":""}"#,
            Exit::NotFound,
            "404 DeviceNotFound: d1",
        );
        check(
            404,
            r#"{"Message":"{\"errorCode\":404103,\"message\":\"Timed out waiting.\"}","ExceptionMessage":""}"#,
            Exit::Offline,
            "404103: Timed out waiting.",
        );
        check(
            504,
            r#"{"Message":"{\"errorCode\":504101,\"message\":\"No answer.\"}","ExceptionMessage":""}"#,
            Exit::Offline,
            "No answer.",
        );
        check(409, r#"{"Message":"ErrorCode:DeviceAlreadyExists;x"}"#, Exit::Conflict, "DeviceAlreadyExists");
        check(412, r#"{"Message":"ErrorCode:PreconditionFailed;x"}"#, Exit::Conflict, "etag");
        check(
            401,
            r#"{"Message":"ErrorCode:IotHubUnauthorized;x"}"#,
            Exit::Unauthorized,
            "connection-string",
        );
        check(403, "", Exit::Unauthorized, "403");
        check(400, "plain text", Exit::Failed, "plain text");
        check(500, r#"{"other":1}"#, Exit::Failed, "other");
    }
}
