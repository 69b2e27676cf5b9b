//! The web page: its files, and what they ask this agent for besides the API.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::AsyncReadExt as _;

use super::Door;
use super::call::{Answering, Call, Handler, Route};
use super::error::HttpError;
use super::reply::Reply;
use super::routes::{Found, Known};
use crate::config::UiConfig;

mod live;
mod look;
mod show;

pub(super) use live::STREAMS_MAX;

/// Largest file of a directory that stands in the page's place: it is held in memory while it is sent.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What a file of the page may do: run the page's own script, use its own style, ask this agent. Nothing else, from nowhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// A file that the program holds.
struct Held {
    name: &'static str,
    content_type: &'static str,
    packed: &'static [u8],
}

macro_rules! held {
    ($name:literal, $content_type:literal) => {
        Held { name: $name, content_type: $content_type, packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")) }
    };
}

static FILES: [Held; 4] = [
    held!("index.html", "text/html; charset=utf-8"),
    held!("page.css", "text/css; charset=utf-8"),
    held!("page.js", "text/javascript; charset=utf-8"),
    held!("icon.svg", "image/svg+xml"),
];

static ROUTE: Route = Route {
    path: "/ui/",
    methods: &[(Method::GET, Handler::Soon(answer)), (Method::HEAD, Handler::Soon(answer))],
    namespaced: false,
};

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known::new(&ROUTE));

/// What a path leads to, if it is the page's.
pub(super) fn find<'p>(ui: Option<&UiConfig>, path: &'p str) -> Found<'p> {
    let Some(ui) = ui else { return Found::Nothing };
    match path.strip_prefix(ui.path.trim_end_matches('/')) {
        Some("") => Found::WithoutSlash,
        Some(rest) => rest.strip_prefix('/').map_or(Found::Nothing, |rest| Found::Route(&KNOWN, rest)),
        None => Found::Nothing,
    }
}

fn answer(door: Arc<Door>, call: Call) -> Answering {
    match &*call.rest {
        "live" => return live::answer(door, call),
        "service" => return look::service(door, call),
        "node" => return look::node(door, call),
        _ => {}
    }
    let dir = door.config.ui.as_ref().and_then(|ui| ui.dir.clone());
    Box::pin(async move {
        let name = if call.rest.is_empty() { "index.html" } else { &*call.rest };
        let reply = match dir {
            Some(dir) => of_directory(&dir, name).await?,
            None => match FILES.iter().find(|file| file.name == name) {
                Some(file) => of_program(file, &call),
                None => moved(&door, name)?,
            },
        };
        let fixed = |reply: Reply, name, value| reply.with_header(HeaderName::from_static(name), HeaderValue::from_static(value));
        let reply = fixed(reply, "x-content-type-options", "nosniff");
        Ok(fixed(reply, "referrer-policy", "no-referrer"))
    })
}

/// The same bytes until another program runs here: asked for each time, sent once.
fn of_program(file: &Held, call: &Call) -> Reply {
    let etag = format!("\"{:08x}-{:x}\"", crc32fast::hash(file.packed), file.packed.len());
    let known = call.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|line| line.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let reply = if known { Reply::bare(StatusCode::NOT_MODIFIED) } else { Reply::packed(file.content_type, file.packed) };
    let reply = reply.with_header(ETAG, HeaderValue::try_from(etag).expect("digits and a hyphen"));
    let reply = reply.with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply.with_header(HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY))
}

/// Links to Consul's page, which people keep (`/ui/dc1/services/web`), lead to the same thing on this one.
fn moved(door: &Door, name: &str) -> Result<Reply, HttpError> {
    let rest = name.split_once('/').filter(|(datacenter, _)| *datacenter == door.datacenter()).map(|(_, rest)| rest);
    let known = rest.filter(|rest| ["services", "nodes", "kv"].iter().any(|view| rest.split('/').next() == Some(view)));
    match (known, &door.config.ui) {
        (Some(rest), Some(ui)) => {
            let rest = rest.strip_suffix("/edit").unwrap_or(rest);
            let to = format!("{}#/{}", ui.path, super::path::escape(rest));
            let to = HeaderValue::try_from(to).map_err(|error| HttpError::BadRequest(error.to_string()))?;
            Ok(Reply::bare(StatusCode::FOUND).with_header(http::header::LOCATION, to))
        }
        _ => Err(HttpError::NotFound(format!("The page has no file {name:?}"))),
    }
}

/// A file of the operator's own: the path is clean, and nothing in it is hidden.
async fn of_directory(dir: &Path, name: &str) -> Result<Reply, HttpError> {
    let missing = || HttpError::NotFound(format!("There is no file {name:?}"));
    let unread = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => missing(),
        _ => HttpError::Server(format!("{name:?} cannot be read: {error}")),
    };
    if name.split('/').any(|part| part.starts_with('.')) || name.contains('\0') {
        return Err(missing());
    }
    let mut path: PathBuf = dir.join(name);
    if name.ends_with('/') {
        path.push("index.html");
    }
    let file = tokio::fs::File::open(&path).await.map_err(unread)?;
    let about = file.metadata().await.map_err(unread)?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(missing());
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).await.map_err(unread)?;
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    Ok(Reply::other(content_type(ending), bytes.into()).with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache")))
}

fn content_type(ending: &str) -> &'static str {
    match ending {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_below_its_path_alone_and_only_when_it_is_on() {
        let ui = UiConfig { path: "/our/page/".to_owned(), dir: None };
        let found = |ui, path| match find(ui, path) {
            Found::Route(_, rest) => Some(rest.to_owned()),
            Found::WithoutSlash => Some("?".to_owned()),
            Found::Nothing => None,
        };
        for (path, rest) in [
            ("/our/page/", Some("")),
            ("/our/page/page.js", Some("page.js")),
            ("/our/page", Some("?")),
            ("/our/pages", None),
            ("/our/", None),
            ("/ui/", None),
            ("/v1/kv/our/page/", None),
        ] {
            assert_eq!(found(Some(&ui), path).as_deref(), rest, "{path}");
        }
        assert_eq!(found(None, "/our/page/"), None);
    }
}
