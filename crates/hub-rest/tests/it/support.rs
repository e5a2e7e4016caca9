//! A hub on a real store behind a real TLS listener, and clients for it: one that speaks properly and one that sends
//! whatever bytes a test likes. It decides nothing: what an answer should be stands in the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hub_engine::containers::ContainerPolicy;
use hub_engine::tasks::TaskKind;
use hub_rest::{Config, Rest, WebSocketUpgrade};
use hub_testkit::TestHub;
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, RequestBuilder, Response};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// Longest wait for an answer that must come.
pub const WAIT: Duration = Duration::from_secs(60);

/// A hub with its HTTPS listener on a real socket.
pub struct Server {
    pub test: TestHub,
    pub address: SocketAddr,
    pub owner: String,
    http: reqwest::Client,
    /// Somebody else, with connections of his own.
    pub other: reqwest::Client,
    trust: Arc<rustls::ClientConfig>,
    _websockets: mpsc::Receiver<WebSocketUpgrade>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(ContainerPolicy::default()).await
    }

    /// One whose import and export jobs may use these containers.
    pub async fn start_with(containers: ContainerPolicy) -> Self {
        let test = TestHub::start_on_disk_with(containers).await;
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let trust = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (websockets, _websockets) = mpsc::channel(1);
        let rest = Rest::new(test.hub.clone(), test.tasks.clone(), &Config::default(), websockets);
        let stop = test.tasks.stopping();
        test.tasks.spawn(TaskKind::Listener, async move { rest.serve(listener, Arc::new(tls), stop).await });
        let (http, other) = (client(trust.clone(), address), client(trust.clone(), address));
        let owner = test.policy_token("iothubowner");
        Self { test, address, owner, http, other, trust: Arc::new(trust), _websockets }
    }

    /// The address of `path`, with an api-version where one is needed and none is given.
    pub fn url(&self, path: &str) -> String {
        let base = format!("https://localhost:{}{path}", self.address.port());
        match path {
            _ if path.starts_with("/api/") || path.contains("api-version") => base,
            _ if path.contains('?') => format!("{base}&api-version=2021-04-12"),
            _ => format!("{base}?api-version=2021-04-12"),
        }
    }

    /// A request without a credential.
    pub fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
        self.http.request(method, self.url(path))
    }

    /// A request of the owner.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.anonymous(method, path).header("Authorization", &self.owner)
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request("get", path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        Reply::of(self.request("delete", path)).await
    }

    /// Sends a JSON body.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        Reply::of(self.request(method, path).json(body)).await
    }

    /// Sends a JSON body with an `If-Match`.
    pub async fn send_if(&self, method: &str, path: &str, etag: &str, body: &Value) -> Reply {
        Reply::of(self.request(method, path).header("If-Match", etag).json(body)).await
    }

    /// Sends a body as it is.
    pub async fn send_raw(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        Reply::of(self.request(method, path).body(body)).await
    }

    /// Registers a device.
    pub async fn create(&self, id: &str) -> Value {
        self.send("put", &format!("/devices/{id}"), &json!({ "deviceId": id })).await.ok()
    }

    /// A page of a query.
    pub async fn query(&self, text: &str) -> Reply {
        self.send("post", "/devices/query", &json!({ "query": text })).await
    }

    /// Sends bytes on a TLS connection of their own and returns all that comes back until the hub closes it.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let socket = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = TlsConnector::from(self.trust.clone()).connect(name, socket).await.expect("TLS");
        stream.write_all(bytes).await.expect("written");
        stream.flush().await.expect("flushed");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(WAIT, stream.read_to_end(&mut answer)).await;
        // How the hub closes does not matter here, only what it said before.
        let _ = read.expect("an end within the time limit");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits until all twins were brought up to the configurations as they are now.
    pub async fn settled(&self) {
        let settled = async {
            while !self.test.hub.configurations_settled() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WAIT, settled).await.expect("an end of the work on configurations");
    }

    /// All that back ends can change: devices, modules, twins, configurations, artifacts and policies; read by somebody
    /// else, when nothing is left to be done.
    /// The number of commits is among it, so that a write which changes nothing shows too.
    pub async fn snapshot(&self) -> Vec<Value> {
        self.settled().await;
        let (other, owner) = (&self.other, &self.owner);
        let policies = self.test.hub.policy_list(&self.test.owner()).expect("policies");
        let read = |path: &str| {
            let request = other.get(self.url(path)).header("Authorization", owner);
            async move { Reply::of(request).await.ok() }
        };
        let query = |source: &str| {
            let body = json!({ "query": format!("SELECT * FROM {source}") });
            let request = other.post(self.url("/devices/query")).header("Authorization", owner).json(&body);
            async move { Reply::of(request).await.ok() }
        };
        vec![
            read("/devices").await,
            query("devices").await,
            query("devices.modules").await,
            read("/configurations").await,
            read("/api/artifacts").await,
            read("/api/status").await["commits"].clone(),
            policies.iter().map(|policy| policy.primary.to_base64()).collect(),
        ]
    }
}

