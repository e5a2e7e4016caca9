//! A blob store on a real socket that speaks as much of Azure blob storage and of S3 as a container needs, and that
//! answers errors or stalls when told to. It checks that a credential is there, not that it is right.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};

/// How the server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// As it should.
    #[default]
    None,
    /// Every request is answered with this status.
    Answer(u16),
    /// Writing is answered with this status.
    RefuseWrites(u16),
    /// Requests are taken and never answered.
    Stall,
    /// Half of a blob is sent, then nothing.
    StallWithin,
    /// Every request is answered with a redirect to here.
    Redirect(SocketAddr),
}

#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Bytes>,
    /// Blocks and parts that no blob is made of yet, by blob and id.
    parts: BTreeMap<(String, String), Bytes>,
    fault: Fault,
    requests: Vec<String>,
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub struct BlobServer {
    address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl BlobServer {
    /// Listens on a free port of this machine.
    #[allow(clippy::disallowed_methods, reason = "a test's own server is no task of the hub")]
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let content = Arc::new(Mutex::new(Content::default()));
        let router = Router::new().fallback(answer).with_state(content.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, content }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no test panics while it holds this")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a rule of the setting `bulk.stores`.
    pub fn rule(&self) -> String {
        format!("http://{}", self.address)
    }

    /// An Azure container on it, with a signature.
    pub fn azure(&self, container: &str) -> String {
        format!("http://{}/account/{container}?sv=2024-11-04&sp=rwd&sig=se%2Bcret%3D", self.address)
    }

    /// What it does from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.content().fault = fault;
    }

    /// The blob at this path, such as `account/container/name` or `bucket/name`.
    pub fn blob(&self, path: &str) -> Option<Bytes> {
        self.content().blobs.get(path).cloned()
    }

    /// Puts a blob there.
    pub fn put(&self, path: &str, bytes: impl Into<Bytes>) {
        self.content().blobs.insert(path.into(), bytes.into());
    }

    /// Method, path and query of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.content().requests.clone()
    }
}

fn plain(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_start_matches('/').to_owned();
    let path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let fault = {
        let mut content = content.lock().expect("held by nobody who panics");
        content.requests.push(format!("{} {}", head.method, head.uri));
        content.fault
    };
    let is_write = !matches!(head.method, Method::GET | Method::HEAD);
    match fault {
        Fault::Answer(status) => return plain(status, "<Error><Code>Told</Code></Error>"),
        Fault::RefuseWrites(status) if is_write => return plain(status, "<Error><Code>Told</Code></Error>"),
        Fault::Stall => std::future::pending().await,
        Fault::Redirect(to) => {
            let mut response = plain(302, "");
            let to = format!("http://{to}/stolen").parse().expect("a header");
            response.headers_mut().insert(header::LOCATION, to);
            return response;
        }
        _ => {}
    }
    let signed = query.contains("sig=se%2Bcret%3D");
    let has_keys = head.headers.get(header::AUTHORIZATION).is_some_and(|text| {
        text.to_str().is_ok_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=key-id/"))
    });
    if !signed && !has_keys {
        return plain(403, "<Error><Code>AuthenticationFailed</Code></Error>");
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body");
    let mut content = content.lock().expect("held by nobody who panics");
    match head.method {
        Method::GET | Method::HEAD => content.read(&path, &head.method),
        Method::PUT if signed => content.azure_put(&path, &query, &head.headers, body),
        Method::PUT | Method::POST | Method::DELETE if has_keys => {
            content.s3_write(&path, &query, &head.method, body)
        }
        _ => plain(405, ""),
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The texts between `<tag>` and `</tag>`.
fn elements<'x>(xml: &'x str, tag: &str) -> Vec<&'x str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
}

impl Content {
    fn read(&self, path: &str, method: &Method) -> Response<Body> {
        let Some(blob) = self.blobs.get(path) else {
            return plain(404, "<Error><Code>BlobNotFound</Code></Error>");
        };
        let body = match (method, self.fault) {
            (&Method::HEAD, _) => Body::empty(),
            (_, Fault::StallWithin) => {
                let half = blob.slice(..blob.len() / 2);
                let sent = futures_util::stream::once(async move { Ok::<_, std::io::Error>(half) });
                let then = futures_util::stream::pending();
                Body::from_stream(futures_util::StreamExt::chain(sent, then))
            }
            _ => Body::from(blob.clone()),
        };
        let mut response = plain(200, body);
        let mut set =
            |name, text: String| response.headers_mut().insert(name, text.parse().expect("a header"));
        set(header::CONTENT_LENGTH, blob.len().to_string());
        let sum = blob.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        set(header::ETAG, format!("\"{sum:x}\""));
        set(header::LAST_MODIFIED, "Wed, 21 Oct 2015 07:28:00 GMT".into());
        response
    }

    fn created(&self) -> Response<Body> {
        let mut response = plain(201, "");
        response.headers_mut().insert(header::ETAG, "\"1\"".parse().expect("a header"));
        response
    }

    fn take_part(&mut self, path: &str, id: &str) -> Option<Bytes> {
        self.parts.remove(&(path.to_owned(), id.to_owned()))
    }

    fn azure_put(&mut self, path: &str, query: &str, headers: &HeaderMap, body: Bytes) -> Response<Body> {
        match parameter(query, "comp") {
            None if headers.get("x-ms-blob-type").is_some_and(|kind| kind == "BlockBlob") => {
                self.blobs.insert(path.into(), body);
            }
            Some("block") => {
                let id = parameter(query, "blockid").expect("a block has an id");
                let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
                self.parts.insert((path.into(), id), body);
            }
            Some("blocklist") => {
                let xml = String::from_utf8_lossy(&body).into_owned();
                let ids = [elements(&xml, "Latest"), elements(&xml, "Uncommitted")].concat();
                let parts: Option<Vec<_>> = ids.iter().map(|id| self.take_part(path, id)).collect();
                let Some(parts) = parts else {
                    return plain(400, "<Error><Code>InvalidBlockList</Code></Error>");
                };
                self.blobs.insert(path.into(), parts.concat().into());
            }
            _ => return plain(400, ""),
        }
        self.created()
    }

    fn s3_write(&mut self, path: &str, query: &str, method: &Method, body: Bytes) -> Response<Body> {
        match (method, parameter(query, "partNumber"), parameter(query, "uploadId")) {
            (&Method::POST, None, None) => {
                return plain(
                    200,
                    "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>",
                );
            }
            (&Method::PUT, Some(part), Some("up")) => {
                self.parts.insert((path.into(), part.into()), body);
            }
            (&Method::POST, None, Some("up")) => {
                let xml = String::from_utf8_lossy(&body).into_owned();
                let numbers = elements(&xml, "PartNumber");
                let parts: Option<Vec<_>> = numbers.iter().map(|part| self.take_part(path, part)).collect();
                let Some(parts) = parts else { return plain(400, "<Error><Code>InvalidPart</Code></Error>") };
                self.blobs.insert(path.into(), parts.concat().into());
                return plain(
                    200,
                    "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>",
                );
            }
            (&Method::PUT, None, None) => {
                self.blobs.insert(path.into(), body);
            }
            (&Method::DELETE, None, Some("up")) => {
                self.parts.retain(|(of, _), _| of != path);
                return plain(204, "");
            }
            _ => return plain(400, ""),
        }
        let mut response = self.created();
        *response.status_mut() = StatusCode::OK;
        response
    }
}