fn client(trust: rustls::ClientConfig, address: SocketAddr) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(trust)
        .resolve("localhost", address)
        .no_proxy()
        .timeout(WAIT)
        .build()
        .expect("a client")
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    what: String,
}

impl Reply {
    pub async fn of(request: RequestBuilder) -> Self {
        let (client, request) = request.build_split();
        let request = request.expect("a request that can be sent");
        let what = format!("{} {}", request.method(), request.url().path());
        let response: Response = client.execute(request).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap_or_else(|error| panic!("{what}: {error:?}")).to_vec();
        Self { status, headers, body, what }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.what, self.text()))
    }

    /// The body of an answer 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}: {}", self.what, self.text());
        self.json()
    }

    /// It has this status and no error.
    #[track_caller]
    pub fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text());
    }

    /// An error in shape A of S 1.6, with its name in the header; returns its words.
    #[track_caller]
    pub fn error(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text());
        assert_eq!(self.header("iothub-errorcode"), Some(name), "{}: {}", self.what, self.text());
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"), "{}", self.what);
        assert_eq!(self.header("x-ms-request-id").map(str::len), Some(32), "{}", self.what);
        let body = self.json();
        let message = body["Message"].as_str().unwrap_or_else(|| panic!("{}: {body}", self.what));
        let words = message.strip_prefix(&format!("ErrorCode:{name};"));
        let words = words.unwrap_or_else(|| panic!("{}: {message}", self.what));
        assert!(!words.is_empty(), "{}: an error says what was wrong", self.what);
        let tracking = body["ExceptionMessage"].as_str().unwrap_or_else(|| panic!("{}: {body}", self.what));
        let id = tracking.strip_prefix("Tracking ID:").and_then(|rest| rest.split_once("-G:0-TimeStamp:"));
        let (id, time) = id.unwrap_or_else(|| panic!("{}: {tracking}", self.what));
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tracking}");
        assert_eq!(time.len(), "11/20/2025 09:12:44".len(), "{tracking}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{body}");
        words.to_string()
    }

    /// An error in shape B of S 1.6; returns its words.
    #[track_caller]
    pub fn nested_error(&self, code: u32, name: &str) -> String {
        assert_eq!(u32::from(self.status), code / 1000, "{}: {}", self.what, self.text());
        assert_eq!(self.header("iothub-errorcode"), Some(name), "{}: {}", self.what, self.text());
        let body = self.json();
        assert_eq!(body["ExceptionMessage"], "", "{body}");
        let message = body["Message"].as_str().unwrap_or_else(|| panic!("{}: {body}", self.what));
        let inner: Value = serde_json::from_str(message).unwrap_or_else(|_| panic!("{message}"));
        assert_eq!(inner["errorCode"], code, "{message}");
        assert!(inner["trackingId"].is_string() && inner["timestampUtc"].is_string(), "{message}");
        inner["message"].as_str().unwrap_or_else(|| panic!("{message}")).to_string()
    }
}

/// A stream of events as it comes in.
pub struct Events {
    response: Response,
    text: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

impl Events {
    /// Of the event log.
    pub async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let mut request = server.request("get", &format!("/api/events{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Self::of(request).await
    }

    /// The stream that a request opens.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; `None` when the hub ended the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let parsed = field("data:").map(|data| Event {
                    id: field("id:").unwrap_or_default().into(),
                    kind: field("event:").unwrap_or_default().into(),
                    data: serde_json::from_str(data).expect("JSON"),
                });
                self.text = rest.to_string();
                match parsed {
                    Some(event) => return Some(event),
                    // A comment, to show that the hub is there.
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(WAIT, self.response.chunk()).await.expect("something in time");
            self.text.push_str(std::str::from_utf8(&chunk.expect("a chunk")?).expect("text"));
        }
    }

    /// As many events.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await.expect("an event"));
        }
        events
    }
}
